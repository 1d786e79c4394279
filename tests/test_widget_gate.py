"""What the server answers beside the page and its three calls: nothing, and in one line."""

import socket

import httpx
import pytest
from stand_in import QUESTION, TABLES, stand_in

from proxy_tuning.__main__ import main
from proxy_tuning.widget import page
from proxy_tuning.widget.gate import LONGEST

CALL, JOIN, RUN = "/gradio_api/call", "/gradio_api/queue/join", "/gradio_api/run/predict"


@pytest.fixture(scope="module")
def blocks():
    blocks = page.build_app(*stand_in(), "stand-in", TABLES)
    page.launch(blocks, prevent_thread_lock=True, quiet=True)
    yield blocks
    blocks.close()


@pytest.fixture(scope="module")
def visitor(blocks):
    with httpx.Client(base_url=blocks.local_url, timeout=60) as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/monitoring"),
        ("GET", "/monitoring/summary"),
        ("POST", "/gradio_api/upload"),
        ("GET", "/gradio_api/upload_progress"),
        ("GET", "/gradio_api/file=README.md"),
        ("GET", "/gradio_api/file=/etc/passwd"),
        ("GET", "/gradio_api/proxy=http://example.com"),
        ("POST", "/gradio_api/component_server"),
        ("GET", "/gradio_api/dev/reload"),
        ("POST", f"{CALL}/nope"),
        ("POST", f"{CALL}/lambda"),
        ("POST", f"{CALL}/page_open"),
        ("POST", f"{CALL}/v2/ask"),
        ("POST", "/gradio_api/run/lambda"),
        ("POST", "/gradio_api/api/ask"),
        ("GET", "/gradio_api/heartbeat/..%2f..%2fx"),
        ("DELETE", "/"),
        ("GET", "/openapi.json"),
    ],
)
def test_what_nobody_needs_is_not_there(visitor, method, path):
    reply = visitor.request(method, path)
    assert reply.status_code == 404 and path.split("%")[0] in reply.json()["detail"]


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        (JOIN, b'{"data": [], "fn_index": 9999, "session_hash": "a"}', 422, "no such event"),
        (JOIN, b'{"data": [], "fn_index": -1, "session_hash": "a"}', 422, "no such event"),
        (JOIN, b'{"data": [], "session_hash": "a"}', 422, "no such event"),
        (RUN, b'{"data": [], "fn_index": 9999, "session_hash": "a"}', 422, "no such event"),
        (JOIN, b"{", 422, "not JSON"),
        (JOIN, b"[" * 100_000, 422, "not JSON"),
        (JOIN, b"[]", 422, "no object"),
        (JOIN, b'"' + b"a" * LONGEST + b'"', 413, "bytes"),
        (f"{CALL}/ask", b'{"data": []}', 422, "6 values, in a list: question, alpha"),
        (f"{CALL}/facts", b'{"data": [1, 2]}', 422, "1 values, in a list: question"),
        (f"{CALL}/facts", b"{}", 422, "in a list: question"),
    ],
)
def test_what_is_sent_wrongly_is_told_so(visitor, path, body, status, said, capfd):
    reply = visitor.post(path, content=body, headers={"content-type": "application/json"})
    assert reply.status_code == status and said in reply.json()["detail"]
    assert "Traceback" not in "".join(capfd.readouterr())


def test_calls_by_name_are_answered(visitor):
    """After 50 that were refused, on one connection."""
    for _ in range(50):
        assert visitor.post(f"{CALL}/nope", json={"data": []}).status_code == 404
    event = visitor.post(f"{CALL}/facts", json={"data": [QUESTION]}).json()["event_id"]
    said = visitor.get(f"{CALL}/facts/{event}").text
    assert said.startswith("event: complete") and "Ohio" in said


def test_an_answer_that_nobody_waits_for_ends_cleanly(visitor, capfd):
    said = visitor.get(f"{CALL}/ask/nosuchevent").text
    assert said.startswith("event: error")
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("port", [-1, 70_000, None])
def test_a_port_that_cannot_be_had_is_told_before_anything_is_loaded(port, monkeypatch, capsys):
    monkeypatch.setattr(page, "load_family", lambda *args, **kwargs: pytest.fail("loaded"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1] if port is None else port
        monkeypatch.setattr("sys.argv", ["proxy_tuning", "demo", "--port", str(port)])
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 2
    assert f"port {port} cannot be had" in capsys.readouterr().err
