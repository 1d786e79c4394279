"""M- by distillation: the loss against autograd, the block that goes, and a run that is cut off."""

import ast
import copy
import json
import random

import pytest
import torch
from conftest import save_part

from proxy_tuning.families import load_part
from proxy_tuning.training import distill

LAYERS = 6


@pytest.fixture
def base(tmp_path, monkeypatch):
    """A tiny M in a folder; texts and sizes to match it."""
    rng = random.Random(0)
    steps = [(rng.randrange(20), rng.randrange(1, 4)) for _ in range(24)]
    texts = [[1 + (first + step * i) % 20 for i in range(24)] for first, step in steps]
    rows = [(("own", "english")[i % 2], text) for i, text in enumerate(texts)]
    monkeypatch.setattr(distill, "rows_of", lambda tokenizer, own_text: rows)
    monkeypatch.setattr(distill, "WORK", tmp_path / "work")
    for name, size in {"TOP": 4, "ROW": 32, "BATCH": 96, "HELD_OUT": 4, "RANK": 4}.items():
        monkeypatch.setattr(distill, name, size)
    return save_part(tmp_path / "base", "llama", 0, layers=LAYERS)


def spoil(layers, keep):
    """All layers but one do something; that one passes on what it is given."""
    for number, layer in enumerate(layers):
        for weight in (layer.self_attn.o_proj.weight, layer.mlp.down_proj.weight):
            with torch.no_grad():
                weight.mul_(0.0 if number == keep else 20.0)


def test_the_loss_and_its_gradient_are_those_of_the_definition():
    """Cross-entropy of M's top tokens and one bucket for the rest, by autograd in float64."""
    torch.manual_seed(0)
    n, d, v, top = 7, 5, 11, 3
    states = torch.randn(n, d, dtype=torch.float64, requires_grad=True)
    output = torch.randn(v, d, dtype=torch.float64)
    scores, ids = torch.randn(n, v, dtype=torch.float64).log_softmax(-1).topk(top)
    log_q = (states @ output.T).log_softmax(-1).gather(-1, ids)
    p = scores.exp()
    rest = (1 - p.sum(-1)) * (1 - log_q.exp().sum(-1)).log()
    wanted = -((p * log_q).sum(-1) + rest).mean()
    (gradient,) = torch.autograd.grad(wanted, states)
    loss = distill.TopAndRest.apply(states, output, ids, scores)
    (found,) = torch.autograd.grad(loss, states)
    # the function itself keeps probabilities in float32
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    assert torch.allclose(found, gradient, rtol=1e-4, atol=1e-6)


def test_the_layer_goes_that_does_nothing(base, tmp_path):
    teacher, _ = load_part(base)
    spoil(teacher.model.layers, keep=3)
    batch = distill.few([list(range(1, 20))] * 2)
    model = copy.deepcopy(teacher)
    targets = distill.Targets(teacher, tmp_path / "targets")
    targets.folder.mkdir()
    assert distill.block_to_remove(model, 1, [batch], targets) == 3
    assert len(model.model.layers) == LAYERS


def test_a_run_goes_on_from_what_it_wrote(base, tmp_path, monkeypatch, capsys):
    output, asked = tmp_path / "small", []
    answer = distill.targets_of

    def counted(teacher, batch):
        asked.append(batch["input_ids"].tolist())
        return answer(teacher, batch)

    monkeypatch.setattr(distill, "targets_of", counted)
    first = distill.distill(str(base), None, output, {4: 3})
    assert len(first["layers"]) == 4 and first["tokens"] == 3 * 96
    assert json.loads((output / "distillation.json").read_text())["log"] == first["log"]
    capsys.readouterr()

    second = distill.distill(str(base), None, output, {4: 3})
    assert all(asked.count(each) == 1 for each in asked), "M said the same twice"
    begun = [line for line in capsys.readouterr().out.splitlines() if line.startswith("4 layers: ")]
    kl = ast.literal_eval(begun[0].removeprefix("4 layers: "))["own"]["kl"]
    assert kl == pytest.approx(first["log"][-1]["own"]["kl"], rel=0.02)  # kept in bfloat16
    assert second["layers"] == first["layers"] and second["tokens"] == 6 * 96
    assert second["log"][: len(first["log"])] == first["log"]

    third = distill.distill(str(base), None, output, {5: 2, 4: 1})
    assert third["tokens"] == 7 * 96  # the step at a depth that has been left is not taken again


def test_healing_brings_m_minus_nearer_to_m(base, tmp_path):
    record = distill.distill(str(base), None, tmp_path / "small", {4: 1, 3: 60}, learning_rate=1e-2)
    by_depth = {entry["layers"]: entry["own"]["kl"] for entry in record["log"]}
    nearest = min(entry["own"]["kl"] for entry in record["log"] if entry["layers"] == 3)
    assert set(by_depth) == {4, 3} and nearest < 0.9 * distill_only(
        base, record["layers"], tmp_path
    )


def distill_only(base, layers, tmp_path):
    """KL(M || M-) of those layers without any healing."""
    teacher, tokenizer = load_part(str(base), dtype=torch.bfloat16)
    bare = distill.keep_layers(load_part(str(base))[0], layers)
    _, held_out = distill.batches_of(distill.rows_of(tokenizer, None))
    targets = distill.Targets(teacher, tmp_path / "again")
    targets.folder.mkdir()
    return distill.measured(bare, held_out, targets)["own"]["kl"]
