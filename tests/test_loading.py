"""Garbled models are refused: one line, exit status 2, and no answer."""

import json
import os
import pickle
import shutil
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import save_part, tiny_model
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from test_families import folders  # noqa: F401  tiny trio, as a fixture

from proxy_tuning import ProxyTunedForCausalLM, families, load_family
from proxy_tuning.__main__ import main
from proxy_tuning.families import FAMILIES
from proxy_tuning.loading import add_adapter, is_finite

POCKET = FAMILIES["pocket"]
QUESTION = "Who led the polls in Pennsylvania in October 2024?"


@pytest.fixture
def refused(monkeypatch, capsys):
    """Runs a command, which must be refused; returns the one line that it says."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["proxy_tuning", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert ended.value.code == 2 and said.out == ""
        lines = [line for line in said.err.splitlines() if not line.startswith("Family ")]
        assert len(lines) == 1, said.err
        return lines[0]

    return run


@pytest.fixture
def m_plus(tmp_path):
    """A copy of pocket's M+, to be damaged."""
    if families.missing_files(POCKET.expert):
        pytest.skip("no pocket M+")
    return Path(shutil.copytree(POCKET.expert, tmp_path / "m-plus"))


def edit_weights(folder, change):
    """Apply a change to the tensors of a folder, {name: tensor}."""
    path = Path(folder, "model.safetensors")
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})


