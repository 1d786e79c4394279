"""The served widget on a tiny random trio: its API, its limits, its manners, many at once."""

import ctypes
import gc
import json
import re
import statistics
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gradio as gr
import httpx
import pandas as pd
import pytest
from conftest import letter_tokenizer, tiny_trio
from gradio_client import Client
from gradio_client.exceptions import AppError
from gradio_client.utils import QueueError
from stand_in import LENGTH, POLLS, QUESTION, TABLES, ask, stand_in

from proxy_tuning import ProxyTunedForCausalLM
from proxy_tuning.__main__ import main
from proxy_tuning.answering import answer_questions
from proxy_tuning.polls.elections import STATES
from proxy_tuning.records import ROOT
from proxy_tuning.widget import asking, desk, export, page, stories


@pytest.fixture(scope="module")
def served():
    """(address, blocks) of a widget with the random trio; it may connect to nothing else."""
    outside = set()

    def hook(event, arguments):
        if event in ("socket.connect", "socket.getaddrinfo"):
            host = arguments[1][0] if event == "socket.connect" else arguments[0]
            if host not in ("127.0.0.1", "localhost", "0.0.0.0", "::1", None):
                outside.add(host)

    sys.addaudithook(hook)
    blocks = page.build_app(*stand_in(), "stand-in", TABLES)
    _, address, public = page.launch(blocks, prevent_thread_lock=True, quiet=True)
    assert public is None
    yield address.rstrip("/"), blocks
    blocks.close()
    assert not outside


@pytest.fixture(scope="module")
def client(served):
    return Client(served[0], verbose=False)


def test_nothing_leaves_the_machine(served):
    address, blocks = served
    assert address.startswith("http://127.0.0.1") and not blocks.analytics_enabled
    assert blocks._queue.max_size == page.WAITING
    shown = httpx.get(address).text
    assert not re.findall(r'(?:src|href)="(?:https?:)?//(?!127\.0\.0\.1)[^"]*"', shown)
    assert "googleapis" not in httpx.get(f"{address}/theme.css").text


def test_api_says_what_it_does(client):
    described = client.view_api(print_info=False, return_format="dict")["named_endpoints"]
    assert set(described) == {"/ask", "/sweep", "/facts"}
    assert [p["parameter_name"] for p in described["/ask"]["parameters"]] == [
        "question",
        "alpha",
        "temperature",
        "length",
        "seed",
        "reword",
    ]


def test_api_answers(client):
    asked = {"alpha": 0.5, "length": LENGTH, "reword": False}
    record = client.predict(QUESTION, **asked, api_name="/ask")
    again = json.loads(json.dumps(export.story_record(ask(alpha=0.5), stand_in()[1], "stand-in")))
    # as many tokens are read at once as pays: figures agree as far as float32 does
    tokens, others = record.pop("tokens"), again.pop("tokens")
    assert record == again
    assert [token["id"] for token in tokens] == [token["id"] for token in others]
    for token, other in zip(tokens, others, strict=True):
        assert token["p"] == pytest.approx(other["p"], abs=5e-5)
        assert token["change"] == pytest.approx(other["change"], abs=5e-4)
    swept = client.predict(QUESTION, length=LENGTH, api_name="/sweep")
    assert [row["alpha"] for row in swept] == stories.ALPHAS
    assert swept[4]["answer"] == ask(alpha=1, reword=True).texts["steered"]
    facts = client.predict("Ohio, Oct '24?", api_name="/facts")
    assert facts["facts"][0]["republican"].startswith("Trump 5")


def test_the_page_about_the_api_is_right(served, capsys):
    """The program of docs/demo.md, run as it stands there."""
    text = (ROOT / "docs" / "demo.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert "http://127.0.0.1:7860" in program
    exec(program.replace("http://127.0.0.1:7860", served[0]), {})
    printed = capsys.readouterr().out
    assert (
        ask("Who led in Ohio in May 2024?", length=asking.LENGTH, reword=True).texts["steered"]
        in printed
    )
    assert "Harris 47.8%" in printed
    for high in (value[1] for value in asking.LIMITS.values() if value[1] < 1000):
        assert f"to {high}" in text
    assert f"at most {asking.LONGEST} characters" in text and f"and {page.WAITING} may wait" in text


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"question": ""}, "type a question"),
        ({"question": "x" * 100_000}, "100,000 characters"),
        ({"question": "\x07"}, "control character"),
        ({"question": ["a list"]}, "type a question"),
        ({"question": QUESTION, "alpha": 1e308}, "alpha needs"),
        ({"question": QUESTION, "alpha": "much"}, "alpha needs"),
        ({"question": QUESTION, "temperature": -1}, "temperature needs"),
        ({"question": QUESTION, "length": 10**9}, "length needs"),
        ({"question": QUESTION, "seed": -5}, "seed needs"),
    ],
)
def test_api_refuses_kindly_and_lives_on(client, arguments, message):
    with pytest.raises(AppError, match=message):
        client.predict(**arguments, api_name="/ask")
    assert client.predict(QUESTION, length=1, api_name="/ask")["question"] == QUESTION


