"""What is asked, and what the models do with it: checked settings, three answers, and why.

No HTML and no Gradio: `html` shows a `Story`, `export` keeps it, `page` serves both.
"""

import math
import reprlib
import time
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import torch

from proxy_tuning.answering import Written, grow, write_side_by_side
from proxy_tuning.decoding import HISTORIES
from proxy_tuning.polls import checking, reading
from proxy_tuning.prompts import prompt

LONGEST = 300
"""Characters that a question may have."""
ALPHA, TEMPERATURE, LENGTH, SEED = 1.0, 0.0, 64, 0
"""The recommended settings."""
LIMITS = {"alpha": (0, 3), "temperature": (0, 2), "length": (1, 256), "seed": (0, 2**31 - 1)}
"""The lowest and the highest value of each setting, for sliders, questions and `serve`."""
WHOLE = ("length", "seed")
"""Settings that are whole numbers."""
ALPHAS = [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2]
"""What the sweep tries, in one batch."""
TOP = 10
"""How many of the likeliest tokens are shown."""
EVERY = 0.05
"""Seconds between two looks at a growing answer."""

MODELS = ("base", "expert", "antiexpert", "steered")
"""Whose predictions are shown at a token, in the order of the rows of `Choice`."""


# What is asked


def within_limits(name: str, value) -> int | float:
    """A setting as it is used.

    Args:
        name: one of `LIMITS`.
        value: what somebody chose, of any type.

    Raises:
        ValueError: no number, no whole number where one is needed, or outside `LIMITS`.
    """
    low, high = LIMITS[name]
    whole = name in WHOLE
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and low <= value <= high and (not whole or value == int(value))):
        kind = "whole number" if whole else "number"
        raise ValueError(
            f"The {name} needs to be a {kind} from {low} to {high}, not {reprlib.repr(value)}."
        )
    return int(value) if whole else value


@dataclass(frozen=True)
class Ask:
    """One question with its settings, checked; ValueError with a friendly message otherwise."""

    question: str
    alpha: float = ALPHA
    """Weight of (expert - antiexpert)."""
    temperature: float = TEMPERATURE
    """0 takes the most likely token, above 0 samples."""
    length: int = LENGTH
    """Longest answer, in tokens."""
    seed: int = SEED
    """Where chance starts, for temperatures above 0."""

    def __post_init__(self):
        object.__setattr__(self, "question", readable(self.question))
        for name in LIMITS:
            object.__setattr__(self, name, within_limits(name, getattr(self, name)))


def readable(question) -> str:
    """The question with single spaces; ValueError where it is nothing that the models can read."""
    if not isinstance(question, str) or not question.strip():
        raise ValueError("Please type a question first, or choose an example.")
    if len(question) > LONGEST:
        raise ValueError(
            f"That question has {len(question):,} characters. "
            f"Please ask in at most {LONGEST}: a place, a time and what you want to know."
        )
    question = " ".join(unicodedata.normalize("NFC", question).split())
    for character in question:
        if not understood(character):
            name = unicodedata.name(character, "a control character").lower()
            raise ValueError(
                f"These models have read English only and cannot take {name} "
                f"(U+{ord(character):04X}). Please ask in English letters, digits and punctuation."
            )
    if not any(character.isalpha() for character in question):
        raise ValueError("That has no words. Please ask a question in English.")
    return question


def understood(character: str) -> bool:
    """Whether the models can take a character: printable ASCII, Latin letters, typed quotes."""
    if character.isascii():
        return character.isprintable()
    if character.isalpha() and "LATIN" in unicodedata.name(character, ""):
        return True
    return character in "\u2018\u2019\u201c\u201d\u2013\u2014\u2026"


# What the models do with it


@dataclass(frozen=True)
class Choice:
    """One token of the steered text and what each of the four `MODELS` predicted there."""

    token: int
    """The token chosen."""
    scores: list[float]
    """Its log-probability under each, (4,), natural logarithm."""
    top_ids: torch.Tensor
    """The likeliest tokens of each, (4, TOP)."""
    top_scores: torch.Tensor
    """Their log-probabilities, (4, TOP)."""

    @classmethod
    def of(cls, token: int, logits: dict[str, torch.Tensor]) -> "Choice":
        """From a token and the raw logits (V,) of each of `MODELS`."""
        scores = torch.stack([logits[who] for who in MODELS]).log_softmax(-1)  # (4, V)
        top = scores.topk(min(TOP, scores.shape[1]))
        return cls(token, scores[:, token].tolist(), top.indices.int().cpu(), top.values.cpu())

    @property
    def change(self) -> float:
        """What steering did to the token: its log-probability, steered minus M."""
        return self.scores[3] - self.scores[0]

    @property
    def turned(self) -> bool:
        """Whether M alone would have put another token first."""
        return bool(self.top_ids[0, 0] != self.top_ids[3, 0])


@dataclass
class Story:
    """What was asked, how the three texts grew, and why the steered one did."""

    ask: Ask
    asked: reading.Asked
    facts: checking.Facts
    texts: dict[str, str] = field(default_factory=lambda: dict.fromkeys(HISTORIES, ""))
    """The answers so far, by who writes them."""
    choices: list[Choice] = field(default_factory=list)
    """One per token of the steered text, its end included."""
    done: bool = False


