"""Saved models: self-contained or by reference, read back through AutoModelForCausalLM."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from conftest import tiny_model, tiny_trio
from transformers import AutoConfig, AutoModelForCausalLM

from proxy_tuning import ProxyTunedConfig, ProxyTunedForCausalLM, parts
from proxy_tuning.logits import Line

VARIANTS = {
    "expert_prefix": [3, 4],
    "antiexpert_prefix": [5],
    "line": Line(base_top_p=0.95, plausibility=0.01, adaptive=True),
}


def files(folder):
    """Paths below a folder, as strings."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_self_contained(prompt, tmp_path):
    """Three folders, all settings, and the generation settings; nothing pickled."""
    model = ProxyTunedForCausalLM(*tiny_trio("gpt2"), alpha=-0.25, **VARIANTS)
    model.generation_config.update(max_new_tokens=3, do_sample=False)
    tmp_path = tmp_path / "made" / "as well"
    model.save_pretrained(tmp_path)
    per_part = ("config.json", "generation_config.json", "model.safetensors")
    assert files(tmp_path) == {"config.json", "generation_config.json", "README.md"} | {
        f"{part}/{file}" for part in ("base", "expert", "antiexpert") for file in per_part
    }
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(loaded) is ProxyTunedForCausalLM and not loaded.training
    assert not any(p.requires_grad for p in loaded.base.parameters())
    assert loaded.alpha == -0.25
    assert loaded.line == dataclasses.replace(VARIANTS["line"], alpha=-0.25)
    for key in ("expert_prefix", "antiexpert_prefix"):
        assert getattr(loaded.config, key) == VARIANTS[key]
    assert torch.equal(loaded(prompt).logits, model(prompt).logits)
    assert torch.equal(loaded.generate(prompt), model.generate(prompt))
    assert loaded.generation_config.max_new_tokens == 3
    assert isinstance(AutoConfig.from_pretrained(tmp_path), ProxyTunedConfig)


def test_keywords_reach_the_parts(prompt, tmp_path):
    ProxyTunedForCausalLM(*tiny_trio("gpt2")).save_pretrained(tmp_path)
    for loader in (ProxyTunedForCausalLM, AutoModelForCausalLM):
        loaded = loader.from_pretrained(tmp_path, dtype=torch.bfloat16, alpha=0.5, device_map="cpu")
        assert {p.dtype for p in loaded.parameters()} == {torch.bfloat16}
        assert loaded.alpha == 0.5
        assert loaded(prompt).logits.dtype == torch.float32


def test_several_experts(prompt, tmp_path):
    base, expert, antiexpert = tiny_trio("gpt2")
    shared = ProxyTunedForCausalLM(base, [expert, tiny_model("llama", 4)], antiexpert, [1.0, 2.0])
    own = ProxyTunedForCausalLM(base, [expert, antiexpert], [antiexpert, expert], [1.0, 2.0])
    for i, model in enumerate((shared, own)):
        model.save_pretrained(tmp_path / str(i))
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path / str(i))
        assert loaded.part_names == model.part_names and loaded.alpha == [1.0, 2.0]
        assert torch.equal(loaded(prompt).logits, model(prompt).logits)


def test_by_reference_to_folders(prompt, tmp_path):
    """A few hundred bytes that name the parts, relative to where they are."""
    trio = []
    for name, part in zip(("m", "plus", "minus"), tiny_trio("gpt2"), strict=True):
        part.save_pretrained(tmp_path / "parts" / name)
        trio.append(AutoModelForCausalLM.from_pretrained(tmp_path / "parts" / name))
    model = ProxyTunedForCausalLM(*trio, alpha=0.7)
    model.save_pretrained(tmp_path / "names", by_reference=True)
    assert files(tmp_path / "names") == {"config.json", "generation_config.json", "README.md"}
    config = tmp_path / "names" / "config.json"
    assert config.stat().st_size < 1000
    assert json.loads(config.read_text())["parts"]["expert"]["name"] == "../parts/plus"
    (tmp_path / "moved").mkdir()
    for folder in ("names", "parts"):
        (tmp_path / folder).rename(tmp_path / "moved" / folder)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "moved" / "names")
    assert torch.equal(loaded(prompt).logits, model(prompt).logits)


