"""What is asked: a question and its settings, checked, with friendly messages."""

import reprlib
import unicodedata
from dataclasses import dataclass

LONGEST = 300
"""Characters that a question may have."""
ALPHA, TEMPERATURE, LENGTH, SEED = 1.0, 0.0, 80, 0
"""The recommended settings."""
LIMITS = {"alpha": (0, 3), "temperature": (0, 2), "length": (1, 256), "seed": (0, 2**31 - 1)}
"""The lowest and the highest value of each setting, for sliders, questions and `serve`."""
WHOLE = ("length", "seed")
"""Settings that are whole numbers."""


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
    reword: bool = False
    """Whether the models get the question in a wording that they were trained in, if there is one."""

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
    return character in "\u00a1\u00bf\u2018\u2019\u201c\u201d\u2013\u2014\u2026\u2212"
