"""M+ as M- plus a LoRA adapter: one pass of one set of weights, equal to two separate models."""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from conftest import CLOSE, tiny_model
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from proxy_tuning import ProxyTunedForCausalLM, passes
from proxy_tuning.decoding import stream

GREEDY = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None}


def adapter(small, seed=0, **settings):
    """`small` with a random adapter on its attention; both halves random, so that it matters."""
    targets = ["c_attn"] if small.config.model_type == "gpt2" else ["q_proj", "v_proj"]
    expert = get_peft_model(small, LoraConfig(target_modules=targets, **settings))
    torch.manual_seed(seed)
    for name, weight in expert.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.3)
    return expert.eval()


@pytest.fixture(params=["gpt2", "llama", "mistral"])
def adapted(request):
    """(one model over shared weights, the same with the adapter merged into a copy)."""
    base = tiny_model(request.param, 1, layers=3, width=48)
    small = tiny_model(request.param, 2)
    antiexpert = copy.deepcopy(small)
    expert = adapter(small)
    merged = copy.deepcopy(expert).merge_and_unload()
    return (
        ProxyTunedForCausalLM(base, expert, alpha=0.7),
        ProxyTunedForCausalLM(base, merged, antiexpert, alpha=0.7),
    )


def test_one_pass_is_two_passes(adapted, batch):
    one, two = adapted
    passes = []
    hook = one.expert.get_base_model().register_forward_hook(lambda *_: passes.append(1))
    logits = one(**batch).logits
    hook.remove()
    assert len(passes) == 1
    torch.testing.assert_close(logits, two(**batch).logits, **CLOSE)
    assert not torch.allclose(logits, one.base(**batch).logits)
    for name in ("expert", "antiexpert"):  # and each of the two is what it should be
        ours, theirs = (m.run(name, batch["input_ids"]) for m in (one, two))
        torch.testing.assert_close(ours, theirs, **CLOSE)


@pytest.mark.parametrize(
    "mode", [{}, {"num_beams": 3}, {"num_beams": 4, "num_return_sequences": 2}]
)
def test_generates_from_one_doubled_cache(adapted, batch, mode):
    """Left-padded rows, beams that reorder both halves, several sequences per row."""
    one, two = adapted
    settings = GREEDY | mode | {"pad_token_id": 0}
    assert torch.equal(one.generate(**batch, **settings), two.generate(**batch, **settings))


def test_doubled_cache_under_assistance(adapted, prompt):
    one, two = adapted
    out = one.generate(prompt, **GREEDY, assistant_model=two.antiexpert)
    assert torch.equal(out, two.generate(prompt, **GREEDY))


def test_rows_are_selected_in_both_halves(adapted, batch):
    one, _ = adapted
    cache = one(**batch).past_key_values
    cache.batch_select_indices(torch.tensor([2, 1]))
    next_ids = torch.tensor([[3], [4]])
    mask = torch.cat([batch["attention_mask"][[2, 1]], torch.ones_like(next_ids)], 1)
    ours = one(next_ids, mask, past_key_values=cache).logits
    whole = one(torch.cat([batch["input_ids"][[2, 1]], next_ids], 1), mask).logits[:, -1:]
    torch.testing.assert_close(ours, whole, **CLOSE)


def test_several_alphas_continue_both_halves(adapted, batch):
    alphas = torch.tensor([0.0, 0.7, 2.0]).expand(len(batch["input_ids"]), -1)
    one, two = (
        [step.next_ids.tolist() for step in stream(m, **batch, max_new_tokens=6, alpha=alphas)]
        for m in adapted
    )
    assert one == two


def test_memory_is_that_of_one_small_model(adapted):
    one, two = adapted
    small = sum(p.numel() for p in two.antiexpert.parameters())
    lora = sum(p.numel() for n, p in one.expert.named_parameters() if "lora_" in n)
    base = sum(p.numel() for p in one.base.parameters())
    assert sum(p.numel() for p in one.parameters()) == base + small + lora


