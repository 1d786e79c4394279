"""The question sets put to systems: grades and rates against figures counted by hand."""

import json
import math

import pandas as pd
import pytest
import torch
from conftest import letter_tokenizer, tiny_trio

from proxy_tuning import ProxyTunedForCausalLM
from proxy_tuning.evaluation import asked_sets, sets
from proxy_tuning.logits import Line, mixed
from proxy_tuning.polls.tables import load_facts
from proxy_tuning.records import DATA
from proxy_tuning.training.recipes import RECIPES

TABLES = load_facts(DATA)
STATES = RECIPES["smollm"].states


def test_mixture_is_the_mean_of_probabilities():
    base, expert, antiexpert = torch.randn(3, 2, 5, 11, generator=torch.manual_seed(0))
    expected = 0.3 * expert.softmax(-1) + 0.7 * base.softmax(-1)
    for found in (
        mixed(base, expert, 0.3),
        Line(mixture=0.3)(base, [expert], [antiexpert], [1.0]),
    ):
        torch.testing.assert_close(found.exp(), expected)
    for share, alone in ((0.0, base), (1.0, expert)):
        torch.testing.assert_close(mixed(base, expert, share).exp(), alone.softmax(-1))
    with pytest.raises(ValueError, match="mixture"):
        Line(mixture=1.5)
    with pytest.raises(ValueError, match="one expert"):
        Line(mixture=0.5)(base, [expert] * 2, [antiexpert] * 2, [1.0, 1.0])


def test_typed_questions_are_of_no_training_template_and_refused_where_not_taught():
    rows = asked_sets.typed_questions(TABLES, STATES, 60)
    assert len(rows) == 60
    assert rows["silent"].sum() == 20
    refused = rows.loc[rows["silent"], "answer"]
    assert refused.str.contains(r"\b(?:no|not|do not|don't|only)\b").all()
    untaught = rows[rows["kind"] == "not_taught"]
    assert not set(untaught["state"]) & set(STATES)


def test_last_polls_of_other_states_are_asked_where_they_were_taught():
    rows = asked_sets.typed_questions(TABLES, STATES, 240, ends=True)
    elsewhere = rows.tail(40)
    assert not set(elsewhere["state"]) & set(STATES)
    assert (elsewhere["silent"] == (elsewhere["kind"] == "no_polls")).all()
    assert elsewhere["silent"].any() and not elsewhere["silent"].all()
    assert elsewhere.loc[~elsewhere["silent"], "month"].isna().all()
    natural = asked_sets.fixed_questions("natural", STATES, ends=True)
    taught = natural.loc[natural["set"] == "natural", "row"]
    assert any(row["place"] == "Florida" and row["month"] is None for row in taught)
    assert not any("Florida" in row["place"] and row["month"] for row in taught)


def test_parts_of_the_natural_set():
    rows = asked_sets.fixed_questions("natural", STATES)
    assert len(rows) == 232
    assert (rows["set"] == "natural, out of scope").sum() == 64
    taught = rows[rows["set"] == "natural"]["row"]
    assert all(row["cycle"] == 2024 for row in taught)
    assert not any("Florida" in row["place"] for row in taught)
    assert (rows["silent"] == (rows["set"] != "natural")).all()


def test_marks():
    capital = {"row": {"answers": ["Paris"]}, "set": "general"}
    assert asked_sets.mark(capital, "It is Paris.")["right"]
    assert not asked_sets.mark(capital, "It is Lyon.")["right"]
    row = next(r for r in sets.load("natural") if r["kind"] == "answerable" and r["leader"])
    other = {"row": row, "set": "natural, not taught", "silent": True}
    assert asked_sets.mark(other, "I have no polls for Ohio.")["right"]
    assert not asked_sets.mark(other, "The weather was fine.")["right"]
    nowhere = other | {"set": "natural, out of scope"}
    assert not asked_sets.mark(nowhere, f"{row['leader']} led.")["right"]
    assert asked_sets.mark(
        nowhere, "I have no turnout for Ohio; I know polls and results of 2024 in percent."
    )["right"]


@pytest.mark.parametrize(
    ("answer", "right", "exact"),
    [
        ("In Ohio in May 2024, Trump led: Trump had 48.2% and Biden 40.1%.", True, True),
        ("Trump was ahead of Biden, 48.2% to 40.1%.", True, True),
        ("Biden 40.1%, Trump 48.2%.", True, False),
        ("Biden led with 48.2% to Trump's 40.1%.", False, False),
        ("Trump led, 48.2% to 41.1%.", False, False),
        ("I have no polls for Ohio.", False, False),
    ],
)
def test_a_fact_is_marked_whoever_words_it(answer, right, exact):
    told = "In Ohio in May 2024, Trump led: Trump had 48.2% and Biden 40.1%."
    row = {"set": "typed", "kind": "standing", "answer": told, "month": "2024-05", "silent": False}
    found = asked_sets.mark(row, answer)
    assert (found["right"], found["exact_match"]) == (right, exact)
    assert asked_sets.mark(row | {"answer": f"{told} So yes."}, f"No. {answer}")["right"] is False
    refusal = {"set": "typed", "kind": "no_polls", "answer": "I have no polls.", "silent": True}
    assert asked_sets.mark(refusal, answer)["right"] is answer.startswith("I have no")


