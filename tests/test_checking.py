"""What the tables have about a question, and the marks on the numbers of an answer."""

import re
from pathlib import Path

import pytest

from proxy_tuning.polls.answers import NO_POLLS, read_answer
from proxy_tuning.polls.checking import look_up
from proxy_tuning.polls.facts import make_facts
from proxy_tuning.polls.marks import mark_numbers, speaks_of_other, verdict
from proxy_tuning.polls.questions import ask
from proxy_tuning.polls.reading import read_question
from proxy_tuning.polls.tables import load_facts

TABLES = load_facts(Path(__file__).parent.parent / "data")


def test_true_answers_have_no_wrong_number():
    """The answers that the facts themselves make: every figure right, in every kind."""
    facts = make_facts(TABLES, [2008, 2016, 2020, 2024])
    facts = facts[facts["status"] != "withheld"].sample(500, random_state=1)
    wrong = []
    for row in ask(facts, "train", wordings=1).itertuples():
        asked = read_question(row.question, TABLES)
        found = look_up(asked, TABLES)
        if row.answer == NO_POLLS:
            assert verdict(row.answer, asked, found) == "Neither have the tables."
            continue
        marks = {piece.mark for piece in mark_numbers(row.answer, asked, found)} - {None}
        if marks != {"right"}:
            wrong.append((row.question, row.answer, mark_numbers(row.answer, asked, found)))
    assert not wrong, f"{len(wrong)}: {wrong[:3]}"


def test_a_changed_number_is_wrong_alone():
    """Every figure of a true answer in turn, one tenth higher: it is marked wrong, no other is."""
    facts = make_facts(TABLES, [2016, 2024])
    facts = facts[facts["answer"] != NO_POLLS]
    facts = facts.groupby("kind").sample(20, replace=True, random_state=2)
    for row in ask(facts, "train", wordings=1).itertuples():
        asked = read_question(row.question, TABLES)
        found = look_up(asked, TABLES)
        for figure in re.finditer(r"\d+\.\d", row.answer):
            start, end = figure.span()
            answer = f"{row.answer[:start]}{float(figure[0]) + 0.1:.1f}{row.answer[end:]}"
            at, wrong = 0, []
            for piece in mark_numbers(answer, asked, found):
                wrong += [at] * (piece.mark == "wrong")
                at += len(piece.text)
            assert wrong == [start], (row.question, answer)


def test_exchanged_candidates_make_every_share_wrong():
    facts = make_facts(TABLES, [2020, 2024])
    facts = facts[facts["kind"].isin(["leader", "result", "final"]) & facts["leader"].notna()]
    facts = facts[facts["answer"] != NO_POLLS].groupby("kind").sample(40, random_state=3)
    for row in ask(facts, "train", wordings=1).itertuples():
        asked = read_question(row.question, TABLES)
        place, comma, said = row.answer.partition(", ")
        other = {row.slots["dem"]: row.slots["rep"], row.slots["rep"]: row.slots["dem"]}
        said = re.sub("|".join(other), lambda name: other[name[0]], said)  # noqa: B023
        found = look_up(asked, TABLES)
        pieces = mark_numbers(place + comma + said, asked, found)
        marks = [p.mark for p in pieces if p.mark and "." in p.text]
        assert set(marks) == {"wrong"}, (row.question, place + comma + said)
        assert verdict(place + comma + said, asked, found).startswith("Leader wrong, 0 of")


OCTOBER = "Who led the polls in Pennsylvania in October 2024?"  # Harris 47.8%, Trump 47.7%
TIED = "Who was ahead in Pennsylvania in November 2024?"  # 48.5% each
WON = "Who won Georgia in 2020?"  # Biden 49.5%, Trump 49.3%
YEAR = "Georgia in 2024?"  # polls and votes: Harris 48.5%, Trump 50.7% of the votes
MISS = "How far off were the polls in Ohio in 2024?"


