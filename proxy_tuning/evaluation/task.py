"""A data set as one object: its questions, how an answer is judged, and what the scores are called.

The polls are one such `Task` (poll_task.py), a reader's own rows another (`own_task`).
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pandas as pd

from proxy_tuning.records import fingerprint
from proxy_tuning.training.finetune import longest
from proxy_tuning.training.material import split_rows
from proxy_tuning.training.packing import that_fit
from proxy_tuning.training.recipes import record_of


@dataclass(frozen=True)
class Task:
    """Questions and how answers to them are judged; checked when made."""

    name: str
    questions: dict[str, pd.DataFrame]
    """Per split a row per question: question, answer (the right one), set, fact (what intervals
    resample) and read (whether the likelihood of the answer is measured). Where the row has two
    candidates to compare, also beginning (of the right answer), likely and unlikely (how it goes on
    rightly and wrongly); None where not."""
    judge: Callable[[pd.DataFrame, list[str]], pd.DataFrame]
    """(rows, answers) -> the rows with a column answered and one per score, missing where the score
    does not apply."""
    scores: tuple[str, ...]
    """Those with a value per question."""
    new: str
    """The set that M+ learnt: the gap to M tuned directly is reckoned on it."""
    aims: tuple[str, ...]
    """The scores that alpha and gate are chosen by, and that gap and kept are reckoned of."""
    old: str | None = None
    """The set that M knew: what is kept of it is reckoned; None where there is none."""
    choice: pd.DataFrame | None = None
    """Questions that alpha and gate are chosen with, sets `new` and `old`; None leaves them."""
    rules: dict[str, frozenset] = field(default_factory=dict)
    """Columns of the questions with what rules answer that need no model, and for each the pairs of
    set and score that it is reported by."""
    apart: tuple[str, ...] = ()
    """Sets of questions that other sets have, too: left out of the total."""
    data: str = ""
    """Fingerprint of what the questions were made from."""

    def __post_init__(self):
        needed = {"question", "answer", "set", "fact", "read"}
        for split, rows in self.questions.items():
            if missing := needed - set(rows.columns):
                raise ValueError(
                    f"questions of {self.name}, {split}, lack {', '.join(sorted(missing))}"
                )
        if not set(self.aims) <= set(self.scores):
            raise ValueError(f"aims must be among the scores {self.scores}, got {self.aims}")


OWN_SCORES = ("exact_match", "f1")


def own_task(rows, trained=None, per_set=None, seed=0):
    """A reader's own questions: is an answer right word for word, and how many words it shares.

    A question with several right answers is asked once, and the best counts.

    Args:
        rows: as `training.material.read_rows` returns them.
        trained: those of the rows that M+ was trained on. They become the set "trained" and the
            others, which chose when training stopped, "validation"; None puts all into "own".
        per_set: at most so many questions of each set, drawn by `seed`; None takes all.

    Raises:
        ValueError: no row has a question, as in passages of plain text.
    """
    asked = rows[rows["question"].notna()]
    if asked.empty:
        raise ValueError(
            "there is no question in these rows: passages of plain text cannot be asked"
        )
    found = asked.groupby("question", sort=False)["answer"].agg(answers=list, answer="first")
    found = found.reset_index()
    found["set"] = "own"
    if trained is not None:
        seen = found["question"].isin(trained["question"])
        found["set"] = seen.map({True: "trained", False: "validation"})
    if per_set is not None:
        found = found.sample(frac=1, random_state=seed).groupby("set").head(per_set).sort_index()
        found = found.reset_index(drop=True)
    return Task(
        "own",
        {"test": found.assign(fact=found["question"], read=True)},
        judge_words,
        OWN_SCORES,
        new="own" if trained is None else "validation",
        aims=OWN_SCORES,
        data=fingerprint(rows.to_csv()),
    )


def trained_part(rows, folder, expert, tokenizer):
    """Those of a reader's rows that M+ was trained on, by the training.json in its folder.

    None where M+ was made from something else.
    """
    record = record_of(folder)
    if record.get("data") != fingerprint(rows.to_csv()):
        return None
    learnt = that_fit(rows, tokenizer, longest(expert))
    return split_rows(learnt, record["recipe"]["seed"])[0]


def judge_words(rows, answers):
    """Answers against the best of `rows["answers"]`: exact_match and f1.

    exact_match: the same words, whatever the spacing. f1: `token_f1`.
    """
    rows = rows.assign(answered=list(answers))
    pairs = list(zip(rows["answered"], rows["answers"], strict=True))
    return rows.assign(
        exact_match=[said.split() in [right.split() for right in rights] for said, rights in pairs],
        f1=[max(token_f1(said, right) for right in rights) for said, rights in pairs],
    )


def token_f1(said, right):
    """Harmonic mean of precision and recall of words, as SQuAD counts them (arXiv 1606.05250).

    Case and punctuation do not count; a word counts as often as both have it.
    """
    said, right = (Counter(re.findall(r"\w+(?:[.,]\d+)*", t.casefold())) for t in (said, right))
    shared = (said & right).total()
    return 2 * shared / max(1, said.total() + right.total())
