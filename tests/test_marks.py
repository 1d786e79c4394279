"""Ticks over pairs of question and answer that were marked by hand from the tables."""

import collections
import math
from pathlib import Path

import pytest

from proxy_tuning.polls.answers import read_answer
from proxy_tuning.polls.checking import look_up
from proxy_tuning.polls.marks import (
    RIGHT,
    UNCHECKED,
    WRONG,
    judged,
    leaders_of,
    mark_numbers,
    ticks,
    verdict,
    wanted_times,
)
from proxy_tuning.polls.natural import natural_rows
from proxy_tuning.polls.places import place_spans
from proxy_tuning.polls.reading import read_question
from proxy_tuning.polls.tables import load_facts

ROOT = Path(__file__).parent
TABLES = load_facts(ROOT.parent / "data")
Z = 1.959964  # of a 95% interval


def pairs():
    """(question, answer, deserved ticks) of each line of the file."""
    for line in (ROOT / "data" / "marked_answers.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            question, answer, deserved = (part.strip() for part in line.split("|"))
            yield question, answer, [] if deserved == "-" else deserved.split()


PAIRS = list(pairs())


def wilson_low(hits, n):
    """The lower end of Wilson's 95% interval of a share."""
    share = hits / n
    middle = share + Z**2 / (2 * n)
    spread = Z * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return (middle - spread) / (1 + Z**2 / n)


def marked(question, answer):
    asked = read_question(question, TABLES)
    facts = look_up(asked, TABLES)
    return ticks(answer, asked, facts), verdict(answer, asked, facts)


def test_no_tick_is_undeserved_and_few_are_missed():
    given, good, deserved, wrong = 0, 0, 0, []
    for question, answer, wanted in PAIRS:
        got = collections.Counter(marked(question, answer)[0])
        both = got & collections.Counter(wanted)
        given, good, deserved = given + got.total(), good + both.total(), deserved + len(wanted)
        if got - both:
            wrong.append((question, answer, dict(got - both)))
    assert not wrong, f"{len(wrong)}: {wrong}"
    assert len(PAIRS) >= 300 and given >= 100
    assert wilson_low(good, given) > 0.98, (good, given)
    assert good / deserved >= 0.8, (good, deserved)
    page = (ROOT.parent / "docs" / "demo.md").read_text(encoding="utf-8")
    missed = deserved - good
    assert f"Over {len(PAIRS)} questions and answers" in page
    assert f"none of {given} ticks is undeserved and {missed} of {deserved} are missed" in page


def test_of_a_year_the_month_that_is_named_counts():
    answer = "In Wisconsin in June 2023, Biden led the polls: Biden had 52.5% and Trump 45.0%."
    found = marked("Who led the polls in Wisconsin in 2023?", answer)
    assert found == (["52.5", "45.0", "leader"], "Leader right, 2 of 2 figures right.")


def test_half_of_the_pairs_are_meant_to_mislead():
    assert sum(not wanted for _, _, wanted in PAIRS) >= len(PAIRS) / 2 - 1


@pytest.mark.parametrize(
    ("question", "answer", "said"),
    [
        ("who led pa in october", "Harris led: Harris had 47.5% and Trump 48.0%.", "contradicts"),
        ("who led pa in october", "Harris had 478478478%.", "runs away"),
        ("who led pa in october", "In Ohio, Harris had 47.8%.", "It names Ohio"),
        ("who led pa in october", "A cat sat there.", "no sentence about an election"),
        ("who led pa in october", "Harris had 147.8%.", "more than everybody"),
        ("who led pa in october", "Among women, Harris had 47.8%.", "groups of voters"),
        ("who won the iowa caucus", "Trump won Iowa.", "nothing in it gets a tick"),
        ("who won the iowa caucus", "I have no polls for that month.", "neither have the tables"),
        ("did harris win pa", "Yes. Trump won.", "It says yes, and the tables do not"),
    ],
)
def test_faults_are_said_in_words(question, answer, said):
    got, words = marked(question, answer)
    assert not got and said in words


def test_pieces_make_the_answer_and_years_have_no_tick():
    for question, answer, _ in PAIRS:
        asked = read_question(question, TABLES)
        pieces = mark_numbers(answer, asked, look_up(asked, TABLES))
        assert "".join(piece.text for piece in pieces) == answer
        assert all(p.mark != "right" for p in pieces if p.text in ("2024", "2020", "2016"))


@pytest.mark.parametrize(
    ("question", "answer", "deserved"),
    [
        (
            "was trump above 53% in texas in october?",
            "In Texas in October 2024, Trump had 51.4%. So no.",
            ["51.4"],
        ),
        (
            "Did Trump and Harris tie in Nevada before the election?",
            "In Nevada before the 2024 election, Trump led: Harris had 47.7% and Trump 48.0%, a lead "
            "of 0.3 points. So no.",
            ["47.7", "48.0", "0.3", "leader"],
        ),
        (
            "did the polls overestimate Trump in texas in 2024?",
            "In Texas in 2024, the last polls had Trump ahead by 7.3 and Trump won by 13.7, so they "
            "were off by 6.4 points. So no.",
            ["7.3", "13.7", "6.4", "leader"],
        ),
    ],
)
def test_a_yes_or_no_about_more_than_the_lead_is_no_fault(question, answer, deserved):
    """The figures by hand from data/monthly.csv, final.csv and results.csv."""
    asked = read_question(question, TABLES)
    assert not asked.unplaced and asked.claim is None
    assert ticks(answer, asked, look_up(asked, TABLES)) == deserved


@pytest.mark.parametrize(
    ("question", "so"),
    [
        ("was trump above 48 in nevada in october", "no"),
        ("was trump above 47 in nevada in october", "yes"),
        ("was the republican under 47.5% in nevada in october", "no"),
        ("did harris have less than 48% in nevada in october", "yes"),
        ("did the dems reach 48 percent in nevada in october", "no"),
        ("was trump at 48 or more in nevada in october", "no"),
        ("did trump lead by more than 2 points in nevada in october", "no"),
        ("was the race within 3 points in nevada in october", "yes"),
        ("was harris up by more than 1 point in nevada in october", "no"),
        ("was nevada tied in october", "no"),
        ("was trump above 47.8 in nevada in october", None),
        ("was trump up to over 47 in nevada in october", "yes"),
        ("did harris lead by less than 2 points in nevada in october", None),
        ("was trump above 49 in nevada", None),
        ("were the polls off by more than 2 points in nevada", None),
        ("was trump udner 48 in nevada in october", None),
    ],
)
def test_a_yes_or_no_about_a_limit_is_held_against_the_tables(question, so):
    """Harris 47.3, Trump 47.8 (48.0 in the last polls, 50.6 in the vote), by hand from data/.

    None: neither is called wrong.
    """
    asked = read_question(question, TABLES)
    wrong = {
        said
        for said in ("yes", "no")
        if "the tables do not" in marked(question, f"In Nevada, Trump had 47.8%. So {said}.")[1]
    }
    assert wrong == ({"yes", "no"} - {so} if so else set()), asked.limit


def test_limits_are_read_as_natural_questions_mean_them():
    """What `natural_facts` reckons from the tables itself: right answers pass, wrong ones do not."""
    rows = natural_rows(TABLES, ["Nevada", "Ohio"], "test", 1, 0)
    rows = rows[rows["kind"].isin(["share_yes", "lead_yes"])]
    noticed = 0
    for question, answer in zip(rows["question"], rows["answer"], strict=True):
        other = answer.replace("So yes", "So ?")
        other = other.replace("So no", "So yes").replace("So ?", "So no")
        assert "the tables do not" not in marked(question, answer)[1], question
        noticed += "the tables do not" in marked(question, other)[1]
    assert noticed > 0.9 * len(rows) > 30


def test_a_yes_or_no_about_the_lead_still_is():
    asked = read_question("Was Harris ahead in Texas before the election?", TABLES)
    answer = "In Texas before the 2024 election, Trump led: Trump had 52.1%. So yes."
    assert ticks(answer, asked, look_up(asked, TABLES)) == []


def test_an_error_of_the_polls_needs_polls_and_votes():
    """Asked about the last polls alone, there are no votes to reckon an error from."""
    asked = read_question("final polls in Nevada before the 2024 election", TABLES)
    facts = look_up(asked, TABLES)
    assert facts.polls and not facts.votes
    answer = "In Nevada, the last polls of 2024 were off by 2.8 points."
    (error,) = [p for p in mark_numbers(answer, asked, facts) if p.text == "2.8"]
    assert (error.mark, error.why) == ("not checkable", "the tables have no such figure")


def looked_up(question):
    asked = read_question(question, TABLES)
    return asked, look_up(asked, TABLES)


def test_a_tie_is_one_of_no_lead():
    """Arizona in April 2023: 45.0% to 44.0%; in July 46.0% to 46.0%."""
    for month, share, leaders, mark in (
        ("April", 45.0, [False], WRONG),
        ("July", 46.0, [True], RIGHT),
    ):
        asked, facts = looked_up(f"Who led the polls in Arizona in {month} 2023?")
        answer = f"In Arizona in {month} 2023, it was a tie: Biden and Trump were tied at {share}%."
        marks = [piece.mark for piece in mark_numbers(answer, asked, facts) if piece.mark]
        assert (marks, leaders_of(answer, asked, facts)) == ([mark], leaders)


def test_all_months_of_a_year_are_asked_about():
    asked, _ = looked_up("Who led the polls in Wisconsin in 2023?")
    assert wanted_times(asked) == (set(range(1, 13)), {2023})


def test_of_several_faults_the_first_is_told():
    asked, facts = looked_up("Who led the polls in Arizona in April 2023?")
    said = read_answer("In Arizona in April 2023, Biden led: Biden had 45.0% and Trump 44.0%.")
    spans, share = place_spans(said.text), said.claims[1]
    assert judged(share, said, asked, facts, spans, []) == (RIGHT, "the tables say the same")
    assert judged(share, said, asked, facts, spans, ["one", "two"]) == (UNCHECKED, "one")


def test_how_a_lead_moved_is_checked():
    """Both leads of a trend count, and whose they are: 3.5 and 1.7 points of Harris, nationally."""
    question = "how did the race move from august to october 2024"
    for answer, wanted in (
        ("Harris's lead went from 3.5 points to 1.7 points.", ["3.5", "1.7"]),
        ("The lead went from 3.5 to 1.7 points.", ["3.5", "1.7"]),
        ("Harris's lead went from 3.4 to 1.7 points.", ["1.7"]),
        ("Trump's lead went from 3.5 to 1.7 points.", []),
        ("The lead changed from Harris's 3.5 to Trump's 1.7 points.", ["3.5"]),
    ):
        assert marked(question, answer)[0] == wanted