@pytest.mark.parametrize(
    "question, answer, marks, said",
    [
        # the day of the election is in November; October is another question's month
        (
            "Who won Pennsylvania in 2024?",
            "In November 2024, Trump won in Pennsylvania: Harris got 48.7% and Trump 50.4%.",
            "48.7+ 50.4+",
            "Leader right, 2 of 2 figures right.",
        ),
        (
            "Who won Pennsylvania in 2024?",
            "In October 2024, Trump won in Pennsylvania: Harris got 48.7% and Trump 50.4%.",
            "48.7- 50.4-",
            "Leader wrong, 0 of 2 figures right.",
        ),
        # more digits than the tables have
        (
            OCTOBER,
            "In Pennsylvania in October 2024, Harris had 47.83%.",
            "47.83-",
            "0 of 1 figures right.",
        ),
        (
            OCTOBER,
            "In Pennsylvania in October 2024, Harris led: Harris had 47.8% and Trump 47.7%, "
            "a lead of 0.1 points.",
            "47.8+ 47.7+ 0.1+",
            "Leader right, 3 of 3 figures right.",
        ),
        (
            OCTOBER,
            "In Pennsylvania in October 2024, Trump led: Harris had 47.8% and Trump 47.7%, "
            "a lead of 0.1 points.",
            "47.8? 47.7? 0.1-",
            "Leader wrong, 0 of 1 figures right, 2 not checkable. "
            "It contradicts itself: Trump leads with less.",
        ),
        (
            OCTOBER,
            "In Pennsylvania in October 2024, Harris led: Trump had 47.8% and Harris 47.7%, "
            "a lead of 0.1 points.",
            "47.8- 47.7- 0.1?",
            "0 of 2 figures right, 1 not checkable. It contradicts itself: Harris leads with less.",
        ),
        (
            OCTOBER,
            "In Ohio in October 2024, Harris led: Harris had 47.8% and Trump 47.7%, a lead "
            "of 0.1 points.",
            "47.8- 47.7- 0.1-",
            "Leader wrong, 0 of 3 figures right. It names Ohio, which was not asked.",
        ),
        (
            OCTOBER,
            "In Pennsylvania in October 2004, Kerry led: Kerry had 47.8% and Bush 47.7%, a "
            "lead of 0.1 points.",
            "year- 47.8- 47.7- 0.1-",
            "Leader wrong, 0 of 3 figures right. It names Bush, who was not asked about.",
        ),
        (
            OCTOBER,
            "Harris led Trump by 0.1 points, 47.8% to 47.6%.",
            "0.1+ 47.8+ 47.6-",
            "Leader right, 2 of 3 figures right.",
        ),
        (
            OCTOBER,
            "It was 47.8% for Harris, a lead of 0.2 points.",
            "47.8+ 0.2-",
            "Leader right, 1 of 2 figures right.",
        ),
        (
            OCTOBER,
            "Trump held a lead of 0.1 points.",
            "0.1-",
            "Leader wrong, 0 of 1 figures right.",
        ),
        (
            OCTOBER,
            "In Pennsylvania in May 2024, Harris had 47.8%.",
            "47.8-",
            "0 of 1 figures right.",
        ),
        (
            OCTOBER,
            "In October 2024 Biden had 47.8%.",
            "47.8-",
            "0 of 1 figures right. It names Biden, who was not asked about.",
        ),
        (
            OCTOBER,
            "Harris 202020, 47.8 or so.",
            "202020? 47.8?",
            "2 not checkable. 202020 is a number that runs away.",
        ),
        (
            OCTOBER,
            "Harris had 48% of 17 polls, Kennedy 3.0%.",
            "48+ 17? 3.0?",
            "1 of 1 figures right, 2 not checkable.",
        ),
        (OCTOBER, "Harris won 47.8% of the votes.", "47.8?", "1 not checkable."),
        (OCTOBER, "The two were tied at 47.8%.", "47.8-", "Leader wrong, 0 of 1 figures right."),
        (OCTOBER, NO_POLLS, "", "The tables do have figures."),
        (OCTOBER, "Yes.", "", "Nothing in it can be checked."),
        (
            TIED,
            "In Pennsylvania in November 2024, the two were tied: Harris had 48.5% and Trump "
            "48.5%.",
            "48.5+ 48.5+",
            "Leader right, 2 of 2 figures right.",
        ),
        (
            TIED,
            "In Pennsylvania in November 2024, Trump led: Harris had 48.5% and Trump 48.6%, a "
            "lead of 0.1 points.",
            "48.5+ 48.6- 0.1-",
            "Leader wrong, 1 of 3 figures right.",
        ),
        (
            WON,
            "In Georgia in 2020, Biden won: Biden got 49.5% and Trump 49.3% of the votes.",
            "49.5+ 49.3+",
            "Leader right, 2 of 2 figures right.",
        ),
        (
            WON,
            "In Georgia in 2020, Trump won: Biden got 49.3% and Trump 49.5% of the votes.",
            "49.3- 49.5-",
            "Leader wrong, 0 of 2 figures right.",
        ),
        (
            YEAR,
            "Trump won: Harris got 48.5% and Trump 50.7% of the votes.",
            "48.5+ 50.7+",
            "Leader right, 2 of 2 figures right.",
        ),
        (
            YEAR,
            "Harris had 48.5% in the polls and Trump 50.7% of the votes.",
            "48.5- 50.7+",
            "1 of 2 figures right.",
        ),
        (
            MISS,
            "In Ohio in 2024, the last polls had Trump ahead by 7.6 and Trump won by 11.3, so "
            "they were off by 3.7 points.",
            "7.6+ 11.3+ 3.7+",
            "Leader right, 3 of 3 figures right.",
        ),
    ],
)
def test_marks(question, answer, marks, said):
    asked = read_question(question, TABLES)
    facts = look_up(asked, TABLES)
    pieces = mark_numbers(answer, asked, facts)
    assert "".join(piece.text for piece in pieces) == answer
    signs = {"right": "+", "wrong": "-", "not checkable": "?"}
    given = [p.text.strip("%") + signs[p.mark] for p in pieces if p.mark]
    assert " ".join(re.sub(r"^20\d\d(?!\d)", "year", mark) for mark in given) == marks
    assert verdict(answer, asked, facts) == said


