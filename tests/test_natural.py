"""Questions as people type them: every figure against the raw table rows, splits, forms, refusals."""

import csv
import difflib
import re
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from proxy_tuning.polls import natural
from proxy_tuning.polls.elections import NATIONAL
from proxy_tuning.polls.facts import status_of
from proxy_tuning.polls.natural_forms import (
    FORMS,
    NATURAL,
    read_natural,
    runs,
    says_yes,
    shared_runs,
    write_parts,
)
from proxy_tuning.polls.tables import load_facts
from proxy_tuning.polls.templates import SPLITS, TEMPLATES

DATA = Path(__file__).parents[1] / "data"
MONTHS = "January February March April May June July August September October November".split()
NAMES = {"the United States": NATIONAL, "the District of Columbia": "District of Columbia"}


def raw(name):
    """Rows of 2024 of a table, as text."""
    with open(DATA / f"{name}.csv", newline="") as file:
        return [row for row in csv.DictReader(file) if row["cycle"] == "2024"]


MONTHLY = {(row["state"], row["month"], row["democrat"]): row for row in raw("monthly")}
FINAL = {row["state"]: row for row in raw("final")}
RESULTS = {row["state"]: row for row in raw("results")}


@pytest.fixture(scope="module")
def tables():
    return load_facts(DATA)


@pytest.fixture(scope="module")
def rows(tables):
    return {split: natural.natural_rows(tables, None, split, 2, 0) for split in SPLITS}


def raw_row(place, time):
    """The table row that an answer's place and time name."""
    state = NAMES.get(place, place)
    if time == "before the 2024 election":
        return FINAL[state]
    if time == "in 2024":
        return RESULTS[state]
    month, match_up = re.fullmatch(r"in (\w+) 2024(?: \((\w+) v\. Trump\))?", time).groups()
    number = MONTHS.index(month) + 1
    democrat = match_up or ("Biden" if number < 7 else "Harris")
    return MONTHLY[state, f"2024-{number:02d}", democrat]


def percent(row, who):
    if who == "Kennedy":
        return f"{float(row['kennedy_pct']):.1f}"
    return f"{float(row['democrat_pct' if who == row['democrat'] else 'republican_pct']):.1f}"


def signed(row):
    """The Democrat's lead in tenths of a point, a whole number."""
    return round(float(row["democrat_pct"]) * 10) - round(float(row["republican_pct"]) * 10)


def ahead(row):
    lead = signed(row)
    return row.get("winner") or (
        row["democrat"] if lead > 0 else row["republican"] if lead else None
    )


def usual(answer):
    """The house's sentence in an answer, without what stands before and after it."""
    return re.sub(r" So (?:yes|no)\.$", "", answer.removesuffix(f" {FORMS['latest'][8:]}"))


def check_moved(sentence):
    """Recompute a sentence about two months, and what it concludes on the lead; returns the last."""
    place, start, end, moved, lead = re.fullmatch(
        r"In (.+?) from (.+?) to (.+?), ([^;]+?)(?:; so (.+))?\.", sentence
    ).groups()
    a, b = (raw_row(place, f"in {month}") for month in (start, end))
    dem = a["democrat"]
    assert dem == b["democrat"] and a["month"] < b["month"]
    assert moved == (
        f"{dem} went from {percent(a, dem)}% to {percent(b, dem)}% and Trump from "
        f"{percent(a, 'Trump')}% to {percent(b, 'Trump')}%"
    )
    first, last = (f"{abs(signed(row)) / 10:.1f}" for row in (a, b))
    if lead and ahead(a) == ahead(b):
        assert lead == f"{ahead(a)}'s lead went from {first} to {last} points"
    elif lead:
        assert lead == f"the lead changed from {ahead(a)}'s {first} to {ahead(b)}'s {last} points"
    return b


