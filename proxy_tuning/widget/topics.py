"""What the page knows about a question beside the models: a topic with its facts and its marks.

`Polls` looks questions up in the fact tables; `Rows` is for a reader's own questions and answers
and shows those nearest to what was asked. A `Topic` of your own gives the page another panel.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer

from proxy_tuning.polls import checking, marks, reading, wordings
from proxy_tuning.polls.asked import Asked
from proxy_tuning.polls.marks import Piece
from proxy_tuning.polls.words import page_sentence


@dataclass(frozen=True)
class Example:
    """A question to begin with."""

    question: str
    tells: str
    """What its answers show, in a few words."""
    chat: bool | None = None
    """True is for models with a chat template alone, False for those without, None for all."""


@dataclass(frozen=True)
class Found:
    """What a topic has about a question; every text is shown escaped."""

    understood: str = ""
    """How the question was read, in a sentence."""
    page: str = ""
    """What the page itself says to it, where it is not one for the models."""
    wording: str = ""
    """The same question as models were trained to be asked; empty where there is none."""
    facts: list[dict] = field(default_factory=list)
    """Lines of a table: what, democrat, republican, ahead, rests_on."""
    missing: str = ""
    """What there are no facts about, in a sentence."""
    near: tuple[str, ...] = ()
    """Questions near to it that can be answered."""
    pairs: tuple[tuple[str, str], ...] = ()
    """Questions near to it that M+ was trained on, and their answers."""
    trend: pd.DataFrame | None = None
    """Rows of the monthly table around it."""
    asked: Asked | None = None
    """What `Polls` read."""
    known: checking.Facts | None = None
    """What `Polls` looked up."""


class Topic(Protocol):
    """What `build_app` takes as `about`."""

    heading: str
    """Of the panel under the answers."""
    note: str
    """Where what it shows comes from."""
    hint: str
    """What may be asked, under the question."""
    examples: tuple[Example, ...]
    rewords: bool
    """Whether `find` may know a wording that models were trained to be asked in."""

    def find(self, question: str) -> Found:
        """What is known about a question."""

    def mark(self, answer: str, found: Found) -> list[Piece]:
        """An answer in pieces, those that can be checked with a mark."""

    def verdict(self, answer: str, found: Found) -> str:
        """One sentence about an answer; empty where nothing can be said."""


class Polls:
    """US presidential polls and results, by the fact tables.

    Args:
        tables: as `tables.load_facts` returns them.
    """

    heading = "What the polls say"
    note = (
        "From the fact tables in data/, not from any model: check the answers against it. "
        "✓ right, ✗ wrong, ? not checkable."
    )
    hint = "About US presidential polls and results."
    rewords = True
    examples: tuple[Example, ...] = (
        Example("Who led the polls in Pennsylvania in October 2024?", "M is wrong, steered right"),
        Example("What is the capital of France?", "no poll: M+ alone, and steered", chat=True),
        Example("How big was the lead in Arizona in September 2024?", "what M+ learnt", chat=False),
        Example("Did Trump win Nevada?", "in your own words", chat=True),
        Example("Who was ahead in Ohio in October 2016?", "an old one: the tables know"),
        Example("Who led the Republican primary polls in Iowa?", "outside the tables"),
    )

    def __init__(self, tables: dict[str, pd.DataFrame]):
        self.tables = tables

    def find(self, question: str) -> Found:
        asked = reading.read_question(question, self.tables)
        known = checking.look_up(asked, self.tables)
        near: tuple[str, ...] = ()
        if not known.lines or known.missing:
            near = wordings.near_questions(asked, self.tables)
        return Found(
            understood=str(asked),
            wording=wordings.trained_wording(asked),
            page=page_sentence(question),
            near=near,
            facts=known.lines,
            missing=known.missing,
            trend=known.trend,
            asked=asked,
            known=known,
        )

    def mark(self, answer: str, found: Found) -> list[Piece]:
        return marks.mark_numbers(answer, found.asked, found.known)

    def verdict(self, answer: str, found: Found) -> str:
        return marks.verdict(answer, found.asked, found.known)


class Rows:
    """A reader's own questions: the nearest are shown, and an answer is compared word for word.

    Args:
        rows: as `training.material.read_rows` returns them.
    """

    heading = "The nearest questions in the data"
    note = "From the file that this page was started with, not from any model."
    hint = "About what the data are about."
    rewords = False
    shown = 5

    def __init__(self, rows: pd.DataFrame):
        asked = rows[rows["question"].notna()].drop_duplicates("question")
        self.rows = asked.reset_index(drop=True)
        self.examples = tuple(
            Example(question, "in the data") for question in self.rows["question"][:4]
        )

    @cached_property
    def index(self) -> tuple:
        """The words of all questions, weighed: (vectorizer, matrix (N, W)); None without words."""
        words = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w+")
        return words, words.fit_transform(self.rows["question"])

    def find(self, question: str) -> Found:
        if self.rows.empty:
            return Found(missing="There are no questions in the data, only passages of text.")
        words, matrix = self.index
        likeness = (matrix @ words.transform([question]).T).toarray()[:, 0]  # (N,)
        best = [i for i in likeness.argsort(kind="stable")[::-1][: self.shown] if likeness[i] > 0]
        pairs = tuple(
            self.rows.loc[best, ["question", "answer"]].itertuples(index=False, name=None)
        )
        missing = "" if pairs else "No question in the data shares a word with it."
        return Found(missing=missing, pairs=pairs)

    def mark(self, answer: str, found: Found) -> list[Piece]:
        return [Piece(answer)] if answer else []

    def verdict(self, answer: str, found: Found) -> str:
        if answer and any(answer.split() == right.split() for _, right in found.pairs):
            return "Word for word an answer of the data."
        return ""


def topic_of(about: Any) -> Topic:
    """The topic that fact tables or rows of a reader's own are about; a topic as it is."""
    if isinstance(about, pd.DataFrame):
        return Rows(about)
    return Polls(about) if isinstance(about, dict) else about