@pytest.fixture
def said(monkeypatch):
    """What was logged as a warning."""
    lines = []
    monkeypatch.setattr(passes.logger, "warning_once", lines.append)
    return lines


def test_falls_back_for_dora(prompt, said):
    small = tiny_model("gpt2", 2)
    antiexpert = copy.deepcopy(small)
    expert = adapter(small, use_dora=True)
    ours = ProxyTunedForCausalLM(tiny_model("gpt2", 1), expert)
    theirs = ProxyTunedForCausalLM(ours.base, copy.deepcopy(expert).merge_and_unload(), antiexpert)
    torch.testing.assert_close(ours(prompt).logits, theirs(prompt).logits, **CLOSE)
    assert torch.equal(ours.generate(prompt, **GREEDY), theirs.generate(prompt, **GREEDY))
    assert "two passes: the adapter is not plain LoRA" in said[0]


def test_falls_back_for_different_prompts(adapted, prompt, said):
    one, two = adapted
    own = {"expert_input_ids": prompt.repeat(1, 2)}
    assert torch.equal(one.generate(prompt, **GREEDY, **own), two.generate(prompt, **GREEDY, **own))
    uncached = (
        each(prompt, **own, logits_to_keep=1, use_cache=False).logits for each in (one, two)
    )
    torch.testing.assert_close(*uncached, **CLOSE)
    assert "each reads at its own pace, or a text of its own" in said[0]
    cache = one(prompt[:, :3]).past_key_values
    with pytest.raises(ValueError, match="same_texts=False"):
        one(prompt[:, 3:], past_key_values=cache, **own)
    prefixed = ProxyTunedForCausalLM(one.base, one.expert, alpha=0.7, expert_prefix=[5])
    expected = ProxyTunedForCausalLM(two.base, two.expert, two.antiexpert, 0.7, expert_prefix=[5])
    torch.testing.assert_close(prefixed(prompt).logits, expected(prompt).logits, **CLOSE)
    both = {"expert_prefix": [5, 6], "antiexpert_prefix": [5, 6]}  # the same prompt: one pass
    prefixed = ProxyTunedForCausalLM(one.base, one.expert, alpha=0.7, **both)
    assert prefixed._twins(True) == {"expert": "antiexpert"}
    expected = ProxyTunedForCausalLM(two.base, two.expert, two.antiexpert, 0.7, **both)
    assert torch.equal(prefixed.generate(prompt, **GREEDY), expected.generate(prompt, **GREEDY))


def test_trains_the_adapter_alone(adapted, prompt, said):
    """In training two passes: the expert with dropout and gradients, the antiexpert without."""
    one, two = adapted
    one.train()
    antiexpert = one.run("antiexpert", prompt)
    torch.testing.assert_close(antiexpert, two.run("antiexpert", prompt), **CLOSE)
    for module in one.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    loss = one(prompt, labels=prompt).loss
    loss.backward()
    torch.testing.assert_close(loss, two(prompt, labels=prompt).loss, **CLOSE)
    touched = {name for name, p in one.named_parameters() if p.grad is not None}
    assert touched and all("lora_" in name for name in touched)
    assert "two passes: this is training" in said[0]
    assert one.expert.training


@pytest.mark.parametrize("given", ["none", "the model under the adapter"])
def test_the_model_under_an_adapter_is_no_antiexpert(prompt, given):
    """peft puts the adapter into that very model, so that passing it on would cancel it out."""
    small = tiny_model("gpt2", 2)
    antiexpert = copy.deepcopy(small)
    expert = adapter(small)
    ours = ProxyTunedForCausalLM(tiny_model("gpt2", 1), expert, None if given == "none" else small)
    torch.testing.assert_close(ours.run("antiexpert", prompt), antiexpert(prompt).logits, **CLOSE)
    with pytest.raises(ValueError, match="load it a second time"):
        ProxyTunedForCausalLM(small, expert)


