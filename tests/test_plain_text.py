"""Plain English and drafts measured on tiny models, against naive counts."""

import math

import pytest
import torch
from conftest import LINES, letter_tokenizer, tiny_trio
from oracle import greedy

from proxy_tuning import ProxyTunedForCausalLM
from proxy_tuning.evaluation import drafting, plain_text
from proxy_tuning.evaluation.asked_sets import Sets
from proxy_tuning.polls.tables import load_facts
from proxy_tuning.records import DATA
from proxy_tuning.training.distill import documentation


def test_prose_ends_where_parameters_or_code_begin():
    told = "All of this is prose. " * 20
    source = f'def f():\n    """{told}\n\n    Parameters\n    ----------\n    x : int\n    """\n'
    assert list(plain_text.prose_of(source)) == [told.strip()]
    assert list(plain_text.prose_of(source.replace("\n\n    Parameters", ">>> f()"))) == [
        told.strip()
    ]
    assert list(plain_text.prose_of('"""Short."""')) == []


def test_english_is_repeatable_and_no_text_of_distillation():
    passages = plain_text.english()
    assert len(set(passages)) == len(passages) > 20
    assert passages == plain_text.english()
    known = " ".join(" ".join(text.split()) for text in documentation())
    assert not any(text in known for text in passages)


def test_perplexity_and_offset_by_hand(monkeypatch):
    base, expert, antiexpert = tiny_trio("gpt2")
    model = ProxyTunedForCausalLM(base, expert, antiexpert)
    tokenizer = letter_tokenizer(LINES)
    texts = ["Some text.", "Another one"]
    monkeypatch.setattr(
        plain_text, "passages", lambda *args: [("english", [("", text) for text in texts])]
    )
    records = plain_text.measure_texts({"M": base, "steered": model}, {"steered": model}, tokenizer)
    found = {(r["system"], r["score"]): r["mean"] for r in records}
    losses, offsets, moved = [], [], []
    with torch.no_grad():
        for text in texts:
            ids = torch.tensor([tokenizer.encode(text)])
            scores = base(ids).logits[0, :-1].log_softmax(-1)
            losses += (-scores.gather(-1, ids[0, 1:, None])).flatten().tolist()
            plus, minus = (m(ids).logits[0, :-1].log_softmax(-1) for m in (expert, antiexpert))
            offsets.append((plus.exp() * (plus - minus)).sum(-1).mean().item())
            steered = (scores + plus - minus).log_softmax(-1)
            moved.append((scores.exp() * (scores - steered)).sum(-1).mean().item())
    assert found["M", "perplexity"] == pytest.approx(math.exp(sum(losses) / len(losses)), rel=1e-3)
    assert found["steered", "offset"] == pytest.approx(sum(offsets) / 2, rel=1e-3)
    assert found["steered", "moved"] == pytest.approx(sum(moved) / 2, rel=1e-3)


def test_a_draft_that_is_always_right_and_one_that_is_counted():
    base, expert, antiexpert = tiny_trio("gpt2")
    tokenizer = letter_tokenizer(LINES)
    inputs = tokenizer(["Who led?"], return_tensors="pt")
    same = ProxyTunedForCausalLM(expert, expert, antiexpert, alpha=0.0)  # M+ drafts for itself
    found = drafting.accepted(same, inputs, "expert", gamma=3, length=9)
    assert found["acceptance_rate"] == 1
    assert found["tokens_per_round"] == 3  # the prompt's one, then rounds of four: 1 + 4 + 4
    plain = drafting.accepted(same, inputs, "none", gamma=3, length=9)
    assert (plain["acceptance_rate"], plain["tokens_per_round"]) == (None, 1)

    model = ProxyTunedForCausalLM(base, expert, antiexpert)
    ids = inputs["input_ids"]
    text = greedy(base, expert, antiexpert, ids, 1.0, 8)
    kept = proposed = 0
    at = ids.shape[1] + 1
    while at < text.shape[1]:  # what M+ alone would write after each place, by whole passes
        count = min(2, text.shape[1] - at - 1)
        draft = text[:, :at]
        for _ in range(count):
            with torch.no_grad():
                draft = torch.cat([draft, expert(draft).logits[:, -1:].argmax(-1)], dim=1)
        right = (draft[0, at:] == text[0, at : at + count]).long().cumprod(0).sum().item()
        kept, proposed, at = kept + right, proposed + count, at + right + 1
    found = drafting.accepted(model, inputs, "expert", gamma=2, length=8)
    assert found["acceptance_rate"] == pytest.approx(kept / proposed, abs=1e-4)


def test_drafts_are_tried_in_the_domain_and_out_of_it():
    model = ProxyTunedForCausalLM(*tiny_trio("gpt2"))
    model.config.max_position_embeddings = 128
    rows = drafting.measure_drafts(model, letter_tokenizer(LINES), Sets(load_facts(DATA)), count=1)
    assert {(r["set"], r["draft"]) for r in rows} == {
        (name, draft) for name in ("typed", "near_misses") for draft in drafting.DRAFTS
    }
