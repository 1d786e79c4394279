"""The widget on tiny random models: questions, answers, what people see, the API, many at once."""

import base64
import csv
import ctypes
import functools
import gc
import io
import json
import re
import statistics
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
import torch
from conftest import letter_tokenizer, tiny_trio
from gradio_client import Client
from gradio_client.exceptions import AppError
from gradio_client.utils import QueueError

from proxy_tuning import ProxyTunedForCausalLM
from proxy_tuning.decoding import HISTORIES, answer_questions  # FIX
from proxy_tuning.polls import reading as factcheck
from proxy_tuning.polls.questions import prompt
from proxy_tuning.polls.sources import load_facts
from proxy_tuning.widget import page as app

TABLES = load_facts(Path(__file__).parent.parent / "data")
QUESTION = "Who led in Ohio in May 2020?"
OCTOBER = "Who led the polls in Pennsylvania in October 2024?"
LENGTH = 12


@functools.cache
def stand_in():
    """A random trio that reads and writes single letters, and its tokenizer."""
    return ProxyTunedForCausalLM(*tiny_trio("gpt2")), letter_tokenizer()


def ask(question=QUESTION, **settings):
    settings = {"length": LENGTH} | settings
    *_, story = app.answer(*stand_in(), TABLES, app.Ask(question, **settings))
    return story


def facts_of(question):
    asked = factcheck.read_question(question, TABLES)
    return asked, factcheck.look_up(asked, TABLES)


@pytest.mark.parametrize(
    "question, message",
    [
        ("", "type a question"),
        (" \n ", "type a question"),
        (None, "type a question"),
        (7, "type a question"),
        ("x" * 100_000, "100,000 characters"),
        ("Who led in \u4fc4\u4ea5\u4fc4?", "English"),
        ("\u041a\u0442\u043e \u043b\u0438\u0434\u0438\u0440\u0443\u0435\u0442?", "cyrillic"),
        ("Who led? \U0001f5f3", "ballot"),
        ("Who\x00 led?", "control character"),
        ("Who \x1b[31mled?", "control character"),
        ("\u202eWho led?", "right-to-left override"),
        ("2024?!", "no words"),
    ],
)
def test_questions_that_cannot_be_read(question, message):
    with pytest.raises(ValueError, match=message):
        app.Ask(question)


def test_questions_that_can():
    assert app.Ask("  Who  led\tin\nOhio? ").question == "Who led in Ohio?"
    typed = app.Ask("Cafe\u0301 \u2018Ohio\u2019 \u2013 <b>{{x}}</b>?")
    assert typed.question == "Caf\u00e9 \u2018Ohio\u2019 \u2013 <b>{{x}}</b>?"


@pytest.mark.parametrize(
    "setting, message",
    [
        ({"alpha": -0.1}, "alpha needs to be a number from 0 to 3"),
        ({"alpha": float("nan")}, "alpha needs to be a number"),
        ({"alpha": "1"}, "alpha needs to be a number"),
        ({"temperature": 1e9}, "temperature needs to be a number from 0 to 2"),
        ({"length": 0}, "length needs to be a whole number from 1"),
        ({"length": 2.5}, "length needs to be a whole number"),
        ({"seed": None}, "seed needs to be a whole number"),
        ({"seed": True}, "seed needs to be a whole number"),
    ],
)
def test_settings_out_of_range(setting, message):
    with pytest.raises(ValueError, match=message):
        app.Ask(QUESTION, **setting)


def test_a_question_too_long_for_the_context():
    with pytest.raises(ValueError, match="read 128 in all"):
        ask("Who led in Ohio? " * 7)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_answers_are_those_of_the_package(alpha):
    story = ask(alpha=alpha)
    (expected,) = answer_questions(*stand_in(), [QUESTION], alpha=alpha, max_new_tokens=LENGTH)
    assert story.done and story.texts == {who: expected[who] for who in HISTORIES}


