"""Rates and intervals against figures computed by hand."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from proxy_tuning import evaluate
from proxy_tuning.polls import load_facts
from proxy_tuning.questions import FRAMES

TABLES = load_facts(evaluate.DATA)


def test_the_four_sets_do_not_overlap_and_are_in_test_wordings():
    rows = evaluate.question_sets(TABLES)
    assert set(rows["set"]) == {"new", "unseen", "old", "silent"}
    assert rows["question"].groupby(rows["set"]).size().min() > 20
    assert not rows.duplicated(["question", "set", "answer"]).any()
    test = {frame for kind in FRAMES.values() for frame in kind["test"]}
    assert set(rows["frame"]) <= test
    assert (rows.loc[rows["set"] == "silent", "trained"] == False).all()  # noqa: E712
    assert rows.loc[rows["set"].isin(["new", "old"]), "trained"].all()


def test_rates_by_hand():
    graded = pd.DataFrame({
        "system": "M", "set": "new", "cycle": 2024, "state": list("AABB"), "month": None,
        "leader_right": pd.array([True, True, False, None], dtype="boolean"),
        "numbers_right": pd.array([True, False, False, False], dtype="boolean"),
        "abstained": False,
    })  # fmt: skip
    table = evaluate.summary(graded).set_index("score")
    assert table.loc["leader_right", "mean"] == pytest.approx(2 / 3, abs=1e-4)
    assert table.loc["leader_right", "questions"] == 3
    assert table.loc["numbers_right", "mean"] == 0.25
    # Two facts: a resample has A twice, B twice or both: rates 1/2, 0 or 1/4.
    low, high = table.loc["numbers_right", "interval"]
    assert (low, high) == (0.0, 0.5)


def test_intervals_cover_the_truth():
    """Of 200 samples of 60 facts, a 95% interval misses the true rate about 10 times."""
    draws = np.random.default_rng(0)
    misses = 0
    for seed in range(200):
        values = pd.Series(draws.random(60) < 0.7)
        low, high = evaluate.interval(values, pd.Series(range(60)), seed)
        misses += not low <= 0.7 <= high
    # P(more than 25 misses) is under 0.001 at a true coverage of 93%, the bootstrap's at this size.
    assert misses <= 25


def test_results_are_whole_json(tmp_path):
    path = tmp_path / "deep" / "table.json"
    evaluate.write_results(path, {"a": 1, "machine": evaluate.machine()})
    assert json.loads(path.read_text())["a"] == 1
    assert [p.name for p in path.parent.iterdir()] == ["table.json"]


def test_the_readme_says_what_the_results_file_says():
    root = Path(__file__).parents[1]
    results = json.loads((root / "results" / "pocket.json").read_text())
    assert evaluate.markdown(results) in (root / "README.md").read_text()
    assert results["data"] == evaluate.facts_fingerprint(TABLES)
