"""Blind grades: what the sheet hides, and means by hand."""

import sys

import pandas as pd
import pytest

from benchmarks import blind


def answers():
    """Two systems' answers to more questions than are drawn."""
    return pd.DataFrame(
        [
            {"system": system, "set": name, "question": f"{name} {i}?", "answered": f"{system} {i}"}
            for system in ("A", "B")
            for name in blind.SETS
            for i in range(20)
        ]
    ).assign(right=True)


def test_a_sheet_has_every_system_once_per_question_and_says_not_which(tmp_path, monkeypatch):
    source, sheet, key = (str(tmp_path / name) for name in ("a.jsonl", "sheet.tsv", "key.tsv"))
    answers().to_json(source, orient="records", lines=True)
    words = ["blind", "sheet", source, sheet, key, "--systems", "A", "B"]
    monkeypatch.setattr(sys, "argv", words)
    blind.main()
    shown, hidden = (pd.read_csv(path, sep="\t") for path in (sheet, key))
    assert list(shown.columns) == ["number", "question", "answered", "grade"]
    assert len(shown) == 2 * sum(blind.SETS.values())
    assert shown.groupby("question")["answered"].nunique().eq(2).all()
    first = hidden["system"].iloc[::2]
    assert 0 < (first == "A").sum() < len(first), "the order tells who it is"
    monkeypatch.setattr(sys, "argv", ["blind", "table", sheet, key])
    with pytest.raises(ValueError, match="without a grade"):
        blind.main()
    with pytest.raises(ValueError, match="no answers of C"):
        blind.drawn(answers(), ["A", "C"], 0)


def test_means_by_hand():
    graded = pd.DataFrame(
        {
            "system": ["A", "A", "B", "B"],
            "set": ["natural", "general", "natural", "general"],
            "question": ["n?", "g?", "n?", "g?"],
            "grade": [2, 1, 0, 1],
        }
    )
    lines = blind.table(graded).splitlines()
    assert lines[0] == "| | natural (1) | general (1) | All (2) |"
    assert lines[2:] == ["| A | 2.00 | 1.00 | 1.50 |", "| B | 0.00 | 1.00 | 0.50 |"]
