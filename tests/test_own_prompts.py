"""Prefixes and prompts of their own: what one part alone reads."""

import oracle
import pytest
import torch
from conftest import CLOSE

from proxy_tuning import ProxyTunedForCausalLM

GREEDY = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None}

PREFIX = [11, 12, 13]


def prefixed(ids):
    return torch.cat([torch.tensor([PREFIX]), ids], 1)


def test_expert_prefix(trio, prompt):
    """The expert reads three tokens more; the others do not."""
    model = ProxyTunedForCausalLM(*trio, 0.7, expert_prefix=PREFIX)
    base, antiexpert = trio[0](prompt).logits, trio[2](prompt).logits
    expert = trio[1](prefixed(prompt)).logits[:, 3:]
    expected = base + 0.7 * (expert - antiexpert)
    torch.testing.assert_close(model(prompt).logits, expected, **CLOSE)
    cache = model(prompt[:, :4]).past_key_values
    assert cache.get_seq_length() == 4  # the prefix is no part of the text
    pieces = model(prompt[:, 4:], past_key_values=cache).logits
    torch.testing.assert_close(pieces, expected[:, 4:], **CLOSE)
    kept = model(prompt, logits_to_keep=torch.tensor([1, 4])).logits
    torch.testing.assert_close(kept, expected[:, [1, 4]], **CLOSE)
    assert torch.equal(
        model.generate(prompt, **GREEDY),
        oracle.greedy(*trio, prompt, 0.7, 12, expert_ids=prefixed(prompt)),
    )
    shortest = min(part.config.max_position_embeddings for part in trio)
    assert model.config.max_position_embeddings == shortest - 3


def test_prefix_in_a_left_padded_batch(trio, batch):
    """The prefix goes between padding and text: each prompt alone, for logits and beams."""
    model = ProxyTunedForCausalLM(*trio, 0.7, expert_prefix=PREFIX, antiexpert_prefix=[21])
    together = model(**batch).logits
    beams = model.generate(**batch, **GREEDY, num_beams=3)
    for row, mask in enumerate(batch["attention_mask"].bool()):
        alone = batch["input_ids"][row, mask][None]
        torch.testing.assert_close(together[row, mask], model(alone).logits[0], **CLOSE)
        expected = model.generate(alone, **GREEDY, num_beams=3, use_cache=False)
        assert torch.equal(beams[row, 9:], expected[0, alone.shape[1] :])


def test_own_prompt_for_the_expert(trio, model, prompt):
    """A template around the question for the expert alone, then the same continuation."""
    template = torch.cat([torch.tensor([[31, 32]]), prompt, torch.tensor([[33]])], 1)
    expected = oracle.greedy(*trio, prompt, 0.7, 12, expert_ids=template)
    own = {"expert_input_ids": template}
    assert torch.equal(model.generate(prompt, **GREEDY, **own), expected)
    assert torch.equal(model.generate(prompt, **GREEDY, **own, use_cache=False), expected)
    for assistance in ({"assistant_model": trio[2]}, {"prompt_lookup_num_tokens": 2}):
        assert torch.equal(model.generate(prompt, **GREEDY, **own, **assistance), expected)
    logits = model(prompt, **own, logits_to_keep=1).logits[:, -1]
    wanted = oracle.steered_logits(*trio, prompt, 0.7, expert_ids=template)
    torch.testing.assert_close(logits, wanted, **CLOSE)
    assert not torch.allclose(logits, model(prompt).logits[:, -1])
    with_prefix = ProxyTunedForCausalLM(*trio, 0.7, expert_prefix=PREFIX)
    expected = oracle.greedy(*trio, prompt, 0.7, 12, expert_ids=prefixed(template))
    assert torch.equal(with_prefix.generate(prompt, **GREEDY, **own), expected)


@torch.no_grad()
def test_an_own_prompt_for_the_antiexpert_alone(trio, model, prompt):
    base, expert, antiexpert = trio
    ids, own = prompt, prompt.flip(1).repeat(1, 2)
    given = own
    for _ in range(12):
        offset = expert(ids).logits[:, -1] - antiexpert(own).logits[:, -1]
        chosen = (base(ids).logits[:, -1] + model.alpha * offset).argmax(-1, keepdim=True)
        ids, own = (torch.cat([text, chosen], dim=1) for text in (ids, own))
    found = model.generate(prompt, **GREEDY, antiexpert_input_ids=given)
    assert torch.equal(found, ids) and not torch.equal(found, model.generate(prompt, **GREEDY))


def test_own_prompts_in_a_batch(model, batch):
    """Own prompts, padded on their own, for expert and antiexpert, through beams and returns."""
    own_ids, own_mask = batch["input_ids"].flip(0)[:, 3:], batch["attention_mask"].flip(0)[:, 3:]
    own = {
        "expert_input_ids": own_ids,
        "expert_attention_mask": own_mask,
        "antiexpert_input_ids": own_ids[:, :4] + 0 * own_ids[:, :4],
        "antiexpert_attention_mask": torch.ones(3, 4, dtype=torch.long),
    }
    settings = GREEDY | {"num_beams": 4, "num_return_sequences": 2}
    together = model.generate(**batch, **own, **settings)
    for row in range(3):
        alone = {
            name: own[name][row : row + 1, -4:]
            if name.startswith("anti")
            else own[name][row : row + 1]
            for name in own
        }
        mask = batch["attention_mask"][row].bool()
        ids = batch["input_ids"][row, mask][None]
        expected = model.generate(ids, **alone, **settings, use_cache=False)
        assert torch.equal(together[2 * row : 2 * row + 2, 9:], expected[:, ids.shape[1] :])


def test_an_own_prompt_in_a_batch_gives_the_logits_asked_for(trio, model, prompt):
    """As many as are asked for, though there are fewer rows than that."""
    own = prompt[:, :4]
    found = model(prompt, expert_input_ids=own, logits_to_keep=3).logits
    base, antiexpert = (part(prompt).logits[:, -3:] for part in (trio[0], trio[2]))
    expected = base + model.alpha * (trio[1](own).logits[:, -3:] - antiexpert)
    torch.testing.assert_close(found, expected, **CLOSE)


def test_the_padding_of_an_own_prompt_counts_for_nothing(model, prompt):
    padded = {
        "expert_input_ids": torch.cat([torch.zeros(1, 3, dtype=torch.long), prompt], 1),
        "expert_attention_mask": torch.tensor([[0] * 3 + [1] * prompt.shape[1]]),
    }
    expected = model.generate(prompt, **GREEDY, expert_input_ids=prompt)
    assert torch.equal(model.generate(prompt, **GREEDY, **padded), expected)


def test_own_prompts_that_do_not_fit(model, prompt):
    with pytest.raises(ValueError, match=r"\(1, 3\) do not give 7 logits"):
        model(prompt, expert_input_ids=prompt[:, :3])
    with pytest.raises(ValueError, match="for each of 1 rows"):
        model(prompt, expert_input_ids=prompt.expand(2, -1), logits_to_keep=1)
    long = torch.ones(1, model.config.max_position_embeddings, dtype=torch.long)
    with pytest.raises(ValueError, match="leaves no room"):
        model.generate(prompt, antiexpert_input_ids=long, max_new_tokens=1)
