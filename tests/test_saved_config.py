"""Edited folders of a saved trio: an error with the name of the field."""

import pytest
import torch
from conftest import save_part, tiny_model
from test_loading import a_tensor, edit_json, edit_weights
from transformers import AutoModelForCausalLM

from proxy_tuning import ProxyTunedForCausalLM


@pytest.fixture
def saved(tmp_path):
    """The folder of a tiny trio."""
    trio = ProxyTunedForCausalLM(*(tiny_model("gpt2", seed) for seed in (1, 2, 3)))
    trio.save_pretrained(tmp_path / "trio")
    return tmp_path / "trio"


THREE = {"base": {}, "expert": {}, "antiexpert": {}}


@pytest.mark.parametrize(
    "field, value, said",
    [
        ("parts", None, "parts needs"),
        ("parts", [], "parts needs"),
        ("parts", {}, "parts needs"),
        ("parts", "base", "parts needs"),
        ("parts", {"base": {}}, "parts needs an expert"),
        ("parts", {"base": {}, "expert": {}}, "one antiexpert"),
        ("parts", THREE | {"expert": None}, "parts.expert needs"),
        ("parts", THREE | {"expert": [1]}, "parts.expert needs"),
        ("parts", THREE | {"../../etc": {}}, "'../../etc', which is no name"),
        ("parts", THREE | {"base": {"name": 5, "revision": None}}, "parts.base.name"),
        ("parts", THREE | {"base": {"name": "", "revision": None}}, "parts.base.name"),
        ("parts", THREE | {"base": {"name": "base"}}, "parts.base.revision"),
        ("parts", THREE | {"base": {"name": "base", "revision": 3}}, "parts.base.revision"),
        ("parts", THREE | {"base": {"name": ".", "revision": None}}, "is a proxy-tuned trio"),
        ("parts", THREE | {"base": {"adapter": True}}, "parts.base.adapter"),
        ("parts", THREE | {"expert": {"adapter": "yes"}}, "parts.expert.adapter"),
        ("vocab_size", None, "vocab_size"),
        ("vocab_size", "97", "vocab_size"),
        ("vocab_size", 96, "vocab_size is 96 in config.json, but base has 97"),
        ("vocab_size", 98, "vocab_size is 98 in config.json, but base has 97"),
        ("expert_prefix", [97], "expert_prefix needs ids from 0 to 96"),
        ("expert_prefix", [-1], "expert_prefix needs ids from 0 to 96"),
        ("expert_prefix", ["a"], "expert_prefix needs to be a list"),
        ("antiexpert_prefix", {"a": 1}, "antiexpert_prefix needs to be a list"),
        ("antiexpert_prefix", [1.5], "antiexpert_prefix needs to be a list"),
        ("line", [1], "line needs"),
        ("line", {"alpa": 1.0}, "line needs"),
        ("line", {"alpha": None}, "alpha needs"),
        ("line", {"alpha": 1e300}, "alpha needs"),
        ("line", {"alpha": [1.0, None]}, "alpha needs"),
        ("line", {"alpha": {"a": 1}}, "alpha needs"),
        ("line", {"alpha": [1.0, 1.0]}, "take as many alphas"),
        ("line", {"base_top_p": "x"}, "base_top_p needs"),
        ("line", {"plausibility": [0.1]}, "plausibility needs"),
        ("line", {"mixture": True}, "mixture needs"),
        ("line", {"adaptive": 1}, "adaptive needs"),
    ],
    ids=str,
)
def test_edited_configurations(saved, field, value, said):
    edit_json(saved / "config.json", **{field: value})
    with pytest.raises(ValueError) as raised:
        AutoModelForCausalLM.from_pretrained(saved)
    assert said in str(raised.value) and "\n" not in str(raised.value)


def test_a_part_with_numbers_that_are_not_finite(saved):
    edit_weights(saved / "base", nan_in_place)
    with pytest.raises(ValueError, match="base|trio.*not finite in"):
        ProxyTunedForCausalLM.from_pretrained(saved)


def nan_in_place(weights):
    weights[a_tensor(weights)][0, 0] = float("nan")


def test_settings_of_generation_that_are_no_json(saved):
    (saved / "generation_config.json").write_text("[" * 100_000)
    with pytest.raises((ValueError, OSError), match="cannot be loaded|generation_config"):
        ProxyTunedForCausalLM.from_pretrained(saved)


@pytest.mark.parametrize("size, whole", [(97, True), (96, False)])
def test_rows_of_padding_by_reference_are_confirmed_by_the_tokenizer(tmp_path, prompt, size, whole):
    """All three padded to 103 rows; of 97 tokens, which the tokenizer alone can say."""
    parts = []
    for seed, name in enumerate(("m", "plus", "minus")):
        save_part(tmp_path / name, "gpt2", seed, vocab=103)
        part = AutoModelForCausalLM.from_pretrained(tmp_path / name)
        part.resize_token_embeddings(97)
        parts.append(part)
    model = ProxyTunedForCausalLM(*parts)
    model.save_pretrained(tmp_path / "names", by_reference=True)
    edit_json(tmp_path / "names" / "config.json", vocab_size=size)
    if whole:
        loaded = ProxyTunedForCausalLM.from_pretrained(tmp_path / "names")
        assert torch.equal(loaded(prompt).logits, model(prompt).logits)
    else:
        with pytest.raises(ValueError, match="vocab_size is 96 in config.json, but base has 97"):
            ProxyTunedForCausalLM.from_pretrained(tmp_path / "names")
