"""Any pair: every command on folders of tiny models of four architectures."""

import json
import sys

import pytest
import torch
from conftest import LINES, save_part
from transformers import AutoModelForCausalLM

from proxy_tuning import load_family
from proxy_tuning.__main__ import main
from proxy_tuning.families import missing_files
from proxy_tuning.parts import is_adapted
from proxy_tuning.prompts import prompt
from proxy_tuning.training import finetune as ft
from proxy_tuning.widget import page as app

KINDS = ["gpt2", "llama", "qwen3", "mistral"]
QUESTION = "Who bakes the bread?"


def save(folder, kind, seed, letters=LINES, **shape):
    """One of the parts, with room for 256 tokens."""
    return save_part(folder, kind, seed, letters, positions=256, **shape)


@pytest.fixture
def pair(request, tmp_path, monkeypatch):
    """{"base": folder, "antiexpert": folder} of the architecture that the test is run with."""
    monkeypatch.setattr(ft, "WORK", tmp_path / "work")
    kind = request.param
    return {
        "base": save(tmp_path / "base", kind, 1, layers=3, width=48),
        "antiexpert": save(tmp_path / "antiexpert", kind, 2),
    }


@pytest.fixture
def trio(pair, tmp_path, request):
    """A pair and an expert of the same architecture, as if it had been fine-tuned elsewhere."""
    kind = request.node.callspec.params["pair"]
    return pair | {"expert": save(tmp_path / "expert", kind, 3)}


def run(monkeypatch, *words, **folders):
    """One command, in this process."""
    named = [word for part, folder in folders.items() for word in (f"--{part}", str(folder))]
    monkeypatch.setattr(sys, "argv", ["proxy_tuning", *map(str, words), *named])
    main()


def steered(folders, alpha):
    """What the trio of these folders continues the question with, by `generate`."""
    model, tokenizer = load_family(**folders, alpha=alpha)
    inputs = tokenizer(prompt(QUESTION), return_tensors="pt")
    ids = model.generate(**inputs, max_new_tokens=12, do_sample=False)
    return tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize("pair", KINDS, indirect=True)
def test_answer(trio, monkeypatch, capsys):
    answers = {}
    for alpha in (0, 0.7):
        run(
            monkeypatch,
            "answer",
            "--json",
            "--alpha",
            alpha,
            "--max-new-tokens",
            12,
            QUESTION,
            **trio,
        )
        said = capsys.readouterr()
        answers[alpha] = json.loads(said.out)
        assert "Family" not in said.err  # none was looked for
    assert answers[0]["steered"] == answers[0]["base"]
    assert answers[0.7]["steered"] == steered(trio, 0.7).strip() != answers[0]["steered"]
    assert answers[0.7]["family"] == "own"


@pytest.mark.parametrize("pair", KINDS, indirect=True)
@pytest.mark.parametrize("lora", [None, 4])
def test_finetune_on_own_data_and_steer(pair, lora, monkeypatch, tmp_path, capsys):
    """M+ learns a file's answers, whole or as an adapter, and is loaded with its pair."""
    table = tmp_path / "bakery.csv"
    lines = [f"Who bakes bread number {i}?,Ann." for i in range(40)]
    table.write_text("\n".join(["prompt,reply", *lines]) + "\n")
    expert = tmp_path / "tuned" / "bakery"
    extra = ["--lora", lora] if lora else []
    run(monkeypatch, "finetune", "--data", table, "--epochs", 12, *extra, expert=expert, **pair)
    said = capsys.readouterr().out
    assert "question = 'prompt', answer = 'reply'" in said
    assert "36 rows to learn from, 4 held out" in said
    assert missing_files(expert) == []
    losses = [
        e["eval_loss"]
        for e in json.loads((expert / "training.json").read_text())["log"]
        if "eval_loss" in e
    ]
    assert losses[-1] < losses[0] - 0.3

    model, tokenizer = load_family(**pair, expert=str(expert))
    assert is_adapted(model.expert) == bool(lora)
    inputs = tokenizer(prompt(QUESTION), return_tensors="pt")
    difference = model.run("expert", **inputs) - model.run("antiexpert", **inputs)
    assert difference.abs().max() > 0.1
    untouched = AutoModelForCausalLM.from_pretrained(pair["antiexpert"])(**inputs).logits
    torch.testing.assert_close(model.run("antiexpert", **inputs), untouched)
    if lora:  # M- is there once
        added = sum(p.numel() for n, p in model.expert.named_parameters() if "lora_" in n)
        alone = (model.base.num_parameters(), model.antiexpert.expert.get_base_model())
        small = sum(p.numel() for n, p in alone[1].named_parameters() if "lora_" not in n)
        assert sum(p.numel() for p in model.parameters()) == alone[0] + small + added
        assert not list(expert.glob("model*.safetensors"))
        assert str(lora) in (expert / "README.md").read_text()
    run(monkeypatch, "answer", "--max-new-tokens", 5, QUESTION, expert=expert, **pair)
    assert capsys.readouterr().out.startswith(QUESTION)


@pytest.mark.parametrize("pair", ["gpt2", "llama"], indirect=True)
def test_evaluate(trio, monkeypatch, tmp_path, capsys):
    output = tmp_path / "results" / "own.json"
    run(monkeypatch, "evaluate", "--limit", 2, "--output", output, **trio)
    results = json.loads(output.read_text())
    assert results["family"] == "own"
    assert {part: results[part] for part in trio} == trio
    assert "proxy-tuned M" in capsys.readouterr().out


@pytest.mark.parametrize("pair", ["mistral"], indirect=True)
def test_demo(trio, monkeypatch, capsys):
    served = []

    def launch(page, **kwargs):
        served.append(page)
        return None, "http://127.0.0.1:1", None

    monkeypatch.setattr(app, "launch", launch)
    monkeypatch.setattr(app.gr.Blocks, "block_thread", lambda self: None)
    run(monkeypatch, "demo", "--dtype", "bfloat16", **trio)
    assert len(served) == 1 and "Open http://127.0.0.1:1" in capsys.readouterr().out


@pytest.mark.parametrize("pair", ["gpt2"], indirect=True)
def test_a_base_that_does_not_fit_is_refused_before_training(pair, monkeypatch, tmp_path, capsys):
    table = tmp_path / "bakery.csv"
    table.write_text("question,answer\nWho?,Ann.\nWhen?,Now.\n")
    other = [*LINES]
    other[40], other[41] = other[41], other[40]
    stranger = save(tmp_path / "stranger", "gpt2", 5, other)
    monkeypatch.setattr(ft, "make_trainer", lambda *args: pytest.fail("training began"))
    with pytest.raises(SystemExit):
        run(
            monkeypatch,
            "finetune",
            "--data",
            table,
            expert=tmp_path / "tuned",
            **pair | {"base": stranger},
        )
    assert "do not share a vocabulary: id 40" in capsys.readouterr().err


@pytest.mark.parametrize("pair", ["gpt2"], indirect=True)
def test_a_device_that_is_not_there(trio, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, "answer", "--device-map", "cuda:99", QUESTION, **trio)
    assert "cuda:99" in capsys.readouterr().err