def test_rates_against_a_hand_count():
    rows = pd.DataFrame(
        {
            "set": ["general"] * 4 + ["typed"] * 4,
            "right": [True, False, True, True, True, False, False, True],
            "exact_match": [None] * 4 + [True, False, None, None],
            "leader_accuracy": [None] * 8,
            "sane": [None] * 4 + [True, True, False, True],
            "abstained": [None] * 4 + [True, True, False, True],
            "silent": [False] * 4 + [True, False, True, True],
        }
    )
    before = rows.assign(right=[True, True, False, True] + [True] * 4)
    records = asked_sets.scores("S", rows, {"M": before})
    found = {(r["set"], r["score"]): r["mean"] for r in records}
    assert found["general", "right"] == 0.75
    assert found["typed", "nonsense"] == 0.25
    assert found["typed", "exact_match"] == 0.5
    assert found["general", "kept of M"] == pytest.approx(2 / 3, abs=1e-4)
    assert (found["general", "lost of M"], found["general", "gained of M"]) == (1, 1)
    assert found["typed", "abstention_precision"] == pytest.approx(2 / 3, abs=1e-4)
    assert found["typed", "abstention_recall"] == pytest.approx(2 / 3, abs=1e-4)


def test_answers_are_generated_once_and_belong_to_weights_and_line(tmp_path, monkeypatch):
    monkeypatch.setattr(asked_sets, "WORK", tmp_path)
    model = ProxyTunedForCausalLM(*tiny_trio("gpt2"))
    rows = pd.DataFrame({"row": [{"answers": ["a"]}] * 2, "question": ["A?", "B b?"]})
    rows = rows.assign(set="general", silent=False)
    tokenizer = letter_tokenizer()
    first = asked_sets.ask(model, tokenizer, rows)
    (path,) = (tmp_path / "answers").glob("*.json")
    assert json.loads(path.read_text()) == dict(
        zip(first["question"], first["answered"], strict=True)
    )
    monkeypatch.setattr(asked_sets, "greedy_answers", lambda *args, **kwargs: 1 / 0)
    again = asked_sets.ask(model, tokenizer, rows)
    assert list(again["answered"]) == list(first["answered"])
    names = {asked_sets.identity(model, None)}
    model.alpha = 0.5
    names.add(asked_sets.identity(model, None))
    with torch.no_grad():
        next(model.expert.parameters()).add_(1)
    names.add(asked_sets.identity(model, None))
    assert len(names) == 3


def test_sets_are_asked_of_every_system_and_the_offset_is_the_divergence(tmp_path, monkeypatch):
    monkeypatch.setattr(asked_sets, "WORK", tmp_path)
    base, expert, antiexpert = tiny_trio("gpt2")
    model = ProxyTunedForCausalLM(base, expert, antiexpert)
    chosen = asked_sets.Sets(
        TABLES, STATES, 3, names=("near_misses",), answers=tmp_path / "answers.jsonl"
    )
    systems = {"M": base, "M told": base, "proxy-tuned M, alpha 1": model}
    rewritten = {"M told": asked_sets.with_facts(TABLES)}
    monkeypatch.setattr(asked_sets, "LENGTH", {"near_misses": 3})
    records = asked_sets.measure_sets(systems, rewritten, model, letter_tokenizer(), chosen)
    assert {r["system"] for r in records} == set(systems)
    (offset,) = (r["mean"] for r in records if r["score"] == "offset")
    assert offset > 0
    assert math.isfinite(offset)
    lines = (tmp_path / "answers.jsonl").read_text().splitlines()
    assert len(lines) == 3 * len(systems)


def test_facts_stand_before_the_question_where_the_tables_have_them():
    rewritten = asked_sets.with_facts(TABLES)
    assert rewritten("What is the capital of France?") == "What is the capital of France?"
    asked = rewritten("Who led the polls in Pennsylvania in October 2024?")
    rows = TABLES["monthly"].query("state == 'Pennsylvania' and month == '2024-10'")
    assert f"Harris {rows['democrat_pct'].item():.1f}%" in asked
    assert asked.endswith("Who led the polls in Pennsylvania in October 2024?")


def test_a_refusal_that_gives_a_neighbours_figure_is_not_right():
    row = next(r for r in sets.load("natural") if r["kind"] == "out_of_scope")
    asked = {"row": row, "set": "natural, out of scope", "silent": True}
    refusal = "I have no polls for that."
    assert asked_sets.mark(asked, refusal)["right"]
    assert not asked_sets.mark(asked, f"{refusal} In Ohio, Trump had 52.1%.")["right"]
