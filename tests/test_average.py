"""The mean of several M+: its weights by hand, and what is refused."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_finetune import QUICK, family, tokenizer  # noqa: F401, fixtures

from proxy_tuning.families import missing_files
from proxy_tuning.training import average
from proxy_tuning.training import finetune as ft

NAME = "adapter_model.safetensors"
RECIPE = dataclasses.replace(QUICK, lora=2, max_facts=12)


@pytest.fixture
def two(family, tmp_path):  # noqa: F811
    """The folders of two M+ that went on from one, with other seeds."""
    ft.finetune("tiny", RECIPE)
    folders = [tmp_path / "one", tmp_path / "two"]
    for seed, folder in enumerate(folders):
        recipe = dataclasses.replace(RECIPE, seed=seed)
        ft.finetune("tiny", recipe, folder, start=family.expert)
    return folders


def test_the_mean_of_two_and_of_what_they_began_with(two, tmp_path, monkeypatch, family, capsys):  # noqa: F811
    monkeypatch.setattr(average, "resolve_family", lambda *args, **kwargs: family)
    scores = average.average([family.expert, *two, family.expert], tmp_path / "mean")
    start, one, other, mean = (
        load_file(Path(folder, NAME)) for folder in (family.expert, *two, tmp_path / "mean")
    )
    assert mean.keys() == one.keys() and any(not torch.equal(one[n], other[n]) for n in one)
    for name, weight in mean.items():
        wanted = (2 * start[name].float() + one[name].float() + other[name].float()) / 4
        torch.testing.assert_close(weight.float(), wanted, rtol=0, atol=1e-3)
    record = json.loads((tmp_path / "mean" / "training.json").read_text())
    assert [each["recipe"]["seed"] for each in record["mean_of"]] == [0, 0, 1, 0]
    assert record["validation"]["loss"] == scores["the mean"]["eval_loss"]
    assert len(scores) == 4 and not missing_files(tmp_path / "mean")
    assert f"the mean: loss {scores['the mean']['eval_loss']:.4f}" in capsys.readouterr().out


def test_what_is_not_made_alike_is_refused(two, tmp_path):
    with pytest.raises(ValueError, match=r"two or more M\+"):
        average.average(two[:1], tmp_path / "mean")
    path = two[1] / "training.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"antiexpert": "another"}))
    with pytest.raises(ValueError, match="name several M-"):
        average.average(two, tmp_path / "mean")
    assert not (tmp_path / "mean").exists()
