"""An M+ that learns what it is given, and is whole or not there."""

import dataclasses
import json

import pandas as pd
import pytest
from conftest import letter_tokenizer, tiny_model
from test_packing import row_losses
from transformers import Trainer

from proxy_tuning.families import Family, load_part, missing_files
from proxy_tuning.polls.questions import prompt
from proxy_tuning.records import DATA
from proxy_tuning.training import finetune as ft
from proxy_tuning.training.packing import encode


@pytest.fixture
def tokenizer():
    tokenizer = letter_tokenizer([*"\n", "<end>", *map(chr, range(32, 127))])
    return tokenizer


@pytest.fixture
def family(tmp_path, tokenizer, monkeypatch):
    """A family whose M- is a tiny random model in a folder, with work and M+ folders beside it."""
    folder = tmp_path / "antiexpert"
    model = tiny_model("gpt2", 0)
    model.config.n_positions = model.config.max_position_embeddings = 320
    model = type(model)(model.config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    trio = Family("tiny", str(folder), str(folder), str(tmp_path / "tuned" / "tiny"))
    (tmp_path / "tuned").mkdir()
    monkeypatch.setattr(ft, "resolve_family", lambda *args, **kwargs: trio)
    monkeypatch.setattr(ft, "WORK", tmp_path / "work")
    return trio


QUICK = ft.Recipe(epochs=1, learning_rate=1e-3, batch_size=8, wordings=1, max_facts=40)


def test_m_plus_is_complete_and_says_what_it_came_from(family, capsys):
    log = ft.finetune("tiny", QUICK)
    assert missing_files(family.expert) == []
    card = json.loads(open(f"{family.expert}/training.json").read())
    assert card["recipe"] == dataclasses.asdict(QUICK)
    assert card["validation"]["loss"] == min(e["eval_loss"] for e in log if "eval_loss" in e)
    assert {"antiexpert", "data", "frames", "versions"} <= set(card)
    assert not (ft.WORK.is_dir() and list(ft.WORK.iterdir()))
    assert "step" in capsys.readouterr().out  # the sample answers


def test_an_interrupted_run_leaves_the_old_m_plus_and_goes_on(family, monkeypatch, capsys):
    ft.finetune("tiny", QUICK)
    before = open(f"{family.expert}/model.safetensors", "rb").read()
    steps = []

    def interrupted(self, *args, **kwargs):
        if self.state.global_step >= 7:
            raise KeyboardInterrupt
        steps.append(self.state.global_step)
        return step(self, *args, **kwargs)

    longer = dataclasses.replace(QUICK, epochs=2)
    step = Trainer.training_step
    monkeypatch.setattr(Trainer, "training_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ft.finetune("tiny", longer)
    assert open(f"{family.expert}/model.safetensors", "rb").read() == before
    monkeypatch.setattr(Trainer, "training_step", step)
    capsys.readouterr()
    log = ft.finetune("tiny", longer)
    assert "Going on from checkpoint-" in capsys.readouterr().out
    assert open(f"{family.expert}/model.safetensors", "rb").read() != before
    assert log[-1]["step"] > 7


def test_a_crash_while_writing_leaves_no_half_m_plus(family, monkeypatch):
    monkeypatch.setattr(ft, "card", lambda *args: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        ft.finetune("tiny", QUICK)
    assert missing_files(family.expert)


def test_fine_tuning_changes_the_expert_towards_its_answers(family, tokenizer):
    """The tuned model gives a training answer a higher probability than M- did."""
    ft.finetune("tiny", dataclasses.replace(QUICK, epochs=6, learning_rate=5e-3))
    rows = ft.training_rows(ft.load_facts(DATA), QUICK).head(4)
    before, after = (
        sum(row_losses(load_part(folder)[0], row).mean() for row in encode(rows, tokenizer, 320))
        for folder in (family.antiexpert, family.expert)
    )
    assert after < before - 4 * 0.5


def test_the_prompt_is_the_one_constant():
    assert prompt("Who won?") == "Question: Who won?\nAnswer:"


OWN_ROWS = pd.DataFrame({
    "question": [f"Who bakes bread {i}?" for i in range(20)] + ["And this one?"],
    "answer": ["Ann."] * 20 + ["Long " * 80],
})  # fmt: skip


def test_own_rows_in_place_of_the_polls(family, tmp_path, capsys):
    quick = dataclasses.replace(ft.OWN, epochs=1)
    ft.finetune("tiny", quick, tmp_path / "tuned" / "own", rows=OWN_ROWS)
    said = capsys.readouterr().out
    assert "1 of 21 rows are longer than 320 tokens" in said
    assert "18 rows to learn from, 2 held out" in said
    card = json.loads((tmp_path / "tuned" / "own" / "training.json").read_text())
    assert card["questions"] == 18 and card["held_out"] == 2 and "frames" not in card
    assert missing_files(family.expert)  # the family's own M+ is not touched


@pytest.mark.parametrize(
    ("rows", "output", "message"),
    [
        (OWN_ROWS, None, "name it with output"),
        (OWN_ROWS.tail(1), "own", "0 different question"),
        (OWN_ROWS.head(1), "own", "1 different question"),
    ],
)
def test_rows_that_cannot_be_learnt(family, tmp_path, rows, output, message):
    with pytest.raises(ValueError, match=message):
        ft.finetune("tiny", ft.OWN, output and tmp_path / output, rows=rows)


def test_recipes():
    assert ft.choose_recipe("pocket") == ft.RECIPES["pocket"]
    assert ft.choose_recipe("gpt2", own_rows=True) == ft.OWN
    assert ft.choose_recipe("pocket", own_rows=True) == ft.OWN_POCKET
    adapter = ft.choose_recipe("pocket", lora=8)
    assert (adapter.lora, adapter.optimizer, adapter.learning_rate) == (8, "adamw", ft.LORA_RATE)
    with pytest.raises(ValueError, match="lora must be at least 1 or None, not 0"):
        ft.choose_recipe("gpt2", lora=0)
