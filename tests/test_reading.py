"""The tolerant reader of questions: place, time, match-up, and what it had to assume."""

import time
from pathlib import Path

import pytest

from proxy_tuning.polls.checking import look_up
from proxy_tuning.polls.elections import DISTRICTS
from proxy_tuning.polls.facts import make_facts
from proxy_tuning.polls.faults import faults_of
from proxy_tuning.polls.marks import ticks
from proxy_tuning.polls.questions import ask
from proxy_tuning.polls.reading import read_question
from proxy_tuning.polls.tables import load_facts
from proxy_tuning.polls.templates import SPLITS
from proxy_tuning.polls.wordings import near_questions, trained_wording
from proxy_tuning.polls.words import page_sentence

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


@pytest.mark.parametrize(
    "question, meant",
    [
        ("\u00bfQui\u00e9n gan\u00f3 en Florida?", ("result", "Florida", 2024)),
        ("What about September?", ("month", "National", "2024-09")),
        ("Did Harris beat Trump?", ("result", "National", 2024)),
        ("who won pennsylvania?", ("result", "Pennsylvania", 2024)),
        ("who led nationally in 2023", ("months", "National", 2024)),
        ("how was kennedy doing in michigan", ("month", "Michigan", "2024-07")),
        ("is biden ahead in arizona", ("month", "Arizona", "2024-07")),
        ("did biden win georgia", ("result", "Georgia", 2020)),
        ("dc polls october", ("month", "District of Columbia", "2024-10")),
        ("trump michigan may", ("month", "Michigan", "2024-05")),
        ("bush v gore florida final polls", ("final", "Florida", 2000)),
        ("pensylvania polls septmber", ("month", "Pennsylvania", "2024-09")),
        ("hows it looking in mich rn", ("year", "Michigan", 2024)),
        ("What did the polls look like in Ohio in March?", ("month", "Ohio", "2024-03")),
        ("I'd like to know who won Ohio", ("result", "Ohio", 2024)),
        ("may I ask who won Ohio?", ("result", "Ohio", 2024)),
        ("who won the White House in 2020", ("result", "National", 2020)),
        (
            "Nebraska's 2nd congressional district, October 2024",
            ("month", "Nebraska CD-2", "2024-10"),
        ),
        ("the US presidential election in Michigan: who won?", ("result", "Michigan", 2024)),
        ("who won the popular vote in Georgia", ("result", "Georgia", 2024)),
        ("who won washington d.c?", ("result", "District of Columbia", 2024)),
        ("who won oh", ("result", "Ohio", 2024)),
        ("OH 2024", ("year", "Ohio", 2024)),
        ("who led pa on 15 October 2024", ("month", "Pennsylvania", "2024-10")),
        ("ohio march polls", ("month", "Ohio", "2024-03")),
        ("did trump end up winning michigan", ("result", "Michigan", 2024)),
        ("When was Pennsylvania closest?", ("year", "Pennsylvania", 2024)),
        ("was harris ever ahead in nevada", ("months", "Nevada", 2024)),
        ("what month was trump strongest in ohio", ("months", "Ohio", 2024)),
        ("polls in the summer in Ohio", ("months", "Ohio", 2024)),
        ("NE-02 polls october", ("month", "Nebraska CD-2", "2024-10")),
        ("ME2 polls", ("year", "Maine CD-2", 2024)),
        ("tell me first who led in Ohio", ("year", "Ohio", 2024)),
        ("trump in michigan before biden dropped out", ("month", "Michigan", "2024-07")),
        ("how did Virginia go for obama in 08", ("result", "Virginia", 2008)),
        ("did he win by 12 points in Ohio", ("result", "Ohio", 2024)),
        ("trump numbers", ("year", "National", 2024)),
        ("how popular was harris in nevada in september", ("month", "Nevada", "2024-09")),
    ],
)
def test_reads_what_strangers_type(question, meant):
    assert read(question) == meant


def test_a_day_keeps_its_day_and_tells_the_match_up():
    october = read_question("who led pa on October 15", TABLES)
    assert october.day == 15 and "not of days" in str(october)
    for question, name in (("pa july 10", "Biden"), ("pa july 25", "Harris")):
        (line,) = look_up(read_question(question, TABLES), TABLES).lines
        assert line["democrat"].startswith(name)


@pytest.mark.parametrize(
    "question",
    """who led the republican primary polls in iowa
who won the iowa caucus
was gallego ahead of lake in arizona
how is haley polling in nh
who won the texas senate race
who is ahead for governor in north carolina
who will win in 2028
who won in 2022
did obama win ohio in 2024
biden vs harris in ohio
how did women vote in pennsylvania
how many electoral votes did trump get
who won philadelphia
who led in france in may
who won the world series in 2024
what is the capital of ohio
which state did trump win by the most
which US states did Harris win in 2024
when is the next US presidential election
how did people over 50 vote in Ohio
who won Michigan's 7th congressional district
who won the rust belt
was Trump up or down from 2020 in New York
results vs 2020 in florida
tell me a joke about trump
did trump win his court case
PA-7 result
house majority polls 2022
arizona house polls in october 2024
who won the seenate race in wisconsin
how many electtors did kamala get
what did people leaving the polls in ohio say
your prediction for georgia
is harris well liked in michigan
fifth district nevada polls
number of voters nevada
michigan district 7 result
last time texas voted for a democrat
when did georgia last vote republican
has georgia ever voted for a republican
biggest trump win by state
who is the president
who was president in 2016
what time do polls close in Georgia
Which polls are the most accurate?
who is leading Harris's campaign in Nevada
did trump do better in ohio than in 2020""".splitlines(),
)
def test_outside_the_tables_there_are_no_facts_but_questions_near_by(question):
    asked = read_question(question, TABLES)
    assert asked.kind is None and asked.notes and not look_up(asked, TABLES).lines
    near = near_questions(asked, TABLES)
    assert len(set(near)) == 3
    for other in near:
        facts = look_up(read_question(other, TABLES), TABLES)
        assert facts.lines and not facts.missing


