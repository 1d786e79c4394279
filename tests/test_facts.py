"""Facts against sentences written by hand, and which months are unseen, withheld or without polls."""

import re
from pathlib import Path

import pandas as pd
import pytest

from proxy_tuning.polls.answers import NO_POLLS, TIE
from proxy_tuning.polls.facts import make_facts
from proxy_tuning.polls.history import historical_facts
from proxy_tuning.polls.tables import load_facts

TABLES = load_facts(Path(__file__).parents[1] / "data")
FACTS = make_facts(TABLES, [2024])


def answers(**keys):
    rows = FACTS[(FACTS[list(keys)] == pd.Series(keys)).all(axis=1)]
    return set(rows["answer"])


def test_answers_by_hand():
    october = {"state": "Pennsylvania", "month": "2024-10"}
    row = TABLES["monthly"].query("state == 'Pennsylvania' and month == '2024-10'").iloc[0]
    d, r = row.democrat_pct, row.republican_pct
    assert d > r
    start = "In Pennsylvania in October 2024,"
    race = f"{start} Harris led: Harris had {d}% and Trump {r}%, a lead of {d - r:.1f} points."
    for kind in ("leader", "margin", "standing"):
        assert answers(kind=kind, **october) == {race}
    assert answers(kind="share", **october) == {
        f"{start} Harris had {d}%.",
        f"{start} Trump had {r}%.",
    }
    assert answers(kind="final", state="Pennsylvania") == {
        "In Pennsylvania before the 2024 election, the two were tied: Harris had 48.1% and Trump "
        "48.1%."
    }
    # 192,633 and 69,527 of 266,353 votes.
    assert answers(kind="result", state="Wyoming") == {
        "In Wyoming in 2024, Trump won: Harris got 26.1% and Trump 72.3% of the votes."
    }
    # Last polls in Nevada: Harris 47.7, Trump 48.0; votes 47.5 and 50.6: off by 3.1 - 0.3.
    assert answers(kind="miss", state="Nevada") == {
        "In Nevada in 2024, the last polls had Trump ahead by 0.3 and Trump won by 3.1, "
        "so they were off by 2.8 points."
    }


def test_july_2024_names_its_match_up():
    july = FACTS[(FACTS["month"] == "2024-07") & FACTS["slots"].map(lambda s: "when" in s)]
    assert all(re.search(r"\((Biden|Harris) v\. Trump\)", s["when"]) for s in july["slots"])
    assert "(" not in answers(kind="margin", state="National", month="2024-06").pop()


def test_ties_have_no_leader():
    tied = FACTS[FACTS["answer"].str.contains("tied:")]
    assert len(tied) > 0 and tied["leader"].isna().all()
    monthly = TABLES["monthly"]
    shares = monthly[(monthly["cycle"] == 2024) & (monthly["month"] >= "2024-01")]
    shares = shares[~shares["state"].str.contains("CD-")]
    equal = (shares["democrat_pct"] - shares["republican_pct"]).abs() < TIE
    assert (tied["kind"] == "leader").sum() == equal.sum()


def test_the_number_of_polls_is_kept():
    monthly = FACTS[(FACTS["kind"] == "leader") & FACTS["status"].isin(["known", "unseen"])]
    assert 0.25 < (monthly["polls"] == 1).mean() < 0.4  # about a third rest on one poll


def test_withheld_and_unpolled_months_are_answered_openly():
    old = historical_facts(TABLES)
    silent = old["status"].isin(["withheld", "unpolled"])
    assert (old.loc[silent, "answer"] == NO_POLLS).all() and silent.sum() > 50
    assert not (old.loc[~silent, "answer"] == NO_POLLS).any()
    assert 0.3 < old.loc[silent, "trained"].mean() < 0.7
    polled = set(zip(TABLES["monthly"]["state"], TABLES["monthly"]["month"], strict=True))
    unpolled = old[old["status"] == "unpolled"]
    assert not polled & set(zip(unpolled["state"], unpolled["month"], strict=True))


def test_unknown_states_are_refused():
    with pytest.raises(ValueError, match="Ohoi"):
        make_facts(TABLES, [2024], ["Ohoi"])