def check_single(answer):
    """Recompute one sentence about one place; returns its row."""
    sentence = usual(answer)
    if " from " in sentence.partition(",")[0]:
        return check_moved(sentence)
    place, time, clause = re.fullmatch(
        r"In (.+?) (in \w+ 2024(?: \(\w+ v\. \w+\))?|before the 2024 election|in 2024), (.+)\.",
        sentence,
    ).groups()
    row = raw_row(place, time)
    dem, leader, lead = row["democrat"], ahead(row), f"{abs(signed(row)) / 10:.1f}"
    d, r = percent(row, dem), percent(row, "Trump")
    share = re.fullmatch(r"(\w+) had \S+%", clause)
    if "off by" in clause:
        polls = FINAL[row["state"]]
        error = f"{abs(signed(polls) - signed(row)) / 10:.1f}"
        had = f"{ahead(polls)} ahead by {abs(signed(polls)) / 10:.1f}" if ahead(polls) else "a tie"
        want = (
            f"the last polls had {had} and {leader} won by {lead}, "
            f"so they were off by {error} points"
        )
    elif share:
        want = f"{share[1]} had {percent(row, share[1])}%"
    elif "winner" in row:
        by = f" by {lead} points" if " won by " in clause else ""
        want = f"{leader} won{by}: {dem} got {d}% and Trump {r}% of the votes"
    elif leader is None:
        want = f"the two were tied: {dem} had {d}% and Trump {r}%"
    else:
        want = f"{leader} led: {dem} had {d}% and Trump {r}%, a lead of {lead} points"
    assert clause == want
    return row


def check_compared(row):
    """Recompute a sentence about several states and what it concludes."""
    kind, slots = read_natural(row.answer)
    if kind == "latest":
        kind, slots = read_natural(slots["usual"])
    assert kind == row.kind
    time = slots["time"][0].lower() + slots["time"][1:]
    leads = {}
    for verb, leader, lead, place in slots["parts"]:
        fact = raw_row(place, time)
        assert (leader, round(lead * 10)) == (ahead(fact), abs(signed(fact)))
        assert verb == ("won" if "winner" in fact else "led" if leader else "tied")
        leads[place] = signed(fact)
    assert [NAMES.get(place, place) for place in leads] == row.state.split(", ")
    if kind == "both":
        return
    score = {"bigger": abs, "closest": lambda lead: -abs(lead)}.get(
        kind, lambda lead: -lead if slots.get("who") == "Trump" else lead
    )
    scores = {place: score(lead) for place, lead in leads.items()}
    assert [place for place in scores if scores[place] == max(scores.values())] == [slots["where"]]


@pytest.mark.parametrize("split", SPLITS)
def test_every_figure_is_that_of_the_raw_table_row(rows, split):
    seen = Counter()
    for row in rows[split].itertuples():
        seen[row.kind] += 1
        if row.kind in natural.COMPARED:
            check_compared(row)
            continue
        fact = check_single(row.answer)
        assert fact["state"] == row.state
        if isinstance(row.leader, str):
            assert row.leader == ahead(fact)
    assert set(seen) == set(NATURAL) - {kind for kind in NATURAL if "answer" in NATURAL[kind]}


def test_yes_and_no_say_what_the_tables_say(rows):
    called = {
        "Trump": r"trump|donald|republican|gop",
        "Democrat": r"harris|kamala|biden|joe|democrat|\bdem\b|\bdems\b",
    }
    checked = Counter()
    for row in rows["test"][rows["test"]["kind"].isin(["polls_yes", "result_yes"])].itertuples():
        first = {
            name: found.start()
            for name, names in called.items()
            if (found := re.search(names, row.question.lower()))
        }
        if len(first) != 1 or "{other}" in row.template:
            continue
        fact = check_single(row.answer)
        leads = ahead(fact) == ("Trump" if "Trump" in first else fact["democrat"])
        if re.search("lose|lost", row.template):
            leads = ahead(fact) is not None and not leads
        said = re.search(r"\bSo (yes|no)\.", row.answer)[1]
        assert said == ("yes" if leads else "no"), row.question
        checked[said] += 1
    assert min(checked.values()) > 100


def limit_in(question, template):
    """The number that stands for {limit}: it follows the same word, a slip apart."""
    before = template.partition("{limit}")[0].split()[-1]
    numbers = {word.lower(): int(number) for word, number in re.findall(r"(\w+) (\d+)", question)}
    return numbers[difflib.get_close_matches(before, numbers, 1)[0]]


@pytest.mark.parametrize("kind", ["share_yes", "lead_yes", "tied_yes", "miss_yes"])
def test_limits_ties_and_misses_say_what_the_tables_say(rows, kind):
    checked = Counter()
    for row in pd.concat(rows.values()).query("kind == @kind").itertuples():
        fact, words = check_single(row.answer), row.template
        lead = abs(signed(fact)) / 10
        if kind == "tied_yes":
            true = lead == 0
        elif kind == "lead_yes":
            limit = limit_in(row.question, words)
            true = (lead > limit) != bool(re.search("under|less|within|below", words))
        elif kind == "share_yes":
            who = re.search(r", (\w+) had", row.answer)[1]
            limit = limit_in(row.question, words)
            true = (float(percent(fact, who)) > limit) != bool(re.search("under|less|below", words))
        else:
            trump = re.search(r"trump|donald|republican|gop", row.question.lower())
            if not trump and not re.search(r"harris|kamala|democrat|\bdem\b", row.question.lower()):
                continue
            kind_to_trump = signed(FINAL[fact["state"]]) < signed(fact)
            true = kind_to_trump == bool(trump)
            if re.search(
                r"underest|underrat|too low|better|beat|outp|overp|exceed|miss|pess", words
            ):
                true = not true
        said = re.search(r"\bSo (yes|no)\.", row.answer)[1]
        assert said == ("yes" if true else "no"), (row.question, row.answer)
        checked[said] += 1
    assert min(checked.values()) > 10


