"""The tolerant reader of questions: place, time, match-up, and what it had to assume."""

from pathlib import Path

import pytest

from proxy_tuning.polls.checking import look_up
from proxy_tuning.polls.elections import DISTRICTS
from proxy_tuning.polls.facts import make_facts
from proxy_tuning.polls.questions import ask
from proxy_tuning.polls.reading import read_question
from proxy_tuning.polls.tables import load_facts
from proxy_tuning.polls.templates import SPLITS

TABLES = load_facts(Path(__file__).parent.parent / "data")


def read(question):
    asked = read_question(question, TABLES)
    return asked.kind, asked.state, asked.month or asked.cycle


@pytest.mark.parametrize(
    "question, meant",
    [
        ("Who led the polls in Pennsylvania in October 2024?", ("Pennsylvania", "2024-10")),
        ("who was ahead in PA last October", ("Pennsylvania", "2024-10")),
        ("WHO LED IN PA IN OCTOBER 2024", ("Pennsylvania", "2024-10")),
        ("polls in pa, oct 2024", ("Pennsylvania", "2024-10")),
        ("Wisconson, Sept '24?", ("Wisconsin", "2024-09")),
        ("Missisipi Febuary 2008", ("Mississippi", "2008-02")),
        ("Who had the lead in N. Carolina on 12 October, 2016?", ("North Carolina", "2016-10")),
        ("Virginia in 10/2016", ("Virginia", "2016-10")),
        ("West Virginia in 2016-10", ("West Virginia", "2016-10")),
        ("Arkansas in October 2016", ("Arkansas", "2016-10")),
        ("Who led in Washington in October 2020?", ("Washington", "2020-10")),
        ("in Washington, D.C. in Oct 2020", ("District of Columbia", "2020-10")),
        ("Maine CD-2 in October 2020", ("Maine CD-2", "2020-10")),
        ("Nebraska\u2019s 2nd district, Oct 2024", ("Nebraska CD-2", "2024-10")),
        ("Harris or Trump nationally in August of 2024?", ("National", "2024-08")),
        ("Tell us who led in the U.S. in May 2020", ("National", "2020-05")),
        ("Who led in Ohio, or was it a tie, in May 2020?", ("Ohio", "2020-05")),
        ("Biden vs Trump Michigan in September", ("Michigan", "2020-09")),
    ],
)
def test_reads_months(question, meant):
    assert read(question) == ("month", *meant)


@pytest.mark.parametrize(
    "question, meant",
    [
        ("Who won Ohio in 2020?", ("result", "Ohio", 2020)),
        ("Who won Ohio in November 2024?", ("result", "Ohio", 2024)),
        (
            "What did the last polls in Michigan say before the 2024 election?",
            ("final", "Michigan", 2024),
        ),
        ("How far off were the polls in Iowa in 2016?", ("miss", "Iowa", 2016)),
        ("Who was ahead in Florida in 2012?", ("year", "Florida", 2012)),
        ("Did polling in Iowa get the 2016 result right?", ("miss", "Iowa", 2016)),
        ("What percentage did Trump get in Iowa in 2016?", ("result", "Iowa", 2016)),
        ("Right before the 2016 vote, what did Iowa polls say?", ("final", "Iowa", 2016)),
        ("Obama v Romney in Virginia, final polls", ("final", "Virginia", 2012)),
        (
            "How did the national polls move from July 2020 to August 2020?",
            ("trend", "National", "2020-08"),
        ),
    ],
)
def test_reads_other_kinds(question, meant):
    assert read(question) == meant


@pytest.mark.parametrize(
    "question",
    [
        "hello there",
        "who may march",
        "Who led in France in May 2020?",
        "Who led in Ohio in May 2031?",
        "Ohio in 1824",
    ],
)
def test_says_that_it_understood_nothing(question):
    asked = read_question(question, TABLES)
    assert asked.kind is None
    assert str(asked).startswith("I could not look this up.")
    assert look_up(asked, TABLES).lines == []


def test_says_what_it_assumed():
    assert "2024, since you named no year." in str(read_question("Ohio in October?", TABLES))
    assert "since you named no place" in str(read_question("Who led in October 2024?", TABLES))
    assert "2020, when Biden stood." in str(read_question("did biden win georgia", TABLES))
    now = str(read_question("who is ahead in ohio right now", TABLES))
    assert "The tables end in November 2024." in now


def test_every_question_of_the_templates_is_read_right():
    """Of all wordings of all kinds, on facts of 2024, of 2020 and of long ago."""
    facts = make_facts(TABLES, [1980, 2020, 2024])
    facts = facts[~facts["state"].isin(DISTRICTS)].sample(400, random_state=0)
    wrong = []
    for split in SPLITS:
        for row in ask(facts, split, wordings=3).itertuples():
            asked = read_question(row.question, TABLES)
            kind = row.kind if row.kind in ("final", "result", "miss") else "month"
            kind = "trend" if "start" in row.slots else kind
            if (asked.kind, asked.state, asked.cycle) != (kind, row.state, row.cycle) or (
                kind in ("month", "trend") and asked.month != row.month
            ):
                wrong.append((row.question, asked))
    assert not wrong, f"{len(wrong)}: {wrong[:5]}"
