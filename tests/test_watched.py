"""Which gate would change which answers, by hand."""

import pandas as pd

from benchmarks.watched import GATES, extremes, gates

ANSWERS = pd.DataFrame({"set": ["new", "new", "general"], "steered_right": [True, False, True]})
TOKENS = pd.DataFrame(
    {
        "row": [0, 0, 1, 1, 2, 2],
        "changed": [True, False, True, True, True, False],
        "kl": [3.0, 0.02, 0.7, 5.0, 0.2, 0.05],
    }
)


def test_an_answer_is_changed_by_a_gate_above_one_of_its_changed_tokens(capsys):
    found = {each["gate"]: each for each in gates(ANSWERS, TOKENS)}
    assert tuple(found) == GATES
    changed = {gate: each["answers_changed"] for gate, each in found.items()}
    assert changed[0.1] == {"new": 0, "general": 0}, "0.02 is M's own choice"
    assert changed[0.5] == {"new": 0, "general": 1}
    assert changed[1.0] == {"new": 0.5, "general": 1}, "the 0.7 of the second answer"
    assert found[0.1]["tokens_under"] == {"new": 0.25, "general": 0.5}


def test_the_most_changed_answers():
    assert extremes(ANSWERS, TOKENS) == [0, 1, 2]