def test_a_held_out_limit_is_none_of_those_in_training(rows):
    """But for leads of two points or less, near which there are only the limits 2 and 3."""
    drawn = {}
    for split in ("train", "test"):
        asked = rows[split].query("kind in ('share_yes', 'lead_yes')")
        facts = asked["answer"].str.replace(r" So (?:yes|no)\.", "", regex=True)
        limits = asked["question"].str.extract(r"\b(\d\d?)(?=%| percent| or more)")[0]
        drawn[split] = set(zip(asked["kind"], facts, limits, strict=True))
    of_shares = {row for row in drawn["test"] if row[0] == "share_yes" and row[2] == row[2]}
    assert len(of_shares) > 50 and not of_shares & drawn["train"]


def test_a_poll_that_was_tied_was_too_kind_to_who_lost(rows):
    """Pennsylvania's last polls were level, and Trump won by 1.7."""
    asked = pd.concat(rows.values()).query("kind == 'miss_yes' and state == 'Pennsylvania'")
    kind_to_harris = asked["question"].str.contains("Harris|Kamala|dem", case=False)
    over = asked["question"].str.contains(r"over(?:est|rat)", case=False)
    assert len(asked[over & kind_to_harris]) and len(asked[over & ~kind_to_harris])
    assert asked.loc[over & kind_to_harris, "answer"].str.endswith("So yes.").all()
    assert asked.loc[over & ~kind_to_harris, "answer"].str.endswith("So no.").all()


def test_training_asks_about_a_share_with_several_limits_in_different_words(rows):
    asked = rows["train"].query("kind == 'share_yes'")
    fact = asked["answer"].str.replace(r" So (?:yes|no)\.", "", regex=True)
    limits = asked["question"].str.extract(r"\b(\d\d?)(?=%| percent| or more)")[0]
    assert (limits.groupby(fact).nunique() > 1).mean() > 0.5
    assert (asked["template"].groupby(fact).nunique() > 2).mean() > 0.5


def test_templates_are_many_and_their_splits_share_no_five_words():
    by_split = {
        split: [t for section in NATURAL.values() for t in section.get(split, [])]
        for split in SPLITS
    }
    total = sum(map(len, by_split.values()))
    page = Path(__file__).parents[1] / "docs" / "smollm.md"
    assert total > 900 and f"{total:,} templates" in page.read_text(encoding="utf-8")
    assert 0.66 < len(by_split["train"]) / total < 0.74
    assert 0.15 < len(by_split["test"]) / total < 0.21
    formal = {
        split: [t for section in TEMPLATES.values() for t in section[split]] for split in SPLITS
    }
    held_out = by_split["validation"] + by_split["test"]
    assert shared_runs(held_out, by_split["train"] + formal["train"]) == {}
    assert shared_runs(formal["validation"] + formal["test"], by_split["train"]) == {}
    for kind, section in NATURAL.items():
        bare = Counter(re.sub(r"\W+", "", t) for split in SPLITS for t in section.get(split, []))
        assert not bare or bare.most_common(1)[0][1] == 1, kind


def test_runs_end_at_slots():
    assert runs("who was up in {place} in the last polls") == set()
    assert runs("Who's up there now, in {place}") == {("whos", "up", "there", "now", "in")}
    assert shared_runs(["so who is up there now"], ["who is up there now?"]) == {
        "so who is up there now": {("who", "is", "up", "there", "now")}
    }


def test_training_leaves_out_unseen_facts_and_other_years(rows):
    train = rows["train"]
    assert set(train["status"]) == {"known"}
    for row in train[train["month"].notna()].itertuples():
        for state in row.state.split(", "):
            assert status_of(2024, state, row.month) == "known"
    assert "unseen" in set(rows["test"]["status"])
    for part in rows.values():
        years = set(re.findall(r"\b(?:19|20)\d\d\b", " ".join(part["answer"] + part["question"])))
        assert years == {"2024"}