@pytest.mark.parametrize(
    "question, answer, why",
    [
        # Harris 47.3%, Trump 47.8%
        (
            "Who led the polls in Nevada in October 2024?",
            "Harris led by 0.6 points.",
            "Harris is behind by 0.5 in the tables",
        ),
        # 48.5% each
        (
            "Who was ahead in Pennsylvania in November 2024?",
            "Harris led by 1.0 points.",
            "the tables say 0.0",
        ),
        # the figure is said of the place before it: Biden 45.3%, Trump 50.7%
        (
            "Who led the polls in Ohio and Iowa in May 2020?",
            "In Ohio, Trump led. Biden had 46.0%.",
            "the tables say 45.3",
        ),
    ],
)
def test_why_a_number_is_wrong(question, answer, why):
    asked = read_question(question, TABLES)
    pieces = mark_numbers(answer, asked, look_up(asked, TABLES))
    assert [(piece.mark, piece.why) for piece in pieces if piece.mark] == [("wrong", why)]


def test_a_number_between_two_places_is_not_checked():
    asked = read_question("Who led the polls in Ohio and Iowa in May 2020?", TABLES)
    answer = "Trump had 50.7% in Ohio but 48.0% in Iowa."
    pieces = mark_numbers(answer, asked, look_up(asked, TABLES))
    assert [piece.mark for piece in pieces if piece.mark] == ["not checkable"] * 2


def test_figures_without_a_place_are_of_the_only_one_there_is():
    asked = read_question("Which state was closest in October 2024?", TABLES)
    facts = look_up(asked, TABLES)
    assert list(facts.places) == ["Pennsylvania"]
    pieces = mark_numbers("Harris had 47.8% and Trump 47.7%.", asked, facts)
    assert [piece.mark for piece in pieces if piece.mark] == ["right"] * 2


def test_a_lead_is_shown_to_the_tenth():
    """3,543,308 votes against 3,423,042 of 7,058,732 (certified): 1.7 points."""
    facts = look_up(read_question("Who won Pennsylvania in 2024?", TABLES), TABLES)
    assert [line["ahead"] for line in facts.lines] == ["Trump by 1.7"]


def test_kennedy_is_no_nominee():
    asked = read_question("Who led nationally in May 2024?", TABLES)
    facts = look_up(asked, TABLES)
    marks = {
        answer: [p.mark for p in mark_numbers(answer, asked, facts) if p.mark]
        for answer in ("Kennedy had 9.1%.", "Kennedy had a lead of 0.7 points.")
    }
    assert list(marks.values()) == [["right"], ["wrong"]]


def test_july_2024_has_two_matchups():
    asked = read_question("Who led nationally in July 2024?", TABLES)
    facts = look_up(asked, TABLES)
    assert len(facts.lines) == 2
    (biden, harris) = facts.polls
    for polls, name in ((biden, "Biden"), (harris, "Harris")):
        answer = f"{name} had {polls[name]:.1f}% and Trump {polls['Trump']:.1f}%."
        assert verdict(answer, asked, facts) == "2 of 2 figures right."
    named = read_question("Harris or Trump nationally in July 2024?", TABLES)
    assert look_up(named, TABLES).polls == [harris]


