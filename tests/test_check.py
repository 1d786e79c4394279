"""`python -m proxy_tuning check`: right on whole trios, wrong on folders that are wrong in each way."""

import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from proxy_tuning import __main__ as command_line
from proxy_tuning.evaluation import check as checking
from proxy_tuning.evaluation.check import Mismatch, check, markdown, same_but_for_ties
from proxy_tuning.families import FAMILIES
from proxy_tuning.families.smollm import packaged_model

POCKET = FAMILIES["pocket"]
LOAD = "the trio fits together"


def results(report):
    return {row["check"]: row["result"] for row in report["checks"]}


def said(report, name):
    return next(row["said"] for row in report["checks"] if row["check"] == name)


def run(monkeypatch, *words):
    """The command in this process; its exit status."""
    monkeypatch.setattr("sys.argv", ["proxy_tuning", "check", *map(str, words)])
    try:
        command_line.main()
    except SystemExit as ended:
        return ended.code
    return 0


@pytest.mark.parametrize("name", ["pocket", "smollm"])
def test_a_whole_trio_passes(name, tmp_path, monkeypatch):
    if name == "smollm" and packaged_model() is None:
        pytest.skip("the package with SmolLM2's weights is not installed")
    output = tmp_path / "report.json"
    assert run(monkeypatch, "--family", name, "--output", output) == 0
    report = json.loads(output.read_text(encoding="utf-8"))
    found = results(report)
    assert [key for key, value in found.items() if value == "skipped"] == ["engines", "LAMBADA"]
    assert set(found.values()) == {"ok", "skipped"} and report["ok"]
    assert len(report["answers"]) == 5
    text = output.with_suffix(".md").read_text(encoding="utf-8")
    assert text == markdown(report) and "| alpha 0 is M | ok |" in text


def copied(tmp_path, part):
    """The pocket family with a copy of one part, to be spoilt."""
    folder = tmp_path / part
    shutil.copytree(getattr(POCKET, part), folder)
    return dataclasses.replace(POCKET, **{part: str(folder)}), folder


def remove_weights(folder):
    (folder / "model.safetensors").unlink()


def cut_weights(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def put_nan(folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["transformer.wpe.weight"][0, 0] = torch.nan
    save_file(tensors, path, metadata={"format": "pt"})


def swap_tokens(folder):
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    vocab = content["model"]["vocab"]
    first, second = sorted(vocab, key=vocab.get)[300:302]
    vocab[first], vocab[second] = vocab[second], vocab[first]
    path.write_text(json.dumps(content), encoding="utf-8")


def break_config(folder):
    (folder / "config.json").write_text("{", encoding="utf-8")


@pytest.mark.parametrize("spoil", [remove_weights, cut_weights, put_nan, swap_tokens, break_config])
def test_a_wrong_folder_is_a_mismatch(spoil, tmp_path):
    family, folder = copied(tmp_path, "antiexpert")
    spoil(folder)
    report = check(family, progress=lambda line: None)
    found = results(report)
    assert found[LOAD] == "wrong" and not report["ok"]
    assert found["alpha 0 is M"] == found["draft expert"] == found["five questions"] == "skipped"
    assert found["files of base"] == "ok"


def test_an_expert_without_its_record_is_named(tmp_path, monkeypatch, capsys):
    _, folder = copied(tmp_path, "expert")
    (folder / "training.json").unlink()
    assert run(monkeypatch, "--family", "pocket", "--expert", folder) == 1
    assert f"wrong   files of expert: {folder} lacks training.json" in capsys.readouterr().out


def test_a_folder_that_is_not_there(tmp_path):
    family = dataclasses.replace(POCKET, base=str(tmp_path / "none"))
    report = check(family, progress=lambda line: None)
    assert results(report)["files of base"] == results(report)[LOAD] == "wrong"
    assert "there is no folder" in said(report, "files of base")


@pytest.mark.parametrize(
    "known, message",
    [
        ({"model.safetensors": (1, None)}, r"has 10,075,368 bytes, not 1$"),
        ({"model.safetensors": (None, "0" * 64)}, "has SHA-256 .*, not 0000"),
        ({"pytorch_model.bin": (None, None)}, None),
        ({"revision": "0" * 40}, "is at base, not at 0000"),
    ],
)
def test_what_is_known_is_held_against_the_files(known, message, monkeypatch):
    monkeypatch.setitem(checking.KNOWN, POCKET.base, known)
    if message is None:
        assert "model.safetensors" in checking.files_said("base", POCKET.base)
        return
    with pytest.raises(Mismatch, match=message):
        checking.files_said("base", POCKET.base)


def test_files_of_gpt2_in_a_cache(tmp_path, monkeypatch):
    """At the known revision, with a file of other bytes: by name, without a network."""
    name = "openai-community/gpt2"
    snapshot = tmp_path / checking.KNOWN[name]["revision"]
    snapshot.mkdir()
    (snapshot / "config.json").write_text("{}", encoding="utf-8")
    (snapshot / "model.safetensors").write_bytes(b"0123456789")
    monkeypatch.setattr(checking, "try_to_load_from_cache", lambda name, file: str(snapshot / file))
    monkeypatch.setattr(checking, "check_there", Path)
    with pytest.raises(Mismatch, match="has 10 bytes, not 548,105,171"):
        checking.files_said("base", name)


def test_an_identity_that_fails_is_a_mismatch(monkeypatch):
    """A line that adds a hundredth to every other token breaks identities 1 to 3."""
    plain = checking.ProxyTunedForCausalLM.combine

    def bent(self, base, *small, alpha=None):
        logits = plain(self, base, *small, alpha=alpha)
        return logits + 0.01 * (torch.arange(logits.shape[-1]) % 2)

    monkeypatch.setattr(checking.ProxyTunedForCausalLM, "combine", bent)
    found = results(check(POCKET, progress=lambda line: None))
    names = ("alpha 0 is M", "M+ = M- is M", "M = M- at alpha 1 is M+")
    assert [found[name] for name in names] == ["wrong"] * 3
    assert found["with caches as without"] == "ok"


def test_texts_may_part_at_a_tie_alone():
    def steps(lead):
        return [SimpleNamespace(steered=torch.tensor([[0.0, 5.0, 5.0 + lead]]))]

    assert not same_but_for_ties([2], [2], steps(1.0))
    assert same_but_for_ties([1], [2], steps(5e-5))
    with pytest.raises(Mismatch, match=r"tokens \[1\] where the plain loop has \[2\]"):
        same_but_for_ties([1], [2], steps(1e-3))
    with pytest.raises(Mismatch):
        same_but_for_ties([], [2], steps(1e-3))
