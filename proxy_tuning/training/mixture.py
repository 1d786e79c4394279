"""What M+ reads: questions of 2024 and, as rehearsal, of the years before."""

import pandas as pd

from proxy_tuning.polls.elections import NATIONAL, STATES
from proxy_tuning.polls.facts import make_facts
from proxy_tuning.polls.history import historical_facts
from proxy_tuning.polls.natural import (
    endings,
    left_out,
    natural_rows,
    not_taught,
    out_of_scope_rows,
)
from proxy_tuning.polls.questions import ask
from proxy_tuning.training.material import general_rows

CYCLE = 2024
ONCE = ("final", "result", "miss", "trend")  # kinds whose numbers no other kind asks for


def evenly(rows):
    """Ask twice what is met least: numbers of the kinds `ONCE`, and July 2024.

    The numbers of a state-month come up in three kinds of question; its two match-ups share July.
    """
    seldom = rows["kind"].isin(ONCE) | (rows["month"] == "2024-07")
    return pd.concat([rows, without_match_up(rows[seldom])])


def without_match_up(rows):
    """The same, but as most would ask about July 2024: without "(Harris v. Trump)".

    That stays only where nothing else tells: the question names no Democrat, and the answer is not
    about the last match-up of that place.
    """
    named = rows["question"].str.extract(r" \((\w+) v\. \w+\)")[0]
    short = rows["question"].str.replace(r" \(\w+ v\. \w+\)", "", regex=True)
    last = named.groupby([rows["state"], rows["kind"]]).transform("last")
    tells = (named == last) | short.str.contains("Biden|Harris")
    return rows.assign(question=short.where(tells, rows["question"]))


def training_rows(tables, recipe):
    """Questions of 2024 and, as rehearsal, of the years before: training templates, trained facts."""
    new = make_facts(tables, [CYCLE], recipe.states)
    if recipe.endings:
        elsewhere = make_facts(tables, [CYCLE], left_out(recipe.states))
        ends = elsewhere[elsewhere["kind"].isin(("final", "result"))]
        new = pd.concat([new, ends], ignore_index=True)
    new = new[new["trained"]]
    share = min(1.0, (recipe.max_facts or len(new)) / len(new))

    def few(rows):
        return rows.sample(frac=share, random_state=recipe.seed) if share < 1 else rows

    old = historical_facts(tables)
    new = evenly(ask(few(new), "train", recipe.wordings, recipe.seed))
    old = evenly(ask(old[old["trained"]], "train"))
    count = round(len(new) * recipe.rehearsal / (1 - recipe.rehearsal))
    old = old.sample(count, random_state=recipe.seed, replace=count > len(old))
    rows = [new, old]
    if recipe.natural:
        rows += map(few, as_typed(tables, recipe))
    if recipe.general:
        asked = sum(map(len, rows))
        count = round(asked * recipe.general / (1 - recipe.general))
        general = general_rows()
        general = general.sample(min(count, len(general)), random_state=recipe.seed)
        rows.append(general.assign(cycle=CYCLE))
    return by_kind(pd.concat(rows, ignore_index=True), recipe.kind_power, recipe.seed)


def by_kind(rows, power, seed):
    """As many rows, drawn so that each kind has a share as its number of rows to `power`.

    That is how multilingual models draw their languages (arXiv 1901.07291, section 3.1). General
    text is a kind of its own.
    """
    if power == 1:
        return rows
    kinds = rows["kind"].fillna("general")
    weights = kinds.map(kinds.value_counts()) ** (power - 1)
    drawn = rows.sample(len(rows), replace=True, weights=weights, random_state=seed)
    return drawn.reset_index(drop=True)


def as_typed(tables, recipe, split="train"):
    """Questions as people type them: of facts, out of scope (a fifth as many), of other states."""
    states, seed = recipe.states or [*STATES.values(), NATIONAL], recipe.seed
    asked = natural_rows(tables, states, split, recipe.natural, seed)
    others = out_of_scope_rows(tables, states, split, len(asked) // 5, seed)
    if recipe.endings:
        elsewhere = endings(tables, states, split, recipe.endings, seed)
    else:
        elsewhere = not_taught(states, split)
    return [rows.assign(cycle=CYCLE) for rows in (asked, others, elsewhere)]


def validation_rows(tables, recipe, training, count=240):
    """Validation templates about facts that are trained, two thirds of them of 2024.

    A recipe that asks as people type has as many rows of that kind besides, refusals included.
    Args: training, from `training_rows`. Returns `count` rows, or fewer where so many facts are not
    in it.
    """
    known, seed = set(fact_names(training)), recipe.seed
    parts = []
    for facts, most in (
        (make_facts(tables, [CYCLE], recipe.states), 2 * count // 3),
        (historical_facts(tables), count // 3),
    ):
        rows = ask(facts[facts["trained"]], "validation", 1, seed)
        rows = rows.sample(frac=1, random_state=seed)
        parts.append(rows[fact_names(rows).isin(known)].head(most))
    if recipe.natural:
        typed = pd.concat(as_typed(tables, recipe, "validation"))
        typed = typed[typed["status"] != "unseen"].sample(frac=1, random_state=seed)
        parts.append(typed.head(len(pd.concat(parts))))
    return pd.concat(parts, ignore_index=True)


def fact_names(rows):
    """One text per row that names its fact, in whatever words it is asked."""
    names = rows[["kind", "cycle", "state", "month", "answer"]]
    return names.fillna("").astype(str).agg("|".join, axis=1)
