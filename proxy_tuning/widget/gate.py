"""What stands before Gradio's server: the page and its programs get through, nothing else does.

Gradio answers much that this page has no use for (uploads, a monitor, every event by a name of its
own), and an event that does not exist with a traceback. What is not listed here is not found.
"""

import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PAGE = (
    r"/|/(config|theme\.css|robots\.txt|favicon\.ico|manifest\.json)/?|/pwa_icon(/\d+)?|"
    r"/(assets|static|svelte)/.*|"
    r"/gradio_api/((info|openapi\.json|app_id|startup-events|theme\.css|queue/data)/?|"
    r"heartbeat/\w+)"
)
"""What may be read."""
NUMBERED = r"/gradio_api/(queue/join|run/predict)/?"
"""Where the page sends its events, by their numbers: to the queue, or past it."""
SENT = rf"{NUMBERED}|/gradio_api/(cancel|reset)/?"
"""What may be sent, beside calls by name."""
LONGEST = 2**20
"""Bytes of a body; an event of the page has some hundred."""


class Gate:
    """ASGI middleware that lets through what the page and its API need.

    Args:
        app: what answers.
        calls: what programs may call by name, each with the names of its values.
        events: numbers of the events that there are.
    """

    def __init__(self, app: ASGIApp, calls: Mapping[str, Sequence[str]], events: Iterable[int]):
        named = f"/gradio_api/call/(?P<call>{'|'.join(calls)})"
        self.app, self.calls, self.events = app, calls, frozenset(events)
        self.read = re.compile(rf"{PAGE}|{named}/\w+/?")
        self.sent = re.compile(rf"{SENT}|{named}/?")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        path, method = scope["path"], scope["method"]
        known = {"GET": self.read, "HEAD": self.read, "POST": self.sent}.get(method)
        found = known and known.fullmatch(path)
        if not found:
            return await refuse(404, f"nothing is at {method} {path[:80]}", scope, receive, send)
        if method == "POST":
            body = await read(receive)
            if body is None:
                return await refuse(413, f"more than {LONGEST:,} bytes", scope, receive, send)
            if fault := self.fault(body, found["call"], bool(re.fullmatch(NUMBERED, path))):
                return await refuse(422, fault, scope, receive, send)
            receive = again(body, receive)
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception as error:  # whatever it is, the server goes on and says one line
            said = " ".join(str(error).split())
            logging.getLogger(__name__).warning("%s %s: %s", method, path, said[:200])
            if begun:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            else:
                await refuse(500, "this could not be answered", scope, receive, send)

    def fault(self, body: bytes, call: str | None, numbered: bool) -> str:
        """What is wrong with what was sent, to a call or as a numbered event; empty where nothing is."""
        try:
            given = json.loads(body)
        except (ValueError, RecursionError):
            return "the body is not JSON"
        if not isinstance(given, dict):
            return "the body is no object"
        if numbered:
            number = given.get("fn_index")
            return "" if isinstance(number, int) and number in self.events else "no such event"
        if call:
            values, data = self.calls[call], given.get("data")
            if not isinstance(data, list) or len(data) != len(values):
                return f"data needs {len(values)} values, in a list: {', '.join(values)}"
        return ""


async def read(receive: Receive) -> bytes | None:
    """The whole body, or None where it is longer than `LONGEST`."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > LONGEST:
            return None
    return body


def again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives a body that was read, and then what comes."""
    given = False

    async def first() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return first


async def refuse(status: int, why: str, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with a status and a line of JSON."""
    await JSONResponse({"detail": why}, status)(scope, receive, send)
