"""The widget's questions and answers on a tiny random trio: what is refused, what comes back."""

from types import SimpleNamespace

import pytest
import torch
from stand_in import LENGTH, POLLS, QUESTION, ask, stand_in

from proxy_tuning.answering import answer_questions
from proxy_tuning.decoding import HISTORIES
from proxy_tuning.prompts import prompt
from proxy_tuning.widget import asking, stories


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
        asking.Ask(question)


def test_questions_that_can():
    assert asking.Ask("¿Who led?").question == "¿Who led?"
    assert asking.Ask("  Who  led\tin\nOhio? ").question == "Who led in Ohio?"
    typed = asking.Ask("Cafe\u0301 \u2018Ohio\u2019 \u2013 <b>{{x}}</b>?")
    assert typed.question == "Caf\u00e9 \u2018Ohio\u2019 \u2013 <b>{{x}}</b>?"
    assert asking.Ask("What is M\u2212?").question == "What is M\u2212?"  # as the page writes it


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
        asking.Ask(QUESTION, **setting)


def test_a_question_too_long_for_the_context():
    with pytest.raises(ValueError, match="read 128 in all"):
        ask("Who led in Ohio? " * 7)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_answers_are_those_of_the_package(alpha):
    story = ask(alpha=alpha)
    (expected,) = answer_questions(*stand_in(), [QUESTION], alpha=alpha, max_new_tokens=LENGTH)
    assert story.done and story.texts == {who: expected[who] for who in HISTORIES}


def test_answers_grow(monkeypatch):
    monkeypatch.setattr(stories, "EVERY", 0.0)
    steps = stories.answer(*stand_in(), POLLS, asking.Ask(QUESTION, length=LENGTH))
    lengths = [len(story.texts["base"]) for story in steps]
    assert lengths == sorted(lengths) and len(set(lengths)) > 3


def test_the_seed_decides():
    first, again, other = (ask(temperature=1.0, seed=seed).texts for seed in (1, 1, 2))
    assert first == again != other


def test_choices_are_what_each_model_predicts():
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
    predicted = torch.stack([base, expert, antiexpert, base + 0.7 * (expert - antiexpert)])
    predicted = predicted.log_softmax(-1)  # (4, N, V)
    assert len(story.choices) == predicted.shape[1]
    for i, choice in enumerate(story.choices):
        torch.testing.assert_close(
            torch.tensor(choice.scores), predicted[:, i, choice.token], rtol=1e-4, atol=1e-4
        )
        torch.testing.assert_close(
            choice.top_scores, predicted[:, i].topk(stories.TOP).values, rtol=1e-4, atol=1e-4
        )
        assert choice.change == choice.scores[3] - choice.scores[0]
        assert choice.turned == bool(predicted[0, i].argmax() != predicted[3, i].argmax())


@pytest.mark.parametrize(
    "change, number",
    [(-9, 0), (-3.0, 1), (-1.0, 2), (-0.1, 3), (0, 3), (0.1, 4), (0.9, 4), (1, 5), (3, 6), (9, 6)],
)
def test_bins(change, number):
    assert stories.bin_of(change) == number


def test_the_word_that_opens_first(monkeypatch):
    """Whole words before pieces, turned ones before others, and then the largest change."""
    choice = SimpleNamespace
    monkeypatch.setattr(stories, "token_text", lambda _, token: token)
    choices = [
        choice(token=" Har", turned=True, change=9.0),
        choice(token="ris", turned=True, change=8.0),
        choice(token=" led", turned=True, change=2.0),
        choice(token=" by", turned=True, change=3.0),
        choice(token=" points", turned=False, change=7.0),
        choice(token=" 4", turned=True, change=6.0),
    ]
    assert stories.most_telling(choices, None) == 3
    del choices[2:4]
    assert stories.most_telling(choices, None) == 0
    choices[0].turned = choices[1].turned = choices[3].turned = False
    assert stories.most_telling(choices, None) == 2


def test_alpha_zero_changes_nothing():
    story = ask(alpha=0)
    assert {stories.bin_of(choice.change) for choice in story.choices} == {3}
    assert not any(choice.turned for choice in story.choices)


def test_sweep_is_each_alpha_alone():
    model, tokenizer = stand_in()
    *_, texts = stories.sweep(model, tokenizer, asking.Ask(QUESTION, length=LENGTH), QUESTION)
    for alpha, text in zip(stories.ALPHAS, texts, strict=True):
        assert text == ask(alpha=alpha).texts["steered"]
    assert texts[0] == ask().texts["base"]


def test_two_settings_are_each_alone():
    settings = ({"alpha": 0.5}, {"alpha": 1.5, "temperature": 1.0, "seed": 3})
    asks = tuple(asking.Ask(QUESTION, length=LENGTH, **given) for given in settings)
    *_, (left, right) = stories.compare(*stand_in(), asks, QUESTION)
    assert left == ask(alpha=0.5).texts["steered"]
    again = [*stories.compare(*stand_in(), asks[1:], QUESTION)][-1]
    assert again == [right] and right != left
