"""Packed lines against every row alone, through bare transformers models."""

import pandas as pd
import pytest
import torch
from conftest import LINES, letter_tokenizer, pocket, tiny_model
from tokenizers.processors import TemplateProcessing
from torch.nn.functional import cross_entropy

from proxy_tuning.families import FAMILIES, load_part
from proxy_tuning.polls.history import pretraining_rows
from proxy_tuning.polls.tables import load_facts
from proxy_tuning.records import DATA
from proxy_tuning.training.finetune import longest
from proxy_tuning.training.mixture import training_rows, validation_rows
from proxy_tuning.training.packing import (
    IGNORED,
    LINE,
    can_share,
    encode,
    line_length,
    pack,
    target_logits,
)
from proxy_tuning.training.recipes import RECIPES

ROWS = pd.DataFrame(
    {
        "question": ["Who won?", "Who led the polls there?", None],
        "answer": ["Ann won.", "Bo.", "Ann won the vote."],
    }
)


@pytest.fixture
def tokenizer():
    return letter_tokenizer(LINES)


@torch.no_grad()
def row_losses(model, row):
    """Nats of each target of one row, read alone (targets,)."""
    ids, labels = (torch.tensor(row[name]) for name in ("input_ids", "labels"))
    logits = model(ids[None], use_cache=False).logits[0, :-1].float()
    losses = cross_entropy(logits, labels[1:], reduction="none", ignore_index=IGNORED)
    return losses[labels[1:] != IGNORED]


@torch.no_grad()
def packed_losses(model, rows, length=LINE, share=False):
    """The same from one packed batch: per row, in the order of `rows`."""
    batch = pack(rows, length, share)
    targets = batch["labels"][batch["labels"] != IGNORED]
    losses = cross_entropy(target_logits(model, batch).float(), targets, reduction="none")
    order = batch["row"].tolist()
    counts = [sum(label != IGNORED for label in rows[i]["labels"]) for i in order]
    return [each for _, each in sorted(zip(order, losses.split(counts), strict=True))]


def test_labels_by_hand(tokenizer):
    first, second, statement = encode(ROWS, tokenizer, 160)
    text = "Question: Who won?\nAnswer: Ann won."
    assert tokenizer.decode(first["input_ids"]) == text + "<end>"
    targets = [i for i, label in enumerate(first["labels"]) if label != IGNORED]
    # One token is one character: the answer with its space, and end-of-text.
    assert targets == list(range(text.index(" Ann"), len(text) + 1))
    assert first["labels"][-1] == tokenizer.eos_token_id
    assert statement["labels"] == [IGNORED] + statement["input_ids"][1:]


def test_a_row_that_is_too_long_is_named(tokenizer):
    with pytest.raises(ValueError, match=r"36 tokens, more than 20: 'Question: Who won"):
        encode(ROWS, tokenizer, 20)


def test_what_a_tokenizer_puts_first_is_no_target(tokenizer):
    """As Llama's, which begins every text with a token of its own."""
    plain = [row["input_ids"] for row in encode(ROWS, tokenizer, 160)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="! $A", special_tokens=[("!", 5)]
    )
    for row, ids in zip(encode(ROWS, tokenizer, 160), plain, strict=True):
        assert row["input_ids"] == [5, *ids]  # once, before the question alone
        assert row["labels"][0] == IGNORED and row["labels"][-1] == tokenizer.eos_token_id


def test_lines_by_hand():
    """Longest first into the shortest line: 5 | 4, then 3 to the second, 2 to the first."""
    rows = [
        {"input_ids": [10 * n + i for i in range(n)], "labels": [IGNORED] + [n] * (n - 1)}
        for n in (3, 5, 2, 4)
    ]
    batch = pack(rows, length=7)
    assert batch["input_ids"].tolist() == [
        [50, 51, 52, 53, 54, 20, 21],
        [40, 41, 42, 43, 30, 31, 32],
    ]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4, 0, 1], [0, 1, 2, 3, 0, 1, 2]]
    assert batch["labels"].tolist() == [
        [IGNORED, 5, 5, 5, 5, IGNORED, 2],
        [IGNORED, 4, 4, 4, IGNORED, 3, 3],
    ]
    assert batch["row"].tolist() == [1, 2, 3, 0]