def test_a_plain_word_near_a_name_is_no_slip():
    for question in ("did trump win the trial in new york", "trump rally pennsylvania october"):
        assert read_question(question, TABLES).unplaced in (("trial",), ("rally",))
    assert read_question("polls of the mountain teams", TABLES).state is None


def test_who_had_more_votes_is_not_always_who_won():
    """In 2000 and 2016 the tables cannot tell a yes from a no; by votes they can."""
    for question in ("did trump win in 2016", "who won the presidency in 2016"):
        asked = read_question(question, TABLES)
        facts = look_up(asked, TABLES)
        assert "no electoral votes" in str(asked)
        for answer in ("Yes, Trump won.", "No, Clinton won."):
            assert ticks(answer, asked, facts) == [] and faults_of(answer, asked, facts) == []
    asked = read_question("who won the popular vote in 2016", TABLES)
    assert ticks("Clinton won.", asked, look_up(asked, TABLES)) == ["leader"]


def test_what_was_before_biden_left_is_about_him():
    for question in ("trump in michigan before biden dropped out", "biden before he quit in ohio"):
        assert read_question(question, TABLES).democrat == "Biden"
    after = read_question("polls in late july after biden quit", TABLES)
    assert after.democrat == "Harris" and after.names == ()


def test_weeks_are_said_to_be_months():
    asked = read_question("who led in Ohio two weeks before the election", TABLES)
    assert asked.kind == "final" and "not of weeks" in str(asked) and asked.unplaced
    asked = read_question("who was ahead in Ohio the day before the election", TABLES)
    assert asked.kind == "final" and not asked.unplaced


def test_words_that_could_not_be_placed_are_said():
    asked = read_question("who was crushing the polls in ohio", TABLES)
    assert asked.unplaced == ("crushing",) and "could not place \u201ccrushing\u201d" in str(asked)


def test_several_places_and_the_closest_are_looked_up():
    two = read_question("Ohio or Iowa in May 2020?", TABLES)
    lines = look_up(two, TABLES).lines
    assert [line["what"].split(":")[0] for line in lines] == ["Ohio", "Iowa"]
    assert (
        len(look_up(read_question("polls in the swing states in october", TABLES), TABLES).places)
        == 7
    )
    closest = look_up(read_question("Which state was closest?", TABLES), TABLES)
    results = TABLES["results"]
    results = results[(results["cycle"] == 2024) & (results["state"] != "National")]
    leads = (results["democrat_pct"] - results["republican_pct"]).abs()
    (state,) = closest.places
    assert state == results.loc[leads.idxmin(), "state"]
    assert closest.places[state].votes and not closest.places[state].polls
    polled = look_up(read_question("Which state was closest in October 2024?", TABLES), TABLES)
    assert polled.places["Pennsylvania"].polls == [{"Harris": 47.8, "Trump": 47.7}]
    assert not polled.places["Pennsylvania"].votes


def test_the_nation_beside_a_state_is_a_place_where_it_is_compared():
    assert read_question("polls in Ohio and nationally", TABLES).others == ("National",)
    assert read_question("who won the US election in Ohio", TABLES).others == ()


def test_the_closest_of_the_swing_states_is_one_of_them():
    (state,) = look_up(read_question("Which swing state was closest?", TABLES), TABLES).places
    assert state == "Wisconsin"  # 0.9 points; of Georgia 2.2, of Michigan 1.4
    year = look_up(read_question("Which state was closest in 2023?", TABLES), TABLES)
    assert not year.lines and "rank states" in year.missing


def test_a_trend_may_run_over_two_elections():
    facts = look_up(read_question("Ohio from October 2020 to October 2024", TABLES), TABLES)
    assert facts.start == {"Biden": 46.9, "Trump": 48.9}
    assert facts.polls == [{"Harris": 44.9, "Trump": 51.6}] and not facts.missing


def test_of_three_months_the_first_and_the_last_are_compared():
    asked = read_question("ohio in august, september and october", TABLES)
    assert (asked.start, asked.month) == ("2024-08", "2024-10")
    assert "I compare two months: August 2024 and October 2024." in asked.notes


def test_a_reading_is_asked_in_a_trained_wording():
    """The wording is read as the question was: kind, place and time are the same."""
    for question in (
        "who won pa",
        "whats harris at in nc in sept",
        "final polls ohio 2016",
        "how wrong were polls in iowa",
        "national trend from august to october",
        "biden trump july 10 pa",
    ):
        asked = read_question(question, TABLES)
        again = read_question(trained_wording(asked), TABLES)
        assert (again.kind, again.state, again.cycle, again.month) == (
            asked.kind,
            asked.state,
            asked.cycle,
            asked.month,
        )
    assert trained_wording(read_question("ohio or iowa in may", TABLES)) == ""


def test_the_page_greets_and_explains_itself():
    for question in ("Hello", "hi there!", "What is proxy-tuning?", "what is alpha", "who are you"):
        assert page_sentence(question) and read_question(question, TABLES).kind is None
    assert not page_sentence("who won ohio")


@pytest.mark.parametrize("piece", ["who led in ohio ", "zxqwvk jkqwrty ", "a", "'24 ", "Texas, "])
def test_long_questions_are_read_at_once_or_refused(piece):
    for length in (600, 30_000):
        begun = time.perf_counter()
        asked = read_question((piece * length)[:length], TABLES)
        assert time.perf_counter() - begun < 0.1
        assert length == 600 or "I read at most 600" in str(asked)