def answer(model, tokenizer, tables: dict, ask: Ask) -> Iterator[Story]:
    """Answer one question; the same `Story` again and again while it grows, its last time done.

    Raises:
        ValueError: the question does not fit into the context of the models.
    """
    asked = reading.read_question(ask.question, tables)
    story = Story(ask, asked, checking.look_up(asked, tables))
    ids: dict[str, list[int]] = {name: [] for name in HISTORIES}
    shown = -math.inf
    for new in three_texts(model, tokenizer, ask):
        tokens = new.ids.get(0, [])
        ids[new.writer] += tokens
        if new.logits is not None:
            for place, token in enumerate(tokens):
                of_token = {who: logits[0, place] for who, logits in new.logits.items()}
                story.choices.append(Choice.of(token, of_token))
        if time.monotonic() - shown > EVERY:
            story.texts = dict(zip(ids, texts_of(tokenizer, ids.values()), strict=True))
            shown = time.monotonic()
            yield story
    story.texts = dict(zip(ids, texts_of(tokenizer, ids.values()), strict=True))
    story.done = True
    yield story


def three_texts(model, tokenizer, ask: Ask) -> Iterator[Written]:
    """The one place where an answer is decoded: what comes to the texts of M, M+ and steered M."""
    inputs, longest = prompt_inputs(model, tokenizer, ask)
    return write_side_by_side(
        model,
        **inputs,
        max_new_tokens=longest,
        temperature=ask.temperature,
        alpha=ask.alpha,
        generator=torch.Generator(model.device).manual_seed(ask.seed),
        eos_token_id=tokenizer.eos_token_id,
    )


def sweep(model, tokenizer, ask: Ask) -> Iterator[list[str]]:
    """The greedy answers at each of `ALPHAS`, in one batch, while they grow.

    Raises:
        ValueError: the question does not fit into the context of the models.
    """
    inputs, longest = prompt_inputs(model, tokenizer, ask)
    growing = grow(
        model,
        **inputs,
        max_new_tokens=longest,
        alpha=torch.tensor([ALPHAS], device=model.device),
        eos_token_id=tokenizer.eos_token_id,
    )
    rows: list[list[int]] = [[] for _ in ALPHAS]
    shown = -math.inf
    for new in growing:
        for row, ids in new.items():
            rows[row] += ids
        if time.monotonic() - shown > EVERY:
            shown = time.monotonic()
            yield texts_of(tokenizer, rows)
    yield texts_of(tokenizer, rows)


def prompt_inputs(model, tokenizer, ask: Ask) -> tuple[dict[str, torch.Tensor], int]:
    """The inputs of one row, (1, T), and how many tokens may follow.

    Raises:
        ValueError: the prompt leaves the shortest context no room for an answer.
    """
    inputs = tokenizer([prompt(ask.question, tokenizer)], return_tensors="pt")
    tokens = inputs["input_ids"].shape[1]
    context = model.config.max_position_embeddings or math.inf
    if tokens + 8 > context:
        raise ValueError(
            f"That question takes {tokens} tokens, and these models read {context} in all, "
            "their answer included. Please ask in fewer words."
        )
    return dict(inputs), min(ask.length, context - tokens)


# Token ids as text


def texts_of(tokenizer, rows: Iterable[list[int]]) -> list[str]:
    """The texts of rows of token ids; a letter half written waits."""
    texts = tokenizer.batch_decode(list(rows), skip_special_tokens=True)
    return [text.strip().rstrip("\ufffd") for text in texts]


def token_text(tokenizer, token: int) -> str:
    """A token as people can read it; pieces of a letter as the tokenizer writes them."""
    if token == tokenizer.eos_token_id:
        return "(end)"
    text = tokenizer.decode([token])
    return text if "\ufffd" not in text else tokenizer.convert_ids_to_tokens(token)


# What steering did to a token, in words

BINS = [
    (-math.inf, "−−−", "much less likely (to a 20th or lower)"),
    (-3.0, "−−", "less likely (to a third or lower)"),
    (-1.0, "−", "a little less likely"),
    (-0.1, "", "about as likely"),
    (0.1, "+", "a little likelier"),
    (1.0, "++", "likelier (3 times or more)"),
    (3.0, "+++", "much likelier (20 times or more)"),
]
"""Lowest change in log-probability, sign, words. The factor is e to the change: 0.1 is 10 percent,
1 is threefold, 3 is twentyfold."""


def bin_of(change: float) -> int:
    """Which of the seven `BINS` a change falls into."""
    return max(i for i, (low, _, _) in enumerate(BINS) if change >= low)


def most_telling(story: Story, tokenizer) -> int:
    """The token to open first: the whole word, or else token, that steering helped most to the top.

    Whole: letters that no letter goes before or after.
    """
    texts = [token_text(tokenizer, choice.token) for choice in story.choices]

    def telling(i):
        text = texts[i].strip()
        starts = texts[i] != texts[i].lstrip() or not "".join(texts[:i])[-1:].isalpha()
        whole = text.isalpha() and starts and not "".join(texts[i + 1 :])[:1].isalpha()
        return story.choices[i].turned, whole, story.choices[i].change

    return max(range(len(texts)), key=telling)
