"""The fixed question sets: unchanged, true to the tables, and graded as the README says."""

import hashlib
import re

import pandas as pd
import pytest

from proxy_tuning.evaluation import claims, sets
from proxy_tuning.records import DATA

NATURAL = {row["question"]: row for row in sets.load("natural")}
ANSWERABLE = [row for row in NATURAL.values() if row["kind"] == "answerable"]
MONTHLY, FINAL, RESULTS = (pd.read_csv(DATA / f"{n}.csv") for n in ("monthly", "final", "results"))


def test_the_files_are_those_fixed_before_training():
    readme = (sets.QUESTIONS / "README.md").read_text()
    stated = re.findall(r"\| `(\w+\.jsonl)` \| (\d+) \| `([0-9a-f]{64})` \|", readme)
    assert {name for name, _, _ in stated} == {p.name for p in sets.QUESTIONS.glob("*.jsonl")}
    for name, count, digest in stated:
        raw = (sets.QUESTIONS / name).read_bytes()
        assert hashlib.sha256(raw).hexdigest() == digest
        assert raw.count(b"\n") == int(count)


def test_sizes_and_uniqueness():
    natural, near, general = (sets.load(n) for n in ("natural", "near_misses", "general"))
    assert len(natural) >= 180 and len(near) == 200 and len(general) >= 900
    assert sum(row["kind"] == "out_of_scope" for row in natural) >= 45
    assert sum(row["cycle"] <= 2020 for row in ANSWERABLE) >= 30
    for rows in (natural, near, general):
        assert len({row["id"] for row in rows}) == len(rows)
    for rows, key in ((natural, "question"), (near, "question"), (general, "q1")):
        assert len({row[key].casefold() for row in rows}) == len(rows)


def facts(row, place, month):
    """The tables' rows that answer, best first: the asked month, else the last averages."""
    where = f"cycle == {row['cycle']} and state == @place"
    if row["wants"] == "result" or row.get("result"):
        return RESULTS.query(where)
    if month is None:
        last = [f"{row['cycle']}-10", f"{row['cycle']}-11"]
        months = MONTHLY.query(where)
        found = pd.concat([FINAL.query(where), months[months.month.isin(last)]])
        return found.head(1) if row["wants"] == "final" else found
    found = MONTHLY.query(where + " and month == @month")
    return found[found.democrat == row["match_up"]] if "match_up" in row else found


def leader(fact):
    gap = round(fact.democrat_pct - fact.republican_pct, 1)
    return None if gap == 0 else fact.democrat if gap > 0 else fact.republican


def share(fact, who):
    if who == "Kennedy":
        return fact.kennedy_pct
    return {fact.democrat: fact.democrat_pct, fact.republican: fact.republican_pct}[who]


def ahead(fact, who):
    gap = round(fact.democrat_pct - fact.republican_pct, 1)
    return gap if who == fact.democrat else -gap


def measured(row, fact):
    kind, who = row["measure"], row.get("candidate")
    return {
        "share": lambda: share(fact, who),
        "lead": lambda: ahead(fact, who),
        "gap": lambda: abs(ahead(fact, fact.democrat)),
    }[kind]()


def first_fact(row, place, month):
    return next(facts(row, place, month).itertuples())


def expected_choices(row, same):
    """What one fact's figures may be, for every fact with the row's leader."""
    if row["part"] == "leader":
        return [[]]
    if row["part"] == "votes":
        democrat = row["candidate"] == same[0].democrat
        return [[same[0].democrat_votes if democrat else same[0].republican_votes]]
    pairs = [[f.democrat_pct, f.republican_pct] for f in same]
    if row["part"] == "share":
        return [[share(f, row["candidate"])] for f in same]
    if row["part"] == "margin":
        return [[abs(ahead(f, f.democrat))] for f in same] + pairs
    return pairs


