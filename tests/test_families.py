"""Which trio is taken, and whether three models fit together."""

import dataclasses
import json
import shutil
import time
from pathlib import Path

import pytest
import torch
from conftest import LETTERS, save_part, tiny_model
from peft import LoraConfig, get_peft_model
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel, GPT2Tokenizer

from proxy_tuning import ProxyTunedForCausalLM, families, load_family
from proxy_tuning.families import FAMILIES
from proxy_tuning.logits import PLAIN, Line

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture
def folders(tmp_path):
    """Base, antiexpert and a complete M+, to pass to `load_family`."""
    parts = ("base", "antiexpert", "expert")
    names = {part: save_part(tmp_path / part, "gpt2", seed) for seed, part in enumerate(parts)}
    (tmp_path / "expert" / "training.json").write_text("{}")
    return names


@pytest.fixture
def families_in(folders, tmp_path, monkeypatch):
    """Two families, so that no test depends on what is installed; returns the folder of gpt2's M+.

    gpt2 has names on the Hub, pocket the tiny folders.
    """
    expert = shutil.copytree(folders["expert"], tmp_path / "gpt2 expert")
    gpt2 = families.Family("gpt2", "hub/base", "hub/antiexpert", str(expert))
    pocket = families.Family(name="pocket", **folders)
    monkeypatch.setattr(families, "FAMILIES", {"gpt2": gpt2, "pocket": pocket})
    return expert


def test_load_by_folder(folders, capsys):
    GenerationConfig(eos_token_id=0).save_pretrained(folders["base"])  # no padding, as GPT-2 has it
    model, tokenizer = load_family("pocket", alpha=0.4, **folders)
    assert isinstance(model, ProxyTunedForCausalLM) and model.alpha == 0.4
    assert not model.training
    assert not any(p.requires_grad for p in model.base.parameters())
    assert not any(p.requires_grad for p in model.antiexpert.parameters())
    assert tokenizer.padding_side == "left" and tokenizer.pad_token == "<end>"
    assert model.generation_config.pad_token_id == 0
    assert capsys.readouterr().out == "Family pocket: asked for by name.\n"
    inputs = tokenizer([" !", '"'], return_tensors="pt", padding=True)
    assert inputs["attention_mask"].tolist() == [[1, 1], [0, 1]]
    expected = tiny_model("gpt2", 0)(torch.tensor([[1, 2]])).logits[0, -1]
    got = model(**inputs, logits_to_keep=1).logits[0, -1]
    expert = tiny_model("gpt2", 2)(torch.tensor([[1, 2]])).logits[0, -1]
    antiexpert = tiny_model("gpt2", 1)(torch.tensor([[1, 2]])).logits[0, -1]
    torch.testing.assert_close(got, expected + 0.4 * (expert - antiexpert))