def test_says_what_the_tables_lack():
    asked = read_question("Who led in Wyoming in March 2024?", TABLES)
    facts = look_up(asked, TABLES)
    assert facts.missing == "The tables have no polls of Wyoming in March 2024."
    marks = [p.mark for p in mark_numbers("Trump had 60.0%.", asked, facts) if p.mark]
    assert marks == ["not checkable"]


@pytest.mark.parametrize(
    "question, whats, rests_on, missing",
    [
        (
            "How far off were the polls in Alabama in 2024?",
            ["Votes, 2024"],
            ["2,256,352 votes in all"],
            "The tables have no last polls of Alabama in 2024.",
        ),
        ("Who won Wyoming in 2024?", ["Votes, 2024"], ["266,353 votes in all"], ""),
        (
            "What did the last polls of Wyoming say in 2024?",
            ["Last polls before the vote of 2024"],
            ["2 polls"],
            "",
        ),
        (
            "What did the last polls of Alabama say in 2024?",
            [],
            [],
            "The tables have no last polls of Alabama in 2024.",
        ),
        ("Who led in Wyoming in October 2023?", ["Polls, October 2023"], ["1 poll"], ""),
        (
            "Was the lead bigger nationally or in Ohio in October 2024?",
            ["The United States: Polls, October 2024", "Ohio: Polls, October 2024"],
            ["103 polls", "11 polls"],
            "",
        ),
    ],
)
def test_lines_of_the_tables_and_what_they_lack(question, whats, rests_on, missing):
    facts = look_up(read_question(question, TABLES), TABLES)
    assert [line["what"] for line in facts.lines] == whats
    assert [line["rests_on"] for line in facts.lines] == rests_on
    assert facts.missing == missing


def test_the_five_closest_are_shown_closest_first():
    facts = look_up(read_question("Which state was closest in 2020?", TABLES), TABLES)
    shown = [float(re.search(r"[\d.]+$", line["ahead"])[0]) for line in facts.lines]
    assert len(shown) == 5 and shown == sorted(shown)
    assert facts.lines[0]["what"].startswith("Georgia") and shown[0] == 0.2
    georgia = facts.places["Georgia"]
    assert georgia.votes == {"Biden": 49.5, "Trump": 49.3} and georgia.polls == []


@pytest.mark.parametrize(
    "question, answer, other",
    [
        ("Which state was closest in 2020?", "Of all states Georgia was closest.", ""),
        ("Which state was closest in 2020?", "In the United States it was Georgia.", ""),
        ("Which state was closest in 2020?", "Ohio was closest.", "Ohio"),
        (
            "Who won Georgia in 2020?",
            "In the United States in 2020, Biden won.",
            "the United States",
        ),
    ],
)
def test_a_place_that_was_not_asked(question, answer, other):
    asked = read_question(question, TABLES)
    assert speaks_of_other(read_answer(answer), asked, look_up(asked, TABLES)) == other


def test_the_closest_in_the_polls_has_no_votes():
    facts = look_up(read_question("Which state was closest in October 2024?", TABLES), TABLES)
    found = list(facts.places.values())
    assert found and all(len(each.polls) == 1 and each.votes == {} for each in found)


def test_a_year_of_a_state_is_of_that_state_and_that_year():
    asked = read_question("Who led the polls in Wisconsin in 2023?", TABLES)
    facts = look_up(asked, TABLES)
    rows = TABLES["monthly"]
    rows = rows[(rows["state"] == "Wisconsin") & rows["month"].str.fullmatch(r"2023-\d\d")]
    assert asked.kind == "months" and len(facts.lines) == len(rows) > 0
    assert set(facts.months) == set(rows["month"])


def test_a_refusal_where_the_tables_have_a_part():
    """That there are no polls is wrong; that something is not known can be said of the other part."""
    asked = read_question("How far off were the polls in Alabama in 2024?", TABLES)
    facts = look_up(asked, TABLES)
    assert facts.lines and facts.missing
    assert verdict(NO_POLLS, asked, facts) == "The tables do have figures."
    said = "I have no polls for Alabama."
    assert verdict(said, asked, facts) == "Neither have the tables."


def test_a_year_without_polls_is_said_to_have_none():
    told = {
        state: look_up(read_question(f"Who led the polls in {state} in 2023?", TABLES), TABLES)
        for state in ("Wisconsin", "Mississippi")
    }
    assert told["Wisconsin"].months and not told["Wisconsin"].missing
    assert not told["Mississippi"].months
    assert told["Mississippi"].missing == "The tables have no polls of Mississippi in 2023."