def test_one_of_several_experts_is_an_adapter(adapted, prompt):
    one, two = adapted
    other = tiny_model("gpt2", 6), tiny_model("gpt2", 7)
    ours = ProxyTunedForCausalLM(one.base, [other[0], one.expert], [other[1], None], [0.3, 0.7])
    theirs = ProxyTunedForCausalLM(
        two.base, [other[0], two.expert], [other[1], two.antiexpert], [0.3, 0.7]
    )
    assert torch.equal(ours.generate(prompt, **GREEDY), theirs.generate(prompt, **GREEDY))
    # where the model under the adapter serves several experts, it has a pass of its own
    small = one.expert.get_base_model()
    ours = ProxyTunedForCausalLM(one.base, [other[0], one.expert], small, [0.3, 0.7])
    theirs = ProxyTunedForCausalLM(two.base, [other[0], two.expert], two.antiexpert, [0.3, 0.7])
    assert torch.equal(ours.generate(prompt, **GREEDY), theirs.generate(prompt, **GREEDY))


def test_saves_and_loads_adapters(adapted, prompt, tmp_path):
    """M- in its folder without the adapter, the adapter in the expert's."""
    one, _ = adapted
    one.save_pretrained(tmp_path)
    assert (tmp_path / "expert" / "adapter_model.safetensors").is_file()
    assert not list((tmp_path / "expert").glob("model*.safetensors"))
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded._twins(True) == {"expert": "antiexpert"}
    assert torch.equal(loaded(prompt).logits, one(prompt).logits)
    one.base.config.name_or_path = "someone/base"
    with pytest.raises(ValueError, match="expert shares its weights with an adapter"):
        one.save_pretrained(tmp_path / "names", by_reference=True)


@pytest.mark.parametrize("other", ["expert", "antiexpert"])
def test_two_threads_may_read_with_one_adapter(adapted, batch, other):
    """As two visitors of the widget do: what one reads does not hang on what the other reads."""
    one, two = adapted
    ids = batch["input_ids"]
    wanted = two(**batch).logits, two.run(other, ids)
    with ThreadPoolExecutor(2) as pool, torch.inference_mode():
        both = [(pool.submit(one, **batch), pool.submit(one.run, other, ids)) for _ in range(20)]
        for whole, part in both:
            torch.testing.assert_close(whole.result().logits, wanted[0], **CLOSE)
            torch.testing.assert_close(part.result(), wanted[1], **CLOSE)


def test_the_antiexpert_of_two_adapters_is_seen_through_the_one_it_is_under(prompt):
    small, other = tiny_model("gpt2", 2), tiny_model("gpt2", 7)
    antiexpert = copy.deepcopy(small)
    experts = [adapter(other, seed=1), adapter(small)]
    ours = ProxyTunedForCausalLM(tiny_model("gpt2", 1), experts, small, [0.3, 0.7])
    torch.testing.assert_close(ours.run("antiexpert", prompt), antiexpert(prompt).logits, **CLOSE)


def test_an_adapter_that_is_on_another_model_than_m_minus_is_saved_whole(prompt, tmp_path):
    small = tiny_model("gpt2", 2)
    ours = ProxyTunedForCausalLM(tiny_model("gpt2", 1), adapter(small), tiny_model("gpt2", 5))
    ours.save_pretrained(tmp_path)
    loaded = ProxyTunedForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(prompt).logits, ours(prompt).logits, **CLOSE)


def test_what_cannot_be_saved_leaves_what_is_there(adapted, prompt, tmp_path):
    one, two = adapted
    two.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="not loaded from anywhere"):
        one.save_pretrained(tmp_path, by_reference=True)
    loaded = ProxyTunedForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(prompt).logits, two(prompt).logits, **CLOSE)
