"""Answers that M+ learnt, looked up as drafts: what is found, against a search by hand."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from proxy_tuning.answering import greedy_answers
from proxy_tuning.families import load_family, load_part
from proxy_tuning.learnt import FILE, MOST, LearntAnswers, read_learnt, write_learnt
from proxy_tuning.prompts import continuation, prompt
from proxy_tuning.records import TUNED

TEXT = st.lists(st.integers(0, 3), min_size=1, max_size=8)


def longest_by_hand(answers, text):
    """{(answer, place): how many tokens before the place are the text's last ones}, the most alone."""
    found = {}
    for number, answer in enumerate(answers):
        for place in range(1, len(answer)):
            same = 0
            while same < min(place, len(text)) and answer[place - 1 - same] == text[-1 - same]:
                same += 1
            found[number, place] = same
    most = max(found.values(), default=0)
    return [where for where, same in found.items() if same == most > 0]


@given(st.lists(TEXT, min_size=1, max_size=6), TEXT, st.integers(0, 5))
def test_it_follows_the_longest_suffix_in_the_answer_that_stands_there_most(answers, text, count):
    found = LearntAnswers(answers).following(torch.tensor(text), count).tolist()
    rarity = {
        token: math.log(len(answers) / sum(token in answer for answer in answers))
        for token in {token for answer in answers for token in answer}
    }
    shared = {
        number: sum(rarity[token] for token in set(answer) & set(text))
        / max(sum(rarity[token] for token in set(answer)), 1e-6)
        for number, answer in enumerate(answers)
    }
    places = longest_by_hand(answers, text)
    if not places:
        assert found == []
        return
    best = max(shared[number] for number, _ in places)
    right = [answers[n][p:][:count] for n, p in places if shared[n] == pytest.approx(best)]
    assert found in right


def test_by_hand():
    """7 ends both answers' beginning; the text has the 5 of the second, which stands in no other."""
    answers = LearntAnswers([[1, 7, 2, 3, 9], [1, 7, 5, 4, 9]])
    assert answers.following(torch.tensor([5, 0, 1, 7]), 2).tolist() == [5, 4]
    assert answers.following(torch.tensor([0, 2]), 8).tolist() == [3, 9], "no further than its end"
    assert answers.following(torch.tensor([9]), 2).tolist() == [], "nothing follows the end"
    assert answers.following(torch.tensor([8]), 2).tolist() == []


def test_written_and_read(tmp_path):
    _, tokenizer = load_part(TUNED / "pocket")
    write_learnt(tmp_path, ["In Ohio, 1\u2028 two\n lines", "Yes.", "Yes."])
    assert len((tmp_path / FILE).read_text().splitlines()) == 2
    learnt = read_learnt(tmp_path, tokenizer)
    asked = torch.tensor(tokenizer(prompt("Who?", tokenizer))["input_ids"])
    found = {tokenizer.decode(learnt.following(asked, 99))}
    assert found <= {
        continuation(answer, tokenizer) + tokenizer.eos_token
        for answer in ("In Ohio, 1\u2028 two\n lines", "Yes.")
    }
    write_learnt(tmp_path, (str(i) for i in range(MOST + 1)))
    assert (tmp_path / FILE).read_text().count("\n") == MOST
    assert read_learnt(tmp_path / "nowhere", tokenizer) is None
    write_learnt(tmp_path, [])
    assert read_learnt(tmp_path, tokenizer) is None


@pytest.mark.parametrize("line", ["3", '"cut', "[" * 100_000])
def test_a_garbled_file_is_told_in_one_line(tmp_path, line):
    (tmp_path / FILE).write_text(f'"In Ohio."\n{line}\n')
    with pytest.raises(ValueError, match=FILE) as error:
        read_learnt(tmp_path, None)
    assert "\n" not in str(error.value)


def test_pocket_looks_up_what_it_learnt():
    """The same answers in fewer rounds: most of what M+ says of 2024 stands in its answers."""
    model, tokenizer = load_family("pocket")
    answers = [json.loads(line) for line in (TUNED / "pocket" / FILE).read_text().splitlines()]
    assert len(set(answers)) == len(answers) == len(model.learnt.weight)
    questions = ["Who led the polls in Ohio in May 2024?", "Who won Nevada in 2024?"]
    plain = greedy_answers(model, tokenizer, questions, draft="none")
    assert greedy_answers(model, tokenizer, questions, draft="learnt") == plain
    assert greedy_answers(model, tokenizer, questions, draft="auto") == plain
