"""Local experts: the nearest facts, and a small model that is as it was afterwards."""

import pandas as pd
import pytest
import torch
from conftest import LINES, letter_tokenizer, tiny_model

from proxy_tuning.evaluation.measures import after_prompts, log_likelihoods
from proxy_tuning.training.local import Neighbours, local_expert

ROWS = pd.DataFrame(
    [
        ("Who led in Ohio in May?", "In Ohio in May, Ann led."),
        ("Who was ahead in Ohio in May?", "In Ohio in May, Ann led."),
        ("Who led in Ohio in June?", "In Ohio in June, Bob led."),
        ("Who led in Iowa in May?", "In Iowa in May, Bob led."),
        ("How many voted in Utah?", "In Utah, 9 voted."),
    ],
    columns=["question", "answer"],
)


def test_the_nearest_rows_share_the_rarest_words_and_no_answer_comes_twice():
    near = Neighbours(ROWS).nearest("In June, who was in front in Ohio?", 3)["answer"].tolist()
    assert near[0] == "In Ohio in June, Bob led."
    assert len(set(near)) == 3 and "In Utah, 9 voted." not in near


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_the_facts_are_likelier_and_m_minus_is_as_it_was(kind):
    small, tokenizer = tiny_model(kind, 2), letter_tokenizer(LINES)
    pairs = after_prompts(ROWS, ROWS["answer"], tokenizer)
    before = {name: weight.clone() for name, weight in small.state_dict().items()}
    plain = log_likelihoods(small, tokenizer, pairs)[:, 0]
    with local_expert(small, tokenizer, ROWS[:2], steps=20, learning_rate=1e-2) as expert:
        tuned = log_likelihoods(expert, tokenizer, pairs)[:, 0]
    assert (tuned[:2] > plain[:2] + 10).all()  # nats, of 24 letters
    assert small.state_dict().keys() == before.keys()
    assert all(torch.equal(small.state_dict()[name], weight) for name, weight in before.items())