def test_answers_grow(monkeypatch):
    monkeypatch.setattr(app, "EVERY", 0.0)
    steps = app.answer(*stand_in(), TABLES, app.Ask(QUESTION, length=LENGTH))
    lengths = [len(story.texts["base"]) for story in steps]
    assert lengths == sorted(lengths) and len(set(lengths)) > 3


def test_the_seed_decides():
    first, again, other = (ask(temperature=1.0, seed=seed).texts for seed in (1, 1, 2))
    assert first == again != other


def test_choices_are_what_each_model_wanted():
    """Against one pass over the finished text, without caches, of each model alone."""
    model, tokenizer = stand_in()
    story = ask(alpha=0.7)
    start = len(tokenizer(prompt(QUESTION))["input_ids"])
    ids = tokenizer(prompt(QUESTION))["input_ids"] + [choice.token for choice in story.choices]
    ids = torch.tensor([ids[:-1]])
    with torch.no_grad():
        base, expert, antiexpert = (
            part(ids).logits[0, start - 1 :]
            for part in (model.base, model.expert, model.antiexpert)
        )
    wanted = torch.stack([base, expert, antiexpert, base + 0.7 * (expert - antiexpert)])
    wanted = wanted.log_softmax(-1)  # (4, N, V)
    assert len(story.choices) == wanted.shape[1]
    for i, choice in enumerate(story.choices):
        torch.testing.assert_close(
            torch.tensor(choice.scores), wanted[:, i, choice.token], rtol=1e-4, atol=1e-4
        )
        torch.testing.assert_close(
            choice.top_scores, wanted[:, i].topk(app.TOP).values, rtol=1e-4, atol=1e-4
        )
        assert choice.change == choice.scores[3] - choice.scores[0]
        assert choice.turned == bool(wanted[0, i].argmax() != wanted[3, i].argmax())


@pytest.mark.parametrize(
    "change, number",
    [(-9, 0), (-3.0, 1), (-1.0, 2), (-0.1, 3), (0, 3), (0.1, 4), (0.9, 4), (1, 5), (3, 6), (9, 6)],
)
def test_bins(change, number):
    assert app.bin_of(change) == number


def test_the_word_that_opens_first(monkeypatch):
    """Whole words before pieces, turned ones before others, and then the largest change."""
    choice = SimpleNamespace
    monkeypatch.setattr(app, "token_text", lambda _, token: token)
    story = SimpleNamespace(choices=[
        choice(token=" Har", turned=True, change=9.0),
        choice(token="ris", turned=True, change=8.0),
        choice(token=" led", turned=True, change=2.0),
        choice(token=" by", turned=True, change=3.0),
        choice(token=" points", turned=False, change=7.0),
        choice(token=" 4", turned=True, change=6.0),
    ])  # fmt: skip
    assert app.most_telling(story, None) == 3
    del story.choices[2:4]
    assert app.most_telling(story, None) == 0
    story.choices[0].turned = story.choices[1].turned = story.choices[3].turned = False
    assert app.most_telling(story, None) == 2


def test_alpha_zero_changes_nothing():
    story = ask(alpha=0)
    assert {app.bin_of(choice.change) for choice in story.choices} == {3}
    assert not any(choice.turned for choice in story.choices)


def test_sweep_is_each_alpha_alone():
    model, tokenizer = stand_in()
    *_, texts = app.sweep(model, tokenizer, app.Ask(QUESTION, length=LENGTH))
    for alpha, text in zip(app.ALPHAS, texts, strict=True):
        assert text == ask(alpha=alpha).texts["steered"]
    assert texts[0] == ask().texts["base"]


def test_sweep_marks_changed_words():
    texts = ["Trump led by 2.0 points."] * 4 + ["Harris led by 2.0 points."] * 5
    page = app.show_sweep(app.Ask(OCTOBER), texts, *facts_of(OCTOBER), done=True)
    assert page.count("<mark>") == 1 and "<mark>Harris</mark> led by" in page
    assert page.count(">same</td>") == 7 and page.count(">1 changed</td>") == 1