# a sliding window shorter than the rows in mistral and gemma2
@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen3", "gemma2", "mistral", "opt", "bloom"])
@pytest.mark.parametrize("size", [1, 3, 40])
def test_a_packed_row_has_the_losses_it_has_alone(kind, size, tokenizer):
    model = tiny_model(kind, 1)
    length = line_length(model)
    assert length == (1 if kind in ("opt", "bloom") else LINE)
    rows = list(encode(ROWS, tokenizer, 160)) * 14
    for packed, row in zip(packed_losses(model, rows[:size], length), rows, strict=False):
        torch.testing.assert_close(packed, row_losses(model, row), atol=2e-5, rtol=1e-5)


def test_a_shared_beginning_by_hand():
    """Of rows of 10, 12 and 11 tokens that begin with the same nine, each line has those once.

    The first has a target at its last place: what predicts it, the ninth token, stays its own.
    """
    begin = list(range(1, 10))
    own = [[10], [20, 21, 22], [30, 31]]
    rows = [
        {"input_ids": begin + ids, "labels": [IGNORED] * (8 + len(ids)) + ids[-1:]} for ids in own
    ]
    batch = pack(rows, length=12, share=True)
    assert batch["input_ids"].tolist() == [
        [*begin[:8], 9, 20, 21, 22, 0],
        [*begin[:8], 9, 30, 31, 9, 10],
    ]
    assert batch["position_ids"].tolist() == [
        [*range(8), 8, 9, 10, 11, 0],
        [*range(8), 8, 9, 10, 8, 9],
    ]
    assert batch["labels"][:, 8:].tolist() == [
        [IGNORED, IGNORED, IGNORED, 22, IGNORED],
        [IGNORED, IGNORED, 31, IGNORED, 10],
    ]
    seen = batch["attention_mask"][1, 0].nonzero().tolist()
    assert [at for query, at in seen if query == 12] == [*range(8), 11, 12]
    assert [at for query, at in seen if query == 10] == [*range(8), 8, 9, 10]
    assert [at for query, at in seen if query == 3] == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen3", "gemma2", "mistral", "opt", "bloom"])
def test_rows_that_share_their_beginning_have_the_losses_they_have_alone(kind, tokenizer):
    """A sliding window would be undone by the mask: there, and where positions count on, none shares."""
    model = tiny_model(kind, 1)
    assert can_share(model) == (kind in ("gpt2", "llama", "qwen3"))
    rows = list(encode(ROWS[:2], tokenizer, 160)) * 5  # all begin with "Question: Who "
    for share in {False, can_share(model)}:
        assert ("attention_mask" in pack(rows, LINE, share)) == share
        packed = packed_losses(model, rows, line_length(model), share)
        for each, row in zip(packed, rows, strict=True):
            torch.testing.assert_close(each, row_losses(model, row), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["fine-tuning", "validation", "pre-training"])
def test_pocket_has_the_same_losses_packed_and_alone(kind):
    """On what it is trained on: questions, and whole statements in pre-training."""
    _, _, model = pocket()
    _, tokenizer = load_part(FAMILIES["pocket"].antiexpert)
    tables, recipe = load_facts(DATA), RECIPES["pocket"]
    rows = {
        "fine-tuning": lambda: training_rows(tables, recipe),
        "validation": lambda: validation_rows(tables, recipe, training_rows(tables, recipe)),
        "pre-training": lambda: pretraining_rows(tables),
    }[kind]().sample(48, random_state=0)
    rows = list(encode(rows, tokenizer, longest(model)))
    assert len(pack(rows)["input_ids"]) < len(rows) / 4
    for packed, row in zip(packed_losses(model, rows), rows, strict=True):
        torch.testing.assert_close(packed, row_losses(model, row), atol=5e-5, rtol=1e-5)