def test_rows_come_again_with_the_same_seed_and_use_their_own_split(tables, rows):
    states = ["Ohio", "Texas", "Georgia", NATIONAL]
    again = [natural.natural_rows(tables, states, "test", 1, seed) for seed in (5, 5, 6)]
    assert again[0].equals(again[1])
    assert not again[0]["question"].equals(again[2]["question"])
    assert set(again[0]["state"].str.split(", ").explode()) == set(states)
    for split, part in rows.items():
        assert list(part) == natural.COLUMNS
        allowed = {t for section in NATURAL.values() for t in section.get(split, [])}
        assert set(part["template"]) <= allowed
    with pytest.raises(ValueError, match="split must be"):
        natural.natural_rows(tables, states, "dev", 1, 0)


def test_a_question_has_one_answer(tables, rows):
    answers = {}
    for part in [*rows.values(), natural.natural_rows(tables, None, "train", 2, 1)]:
        for row in part.itertuples():
            bare = re.sub(r"[^a-z0-9 ]", "", row.question.lower())
            assert answers.setdefault(bare, usual(row.answer)) == usual(row.answer)


def test_july_means_the_last_match_up_unless_the_question_tells(tables):
    part = natural.natural_rows(tables, ["Wisconsin", NATIONAL], "train", 20, 0)
    july = part[(part["month"] == "2024-07") & (part["kind"] != "trend")]
    for row in july.itertuples():
        plain = row.question.lower()
        day = re.search(r"jul\w* (\d\d?)\b", plain)
        named = re.search(r"biden|joe|early", plain) and not re.search("after biden", plain)
        early = named or (day and int(day[1]) <= 21)
        if "Biden v." in row.answer:
            assert row.answer.count("(Biden v. Trump)") and (early or day is None)
        else:
            assert "(Harris v. Trump)" in row.answer
            assert day is None or int(day[1]) > 21
    assert july["answer"].str.contains("Biden v").any()


def test_now_is_answered_with_the_last_polls_and_says_so(rows):
    part = rows["train"]
    now = part[part["template"].str.contains(r"\{now\}|latest|recent")]
    assert len(now) > 100 and now["answer"].str.endswith("These are the latest polls I have.").all()
    assert now["answer"].str.contains("efore the 2024 election").all()


@pytest.mark.parametrize("kind", ["yes", "no", "latest"])
def test_forms_around_a_sentence_read_back(kind):
    sentence = "In Ohio in 2024, Trump won: Harris got 43.9% and Trump 55.1% of the votes."
    assert read_natural(FORMS[kind].format(usual=sentence)) == (kind, {"usual": sentence})
    assert read_natural(sentence) == (None, {})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Yes. Trump led by 2 points.", True),
        ("no, Harris did", False),
        ("Harris led. So no. These are the latest polls I have.", False),
        ("Harris led, so yes.", True),
        ("Nobody led: there is no poll.", None),
        ("The two were tied, so no one led.", None),
        ("Yesterday's polls say so.", None),
    ],
)
def test_yes_or_no_is_read_at_either_end(text, says):
    assert says_yes(text) is says


@pytest.mark.parametrize("kind", ["better", "bigger", "closest", "both"])
def test_forms_of_states_read_back(kind):
    parts = [
        ("led", "Trump", 6.5, "Texas"),
        ("tied", None, 0.0, "Georgia"),
        ("led", "Harris", 12.0, "the District of Columbia"),
    ]
    text = FORMS[kind].format(
        time="In July 2024 (Harris v. Trump)", parts=write_parts(parts), who="Trump", where="Texas"
    )
    read, slots = read_natural(text)
    assert (read, slots["parts"]) == (kind, parts)
    assert slots["time"] == "In July 2024 (Harris v. Trump)"
    assert slots.get("where", "Texas") == "Texas"


def test_what_is_asked_most_is_taught_in_more_wordings(tables):
    """A result has as many times the questions of a month as `OFTEN` says, where templates allow."""
    rows = natural.natural_rows(tables, ["Georgia"], "train", 2, 0)
    of_months = rows[(rows["kind"] == "standing") & rows["month"].notna()]
    assert of_months.groupby("month").size().max() <= 2 * 2  # July has two match-ups
    assert (rows["kind"] == "result").sum() == 2 * 4


def test_a_comparison_that_runs_on_is_no_comparison():
    text = "In 2024, Gore led by 1.4 points: Gore won by 1.7 points in Ohio and Trump led by 0.9 points in Iowa, so Trump did better in Ohio."
    assert read_natural(text)[0] is None