def test_no_files_through_the_api(served):
    address, _ = served
    for path in (ROOT / "data/monthly.csv", "/etc/passwd", ROOT / "proxy_tuning/../LICENSE"):
        for route in ("/gradio_api/file=", "/file="):
            assert httpx.get(f"{address}{route}{path}").status_code in (403, 404)
    sent = httpx.post(f"{address}/gradio_api/upload", files={"files": ("a.txt", b"x" * 100)})
    assert sent.status_code >= 400


@pytest.mark.parametrize("alpha", [4, -0.5, float("nan"), "1"])
def test_serve_refuses_an_alpha_before_it_loads(monkeypatch, alpha):
    monkeypatch.setattr(page, "load_family", lambda *_, **__: pytest.fail("a model was loaded"))
    with pytest.raises(ValueError, match="^The alpha needs to be a number from 0 to 3, not .*$"):
        page.serve("pocket", alpha=alpha)


def test_the_command_refuses_an_alpha_in_one_line(capsys, monkeypatch):
    monkeypatch.setattr(page, "load_family", lambda *_, **__: pytest.fail("a model was loaded"))
    monkeypatch.setattr(sys, "argv", ["proxy_tuning", "demo", "--alpha", "4"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith(
        "The alpha needs to be a number from 0 to 3, not 4.0.\n"
    )


def test_no_page_for_a_model_whose_alpha_nobody_may_ask_for():
    model = ProxyTunedForCausalLM(*tiny_trio("gpt2"), alpha=4)
    with pytest.raises(ValueError, match="alpha needs to be a number from 0 to 3, not 4"):
        page.build_app(model, letter_tokenizer(), "stand-in", TABLES)


def test_sliders_and_questions_have_the_same_limits(served):
    parts = (
        component["props"] for component in httpx.get(f"{served[0]}/config").json()["components"]
    )
    sliders = {p["label"]: p for p in parts if p.get("label") in asking.LIMITS and "maximum" in p}
    for name in ("alpha", "temperature", "length"):
        low, high = sliders[name]["minimum"], sliders[name]["maximum"]
        assert (low, high) == asking.LIMITS[name] and low <= sliders[name]["value"] <= high
        for value in (low, high):
            assert getattr(asking.Ask(QUESTION, **{name: value}), name) == value
        for value in (low - 1, high + 1):
            with pytest.raises(ValueError, match=f"{name} needs"):
                asking.Ask(QUESTION, **{name: value})


def test_the_page_of_a_readers_own_rows():
    """No polls anywhere: the panel has the nearest questions of the data."""
    rows = pd.DataFrame({"question": ["Who bakes?", "When?"], "answer": ["Ann.", "At six."]})
    blocks = page.build_app(*stand_in(), "own", rows)
    _, address, _ = page.launch(blocks, prevent_thread_lock=True, quiet=True)
    try:
        record = Client(address, verbose=False).predict("who?", length=3, api_name="/ask")
        assert record["near"] == ["Who bakes?"] and record["facts"] == []
        assert record["asked_as"] == "who?" and set(record["check"].values()) == {""}
        parts = [part["props"] for part in httpx.get(f"{address}config").json()["components"]]
        (box,) = (part for part in parts if part.get("label") == "Question")
        assert "polls" not in box["info"] and box["value"] == "Who bakes?"
    finally:
        blocks.close()


@pytest.mark.parametrize("search", ["", "?alpha=9&temperature=x&seed=1.5&length=0&reword=yes"])
def test_what_an_address_says_wrongly_is_left_out(search):
    own = desk.Desk(*stand_in(), "stand-in", POLLS)
    question, *values, asks, _ = own.page_open(True, search)
    assert values == [1.0, 0.0, asking.LENGTH, 0, search == ""] and not asks
    assert question == gr.skip(), "what was typed while the page opened stays"


def test_an_address_gives_back_what_was_asked():
    own = desk.Desk(*stand_in(), "stand-in", POLLS)
    ask = asking.Ask("Who led & <won> in 100%?", 0.5, 1.5, 12, 7, False)
    question, *values, asks, _ = own.page_open(False, own.address(ask))
    assert asking.Ask(question, *values) == ask and asks == 1


class Visitor:
    """What an open browser page is to the server: a session that joins and listens."""

    def __init__(self, address):
        self.api, self.session = f"{address}/gradio_api", f"visitor{time.monotonic_ns()}"
        config = httpx.get(f"{address}/config").json()
        self.numbers = {
            dependency["api_name"]: dependency["id"] for dependency in config["dependencies"]
        }

    def join(self, name, *data):
        body = {"data": data, "fn_index": self.numbers[name], "session_hash": self.session}
        return httpx.post(f"{self.api}/queue/join", json=body).json()

    def listen(self):
        """The server's messages, until this generator is closed."""
        with httpx.stream(
            "GET", f"{self.api}/queue/data?session_hash={self.session}", timeout=60
        ) as lines:
            for line in lines.iter_lines():
                if line.startswith("data:"):
                    yield json.loads(line[5:])


@pytest.fixture
def slow_models(monkeypatch):
    """The widget's loop, 0.1 s a step for as long as anyone listens; says when it is freed."""
    freed, quick = threading.Event(), stories.three_texts

    def slow(*args, **kwargs):
        try:
            for step in quick(*args, **kwargs):
                for _ in range(1000):
                    time.sleep(0.1)
                    yield step
        finally:
            freed.set()

    monkeypatch.setattr(stories, "three_texts", slow)
    return freed


def test_a_closed_page_frees_its_work(served, slow_models):
    visitor = Visitor(served[0])
    visitor.join("respond", QUESTION, 1, 0, 64, 0, False, None)
    messages = visitor.listen()
    for message in messages:
        if message["msg"] == "process_generating":
            break
    assert not slow_models.is_set()
    messages.close()
    assert slow_models.wait(20)


def test_stop_frees_its_work(served, slow_models):
    visitor = Visitor(served[0])
    event = visitor.join("respond", QUESTION, 1, 0, 64, 0, False, None)["event_id"]
    messages = visitor.listen()
    for message in messages:
        if message["msg"] == "process_generating":
            break
    assert not slow_models.is_set()
    httpx.post(
        f"{visitor.api}/cancel",
        json={
            "session_hash": visitor.session,
            "fn_index": visitor.numbers["respond"],
            "event_id": event,
        },
    )
    assert slow_models.wait(20)
    messages.close()


def test_the_page_refuses_what_its_controls_cannot_send(served):
    visitor = Visitor(served[0])
    visitor.join("respond", QUESTION, 99, 0, 64, 0, False, None)
    for message in visitor.listen():
        if message["msg"] == "process_completed":
            assert not message["success"] and "99" in message["output"]["error"]
            break


def ask_at_once(address, questions):
    """All questions at the same moment, each from its own client: (answer, seconds) or error."""
    clients = [Client(address, verbose=False) for _ in questions]
    ready = threading.Barrier(len(questions))

    def one(client, question):
        ready.wait()
        begun = time.monotonic()
        try:
            record = client.predict(question, length=LENGTH, reword=False, api_name="/ask")
        except QueueError as error:
            return str(error), time.monotonic() - begun
        return record, time.monotonic() - begun

    with ThreadPoolExecutor(len(questions)) as pool:
        return list(pool.map(one, clients, questions))


QUESTIONS = [f"Who led in {state} in May 2020?" for state in STATES.values()][:20]


def check_answers(questions, replies):
    expected = answer_questions(*stand_in(), questions, max_new_tokens=LENGTH)
    for want, (record, _) in zip(expected, replies, strict=True):
        assert {key: record[key] for key in want} == want


@pytest.mark.slow
def test_twenty_askers_at_once(served):
    replies = ask_at_once(served[0], QUESTIONS)
    check_answers(QUESTIONS, replies)
    seconds = sorted(wait for _, wait in replies)
    print(
        f"waiting times of 20 askers: first {seconds[0]:.2f} s, median "
        f"{statistics.median(seconds):.2f} s, last {seconds[-1]:.2f} s"
    )


@pytest.mark.slow
def test_a_full_queue_says_that_it_is_busy(monkeypatch):
    monkeypatch.setattr(page, "WAITING", 3)
    blocks = page.build_app(*stand_in(), "stand-in", TABLES)
    _, address, _ = page.launch(blocks, prevent_thread_lock=True, quiet=True)
    try:
        replies = ask_at_once(address, QUESTIONS)
        busy = [text for text, _ in replies if isinstance(text, str)]
        assert busy and all("queue is full" in text.lower() for text in busy), set(busy)
        answered = [
            (q, r) for q, r in zip(QUESTIONS, replies, strict=True) if not isinstance(r[0], str)
        ]
        assert answered
        check_answers([q for q, _ in answered], [r for _, r in answered])
    finally:
        blocks.close()


@pytest.mark.slow
def test_memory_stays_flat_over_500_questions(served):
    def resident():
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what is kept, not what malloc has yet to give back
        status = Path("/proc/self/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    sizes = []
    for number in range(500):
        visitor = Visitor(served[0])
        visitor.join("respond", QUESTIONS[number % 20], 1, 0, LENGTH, 0, False, None)
        for message in visitor.listen():
            if message["msg"] == "process_completed":
                assert message["success"]
                break
        if number % 100 == 99:
            sizes.append(resident())
    print("resident MiB after each 100 questions:", [round(size) for size in sizes])
    assert sizes[-1] - sizes[1] < 10  # the answers of 200 pages are kept, then the oldest go