@pytest.mark.parametrize("row", ANSWERABLE, ids=lambda row: row["id"])
def test_each_expected_value_follows_from_the_tables(row):
    if row["wants"] in ("compare", "closest"):
        found = {place: first_fact(row, place, row["month"]) for place in row["place"]}
        if "leaders" in row:
            assert row["leaders"] == {place: leader(f) for place, f in found.items()}
            return
        values = {place: measured(row, f) for place, f in found.items()}
        best = (max if row["most"] else min)(values.values())
        assert [place for place, v in values.items() if v == best] == [row["answer"]]
        assert row["leader"] == leader(found[row["answer"]])
        return
    if row["wants"] == "trend":
        values = [measured(row, first_fact(row, row["place"], m)) for m in row["month"]]
        assert row["figures"] == values
        assert row["answer"] == ("up" if values[1] > values[0] else "down")
        return
    found = list(facts(row, row["place"], row["month"]).itertuples())
    result = RESULTS.query(f"cycle == {row['cycle']} and state == @row['place']")
    first = found[0]
    if row.get("check") == "won":
        assert row["leader"] == result.winner.item()
    else:
        assert row["leader"] == leader(first)
        if row["wants"] == "result":
            assert first.winner == row["leader"]
    same = [fact for fact in found if leader(fact) == leader(first)]
    choices = expected_choices(row, same)
    stated = [row["figures"], *row.get("or", [])]
    assert all(choice in choices for choice in stated) and all(c in stated for c in choices)
    if row["wants"] == "yes_no":
        who = row["candidate"]
        truth = {
            "won": lambda: result.winner.item() == who,
            "leads": lambda: leader(first) == who,
            "tied": lambda: leader(first) is None,
            "over": lambda: share(first, who) > row["limit"],
            "lead_over": lambda: ahead(first, who) > row["limit"],
            "overstated": lambda: ahead(first, who) > ahead(next(result.itertuples()), who),
        }[row["check"]]()
        assert row["answer"] == ("yes" if truth else "no")


def test_months_out_of_scope_have_no_polls():
    rows = [r for r in NATURAL.values() if r["note"].startswith("month ")]
    assert len(rows) >= 6
    for row in rows:
        polled = (MONTHLY["state"] == row["place"]) & (MONTHLY["month"] == row["month"])
        assert not polled.any()


def grade(question, answer):
    return sets.grade_natural(NATURAL[question], answer)