# What people see


def test_text_is_never_markup():
    story = ask()
    story.texts = dict.fromkeys(HISTORIES, "<script>alert(1)</script> 5.0 <b>")
    for page in (
        app.show_answers(story),
        app.show_status("<script> <b>"),
        app.show_sweep(
            app.Ask("<script> <b> me"), ["<script> <b>"] * 9, story.asked, story.facts, True
        ),
    ):
        assert "<script" not in page and "<b>" not in page and "&lt;script&gt;" in page


def test_tokens_are_never_markup():
    tokenizer = stand_in()[1]
    story = ask()
    tag = tokenizer.convert_tokens_to_ids("<")
    story.choices[0] = app.Choice(tag, [0.0] * 4, torch.full((4, 10), tag), torch.zeros(4, 10))
    page = app.show_why(story, tokenizer) + app.show_wishes(story, 0, tokenizer)
    assert len(re.findall(r"&lt;", page)) >= 42
    assert not re.search(r"<(?!/?(?:section|h[23]|p|ul|li|span|div|button|table|caption|small|"
                         r"thead|tr|th|tbody|td|strong)\b)", page)  # fmt: skip


def test_marks_do_not_rest_on_colour():
    story = ask(OCTOBER)
    story.texts["steered"] = "Harris had 47.8%, Trump had 50.0% of 17 states."
    page = app.show_answers(story)
    for sign, word in (("\u2713", "right"), ("\u2717", "wrong"), ("?", "not checkable")):
        assert f">{sign}<" in page and f" ({word}:" in page


def test_facts_are_told_apart_from_the_models():
    page = app.show_facts(*facts_of("Who led in PA last October?"))
    assert "Harris 47.8%" in page and "Trump 47.7%" in page and "53 polls" in page
    assert "not from any model" in page and "Read as: polls of October 2024 in Pennsylvania" in page


@pytest.mark.parametrize(
    "question, places",
    [
        (OCTOBER, {"circle": 28, "rect": 28, "asked": 1}),  # 27 months and one in the legend
        ("How did the national polls move from May 2024 to July 2024?", {"asked": 2}),
        ("Who won Ohio in 2020?", {"asked": 0}),
        ("Who led in Delaware in September 2024?", {"asked": 1}),
    ],
)
def test_trend_is_drawn(question, places):
    asked, facts = facts_of(question)
    page = app.show_trend(asked, facts.trend)
    assert page.count('class="pt-asked"') == places.pop("asked")
    for shape, number in places.items():
        assert page.count(f"<{shape} ") == number
    at = re.findall(r'translate\(([-\d.]+) ([-\d.]+)\)|<text x="([-\d.]+)" y="([-\d.]+)"', page)
    across, down = zip(*((float(a or c), float(b or d)) for a, b, c, d in at), strict=True)
    assert 0 <= min(across) <= max(across) <= 400 and 0 <= min(down) <= max(down) <= 230
    for share in facts.trend["democrat_pct"]:
        assert f"{share:.1f}%" in page


def test_a_lone_month_is_drawn():
    asked, facts = facts_of(OCTOBER)
    page = app.show_trend(asked, facts.trend.iloc[-1:])
    assert "nan" not in page and page.count("<circle") == 2


def test_tokens_can_be_chosen_without_colour_or_mouse():
    story = ask()
    page = app.show_why(story, stand_in()[1])
    assert page.count("<button") == len(story.choices) == page.count("data-token=")
    assert page.count('aria-pressed="true"') == 1
    for i, (_, sign, words) in enumerate(app.BINS):
        assert f'pt-bin{i}">{sign or "="}</span>{words}' in page
    changed = sum(choice.turned for choice in story.choices)
    assert changed and page.count(">◆") + page.count(";◆") == changed


