"""A completions server over loopback, from one model without caches, and a proxy that breaks it."""

import contextlib
import http.client
import json
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import torch


@torch.no_grad()
def complete(model, tokenizer, request, takes_ids=True):
    """The JSON of a greedy completion; the whole text is computed again for every token."""
    prompt, count = request["prompt"], request["logprobs"]
    if not takes_ids and not isinstance(prompt, str):
        return 422, {"detail": "prompt: Input should be a valid string"}
    ids = tokenizer(prompt)["input_ids"] if isinstance(prompt, str) else list(prompt)
    tokens, logprobs, top = [], [], []
    read, finish = list(ids), "length"
    for _ in range(request["max_tokens"]):
        scores = model(torch.tensor([read])).logits[0, -1].float().log_softmax(-1)
        best = scores.topk(min(count, len(scores)))
        names = [tokenizer.decode([i]) for i in best.indices.tolist()]
        chosen = int(scores.argmax())
        tokens.append(tokenizer.decode([chosen]))
        logprobs.append(float(scores[chosen]))
        top.append(dict(zip(names, best.values.tolist(), strict=True)))
        read.append(chosen)
        if chosen == tokenizer.eos_token_id:
            finish = "stop"
            break
    said = {"tokens": tokens, "token_logprobs": logprobs, "top_logprobs": top}
    usage = {"prompt_tokens": len(ids), "completion_tokens": len(tokens)}
    usage["total_tokens"] = sum(usage.values())
    choice = {"text": "".join(tokens), "index": 0, "finish_reason": finish, "logprobs": said}
    return 200, {"object": "text_completion", "choices": [choice], "usage": usage}


class Quiet(BaseHTTPRequestHandler):
    """A handler that reads JSON and writes JSON, and logs nothing."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def body(self):
        return self.rfile.read(int(self.headers["Content-Length"]))

    def send(self, status, content, headers=()):
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in (("Content-Length", str(len(raw))), *headers):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)


@contextlib.contextmanager
def serving(handler):
    """A server on a free port of this machine: its (host, port)."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def completions_server(model, tokenizer, takes_ids=True):
    """The endpoint of a model: (URL, requests that came, headers included)."""
    seen = []

    class Handler(Quiet):
        def do_POST(self):
            request = json.loads(self.body())
            seen.append(({name.lower(): value for name, value in self.headers.items()}, request))
            if self.path != "/v1/completions":
                self.send(404, {"error": {"message": "chat only"}})
                return
            self.send(*complete(model, tokenizer, request, takes_ids))

    with serving(Handler) as (host, port):
        yield f"http://{host}:{port}/v1", seen


@contextlib.contextmanager
def faulty_proxy(url, faults):
    """Hands requests on to `url`, but meets the first ones with these faults: its own URL.

    A fault is "delay", "cut" (the connection, within the answer), "garbage" (half the JSON),
    "blind" (no log-probabilities) or a status; None hands on.
    """
    target = url.removeprefix("http://").split("/")[0]
    faults = list(faults)

    class Handler(Quiet):
        def do_POST(self):
            fault = faults.pop(0) if faults else None
            body = self.body()
            if fault == "delay":
                time.sleep(1.5)
            if isinstance(fault, int):
                self.send(fault, {"error": {"message": "later"}}, [("Retry-After", "0")])
                return
            onward = http.client.HTTPConnection(target)
            onward.request("POST", self.path, body, {"Content-Type": "application/json"})
            answer = onward.getresponse()
            content = answer.read()
            if fault == "cut":
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2])
                self.wfile.flush()
                linger = struct.pack("ii", 1, 0)  # reset rather than a polite end
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.close_connection = True
                return
            if fault == "garbage":
                content = content[: len(content) // 2]
            if fault == "blind":
                said = json.loads(content)
                said["choices"][0]["logprobs"] = None
                content = json.dumps(said).encode()
            with contextlib.suppress(ConnectionError):  # who asked may have gone
                self.send(answer.status, content)

    with serving(Handler) as (host, port):
        yield f"http://{host}:{port}/v1"
