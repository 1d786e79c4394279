"""Three models as one: the identities that must always hold, and what a causal LM can do."""

import oracle
import pytest
import torch
from conftest import CLOSE, tiny_model, tiny_trio
from torch.nn.functional import cross_entropy
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    DynamicCache,
    MambaConfig,
    MambaForCausalLM,
    set_seed,
)

from proxy_tuning import ProxyTunedForCausalLM
from proxy_tuning.logits import Line, adaptive_alpha, proxy_logits

GREEDY = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None}


def test_alpha_zero_is_the_base(trio, batch):
    """Identity 1."""
    base = trio[0]
    model = ProxyTunedForCausalLM(*trio, alpha=0)
    positions = (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    expected = base(**batch, position_ids=positions).logits
    assert torch.equal(model(**batch).logits, expected)
    assert torch.equal(model.generate(**batch, **GREEDY), base.generate(**batch, **GREEDY))


def test_part_logits_are_those_of_each_part_at_every_position(trio, prompt):
    for found, part in zip(ProxyTunedForCausalLM(*trio).part_logits(prompt), trio, strict=True):
        torch.testing.assert_close(found, part(prompt).logits, **CLOSE)


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
    torch.testing.assert_close(model(prompt).logits, expert(prompt).logits, **CLOSE)
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
    made = []
    hook = model.expert.register_forward_hook(lambda *args: made.append(args[2].past_key_values))
    whole = model(prompt, use_cache=False)
    hook.remove()
    assert whole.past_key_values is None and made == [None]
    cache, pieces = None, []
    for piece in prompt.split([4, 1, 2], dim=1):
        out = model(piece, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        pieces.append(out.logits)
    assert cache.get_seq_length() == 7
    torch.testing.assert_close(torch.cat(pieces, 1), whole.logits, **CLOSE)


def test_left_padded_batch_is_each_prompt_alone(model, batch):
    """Identity 6, for logits and for what is generated."""
    together = model(**batch).logits
    generated = model.generate(**batch, **GREEDY)
    for row, mask in enumerate(batch["attention_mask"].bool()):
        alone = batch["input_ids"][row, mask][None]  # (1, T)
        torch.testing.assert_close(together[row, mask], model(alone).logits[0], **CLOSE)
        assert torch.equal(generated[row, 9:], model.generate(alone, **GREEDY)[0, alone.shape[1] :])


def test_save_and_load_bit_for_bit(model, prompt, tmp_path):
    """Identity 8."""
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
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


def test_loss_is_that_of_the_steered_distribution(model, batch):
    """Label t is predicted at t - 1; -100 is left out."""
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    labels[:, 7] = -100
    out = model(**batch, labels=labels)
    expected = cross_entropy(out.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    torch.testing.assert_close(out.loss, expected)


def test_cache_crops(model, prompt):
    """Seven tokens in, three taken back, three others put in: as if nothing had happened."""
    cache = model.new_cache()
    cache.activate_past_recording()  # or else a sliding window forgets what leaves it
    model(prompt, past_key_values=cache)
    cache.crop(-3)
    assert cache.get_seq_length() == 4
    out = model(prompt[:, 4:], past_key_values=cache)
    torch.testing.assert_close(out.logits, model(prompt).logits[:, 4:], **CLOSE)


def test_cache_reorders_repeats_and_selects(model, batch):
    """Each operation on the rows of the cache is the same on the rows of the prompts."""
    operations = {
        "reorder_cache": (torch.tensor([2, 0, 0]), lambda x: x[[2, 0, 0]]),
        "batch_repeat_interleave": (2, lambda x: x.repeat_interleave(2, 0)),
        "batch_select_indices": (torch.tensor([0, 2]), lambda x: x[[0, 2]]),
    }
    for name, (argument, rows) in operations.items():
        cache = model(**batch).past_key_values
        getattr(cache, name)(argument)
        ids, mask = rows(batch["input_ids"]), rows(batch["attention_mask"])
        next_ids = torch.arange(3, 3 + len(ids))[:, None]
        mask = torch.cat([mask, torch.ones_like(next_ids)], 1)
        ours = model(next_ids, mask, past_key_values=cache).logits
        whole = model(torch.cat([ids, next_ids], 1), mask).logits[:, -1:]
        torch.testing.assert_close(ours, whole, **CLOSE, msg=name)


def test_cache_resets(model, prompt):
    cache = model(prompt).past_key_values
    cache.reset()
    assert cache.get_seq_length() == 0
    out = model(prompt, past_key_values=cache)
    assert torch.equal(out.logits, model(prompt).logits)


def test_alpha_per_call_and_per_row(model, batch):
    rows = torch.tensor([0.0, 0.7, 2.0])
    together = model(**batch, alpha=rows).logits
    for i, alpha in enumerate(rows.tolist()):
        assert torch.equal(together[i], model(**batch, alpha=alpha).logits[i])
    assert torch.equal(together[1], model(**batch).logits[1])


@pytest.fixture
def two_experts(trio):
    """A second expert, a second antiexpert, over the vocabulary of the trio."""
    vocab = trio[0].config.vocab_size
    return tiny_model("gpt2", 4, vocab=vocab), tiny_model("llama", 5, vocab=vocab)


def test_several_experts(trio, two_experts, prompt):
    """base + sum of alpha_i * (expert_i - antiexpert_i), with caches as without."""
    (base, expert, antiexpert), (expert_2, antiexpert_2) = trio, two_experts
    model = ProxyTunedForCausalLM(base, [expert, expert_2], [antiexpert, antiexpert_2], [0.7, -0.4])
    b, e, a, e2, a2 = (
        part(prompt).logits for part in (base, expert, antiexpert, expert_2, antiexpert_2)
    )
    expected = b + 0.7 * (e - a) - 0.4 * (e2 - a2)
    torch.testing.assert_close(model(prompt).logits, expected, **CLOSE)
    assert model.alpha == [0.7, -0.4]
    cached = model.generate(prompt, **GREEDY, num_beams=2)
    assert torch.equal(cached, model.generate(prompt, **GREEDY, num_beams=2, use_cache=False))
    # one number is for all; a tensor has a row per row
    both = model(prompt, alpha=[0.5, 0.5]).logits
    assert torch.equal(model(prompt, alpha=0.5).logits, both)
    rows = torch.tensor([[0.5, 0.5], [0.7, -0.4]])
    swept = model(prompt.expand(2, -1), alpha=rows).logits
    torch.testing.assert_close(swept, torch.cat([both, expected]), **CLOSE)


def test_one_antiexpert_for_several_experts_is_run_once(trio, two_experts, prompt):
    base, expert, antiexpert = trio
    model = ProxyTunedForCausalLM(base, [expert, two_experts[0]], antiexpert, [1.0, 2.0])
    runs = []
    hook = antiexpert.register_forward_hook(lambda *_: runs.append(1))
    logits = model(prompt).logits
    hook.remove()
    assert len(runs) == 1
    b, e, a, e2 = (part(prompt).logits for part in (base, expert, antiexpert, two_experts[0]))
    torch.testing.assert_close(logits, b + (e - a) + 2 * (e2 - a), **CLOSE)


def test_variants(trio, prompt):
    """Each variant of the line, switched on in the model."""
    base, expert, antiexpert = (part(prompt).logits for part in trio)
    steered = proxy_logits(base, expert, antiexpert, 1.5)

    kept = ProxyTunedForCausalLM(*trio, 1.5, line=Line(plausibility=0.3))(prompt).logits.isfinite()
    p = base.softmax(-1)
    assert torch.equal(kept, p >= 0.3 * p.amax(-1, keepdim=True))

    logits = ProxyTunedForCausalLM(*trio, 1.5, line=Line(base_top_p=0.8))(prompt).logits
    kept = logits.isfinite()
    torch.testing.assert_close(logits[kept], steered[kept])
    assert ((p * kept).sum(-1) >= 0.8).all() and not kept.all()

    logits = ProxyTunedForCausalLM(*trio, 1.5, line=Line(adaptive=True))(prompt).logits
    alphas = 1.5 * adaptive_alpha(base, expert, antiexpert)
    torch.testing.assert_close(logits, proxy_logits(base, expert, antiexpert, alphas))


def test_variants_decode_with_caches(trio, batch):
    model = ProxyTunedForCausalLM(
        *trio, line=Line(base_top_p=0.9, plausibility=0.05, adaptive=True)
    )
    alphas = torch.tensor([0.5, 1.0, 2.0])
    out = model.generate(**batch, **GREEDY, alpha=alphas)
    assert torch.equal(out, model.generate(**batch, **GREEDY, alpha=alphas, use_cache=False))


# A part with a prompt of its own

PREFIX = [11, 12, 13]


# What a part must be


def test_caches_that_cannot_be_carried(trio):
    vocab = trio[0].config.vocab_size
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "vocab_size": vocab}
    mamba = MambaForCausalLM(MambaConfig(**shape, state_size=4))
    with pytest.raises(ValueError, match="expert is a MambaForCausalLM: its cache"):
        ProxyTunedForCausalLM(trio[0], mamba, trio[2])
    hybrid = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(
            "qwen3_next",
            **shape,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            intermediate_size=16,
            linear_num_value_heads=2,
            linear_num_key_heads=2,
            linear_key_head_dim=8,
            linear_value_head_dim=8,
            num_experts=0,
            decoder_sparse_step=9,
        )
    )
    with pytest.raises(ValueError, match="antiexpert is a Qwen3NextForCausalLM: its cache"):
        ProxyTunedForCausalLM(trio[0], trio[1], hybrid)


def test_a_part_without_positions(batch):
    """BLOOM has ALiBi, counted from the mask, and no use for position_ids."""
    bloom = AutoModelForCausalLM.from_config(
        AutoConfig.for_model("bloom", vocab_size=97, hidden_size=32, n_layer=1, n_head=2)
    ).eval()
    model = ProxyTunedForCausalLM(*tiny_trio("gpt2")[:2], bloom)
    generated = model.generate(**batch, **GREEDY)
    for row, mask in enumerate(batch["attention_mask"].bool()):
        alone = batch["input_ids"][row, mask][None]
        assert torch.equal(generated[row, 9:], model.generate(alone, **GREEDY)[0, alone.shape[1] :])


def test_bad_parts(trio, prompt):
    base, expert, antiexpert = trio
    with pytest.raises(ValueError, match="needs an antiexpert"):
        ProxyTunedForCausalLM(base, expert)
    with pytest.raises(ValueError, match="3 expert.s., but 2 antiexperts"):
        ProxyTunedForCausalLM(base, [expert] * 3, [antiexpert] * 2)
    with pytest.raises(ValueError, match="as many alphas"):
        ProxyTunedForCausalLM(base, expert, antiexpert, [1.0, 2.0])
    for variant in ("base_top_p", "plausibility"):
        with pytest.raises(ValueError, match=f"{variant} needs .* got 1.5"):
            Line(**{variant: 1.5})
    with pytest.raises(ValueError, match="got a DynamicCache"):
        ProxyTunedForCausalLM(*trio)(prompt, past_key_values=DynamicCache())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_parts_on_different_devices(prompt):
    trio = tiny_trio("gpt2")
    expected = oracle.greedy(*trio, prompt, 0.7, 12)
    trio[0].to("cuda")
    model = ProxyTunedForCausalLM(*trio, alpha=0.7)
    assert model(prompt).logits.device.type == "cuda"
    for mode in ({}, {"num_beams": 1, "num_return_sequences": 1}):
        assert torch.equal(model.generate(prompt.to("cuda"), **GREEDY, **mode).cpu(), expected)
    rows = torch.tensor([0.7, 0.7])
    swept = model.generate(prompt.to("cuda").expand(2, -1), alpha=rows, **GREEDY)
    assert torch.equal(swept[0].cpu(), expected[0])


def test_the_context_holds_as_many_tokens_as_it_says(prompt):
    """A full context is read, at once and in pieces; one token more is refused before any pass."""
    parts = [tiny_model("gpt2", seed, positions=n) for seed, n in ((1, 12), (2, 10), (3, 11))]
    model = ProxyTunedForCausalLM(*parts)
    full = torch.cat([prompt, prompt], dim=1)[:, :10]
    whole = model(full).logits
    assert whole.shape[1] == 10
    with pytest.raises(ValueError, match="11 tokens do not fit .* 10 tokens"):
        model(torch.cat([full, full[:, :1]], dim=1))
    cache = model.new_cache()
    model(full[:, :4], past_key_values=cache)
    pieces = model(full[:, 4:], past_key_values=cache).logits
    torch.testing.assert_close(pieces, whole[:, 4:], **CLOSE)
    with pytest.raises(ValueError, match="11 tokens do not fit .* 10 tokens"):
        model(full[:, :1], past_key_values=cache)
    assert cache.get_seq_length() == 10