def test_wishes_are_bars_and_numbers():
    story = ask()
    page = app.show_wishes(story, 3, stand_in()[1])
    assert page.count("<table>") == 4 and page.count("<tr") == 4 * (1 + app.TOP)
    top = 100 * story.choices[3].top_scores[0, 0].exp()
    assert f'style="width:{top:.1f}%"' in page and f"<td>{top:.1f}%</td>" in page


def test_export_holds_the_whole_story():
    tokenizer = stand_in()[1]
    story = ask(alpha=0.5)
    record = app.story_record(story, tokenizer, "stand-in")
    links = dict(re.findall(r'download="([^"]+)" href="data:[^;]+;base64,([^"]+)"',
                            app.show_export(record)))  # fmt: skip
    kept = json.loads(base64.b64decode(links["answer.json"]))
    assert kept == record and kept["steered"] == story.texts["steered"] and kept["alpha"] == 0.5
    lines = list(csv.DictReader(io.StringIO(base64.b64decode(links["answer.csv"]).decode())))
    assert "".join(line["token"] for line in lines).strip().removesuffix("(end)") == kept["steered"]
    for line, choice in zip(lines, story.choices, strict=True):
        assert float(line["change"]) == pytest.approx(choice.change, abs=1e-4)


# The served app


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
    blocks = app.build_app(*stand_in(), "stand-in", TABLES)
    _, address, public = app.launch(blocks, prevent_thread_lock=True, quiet=True)
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
    assert blocks._queue.max_size == app.WAITING
    page = httpx.get(address).text
    assert not re.findall(r'(?:src|href)="(?:https?:)?//(?!127\.0\.0\.1)[^"]*"', page)
    assert "googleapis" not in httpx.get(f"{address}/theme.css").text


def test_api_says_what_it_does(client):
    described = client.view_api(print_info=False, return_format="dict")["named_endpoints"]
    assert set(described) == {"/ask", "/sweep", "/facts"}
    assert [p["parameter_name"] for p in described["/ask"]["parameters"]] == [
        "question", "alpha", "temperature", "length", "seed"]  # fmt: skip


def test_api_answers(client):
    record = client.predict(QUESTION, alpha=0.5, length=LENGTH, api_name="/ask")
    assert record == json.loads(
        json.dumps(app.story_record(ask(alpha=0.5), stand_in()[1], "stand-in"))
    )
    swept = client.predict(QUESTION, length=LENGTH, api_name="/sweep")
    assert [row["alpha"] for row in swept] == app.ALPHAS
    assert swept[4]["answer"] == ask(alpha=1).texts["steered"]
    facts = client.predict("Ohio, Oct '24?", api_name="/facts")
    assert facts["facts"][0]["republican"].startswith("Trump 5")


