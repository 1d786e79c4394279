"""The trio behind vLLM's OpenAI server, and in two tensor-parallel processes."""

import json
import os
import subprocess
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from serving import trios
from serving.environment import PATIENCE, free_port, running, vllm_python
from serving.test_vllm import ENGINE, PROMPTS, call, ids, serve

pytestmark = pytest.mark.vllm
ALPHAS = [None, 0.0, 2.0, -0.5]


class Server:
    """A running server, asked for greedy completions."""

    def __init__(self, port: int, model: str):
        self.url, self.model = f"http://127.0.0.1:{port}", model

    def post(self, **body):
        """The open answer to a request; urllib.error.HTTPError where it is refused."""
        body = {"model": self.model, "temperature": 0, "max_tokens": trios.TOKENS} | body
        request = urllib.request.Request(
            f"{self.url}/v1/completions",
            json.dumps(body | {"ignore_eos": True}).encode(),
            {"Content-Type": "application/json"},
        )
        return urllib.request.urlopen(request, timeout=PATIENCE)

    def ids(self, prompt, alpha=None):
        own = {} if alpha is None else {"vllm_xargs": {"alpha": alpha}}
        with self.post(prompt=prompt, return_token_ids=True, **own) as answer:
            return json.load(answer)["choices"][0]["token_ids"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The embedded family, served as docs/serving.md says."""
    python, folder = vllm_python(), tmp_path_factory.mktemp("served")
    model, tokenizer, _ = trios.pocket()
    trios.saved(model, folder / "pocket")
    tokenizer.save_pretrained(folder / "pocket")
    port = free_port()
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", folder / "pocket"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32"]
    command += ["--enforce-eager", "--block-size", "32", "--max-model-len", "128"]
    command += ["--kv-cache-memory-bytes", str(2**26), "--served-model-name", "pocket"]
    command += ["--logits-processors", "proxy_tuning.serving.alphas:RequestAlpha"]
    with running(command, folder, f"http://127.0.0.1:{port}/health"):
        yield Server(port, "pocket")


def test_sixteen_at_once_are_answered_each_with_its_alpha(server):
    model, _, prompts = trios.pocket()
    prompts = prompts[:16]
    alphas = [ALPHAS[i % len(ALPHAS)] for i in range(len(prompts))]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(server.ids, prompts, alphas))
    assert answers == trios.greedy(model, prompts, alphas)


def test_tokens_are_streamed(server):
    model, tokenizer, prompts = trios.pocket()
    with server.post(prompt=prompts[0], stream=True) as answer:
        lines = [line.decode().removeprefix("data: ").strip() for line in answer if line.strip()]
    assert lines.pop() == "[DONE]" and len(lines) > 4
    text = "".join(json.loads(line)["choices"][0]["text"] for line in lines)
    assert text == tokenizer.decode(trios.greedy(model, prompts[:1])[0])


@pytest.mark.parametrize("alpha", ["x", [1.0, 2.0]])
def test_a_bad_alpha_is_the_clients_mistake(alpha, server):
    with pytest.raises(urllib.error.HTTPError) as refused:
        server.ids([1, 2, 3], alpha)
    assert refused.value.code == 400
    assert "alpha" in json.load(refused.value)["error"]["message"]


@pytest.mark.slow
def test_two_processes_share_the_weights(tmp_path):
    python = vllm_python()
    folder = trios.saved(trios.model_of("llama"), tmp_path / "llama")
    job = serve(folder, call(PROMPTS), tensor_parallel_size=2, distributed_executor_backend="mp")
    (tmp_path / "jobs.json").write_text(json.dumps([job]))
    cores = sorted(os.sched_getaffinity(0))
    command = [python, ENGINE, tmp_path / "jobs.json", tmp_path / "results.json"]
    with open(tmp_path / "engine.log", "w") as log:
        subprocess.run(
            command,
            env=os.environ | {"VLLM_CPU_OMP_THREADS_BIND": f"{cores[0]}|{cores[-1]}"},
            check=True,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    (result,) = json.loads((tmp_path / "results.json").read_text())
    assert ids(result) == trios.greedy(trios.model_of("llama"), PROMPTS)
