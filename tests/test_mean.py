"""The mean of several M+, against the same mean of their weights by hand."""

import json

import pytest
import torch
from conftest import LETTERS, save_part, tiny_model
from safetensors.torch import load_file

from proxy_tuning.training.endings import load_expert
from proxy_tuning.training.finetune import with_adapter
from proxy_tuning.training.mean import mean_of


@pytest.fixture
def experts(tmp_path):
    """M- and three M+ that are adapters on it, each with a record; the third is of rank 4."""
    antiexpert = save_part(tmp_path / "antiexpert", "llama", 0)
    folders = []
    for seed, rank in ((1, 2), (2, 2), (3, 4)):
        folder = tmp_path / f"expert-{seed}"
        model = with_adapter(tiny_model("llama", 0, end=LETTERS.index("<end>")), rank)
        torch.manual_seed(seed)
        for name, weight in model.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(weight)
        model.half().save_pretrained(folder)
        save_part(folder / "tokenizer", "llama", 0)
        for file in (folder / "tokenizer").glob("tokenizer*"):
            file.rename(folder / file.name)
        record = {
            "antiexpert": antiexpert,
            "recipe": {"lora": rank, "seed": seed},
            "questions": 9,
            "log": [1],
        }
        (folder / "training.json").write_text(json.dumps(record))
        folders.append(folder)
    return antiexpert, folders


def test_mean_of_weights(experts, tmp_path):
    antiexpert, (one, other, _) = experts
    mean_of(tmp_path / "mean", {one: 0.75, other: 0.25})
    found = load_file(tmp_path / "mean" / "adapter_model.safetensors")
    first, second = (load_file(f / "adapter_model.safetensors") for f in (one, other))
    for name, weight in found.items():
        by_hand = 0.75 * first[name].double() + 0.25 * second[name].double()
        torch.testing.assert_close(weight.double(), by_hand, rtol=1e-3, atol=1e-6)
        assert weight.dtype == torch.float16 and not torch.equal(weight, first[name])
    record = json.loads((tmp_path / "mean" / "training.json").read_text())
    assert [(m["share"], m["recipe"]["seed"]) for m in record["mean_of"]] == [(0.75, 1), (0.25, 2)]
    assert "log" not in record and "The mean of 2 M+" in (tmp_path / "mean/README.md").read_text()
    ids = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        logits = [load_expert(f, antiexpert)(ids).logits for f in (tmp_path / "mean", one)]
    assert not torch.allclose(*logits)


def test_what_cannot_be_averaged_is_refused(experts, tmp_path):
    _, (one, other, larger) = experts
    with pytest.raises(ValueError, match="1 together"):
        mean_of(tmp_path / "mean", {one: 0.75, other: 0.5})
    with pytest.raises(ValueError, match="not of the kind"):
        mean_of(tmp_path / "mean", {one: 0.5, larger: 0.5})
    with pytest.raises(FileNotFoundError, match="name the folder of an M"):
        mean_of(tmp_path / "mean", {one: 0.5, tmp_path / "antiexpert" / "nowhere": 0.5})
    assert not (tmp_path / "mean").exists()
