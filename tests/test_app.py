"""The widget on tiny random models: checked questions, streamed answers, what people see."""

import functools
from pathlib import Path

import pytest
from conftest import tiny_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from proxy_tuning import ProxyTunedForCausalLM, app
from proxy_tuning.decoding import HISTORIES, answer_questions
from proxy_tuning.polls import load_facts

TABLES = load_facts(Path(__file__).parent.parent / "data")
QUESTION = "Who led in Ohio in May 2020?"


@functools.cache
def stand_in():
    """A random trio that reads and writes single bytes, and its tokenizer."""
    alphabet = ["<|endoftext|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    backend = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=alphabet[0], pad_token=alphabet[0], padding_side="left"
    )
    trio = [tiny_model("gpt2", seed, vocab=len(alphabet)) for seed in (1, 2, 3)]
    return ProxyTunedForCausalLM(*trio), tokenizer


def ask(question=QUESTION, **settings):
    return list(app.answer(*stand_in(), TABLES, app.Ask(question, **settings)))


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
    with pytest.raises(ValueError, match="reads? 128 in all"):
        ask("Who led in Ohio? " * 7)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_answers_are_those_of_the_package(alpha):
    last = ask(alpha=alpha, length=20)[-1]
    (expected,) = answer_questions(*stand_in(), [QUESTION], alpha=alpha, max_new_tokens=20)
    assert last.done
    for who in HISTORIES:
        assert last.texts[who] == expected[who].rstrip("\ufffd")


def test_answers_grow(monkeypatch):
    monkeypatch.setattr(app, "EVERY", 0.0)
    steps = app.answer(*stand_in(), TABLES, app.Ask(QUESTION, length=20))
    lengths = [len(story.texts["base"]) for story in steps]
    assert lengths == sorted(lengths) and len(set(lengths)) > 3


def test_the_seed_decides():
    first, again, other = (
        ask(temperature=1.0, seed=seed, length=20)[-1].texts for seed in (1, 1, 2)
    )
    assert first == again != other


def test_text_is_never_markup():
    story = ask(length=4)[-1]
    story.texts = dict.fromkeys(HISTORIES, "<script>alert(1)</script> 5.0 <b>")
    assert "<script" not in app.show_answers(story) and "<b>" not in app.show_answers(story)
    assert "&lt;script&gt;" in app.show_answers(story)


def test_marks_do_not_rest_on_colour():
    story = ask("Who led the polls in Pennsylvania in October 2024?", length=4)[-1]
    story.texts["steered"] = "Harris had 47.8%, Trump had 50.0% of 17 states."
    page = app.show_answers(story)
    for sign, word in (("\u2713", "right"), ("\u2717", "wrong"), ("?", "not checkable")):
        assert f">{sign}<" in page and f" ({word}:" in page


def test_facts_are_told_apart_from_the_models():
    page = app.show_facts(ask("Who led in PA last October?", length=4)[-1])
    assert "Harris 47.8%" in page and "Trump 47.7%" in page and "53 polls" in page
    assert "not from any model" in page and "Read as: polls of October 2024 in Pennsylvania" in page


def test_nothing_leaves_the_machine():
    blocks = app.build_app(*stand_in(), "stand-in", TABLES)
    assert not blocks.analytics_enabled
    assert blocks._queue.max_size == app.WAITING
    _, address, public = app.launch(blocks, prevent_thread_lock=True, quiet=True)
    try:
        assert address.startswith("http://127.0.0.1") and public is None
    finally:
        blocks.close()