def edit_json(path, **changes):
    """Change fields of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def a_tensor(weights):
    """The name of a weight in the middle, a matrix."""
    matrices = [name for name in sorted(weights) if weights[name].dim() == 2]
    return matrices[len(matrices) // 2]


def missing_tensor(folder):
    edit_weights(folder, lambda weights: weights.pop(a_tensor(weights)))


def renamed_tensor(folder):
    edit_weights(folder, lambda w: w.update({"model.stranger": w.pop(a_tensor(w))}))


def extra_tensor(folder):
    edit_weights(folder, lambda weights: weights.update({"stranger": torch.ones(2)}))


def nan(folder):
    edit_weights(folder, lambda weights: weights[a_tensor(weights)][-1].fill_(float("nan")))


def infinity(folder):
    edit_weights(folder, lambda weights: weights[a_tensor(weights)][0, :1].fill_(-float("inf")))


def turned_tensor(folder):
    edit_weights(folder, lambda w: w.update({a_tensor(w): w[a_tensor(w)].reshape(-1, 1)}))


def weights_of_m(folder):
    shutil.copy(Path(POCKET.base, "model.safetensors"), folder)


def all_of_m(folder):
    for name in ("config.json", "model.safetensors"):
        shutil.copy(Path(POCKET.base, name), folder)


def smaller_vocabulary(folder):
    size = json.loads((folder / "config.json").read_text())["vocab_size"]
    edit_json(folder / "config.json", vocab_size=size - 1)


def larger_vocabulary(folder):
    edit_json(folder / "config.json", vocab_size=1_000_000)


def no_weights(folder):
    (folder / "model.safetensors").unlink()


def half_of_the_weights(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty_weights(folder):
    (folder / "model.safetensors").write_bytes(b"")


def random_weights(folder):
    noise = torch.randint(0, 256, (5000,), generator=torch.Generator().manual_seed(0))
    (folder / "model.safetensors").write_bytes(bytes(noise.tolist()))


def pickled_weights(folder):
    (folder / "model.safetensors").write_bytes(pickle.dumps({"a": [1, 2]}))


def pickle_beside(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def config_is_a_list(folder):
    (folder / "config.json").write_text("[1]")


def config_of_brackets(folder):
    (folder / "config.json").write_text("[" * 100_000)


def config_is_binary(folder):
    (folder / "config.json").write_bytes(b"\xff\xfe\x00")


def config_of_nothing_known(folder):
    edit_json(folder / "config.json", model_type="nothing")


def config_with_a_word_for_a_number(folder):
    edit_json(folder / "config.json", vocab_size="many")


def tokenizer_of_brackets(folder):
    (folder / "tokenizer.json").write_text("{" * 100_000)


def tokenizer_is_empty(folder):
    (folder / "tokenizer.json").write_text("{}")


def config_with_nan(folder):
    edit_json(folder / "config.json", layer_norm_epsilon=float("nan"))


def end_of_text_is_a_word(folder):
    edit_json(folder / "generation_config.json", eos_token_id="end")


def end_of_text_is_nothing(folder):
    edit_json(folder / "generation_config.json", eos_token_id=[])


def no_config(folder):
    (folder / "config.json").unlink()


def no_tokenizer(folder):
    for path in folder.glob("tokenizer*"):
        path.unlink()


def nothing(folder):
    for path in folder.iterdir():
        path.unlink()


FAULTS = {
    missing_tensor: "lacks tensors: transformer.",
    renamed_tensor: "lacks tensors: transformer.",
    extra_tensor: "has tensors that its configuration knows nothing of: stranger",
    nan: "not finite in: transformer.",
    infinity: "not finite in: transformer.",
    turned_tensor: "has tensors of another shape: transformer.",
    weights_of_m: "knows nothing of: transformer.h.",
    all_of_m: "is not its M- after fine-tuning: ",
    smaller_vocabulary: "has tensors of another shape: ",
    larger_vocabulary: "has tensors of another shape: ",
    no_weights: "model.safetensors",
    half_of_the_weights: "cannot be loaded",
    empty_weights: "cannot be loaded",
    random_weights: "cannot be loaded",
    pickled_weights: "cannot be loaded",
    pickle_beside: "safetensors",
    config_is_a_list: "config.json",
    config_of_brackets: "cannot be loaded",
    config_is_binary: "cannot be loaded",
    config_of_nothing_known: "cannot be loaded",
    config_with_a_word_for_a_number: "vocab_size",
    tokenizer_of_brackets: "cannot be loaded",
    tokenizer_is_empty: "cannot be loaded",
    config_with_nan: "layer_norm_epsilon needs to be finite",
    end_of_text_is_a_word: "eos_token_id",
    end_of_text_is_nothing: "eos_token_id",
    no_config: "config.json",
    no_tokenizer: "cannot be loaded",
    nothing: "config.json",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_garbled_m_plus_answers_nothing(m_plus, refused, fault):
    fault(m_plus)
    line = refused("answer", "--family", "pocket", "--expert", m_plus, QUESTION)
    assert str(m_plus) in line and FAULTS[fault] in line


@pytest.mark.parametrize("key", ["num_attention_heads", "num_key_value_heads"])
def test_an_m_plus_of_other_heads(folders, tmp_path, key):  # noqa: F811
    """The same tensors, read in another way."""
    for part in ("expert", "antiexpert"):
        folders[part] = save_part(tmp_path / f"llama-{part}", "llama", 4)
    config = Path(folders["expert"], "config.json")
    shape = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    assert shape.items() <= json.loads(config.read_text()).items()
    edit_json(config, **{"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 4})
    load_family("pocket", **folders | {"antiexpert": folders["expert"]})
    with pytest.raises(ValueError, match="num_attention_heads is 8 in it, 4 in M-"):
        load_family("pocket", **folders)


@pytest.mark.parametrize(
    "words, said",
    [
        (["--base", POCKET.base, "--antiexpert", POCKET.antiexpert], "name the M+"),
        (["--antiexpert", POCKET.base], "name the M+"),
        (["--expert", "nowhere"], "there is no folder nowhere"),
        (["--expert", "./no/where"], "there is no folder ./no/where"),
        (["--expert", "/no/where/at/all"], "there is no folder /no/where/at/all"),
        (["--base", "some one/model"], "there is no folder some one/model"),
        (["--expert", __file__], "is a file"),
        (["--expert", ""], "needs a name or a folder"),
        (["--base", " "], "needs a name or a folder"),
        (["--alpha", "1e300"], "alpha needs to be finite"),
        (["--alpha=-inf"], "alpha needs to be finite"),
    ],
    ids=str,
)
def test_names_that_lead_nowhere(refused, words, said):
    line = refused("answer", "--family", "pocket", *words, QUESTION)
    assert said in line


def test_a_name_that_leads_nowhere_takes_no_retries(monkeypatch, refused):
    """With the Hub switched on and out of reach: the time limit of one request, no more."""
    monkeypatch.setattr(families.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(families, "get_hf_file_metadata", lambda *a, **k: time.sleep(60))
    begun = time.perf_counter()
    line = refused("answer", "--family", "pocket", "--expert", "nowhere", QUESTION)
    assert "no folder nowhere" in line and "out of reach" in line
    assert time.perf_counter() - begun < 4


def test_what_the_hub_has_passes(monkeypatch):
    """Answered at once, and an adapter, which has no config.json."""
    monkeypatch.setattr(families.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(families, "get_hf_file_metadata", lambda *a, **k: None)
    families.check_there("someone/model")

    def no_such_file(url, timeout):
        raise families.EntryNotFoundError("no config.json")

    monkeypatch.setattr(families, "get_hf_file_metadata", no_such_file)
    families.check_there("someone/adapter")


@pytest.fixture
def adapter(tmp_path):
    """(M- anew, folder of a random adapter on it)."""
    config = LoraConfig(target_modules=["c_attn"], init_lora_weights=False, fan_in_fan_out=True)
    get_peft_model(tiny_model("gpt2", 1), config).save_pretrained(tmp_path / "adapter")
    return tiny_model("gpt2", 1), tmp_path / "adapter"


def edit_adapter(folder, change):
    path = folder / "adapter_model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path)


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda weights: weights.pop(sorted(weights)[0]), "lacks tensors: base_model"),
        (lambda w: w.update({"base_model.lora_A.stranger": torch.ones(2)}), "knows nothing of"),
        (lambda weights: weights[sorted(weights)[0]].fill_(float("nan")), "not finite in"),
        (lambda w: w.update({k: v[:1] for k, v in w.items()}), "size mismatch"),
    ],
    ids=["missing", "extra", "nan", "shape"],
)
def test_garbled_adapters(adapter, change, said):
    antiexpert, folder = adapter
    edit_adapter(folder, change)
    with pytest.raises(ValueError, match=said) as raised:
        add_adapter(antiexpert, folder)
    assert str(folder) in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("fault", ["lost", "pickled", "cut", "brackets"])
def test_adapter_files(adapter, fault):
    antiexpert, folder = adapter
    weights = folder / "adapter_model.safetensors"
    if fault == "lost":
        weights.unlink()
    elif fault == "pickled":
        torch.save(load_file(weights), folder / "adapter_model.bin")
        weights.unlink()
    elif fault == "cut":
        weights.write_bytes(weights.read_bytes()[:100])
    else:
        (folder / "adapter_config.json").write_text("[" * 100_000)
    with pytest.raises((ValueError, OSError), match="adapter") as raised:
        add_adapter(antiexpert, folder)
    assert "\n" not in str(raised.value)


def test_a_whole_adapter_passes(adapter, prompt):
    antiexpert, folder = adapter
    alone = antiexpert(prompt).logits
    expert = add_adapter(antiexpert, folder)
    assert not torch.equal(expert(prompt).logits, alone)
    with expert.disable_adapter():
        assert torch.equal(expert(prompt).logits, alone)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_finite_is_what_torch_says(dtype):
    for value in (1.0, 6e4, float("nan"), float("inf"), -float("inf")):
        weight = torch.zeros(3, 4, dtype=dtype)
        weight[1, 2] = value
        assert is_finite(weight) == bool(weight.isfinite().all())
    assert is_finite(torch.zeros(0)) and is_finite(torch.ones(2, dtype=torch.int64))
    assert is_finite(torch.zeros(2, device="meta"))


def test_an_alpha_that_no_float32_holds():
    trio = ProxyTunedForCausalLM(*(tiny_model("gpt2", seed) for seed in (1, 2, 3)))
    ids = torch.tensor([[1, 2]])
    for alpha in (1e300, float("nan"), torch.tensor([float("inf")]), torch.tensor([1e35])):
        with pytest.raises(ValueError, match="alpha needs to be finite"):
            trio(ids, alpha=alpha)
    assert trio(ids, alpha=1e30).logits.isfinite().all()


def test_an_own_m_minus_needs_its_own_m_plus(folders):  # noqa: F811
    with pytest.raises(ValueError, match="name the M\\+"):
        load_family("pocket", antiexpert=folders["antiexpert"])
    assert os.path.isdir(folders["antiexpert"])


def test_nothing_is_reported_of_a_whole_model(tmp_path, caplog):
    families.load_part(save_part(tmp_path / "whole", "llama", 0))
    assert caplog.text == ""
