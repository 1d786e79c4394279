"""What prompts begin with, read once for speculative decoding: the same texts, fewer tokens read."""

import pytest
import torch
from conftest import tiny_trio

from proxy_tuning import ProxyTunedForCausalLM
from proxy_tuning.decoding import Beginning
from proxy_tuning.speculative import generate

HOW = {"max_new_tokens": 20, "gamma": 3, "eos_token_id": -1}


def trio(kind, **prefixes):
    parts = (part.double() for part in tiny_trio(kind))
    return ProxyTunedForCausalLM(*parts, alpha=0.7, **prefixes)


def first_read(model, *args, **kwargs):
    """What `generate` writes, and how many tokens of the prompt M reads."""
    read = []
    hook = model.base.register_forward_pre_hook(
        lambda *args: read.append(args[2]["input_ids"].shape[1]), with_kwargs=True
    )
    text = generate(model, *args, **kwargs, **HOW)
    hook.remove()
    return text, read[0]


@pytest.mark.parametrize("prefixes", [{}, {"expert_prefix": [3, 4], "antiexpert_prefix": [5]}])
@pytest.mark.parametrize("draft", ["expert", "base", "ngram"])
@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen3", "mixed"])
def test_prompts_that_begin_so_are_read_from_there(kind, prompt, draft, prefixes):
    model, length = trio(kind, **prefixes), prompt.shape[1]
    other = prompt.roll(1, dims=1)
    whole, otherwise = (generate(model, ids, draft=draft, **HOW) for ids in (prompt, other))
    model.beginning = Beginning(model, prompt[0, : length - 2].tolist(), same_texts=False)
    for _ in range(2):
        ours, read = first_read(model, prompt, draft=draft)
        assert torch.equal(ours, whole) and read == 2
    ours, read = first_read(model, other, draft=draft)
    assert torch.equal(ours, otherwise) and read == length, "it begins otherwise"
    _, read = first_read(model, prompt[:, : length - 2], draft=draft)
    assert read == length - 2, "nothing follows it"


def test_padded_prompts_are_read_whole(batch):
    model = trio("gpt2")
    ids, mask = batch["input_ids"], batch["attention_mask"]
    expected, _ = first_read(model, ids, mask)
    longest = ids[mask.all(1)][0]
    model.beginning = Beginning(model, longest[:2].tolist(), same_texts=False)
    ours, read = first_read(model, ids, mask)
    assert torch.equal(ours, expected) and read == ids.shape[1] and not mask.all()


def test_padding_is_no_beginning():
    """A beginning of the very tokens that pad the other row."""
    model = trio("gpt2")
    ids, mask = torch.tensor([[0, 0, 5, 6], [0, 0, 7, 8]]), torch.tensor([[1] * 4, [0, 0, 1, 1]])
    expected, _ = first_read(model, ids, mask)
    model.beginning = Beginning(model, [0, 0], same_texts=False)
    ours, read = first_read(model, ids, mask)
    assert torch.equal(ours, expected) and read == 4