def test_float32_unless_asked_otherwise(folders):
    for name in folders.values():  # as the pocket weights are stored
        GPT2LMHeadModel.from_pretrained(name).half().save_pretrained(name)
    model, _ = load_family("pocket", **folders)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    model, _ = load_family("pocket", **folders, dtype=torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


def test_unknown_name():
    with pytest.raises(ValueError, match="'gtp2'.*auto, gpt2, smollm, pocket"):
        load_family("gtp2")


@pytest.mark.parametrize(
    "cached, reachable, m_plus, need_expert, chosen",
    [
        (True, False, True, True, "gpt2"),
        (False, True, True, True, "gpt2"),
        (False, False, True, True, "pocket"),
        (True, True, False, True, "pocket"),
        (True, False, False, False, "gpt2"),
        (False, True, False, False, "gpt2"),
        (False, False, False, False, "pocket"),
    ],
)
def test_auto(families_in, monkeypatch, capsys, cached, reachable, m_plus, need_expert, chosen):
    monkeypatch.setattr(families, "is_cached", lambda name: cached)
    monkeypatch.setattr(families, "is_reachable", lambda names: reachable)
    if not m_plus:
        (families_in / "training.json").unlink()
    assert families.resolve_family("auto", need_expert=need_expert).name == chosen
    said = capsys.readouterr().out
    assert said.startswith(f"Family {chosen}: ") and said.count("\n") == 1


def test_auto_decides_quickly_without_network(families_in, monkeypatch):
    """A Hub that never answers, and one that is switched off."""
    monkeypatch.setattr(families.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(families, "is_cached", lambda name: False)
    monkeypatch.setattr(families, "get_hf_file_metadata", lambda *a, **k: time.sleep(5))
    start = time.perf_counter()
    assert families.resolve_family().name == "pocket"
    assert time.perf_counter() - start < 3
    monkeypatch.setattr(families.constants, "HF_HUB_OFFLINE", True)
    start = time.perf_counter()
    assert families.resolve_family().name == "pocket"
    assert time.perf_counter() - start < 0.5


def test_cached_means_config_and_weights(tmp_path, monkeypatch):
    """The layout of the Hugging Face cache, made by hand."""
    monkeypatch.setattr(families.constants, "HF_HUB_CACHE", str(tmp_path))
    model = tmp_path / "models--someone--model"
    for folder in ("refs", "snapshots/abc"):
        (model / folder).mkdir(parents=True)
    (model / "refs" / "main").write_text("abc")
    (model / "snapshots" / "abc" / "config.json").write_text("{}")
    assert not families.is_cached("someone/model")
    (model / "snapshots" / "abc" / "model.safetensors").touch()
    assert families.is_cached("someone/model")


def test_reachable_means_every_part_answers(monkeypatch):
    monkeypatch.setattr(families.constants, "HF_HUB_OFFLINE", False)
    asked = []
    monkeypatch.setattr(families, "get_hf_file_metadata", lambda url, timeout: asked.append(url))
    assert families.is_reachable(["a/one", "b/two"])
    assert ["a/one" in asked[0], "b/two" in asked[1]] == [True, True]

    def refuse(url, timeout):
        raise OSError("no route")

    monkeypatch.setattr(families, "get_hf_file_metadata", refuse)
    assert not families.is_reachable(["a/one"], seconds=0.2)


@pytest.mark.parametrize("damage", [*families.M_PLUS_FILES, "all of it", "half a file"])
def test_missing_m_plus_says_what_makes_it(families_in, damage):
    expert = Path(families.FAMILIES["pocket"].expert)
    if damage == "all of it":
        shutil.rmtree(expert)
    elif damage == "half a file":
        (expert / "training.json").write_text('{"seed": ')
    else:
        (expert / damage).unlink()
    with pytest.raises(FileNotFoundError, match="fine_tuning.ipynb.*finetune --family pocket"):
        load_family("pocket")


def test_vocabularies_are_compared_by_meaning(folders, tmp_path):
    swapped = [*LETTERS]
    swapped[34], swapped[35] = "B", "A"
    other = save_part(tmp_path / "swapped", "gpt2", 3, swapped)
    with pytest.raises(ValueError, match="id 34 is 'A' in the one and 'B' in the other"):
        load_family("pocket", **folders | {"antiexpert": other})
    longer = save_part(tmp_path / "longer", "gpt2", 3, [*LETTERS, "é"], vocab=98)
    with pytest.raises(ValueError, match="id 97 is None in the one and 'é' in the other"):
        load_family("pocket", **folders | {"expert": longer})


def test_rows_of_padding_are_trimmed_and_said(folders, tmp_path, capsys):
    """A base with 103 rows for 97 tokens, as models padded to a round number have."""
    padded = save_part(tmp_path / "padded", "gpt2", 5, vocab=103)
    model, _ = load_family("pocket", **folders | {"base": padded})
    assert model(torch.tensor([[1, 2]])).logits.shape == (1, 2, 97)
    assert "6 rows of padding after the 97 tokens trimmed" in capsys.readouterr().out
    expected = tiny_model("gpt2", 5, vocab=103)(torch.tensor([[1, 2]])).logits[..., :97]
    torch.testing.assert_close(model.base(torch.tensor([[1, 2]])).logits, expected)


def test_tokenizer_larger_than_the_model(folders, tmp_path):
    small = save_part(tmp_path / "small", "gpt2", 5, vocab=96)
    with pytest.raises(ValueError, match="97 token ids, the model only 96 rows"):
        load_family("pocket", **folders | {"base": small})


def test_mixed_architectures_over_one_vocabulary(folders, tmp_path):
    for part in ("expert", "antiexpert"):
        folders[part] = save_part(tmp_path / f"llama-{part}", "llama", 4)
    model, tokenizer = load_family("pocket", **folders)
    out = model.generate(**tokenizer("A", return_tensors="pt"), max_new_tokens=3)
    assert out.shape[1] <= 4


def test_the_expert_may_be_an_adapter(folders, tmp_path):
    config = LoraConfig(target_modules=["c_attn"], init_lora_weights=False)
    expert = get_peft_model(GPT2LMHeadModel.from_pretrained(folders["antiexpert"]), config).eval()
    expert.save_pretrained(tmp_path / "adapter")
    model, _ = load_family("pocket", **folders | {"expert": str(tmp_path / "adapter")})
    ids = torch.tensor([[1, 2, 3]])
    torch.testing.assert_close(model.run("expert", ids), expert(ids).logits)
    untouched = GPT2LMHeadModel.from_pretrained(folders["antiexpert"])(ids).logits
    torch.testing.assert_close(model.run("antiexpert", ids), untouched)


@pytest.mark.skipif(not (SHARED / "gpt2_tokenizer").is_dir(), reason="needs GPT-2's tokenizer")
def test_gpt2_at_its_real_shapes(tmp_path, monkeypatch):
    """12 and 6 layers, width 768, 50,257 tokens and the real tokenizer, with weights all alike."""
    tokenizer = GPT2Tokenizer.from_pretrained(SHARED / "gpt2_tokenizer")
    folders = {}
    for part, layers in {"base": 12, "antiexpert": 6, "expert": 6}.items():
        folders[part] = str(tmp_path / part)
        with torch.device("meta"):
            model = GPT2LMHeadModel(GPT2Config(n_layer=layers))
        model.to_empty(device="cpu").half()
        for weight in model.parameters():
            weight.data.fill_(0.02)
        model.save_pretrained(folders[part])
        tokenizer.save_pretrained(folders[part])
    Path(folders["expert"], "training.json").write_text(json.dumps({"family": "gpt2"}))
    monkeypatch.setitem(families.FAMILIES, "gpt2", families.Family(name="gpt2", **folders))
    model, tokenizer = load_family("gpt2", dtype=torch.float16)
    assert model.config.vocab_size == len(tokenizer) == 50257
    assert [len(part.transformer.h) for part in (model.base, model.antiexpert)] == [12, 6]
    ids = tokenizer("Question: Who led?\nAnswer:", return_tensors="pt")["input_ids"]
    assert tokenizer.decode(ids[0]) == "Question: Who led?\nAnswer:"
    assert model(ids, logits_to_keep=1).logits.shape == (1, 1, 50257)


def test_a_family_has_a_line_of_its_own():
    gated = dataclasses.replace(FAMILIES["pocket"], line=Line(gate=0.5))
    assert load_family(gated)[0].line == Line(gate=0.5)
    assert load_family(gated, alpha=2.0)[0].line == Line(alpha=2.0, gate=0.5)
    assert load_family(gated, line=PLAIN)[0].line == PLAIN
    assert load_family(gated, expert=gated.expert)[0].line == PLAIN, "it was chosen for that M+"
    assert load_family(gated, base=gated.base)[0].line == Line(gate=0.5), "and not for that M"
    assert load_family("pocket")[0].line == PLAIN