LEAD = "Who was ahead in Wisconsin back in August 2024?"  # Harris 48.3, Trump 44.8
BOTH = "sept 24 polls north carolina harris vs trump"  # Harris 47.5, Trump 48.0
SHARE = "In October 2024, what percentage did Harris average in Nevada?"  # 47.3, Trump 47.8
MARGIN = "By how many points was Trump up in Texas in August?"  # 6.1
YES = "Is Kamala up in Michigan?"
NO = "was kamala leading arizona in aug of 2024"
TIE = "who's winning pennsylvania rn"
WON = "Did Trump win Nevada in the end?"
PICK = "In September 2024, was Harris's share higher in Pennsylvania or in Georgia?"
CLOSEST = "Out of Arizona, Georgia and Nevada, which was tightest in October 2024?"
TWO = "Nevada & Georgia in September -- same leader?"
KIND = "were the michigan polls too kind to kamala compared with what happened"
MISSED = (
    "the last polls had Harris ahead by 1.2 and Trump won by 1.4, so they were off by 2.6 points"
)
TREND = "was trump's lead in texas shrinking from september to october"  # 6.3 -> 6.6
NONE = "idaho harris trump september 2024 averages"


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (LEAD, "Harris."),
        (LEAD, "Kamala Harris led Donald Trump 48.3% to 44.8% in Wisconsin in August 2024."),
        (LEAD, "In August 2024 Trump was not ahead in Wisconsin."),
        (LEAD, "Trump trailed Harris there by 3.5 points."),
        (LEAD, "The Democrat, Kamala Harris, was leading."),
        (LEAD, "Wisconsin was led by Harris, not Trump."),
        (LEAD, "It is not true that Trump led; Harris did, 48.3 to 44.8."),
        (LEAD, "48.3% for Harris and 44.8% for Trump."),
        (BOTH, "Trump led in North Carolina, 48.0% to 47.5% for Harris."),
        (BOTH, "Trump 48%, Harris 47.5%"),
        (BOTH, "Harris and Trump had 47.5% and 48.0% respectively."),
        (SHARE, "Harris averaged 47.3% in Nevada in October 2024, behind Trump's 47.8%."),
        (MARGIN, "Trump led by 6.1 points in Texas in August 2024."),
        (MARGIN, "Trump had 50.4% and Harris 44.3%."),
        (YES, "Yes, Harris leads there, 48.4% to 47.2%."),
        (YES, "Harris is ahead in Michigan."),
        (NO, "No, Harris was not."),
        (NO, "No. Trump led Arizona by 0.7 points."),
        (NO, "Trump was ahead of Harris in Arizona."),
        (TIE, "Pennsylvania is tied: Harris 48.1%, Trump 48.1%."),
        (TIE, "Neither of them leads."),
        (WON, "Yes, Trump won Nevada."),
        (PICK, "It was higher in Pennsylvania (48.4%) than in Georgia (47.3%)."),
        (PICK, "Georgia's was lower than Pennsylvania's."),
        (PICK, "In Georgia, Harris had 47.3%; in Pennsylvania, 48.4%; so it was Pennsylvania."),
        (PICK, "Pennsylvania, 48.4% to Georgia's 47.3%, so by a bit."),
        (YES, "Harris leads there, 48.4% to 47.2%. So yes."),
        (YES, "Harris leads there, 48.4% to 47.2%, so no surprise."),
        (CLOSEST, "Nevada, where Trump led by 0.5 points."),
        (TWO, "In Nevada Harris led, but in Georgia Trump was ahead."),
        (TREND, "No, it grew from 6.3 to 6.6 points."),
        (TREND, "It did not shrink."),
        (TREND, "It went from 6.3 to 6.6 points."),
        (KIND, f"In Michigan in 2024, {MISSED}. So yes."),
        (NONE, "I have no polls of Idaho for September 2024."),
        (NONE, "There are no polls of that state in that month."),
        (NONE, "Sorry, I do not have figures for that."),
    ],
)
def test_right_and_sane(question, answer):
    marks = grade(question, answer)
    assert marks["right"] and marks["sane"], (marks, claims.leaders(answer, NATURAL[question]))


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (LEAD, "Trump."),
        (LEAD, "Harris was not ahead in Wisconsin in August 2024."),
        (LEAD, "Harris and Trump."),
        (LEAD, "Harris led in Michigan in August 2024."),
        (LEAD, "Harris led in Wisconsin in May 2024."),
        (LEAD, "I have no polls on Harris."),
        (LEAD, "Trump led Wisconsin, while Harris was behind."),
        (BOTH, "Harris led in North Carolina, 48.0% to 47.5% for Trump."),
        (BOTH, "Trump led Harris 48.1% to 47.5%."),
        (BOTH, "Harris led Trump 47.5 to 48.0."),
        (SHARE, "Trump had 47.3% in Nevada in October 2024."),
        (SHARE, "Harris averaged 47.34% in Nevada."),
        (MARGIN, "Trump led by 6.2 points in Texas in August 2024."),
        (MARGIN, "Harris led by 6.1 points in Texas."),
        (YES, "No, Trump leads there."),
        (YES, "Yes, Trump leads there."),
        (NO, "Yes."),
        (TIE, "Harris leads Pennsylvania."),
        (TIE, "It is not tied: Trump leads."),
        (WON, "No, Harris won it."),
        (PICK, "Georgia, with 47.3%."),
        (PICK, "In Pennsylvania, Harris had 48.4%; in Georgia, 47.3%; so it was Georgia."),
        (YES, "Harris leads there, 48.4% to 47.2%. So no."),
        (CLOSEST, "Arizona was the closest, then Nevada."),
        (TWO, "Trump led in Nevada and Georgia."),
        (TREND, "Yes, it shrank."),
        (TREND, "It went from 6.3 to 6.61 points."),
        (KIND, f"In Michigan in 2024, {MISSED}. So no."),
        (NONE, "Trump led in Idaho, 58% to 30%."),
        (NONE, "I have no polls of Idaho, but Trump had 58.1%."),
        (NONE, "Trump was well ahead in the polls."),
    ],
)
def test_wrong(question, answer):
    assert not grade(question, answer)["right"]


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "...",
        "Harris led Harris led Harris led Harris led Harris led",
        "Harris led in Wisconsin in August 2024. Harris led in Wisconsin in August 2024.",
        "Harris led Wisconsin in August 2024. Trump 48 Harris 47.",
        "Harris led Trump 44.8% to 48.3%.",
        "Harris had 148.3% in Wisconsin.",
        "Harris 68.3%, Trump 54.8%.",
        "Harris had 48.3.3% there.",
        "The average of the polls in Wisconsin in August 2024 was that the",
    ],
)
def test_nonsense(answer):
    assert not grade(LEAD, answer)["sane"]


def test_abstaining_is_more_than_a_negation():
    assert grade(LEAD, "I do not know.")["abstained"]
    assert grade(LEAD, "My tables only cover presidential polls.")["abstained"]
    assert not grade(LEAD, "Trump did not lead in the polls.")["abstained"]
    assert not grade(LEAD, "No, Harris led in the polls.")["abstained"]
    assert grade(NONE, "That is not something my polls cover.")["right"]
    assert not grade(LEAD, "Trump had no lead in the polls.")["abstained"]