def test_the_page_about_the_api_is_right(served, capsys):
    """The program of docs/demo.md, run as it stands there."""
    page = (Path(__file__).parent.parent / "docs" / "demo.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert "http://127.0.0.1:7860" in program
    exec(program.replace("http://127.0.0.1:7860", served[0]), {})
    printed = capsys.readouterr().out
    assert ask("Who led in Ohio in May 2024?", length=app.LENGTH).texts["steered"] in printed
    assert "Harris 47.8%" in printed
    for high in (value[1] for value in app.LIMITS.values() if value[1] < 1000):
        assert f"to {high}" in page
    assert f"at most {app.LONGEST} characters" in page and f"and {app.WAITING} may wait" in page


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
    root = Path(__file__).parent.parent
    for path in (root / "data/monthly.csv", "/etc/passwd", root / "proxy_tuning/../LICENSE"):
        for route in ("/gradio_api/file=", "/file="):
            assert httpx.get(f"{address}{route}{path}").status_code in (403, 404)
    sent = httpx.post(f"{address}/gradio_api/upload", files={"files": ("a.txt", b"x" * 100)})
    assert sent.status_code >= 400


class Page:
    """What an open browser page is to the server: a session that joins and listens."""

    def __init__(self, address):
        self.api, self.session = f"{address}/gradio_api", f"page{time.monotonic_ns()}"
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
    freed, quick = threading.Event(), app.stream_side_by_side

    def slow(*args, **kwargs):
        try:
            for step in quick(*args, **kwargs):
                for _ in range(1000):
                    time.sleep(0.1)
                    yield step
        finally:
            freed.set()

    monkeypatch.setattr(app, "stream_side_by_side", slow)
    return freed


def test_a_closed_page_frees_its_work(served, slow_models):
    page = Page(served[0])
    page.join("respond", QUESTION, 1, 0, 64, 0)
    messages = page.listen()
    for message in messages:
        if message["msg"] == "process_generating":
            break
    assert not slow_models.is_set()
    messages.close()
    assert slow_models.wait(20)


def test_stop_frees_its_work(served, slow_models):
    page = Page(served[0])
    event = page.join("respond", QUESTION, 1, 0, 64, 0)["event_id"]
    messages = page.listen()
    for message in messages:
        if message["msg"] == "process_generating":
            break
    assert not slow_models.is_set()
    httpx.post(f"{page.api}/cancel", json={"session_hash": page.session, "fn_index": 0,
                                           "event_id": event})  # fmt: skip
    assert slow_models.wait(20)
    messages.close()


def test_the_page_refuses_what_its_controls_cannot_send(served):
    page = Page(served[0])
    page.join("respond", QUESTION, 99, 0, 64, 0)
    for message in page.listen():
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
            record = client.predict(question, length=LENGTH, api_name="/ask")
        except QueueError as error:
            return str(error), time.monotonic() - begun
        return record, time.monotonic() - begun

    with ThreadPoolExecutor(len(questions)) as pool:
        return list(pool.map(one, clients, questions))


QUESTIONS = [f"Who led in {state} in May 2020?" for state in factcheck.STATES.values()][:20]


def check_answers(questions, replies):
    expected = answer_questions(*stand_in(), questions, max_new_tokens=LENGTH)
    for want, (record, _) in zip(expected, replies, strict=True):
        assert {key: record[key] for key in want} == want


@pytest.mark.slow
def test_twenty_askers_at_once(served):
    replies = ask_at_once(served[0], QUESTIONS)
    check_answers(QUESTIONS, replies)
    seconds = sorted(wait for _, wait in replies)
    print(f"waiting times of 20 askers: first {seconds[0]:.2f} s, median "
          f"{statistics.median(seconds):.2f} s, last {seconds[-1]:.2f} s")  # fmt: skip


@pytest.mark.slow
def test_a_full_queue_says_that_it_is_busy(monkeypatch):
    monkeypatch.setattr(app, "WAITING", 3)
    blocks = app.build_app(*stand_in(), "stand-in", TABLES)
    _, address, _ = app.launch(blocks, prevent_thread_lock=True, quiet=True)
    try:
        replies = ask_at_once(address, QUESTIONS)
        busy = [text for text, _ in replies if isinstance(text, str)]
        assert busy and all("queue is full" in text.lower() for text in busy), set(busy)
        answered = [(q, r) for q, r in zip(QUESTIONS, replies, strict=True)
                    if not isinstance(r[0], str)]  # fmt: skip
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
        page = Page(served[0])
        page.join("respond", QUESTIONS[number % 20], 1, 0, LENGTH, 0)
        for message in page.listen():
            if message["msg"] == "process_completed":
                assert message["success"]
                break
        if number % 100 == 99:
            sizes.append(resident())
    print("resident MiB after each 100 questions:", [round(size) for size in sizes])
    assert sizes[-1] - sizes[1] < 10  # the answers of 200 pages are kept, then the oldest go
