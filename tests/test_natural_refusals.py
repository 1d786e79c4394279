"""Questions that get a refusal, how the other states ended, and how typing is imitated."""

import csv
import random
from pathlib import Path

import pandas as pd
import pytest

from proxy_tuning.polls import natural, typed
from proxy_tuning.polls.elections import NATIONAL, STATES
from proxy_tuning.polls.facts import status_of
from proxy_tuning.polls.natural_forms import NATURAL, read_natural
from proxy_tuning.polls.reading import read_question
from proxy_tuning.polls.tables import load_facts
from proxy_tuning.polls.templates import SPLITS
from proxy_tuning.training.mixture import as_typed
from proxy_tuning.training.recipes import RECIPES

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def tables():
    return load_facts(DATA)


def raw(name):
    """Rows of 2024 of a table, as text."""
    with open(DATA / f"{name}.csv", newline="") as file:
        return [row for row in csv.DictReader(file) if row["cycle"] == "2024"]


MONTHLY = {(row["state"], row["month"], row["democrat"]): row for row in raw("monthly")}
FINAL = {row["state"]: row for row in raw("final")}


@pytest.mark.parametrize("split", SPLITS)
def test_refusals_are_of_every_kind_and_true(tables, split):
    part = natural.out_of_scope_rows(tables, None, split, 400, 0)
    assert list(part) == natural.COLUMNS
    kinds = {kind for kind, section in NATURAL.items() if "answer" in section} - {"not_taught"}
    assert set(part["kind"]) == kinds
    assert len(part) >= 395 and part["kind"].value_counts().min() > 15
    for row in part.itertuples():
        assert "%" not in row.answer
        assert read_natural(row.answer)[0] == row.kind
        month = row.month
        if row.kind == "no_polls":
            assert not any((row.state, month, dem) in MONTHLY for dem in ("Biden", "Harris"))
            assert isinstance(month, str) or row.state not in FINAL
        if row.kind == "no_figure":
            who = read_natural(row.answer)[1]["name"]
            found = [MONTHLY.get((row.state, month, dem)) for dem in ("Biden", "Harris")]
            found = [fact for fact in found if fact]
            assert found
            for fact in found:
                assert who != fact["democrat"] and (who != "Kennedy" or not fact["kennedy_pct"])
            assert split != "train" or status_of(2024, row.state, month) == "known"
    assert part.equals(natural.out_of_scope_rows(tables, None, split, 400, 0))


def test_refusals_restate_what_was_asked(tables):
    part = natural.out_of_scope_rows(tables, ["Ohio", "Iowa"], "test", 300, 1)
    assert set(part.loc[part["template"].str.contains("{place}", regex=False), "state"]) == {
        "Ohio",
        "Iowa",
    }
    for row in part[part["answer"].str.contains("Ohio")].itertuples():
        assert row.state == "Ohio" or row.kind == "electoral"


def test_endings_ask_last_polls_and_results_of_the_states_left_out(tables):
    taught = ("Pennsylvania", NATIONAL)
    rows = natural.endings(tables, taught, "train", 6, 0)
    others = set(STATES.values()) - set(taught)
    assert set(rows["state"]) == others
    refused = rows["kind"] == "no_polls"
    assert rows[~refused].groupby("state").size().max() == 6
    assert rows.loc[~refused, "month"].isna().all()
    final, results = (tables[name].set_index("state") for name in ("final", "results"))
    final, results = (table[table["cycle"] == 2024] for table in (final, results))
    for row in rows[~refused & rows["kind"].isin(("standing", "result"))].itertuples():
        table = results if row.kind == "result" else final
        for share in ("democrat_pct", "republican_pct"):
            assert f"{table.loc[row.state, share]:.1f}%" in row.answer
    assert rows.loc[refused, "answer"].str.startswith("I have no polls for").all()
    unpolled = others - set(final.index)
    assert unpolled <= set(rows.loc[refused & rows["month"].isna(), "state"])
    assert not unpolled & set(rows.loc[rows["kind"] == "final", "state"])


def test_states_that_were_not_taught_are_refused():
    taught = ["Ohio", "Texas", NATIONAL]
    part = natural.not_taught(taught)
    assert set(part["state"]) == set(STATES.values()) - set(taught)
    for row in part.itertuples():
        assert row.answer == f"I have no polls for {typed.place_name(row.state)}."
    trained = {t for section in NATURAL.values() for t in section.get("train", [])}
    assert set(part["template"]) <= trained


def test_a_slip_is_one_edit_inside_a_long_word():
    rng, text = random.Random(0), "who led Pennsylvania in 2024 or on Oct 15"
    for _ in range(200):
        slipped = typed.slip(text, rng)
        assert abs(len(slipped) - len(text)) <= 1
        assert slipped.startswith("who led P") and slipped.endswith(" in 2024 or on Oct 15")
    assert typed.slip("who won OH", rng) == "who won OH"


def test_typed_text_is_tidy_and_varied():
    rng = random.Random(0)
    made = {
        typed.as_typed("who's ahead in OR , {x}  today ".replace("{x}", "then"), rng)
        for _ in range(300)
    }
    assert {
        "Who's ahead in OR, then today?",
        "who's ahead in OR, then today",
        "whos ahead in OR, then today",
    } <= made
    assert not any(" in or" in text or "  " in text or " ," in text for text in made)


def test_what_lies_outside_the_tables_is_not_looked_up(tables):
    """Questions of every kind that M+ is taught to refuse for its topic, slips of the finger included."""
    recipe = RECIPES["smollm"]
    looked_up = {"no_polls", "not_taught", "earlier", "no_figure", "person"}  # some have figures
    kinds = {kind for kind, section in NATURAL.items() if "answer" in section} - looked_up
    rows = pd.concat([rows for split in SPLITS for rows in as_typed(tables, recipe, split)])
    rows = rows[rows["kind"].isin(kinds)].drop_duplicates("question").groupby("kind").head(150)
    assert set(rows["kind"]) == kinds
    read = [read_question(question, tables) for question in rows["question"]]
    wrong = [
        q
        for q, asked in zip(rows["question"], read, strict=True)
        if asked.kind and not asked.unplaced
    ]
    assert len(wrong) < 0.005 * len(rows), wrong