def test_by_reference_to_the_hub(monkeypatch, tmp_path):
    """Names and the commits that the cache holds; another revision where one is given."""
    model = ProxyTunedForCausalLM(*tiny_trio("gpt2"))
    for name in model.part_names:
        getattr(model, name).config.name_or_path = f"someone/{name}"
    monkeypatch.setattr(
        parts,
        "try_to_load_from_cache",
        lambda name, file: f"/cache/{name}/snapshots/{name[-4:]}/{file}",
    )
    model.save_pretrained(tmp_path, by_reference=True, revisions={"expert": "v2"})
    saved = json.loads((tmp_path / "config.json").read_text())["parts"]
    assert saved == {
        "base": {"name": "someone/base", "revision": "base"},
        "expert": {"name": "someone/expert", "revision": "v2"},
        "antiexpert": {"name": "someone/antiexpert", "revision": "pert"},
    }
    asked = []

    def load(name, **kwargs):
        asked.append((name, kwargs["revision"], kwargs["use_safetensors"]))
        whole = dict.fromkeys(("missing_keys", "unexpected_keys", "mismatched_keys"), ())
        return tiny_model("gpt2", len(asked)), whole

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", load)
    ProxyTunedForCausalLM.from_pretrained(tmp_path)
    assert asked == [
        ("someone/base", "base", True),
        ("someone/expert", "v2", True),
        ("someone/antiexpert", "pert", True),
    ]


def test_rows_trimmed_before_are_trimmed_again(prompt, tmp_path):
    tiny_model("gpt2", 1, vocab=103).save_pretrained(tmp_path / "padded")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "padded")
    base.resize_token_embeddings(97)
    for seed, name in enumerate(("plus", "minus")):
        tiny_model("gpt2", seed).save_pretrained(tmp_path / name)
    model = ProxyTunedForCausalLM(
        base, *(AutoModelForCausalLM.from_pretrained(tmp_path / n) for n in ("plus", "minus"))
    )
    model.save_pretrained(tmp_path / "names", by_reference=True)
    loaded = ProxyTunedForCausalLM.from_pretrained(tmp_path / "names")
    assert torch.equal(loaded(prompt).logits, model(prompt).logits)


def test_nothing_to_refer_to(tmp_path):
    with pytest.raises(ValueError, match="base was not loaded from anywhere"):
        ProxyTunedForCausalLM(*tiny_trio("gpt2")).save_pretrained(tmp_path, by_reference=True)


def test_model_card(tmp_path):
    ProxyTunedForCausalLM(*tiny_trio("mixed"), alpha=0.8).save_pretrained(tmp_path)
    card = Path(tmp_path, "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert "base + alpha * (expert - antiexpert)" in card and "0.8" in card
    assert "| base | GPT2LMHeadModel |" in card and "| expert | LlamaForCausalLM |" in card
    assert "import proxy_tuning" in card


def test_devices(prompt, tmp_path):
    """A device per part, or an error before anything is loaded."""
    model = ProxyTunedForCausalLM(*tiny_trio("gpt2"))
    model.save_pretrained(tmp_path)
    names = ("base", "expert", "antiexpert")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, device_map=dict.fromkeys(names, "cpu"))
    assert torch.equal(loaded(prompt).logits, model(prompt).logits)
    (tmp_path / "base" / "model.safetensors").unlink()
    for device_map in ("cuda:77", dict.fromkeys(names, "cpu") | {"expert": "cuda:77"}):
        with pytest.raises(ValueError, match="device 'cuda:77' cannot hold a model here"):
            ProxyTunedForCausalLM.from_pretrained(tmp_path, device_map=device_map)


def test_never_a_pickle(tmp_path):
    ProxyTunedForCausalLM(*tiny_trio("gpt2")).save_pretrained(tmp_path)
    weights = tmp_path / "base" / "model.safetensors"
    torch.save(tiny_model("gpt2", 1).state_dict(), weights.with_name("pytorch_model.bin"))
    weights.unlink()
    with pytest.raises(OSError, match="safetensors"):
        ProxyTunedForCausalLM.from_pretrained(tmp_path, use_safetensors=False)