def test_short_answers_are_whole_words():
    assert sets.grade_short({"answers": ["Brasilia"]}, "It's Brasília.")
    assert sets.grade_short({"answers": ["12", "twelve"]}, "5 + 7 = 12.")
    assert sets.grade_short({"answers": ["12", "twelve"]}, "Twelve!")
    assert not sets.grade_short({"answers": ["12"]}, "1,212 or 12.5 or 3.12 or 112")
    assert not sets.grade_short({"answers": ["Paris"]}, "A parish.")
    helium = {"answers": ["He"], "case_sensitive": True}
    assert sets.grade_short(helium, "The symbol is He.")
    assert not sets.grade_short(helium, "I think that he knows.")


def test_every_general_question_is_like_its_own_kind():
    rows = sets.load("general")
    assert {row["kind"] for row in rows} == set(sets.GENERAL_KINDS)
    for row in rows:
        pattern = sets.GENERAL_KINDS[row["kind"]]
        missed = [row[q] for q in ("q1", "q2", "q3") if not re.search(pattern, row[q], re.I)]
        assert not missed, (row["kind"], missed)


@pytest.mark.parametrize(
    "text",
    [
        "Harris led Trump 48.3% to 44.8% in Wisconsin in August 2024.",
        "Write a short poem about the sea.",
        "How do I bake bread without yeast?",
        "Explain why the sky is blue.",
    ],
)
def test_other_text_is_not_like_general(text):
    assert not sets.is_like_general(text)


def told(row):
    """True sentences about a row's fact in four wordings, and false ones."""
    won = row["wants"] == "result" or row.get("check") == "won"
    fact = first_fact({**row, "wants": "result"} if won else row, row["place"], row["month"])
    shares = {fact.democrat: fact.democrat_pct, fact.republican: fact.republican_pct}
    (low_name, low), (top_name, top) = sorted(shares.items(), key=lambda item: item[1])
    where = "nationally" if row["place"] == "National" else f"in {row['place']}"
    if row["month"]:
        where += f" in {claims.MONTHS[int(row['month'][5:]) - 1]} {row['month'][:4]}"
    yes = {"yes": "Yes, ", "no": "No, "}.get(row.get("answer"), "")
    more = f" Kennedy had {fact.kennedy_pct}%." if row.get("candidate") == "Kennedy" else ""
    if row["part"] == "votes":
        more = f" {row['candidate']} had {row['figures'][0]:,} votes."
    if top == low:
        return [f"{yes}{top_name} and {low_name} were tied {where} at {top}%."], [
            f"{top_name} led {where}, {top}% to {low - 2}%."
        ]
    verb, gap = ("won" if won else "led"), f"{top - low:.1f} points"
    true = [
        f"{yes}{top_name} {verb} {low_name} {top}% to {low}% {where}.{more}",
        f"{yes}{where}, {top_name} was ahead with {top}% against {low}% for {low_name}, a lead of "
        f"{gap}.{more}",
        f"{yes}the average {where} had {low_name} at {low}% and {top_name} at {top}%, so "
        f"{top_name} {verb} by {gap}.{more}",
        f"{yes}{low_name} trailed {top_name} by {gap} {where}, {low} percent to {top} percent."
        f"{more}",
    ]
    false = [
        f"{low_name} {verb} {top_name} {top}% to {low}% {where}.{more}",
        f"{low_name} was ahead {where}.",
        f"{top_name} {verb} {low_name} {top}% to {low}% in Hawaii.{more}",
    ]
    return true, false


@pytest.mark.parametrize(
    "row",
    [row for row in ANSWERABLE if row["wants"] not in ("compare", "closest", "trend")],
    ids=lambda row: row["id"],
)
def test_truth_is_right_and_falsehood_wrong_in_any_wording(row):
    true, false = told(row)
    for answer in true:
        assert sets.grade_natural(row, answer) == {"right": True, "sane": True, "abstained": False}
    for answer in false:
        assert not sets.grade_natural(row, answer)["right"]


@pytest.mark.parametrize("name", ["near_misses", "general"])
def test_accepted_answers_pass_and_an_echo_of_the_question_does_not(name):
    echoes = []
    for row in sets.load(name):
        assert all(sets.grade_short(row, f"It is {accepted}.") for accepted in row["answers"])
        asked = [row[q] for q in ("question", "q1", "q2", "q3") if q in row]
        echoes += [q for q in asked if sets.grade_short(row, q)]
    assert not echoes
