"""Facts -> questions with answers, and the grades of what a model answered."""

import pandas as pd

from proxy_tuning.polls.answers import NO_POLLS, leader_of, numbers_of
from proxy_tuning.polls.templates import SPLITS, TEMPLATES


def ask(facts, split, wordings=None, seed=0):
    """Put facts into the templates of one split: a DataFrame with a row per fact and template.

    Args:
        facts: as `facts.make_facts` returns them.
        split: one of SPLITS.
        wordings: at most so many templates per fact, drawn by `seed`; None takes all.
        seed: where chance starts.

    Returns:
        The columns of `facts` with template and question.

    Raises:
        ValueError: there is no such split.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {SPLITS}, not {split!r}")
    rows = facts.assign(template=[TEMPLATES[kind][split] for kind in facts["kind"]]).explode(
        "template"
    )
    if wordings is not None:
        rows = rows.sample(frac=1, random_state=seed).groupby(level=0).head(wordings).sort_index()
    questions = [
        template.format(**slots)
        for template, slots in zip(rows["template"], rows["slots"], strict=True)
    ]
    return rows.assign(question=questions).reset_index(drop=True)


def grade(rows, answers):
    """Compare answers with the facts: `rows` with answered, leader_accuracy and exact_match.

    leader_accuracy is missing where the kind names no leader or the fact is a tie; exact_match
    means every number of the fact, in order, and no other. Where the right answer is NO_POLLS
    both are missing, and `abstained` says whether that was answered.
    """
    rows = rows.assign(answered=list(answers))
    known = rows["answer"] != NO_POLLS
    rows["abstained"] = rows["answered"].str.strip() == NO_POLLS
    said = rows["answered"].map(leader_of)
    rows["leader_accuracy"] = (
        (said == rows["leader"]).astype("boolean").where(rows["leader"].notna() & known)
    )
    equal = [
        numbers_of(a) == numbers_of(b)
        for a, b in zip(rows["answered"], rows["answer"], strict=True)
    ]
    rows["exact_match"] = pd.Series(equal, index=rows.index, dtype="boolean").where(known)
    return rows
