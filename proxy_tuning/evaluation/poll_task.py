"""The polls as a `Task`: what is asked, and how answers are marked against the facts.

Five sets of questions, all in wordings that nothing was trained on:

    new      2024 facts that M+ was trained on
    unseen   2024 state-months that nothing was trained on
    old      historical facts that M and M- were trained on
    silent   state-months without polls that training never mentions; right is to say so
    against  those of the new facts where the party that leads most in that state did not lead
"""

import functools
import re

import numpy as np
import pandas as pd

from proxy_tuning.evaluation.rules import RULES, with_rules
from proxy_tuning.evaluation.task import Task
from proxy_tuning.polls.answers import NO_POLLS, before_leader, numbers_of
from proxy_tuning.polls.facts import make_facts
from proxy_tuning.polls.history import historical_facts
from proxy_tuning.polls.questions import ask, grade
from proxy_tuning.polls.templates import SPLITS
from proxy_tuning.records import fingerprint
from proxy_tuning.training.mixture import CYCLE

SCORES = (
    "leader_accuracy",
    "leader_likelier",
    "exact_match",
    "absolute_error",
    "well_formed",
    "abstained",
    "spoke",
)
CHOICE = 60  # questions of each set that alpha and gate are chosen with
BY_PARTY = frozenset((name, "leader_accuracy") for name in ("new", "unseen", "old", "against"))
BY_MONTH = frozenset(("unseen", s) for s in ("leader_accuracy", "exact_match", "absolute_error"))


def polls_task(tables, states=None, per_set=None, seed=0):
    """The questions about the facts of these states and of the years before.

    Args:
        tables: the fact tables, as `load_facts` returns them.
        states: as for `make_facts`; those that M+ learnt.
        per_set: at most so many questions of each set, drawn by `seed`; None takes all.
    """
    facts = all_facts(tables, states)
    choice = question_sets(facts, "validation", min(per_set or CHOICE, CHOICE), seed)
    return Task(
        "polls",
        {split: question_sets(facts, split, per_set, seed) for split in SPLITS},
        functools.partial(mark, forms=forms_of(facts)),
        SCORES,
        new="new",
        old="old",
        aims=("leader_accuracy", "exact_match"),
        choice=choice[choice["set"].isin(["new", "old"])],
        rules=dict(zip(RULES, (BY_PARTY, BY_PARTY, BY_MONTH), strict=True)),
        apart=("against",),
        data=fingerprint({name: table.to_csv() for name, table in tables.items()}),
    )


def all_facts(tables, states=None):
    """The facts that questions are about, each with what `RULES` answer.

    They are those of 2024 of these states, and those of the years before.
    """
    facts = [make_facts(tables, [CYCLE], states), historical_facts(tables)]
    return with_rules(pd.concat(facts, ignore_index=True))


def question_sets(facts, split="test", per_set=None, seed=0):
    """Questions in one wording per fact, with the columns of `Task.questions`.

    Args: facts as `all_facts` returns them; split, one of SPLITS; per_set, see `polls_task`.
    """
    new, known = facts["cycle"] == CYCLE, facts["status"] == "known"
    leaders = facts["leader"].notna()
    sets = {
        "new": new & known,
        "unseen": facts["status"] == "unseen",
        "old": ~new & known,
        "silent": facts["status"].isin(["withheld", "unpolled"]) & ~facts["trained"],
        "against": new & known & leaders & (facts[RULES[1]] != facts["leader"] + " led"),
    }
    asked = []
    for name, chosen in sets.items():
        chosen = facts[chosen].reset_index(drop=True)
        if per_set is not None and per_set < len(chosen):
            chosen = chosen.sample(per_set, random_state=seed)
        asked.append(ask(chosen, split, 1, seed).assign(set=name))
    rows = pd.concat(asked, ignore_index=True)
    rows[["beginning", "likely", "unlikely"]] = [candidates(row) for row in rows.itertuples()]
    return rows.assign(
        fact=rows[["cycle", "state", "month"]].fillna("").astype(str).agg("|".join, axis=1),
        read=(rows["answer"] != NO_POLLS) & (rows["set"] != "against"),
    )


def candidates(row):
    """The start of a right answer and two ways to go on, the right one first; None without a leader.

        In Ohio in May 2024,  |  Trump led  |  Biden led

    Args: row with answer, leader and the slots dem and rep.
    """
    if pd.isna(row.leader) or row.answer == NO_POLLS:
        return None, None, None
    start, verb = before_leader(row.answer)
    dem, rep = row.slots["dem"], row.slots["rep"]
    other = dem if row.leader == rep else rep
    return start, f" {row.leader} {verb}", f" {other} {verb}"


def mark(rows, texts, forms):
    """Compare answers with the facts: the columns of `questions.grade`, and others.

    absolute_error: see there. well_formed: whether the answer is of a form in `forms`. abstained:
    whether it says that there are no polls, where that is right. spoke: whether it says anything
    else, where there are polls.
    """
    graded = grade(rows, texts)
    said, silent = graded["abstained"].astype(float), rows["answer"] == NO_POLLS
    pairs = zip(graded["answered"], graded["answer"], strict=True)
    return graded.assign(
        absolute_error=[absolute_error(answer, fact) for answer, fact in pairs],
        well_formed=[form(text) in forms for text in graded["answered"]],
        abstained=said.where(silent),
        spoke=(1 - said).where(~silent),
    )


def absolute_error(answer, fact):
    """Mean distance in points of an answer's numbers from the fact's.

    NaN where it has not as many, or one above 100, which is no percentage.
    """
    said, true = numbers_of(answer), numbers_of(fact)
    if not true or len(said) != len(true) or max(said) > 100:
        return np.nan
    return float(np.abs(np.subtract(said, true)).mean())


def form(text):
    """An answer without its names and numbers, as in 'X in X 0, X had 0.0%'."""
    text = re.sub(r"\d+(\.\d+)?", lambda number: "0.0" if number[1] else "0", text)
    return re.sub(r"[A-Z]\w*(\.? [A-Z]\w*)*", "X", text)


def forms_of(facts):
    """The forms that right answers have."""
    return set(facts["answer"].map(form))
