"""Three models as one: the identities that must always hold, and what a causal LM can do."""

import oracle
import pytest
import torch
from conftest import tiny_model
from transformers import AutoModelForCausalLM, set_seed

import proxy_tuning
from proxy_tuning import ProxyTunedForCausalLM

GREEDY = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None}


def test_alpha_zero_is_the_base(trio, batch):
    """Identity 1."""
    base = trio[0]
    model = ProxyTunedForCausalLM(*trio, alpha=0)
    positions = (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    expected = base(**batch, position_ids=positions).logits
    assert torch.equal(model(**batch).logits, expected)
    assert torch.equal(model.generate(**batch, **GREEDY), base.generate(**batch, **GREEDY))


@pytest.mark.parametrize("alpha", [-1.0, 0.5, 3.0])
def test_equal_small_models_leave_the_base(trio, prompt, alpha):
    """Identity 2."""
    base, expert, _ = trio
    model = ProxyTunedForCausalLM(base, expert, expert, alpha)
    assert torch.equal(model(prompt).logits, base(prompt).logits)


def test_base_equal_to_antiexpert_gives_the_expert(trio, prompt):
    """Identity 3."""
    _, expert, antiexpert = trio
    model = ProxyTunedForCausalLM(antiexpert, expert, antiexpert, 1.0)
    torch.testing.assert_close(model(prompt).logits, expert(prompt).logits, rtol=0, atol=2e-5)
    assert torch.equal(model.generate(prompt, **GREEDY), expert.generate(prompt, **GREEDY))


def test_a_constant_changes_no_probability(trio, prompt):
    """Identity 4, through whole models: a bias on one model's every logit."""
    model = ProxyTunedForCausalLM(*trio, 1.5)
    before = model(prompt).logits.softmax(-1)
    forward = trio[1].forward
    trio[1].forward = lambda **kwargs: add(forward(**kwargs), 7.0)
    after = model(prompt).logits.softmax(-1)
    trio[1].forward = forward
    torch.testing.assert_close(after, before)


def add(output, constant):
    output.logits = output.logits + constant
    return output


def test_cached_greedy_is_the_naive_loop(model, trio, prompt):
    """Identity 5, and `use_cache=False` the same."""
    expected = oracle.greedy(*trio, prompt, 0.7, 12)
    assert torch.equal(model.generate(prompt, **GREEDY), expected)
    assert torch.equal(model.generate(prompt, **GREEDY, use_cache=False), expected)


def test_caches_in_pieces_are_one_pass(model, prompt):
    """Identity 5 for logits: 4 tokens, then 1, then 2, against all 7 at once."""
    whole = model(prompt, use_cache=False)
    assert whole.past_key_values is None
    cache, pieces = None, []
    for piece in prompt.split([4, 1, 2], dim=1):
        out = model(piece, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        pieces.append(out.logits)
    assert cache.get_seq_length() == 7
    torch.testing.assert_close(torch.cat(pieces, 1), whole.logits, rtol=0, atol=2e-5)


def test_left_padded_batch_is_each_prompt_alone(model, batch):
    """Identity 6, for logits and for what is generated."""
    together = model(**batch).logits
    generated = model.generate(**batch, **GREEDY)
    for row, mask in enumerate(batch["attention_mask"].bool()):
        alone = batch["input_ids"][row, mask][None]  # (1, T)
        torch.testing.assert_close(together[row, mask], model(alone).logits[0], rtol=0, atol=2e-5)
        assert torch.equal(generated[row, 9:], model.generate(alone, **GREEDY)[0, alone.shape[1] :])


def test_save_and_load_bit_for_bit(model, prompt, tmp_path):
    """Identity 8; self-contained, and nothing pickled."""
    model.save_pretrained(tmp_path)
    assert {file.suffix for file in tmp_path.rglob("*") if file.is_file()} <= {
        ".json",
        ".safetensors",
        ".md",
    }
    for loader in (ProxyTunedForCausalLM, AutoModelForCausalLM):
        loaded = loader.from_pretrained(tmp_path)
        assert loaded.alpha == model.alpha
        assert not loaded.training
        assert torch.equal(loaded(prompt).logits, model(prompt).logits)
        assert torch.equal(loaded.generate(prompt, **GREEDY), model.generate(prompt, **GREEDY))


def test_half_precision_parts_are_combined_in_float32(prompt):
    """Identity 9: bf16 parts, yet the sum is that of their logits in float32."""
    trio = [tiny_model("gpt2", seed).bfloat16() for seed in (1, 2, 3)]
    model = ProxyTunedForCausalLM(*trio, alpha=0.3)
    logits = model(prompt).logits
    base, expert, antiexpert = (part(prompt).logits.float() for part in trio)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, base + 0.3 * (expert - antiexpert))


def test_logits_to_keep_reaches_every_part(model, prompt):
    sizes = []
    for part in (model.base, model.expert, model.antiexpert):
        part.lm_head.register_forward_hook(lambda *args: sizes.append(args[2].shape[1]))
    kept = model(prompt, logits_to_keep=2).logits
    assert sizes == [2, 2, 2]
    torch.testing.assert_close(kept, model(prompt).logits[:, -2:])


def test_sampling_draws_from_the_steered_distribution(model, prompt):
    """With the same seed, the loop of `generate` and torch's own draw give the same first token."""
    set_seed(0)
    tokens = model.generate(
        prompt.repeat(64, 1), do_sample=True, top_k=0, max_new_tokens=1, eos_token_id=None
    )
    set_seed(0)
    probabilities = model(prompt).logits[:, -1].softmax(-1).expand(64, -1)
    expected = torch.multinomial(probabilities, 1)
    assert torch.equal(tokens[:, 7:], expected)


def test_only_the_expert_trains(prompt):
    model = ProxyTunedForCausalLM(*(tiny_model("gpt2", seed) for seed in (1, 2, 3)))
    model.train()
    assert not model.base.training and not model.antiexpert.training and model.expert.training
    model(prompt).logits.sum().backward()
    assert all(p.grad is None for p in [*model.base.parameters(), *model.antiexpert.parameters()])
    assert all(p.grad is not None for p in model.expert.parameters())


def test_bad_input(trio, model, prompt):
    with pytest.raises(ValueError, match="one vocabulary"):
        ProxyTunedForCausalLM(trio[0], trio[1], tiny_model("gpt2", 3, vocab=96))
    for alpha in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="finite"):
            ProxyTunedForCausalLM(*trio, alpha)
        with pytest.raises(ValueError, match="finite"):
            model.alpha = alpha
    with pytest.raises(ValueError, match="empty"):
        model(prompt[:, :0])


def test_registered_on_import():
    assert proxy_tuning.ProxyTunedConfig.model_type == "proxy_tuned"
