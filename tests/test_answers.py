"""The grammar of answers: what is written is read back, against the rows of the tables."""

from pathlib import Path

import pandas as pd
import pytest

from proxy_tuning.polls.answers import (
    NO_POLLS,
    before_leader,
    claims_of,
    leader_of,
    numbers_of,
    read_answer,
)
from proxy_tuning.polls.elections import MATCHUPS
from proxy_tuning.polls.facts import make_facts
from proxy_tuning.polls.tables import load_facts

TABLES = load_facts(Path(__file__).parents[1] / "data")
KEYS = {
    "monthly": ["cycle", "state", "month", "democrat"],
    "final": ["cycle", "state", "democrat"],
    "results": ["cycle", "state", "democrat"],
}
ROWS = {
    name: {tuple(getattr(row, key) for key in keys): row for row in TABLES[name].itertuples()}
    for name, keys in KEYS.items()
}
ANSWERS = make_facts(TABLES, sorted(MATCHUPS)).drop_duplicates("answer")
ANSWERS = ANSWERS[ANSWERS["answer"] != NO_POLLS]


def shares(kind, row):
    return {
        (kind, row.democrat): row.democrat_pct,
        (kind, row.republican): row.republican_pct,
    }


def ahead(row):
    """Who is ahead in a row, or 'tie', and by how much."""
    margin = round(row.democrat_pct - row.republican_pct, 1)
    leader = row.democrat if margin > 0 else row.republican if margin < 0 else "tie"
    return leader, abs(margin)


def race(row):
    leader, lead = ahead(row)
    return leader, shares("poll", row) | ({} if leader == "tie" else {("lead", leader): lead})


def expected(fact):
    """Leader and claims that a fact's answer should be read to, from the tables alone."""
    cycle, state, democrat = fact.cycle, fact.state, fact.slots["dem"]
    month = ROWS["monthly"].get((cycle, state, fact.month, democrat))
    if fact.kind == "share":
        who = fact.slots["who"]
        known = {name: share for (_, name), share in shares("poll", month).items()}
        return None, {("poll", who): known.get(who, month.kennedy_pct)}
    if fact.kind == "trend":
        before = [
            row
            for row in ROWS["monthly"].values()
            if (row.cycle, row.state, row.democrat) == (cycle, state, democrat)
            and f"{cycle}-01" <= row.month < fact.month
        ]
        start = max(before, key=lambda row: row.month)
        return None, shares("start", start) | shares("poll", month)
    if month is not None:
        return race(month)
    final, result = (ROWS[name].get((cycle, state, democrat)) for name in ("final", "results"))
    if fact.kind == "final":
        return race(final)
    if fact.kind == "result":
        return result.winner, shares("vote", result)
    leader, lead = ahead(final)
    margins = [row.democrat_pct - row.republican_pct for row in (final, result)]
    claims = {("won by", result.winner): ahead(result)[1], ("error", None): margins[0] - margins[1]}
    return result.winner, claims | ({} if leader == "tie" else {("lead", leader): lead})


@pytest.mark.parametrize("kind", sorted(set(ANSWERS["kind"])))
def test_every_sentence_is_read_back_to_the_figures_of_the_tables(kind):
    facts = ANSWERS[ANSWERS["kind"] == kind]
    assert len(facts) >= 50
    for fact in facts.itertuples():
        leader, claims = expected(fact)
        said = read_answer(fact.answer)
        told = {(c.kind, c.name): float(c.number) for c in said.claims if c.kind != "year"}
        claims = {key: round(abs(figure), 1) for key, figure in claims.items()}
        assert (said.leader, told) == (leader, claims), fact.answer
        assert said.places == (fact.state,), fact.answer
        years = {int(c.number) for c in said.claims if c.kind == "year"}
        if pd.isna(fact.month):
            assert years == set(said.years) == {fact.cycle} and not said.months, fact.answer
        else:
            assert (int(fact.month[5:]), int(fact.month[:4])) == said.months[-1], fact.answer
            assert len(said.months) == (2 if "start" in fact.slots else 1)
            assert years == {year for _, year in said.months}


def test_every_number_of_every_sentence_claims_something():
    for answer in ANSWERS["answer"]:
        said = [float(c.number) for c in claims_of(answer) if c.kind != "year"]
        assert said == numbers_of(answer), answer


def test_the_part_before_the_leader_and_the_verb_make_the_sentence():
    for fact in ANSWERS[ANSWERS["leader"].notna()].itertuples():
        start, verb = before_leader(fact.answer)
        assert fact.answer.startswith(f"{start} {fact.leader} {verb}: ")
        assert start.endswith(",") and verb == ("won" if fact.kind == "result" else "led")
    with pytest.raises(ValueError, match="Nobody knows"):
        before_leader("Nobody knows.")


@pytest.mark.parametrize(
    ("text", "leader", "claims"),
    [
        (
            "Harris led Trump by 0.1 points, 47.8% to 47.6%.",
            "Harris",
            [("lead", "Harris", "0.1"), ("poll", "Harris", "47.8"), ("poll", "Trump", "47.6")],
        ),
        (
            "In 2020 it was 51 percent for Biden.",
            None,
            [("year", None, "2020"), ("poll", "Biden", "51")],
        ),
        ("Trump is ahead, with a lead of 3 percentage points.", None, [("lead", "Trump", "3")]),
        ("They tied at 48.0%.", "tie", [("tie", None, "48.0")]),
        ("Trump took 72.3% of the votes, and 9 states.", None, [("vote", "Trump", "72.3")]),
        ("Nobody knows.", None, []),
    ],
)
def test_other_words_are_read_by_hand(text, leader, claims):
    assert leader_of(text) == leader
    assert [(c.kind, c.name, c.number) for c in claims_of(text)] == claims
    assert all(text[c.start :].startswith(c.number) for c in claims_of(text))


def test_the_tables_have_ties_and_dead_heats():
    """What is rare and easy to write wrong does occur above."""
    assert ANSWERS["answer"].str.contains("tied: ").any()
    assert ANSWERS["answer"].str.contains("had a tie and").any()
    assert pd.notna(TABLES["monthly"]["kennedy_pct"]).any()
