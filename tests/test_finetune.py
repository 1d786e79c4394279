"""An M+ that learns what it is given, and is whole or not there."""

import dataclasses
import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import LINES, letter_tokenizer, save_part
from safetensors.torch import load_file
from test_packing import row_losses
from transformers import Trainer

from proxy_tuning.families import Family, load_part, missing_files
from proxy_tuning.polls.answers import NO_POLLS
from proxy_tuning.prompts import prompt
from proxy_tuning.records import DATA
from proxy_tuning.training import endings, mixture, recipes
from proxy_tuning.training import finetune as ft
from proxy_tuning.training.packing import encode


@pytest.fixture
def tokenizer():
    return letter_tokenizer(LINES)


@pytest.fixture
def family(tmp_path, tokenizer, monkeypatch):
    """A family whose M- is a tiny random model in a folder, with work and M+ folders beside it."""
    folder = tmp_path / "antiexpert"
    save_part(folder, "gpt2", 0, LINES, positions=320)
    trio = Family("tiny", str(folder), str(folder), str(tmp_path / "tuned" / "tiny"))
    (tmp_path / "tuned").mkdir()
    monkeypatch.setattr(ft, "resolve_family", lambda *args, **kwargs: trio)
    monkeypatch.setattr(ft, "WORK", tmp_path / "work")
    monkeypatch.setattr(endings, "TUNED", tmp_path / "tuned")
    return trio


QUICK = recipes.Recipe(epochs=1, learning_rate=1e-3, batch_size=8, wordings=1, max_facts=40)


def test_m_plus_is_complete_and_says_what_it_came_from(family, capsys):
    log = ft.finetune("tiny", QUICK)
    assert missing_files(family.expert) == []
    card = json.loads(open(f"{family.expert}/training.json").read())
    assert card["recipe"] == dataclasses.asdict(QUICK)
    assert card["validation"]["loss"] == min(e["eval_loss"] for e in log if "eval_loss" in e)
    assert {"antiexpert", "data", "templates", "versions"} <= set(card)
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
        ft.finetune("tiny", longer, family.expert)
    assert open(f"{family.expert}/model.safetensors", "rb").read() == before
    monkeypatch.setattr(Trainer, "training_step", step)
    capsys.readouterr()
    log = ft.finetune("tiny", longer, family.expert)
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
    rows = mixture.training_rows(ft.load_facts(DATA), QUICK).head(4)
    before, after = (
        sum(row_losses(load_part(folder)[0], row).mean() for row in encode(rows, tokenizer, 320))
        for folder in (family.antiexpert, family.expert)
    )
    assert after < before - 4 * 0.5


def test_the_prompt_is_the_one_constant():
    assert prompt("Who won?") == "Question: Who won?\nAnswer:"


OWN_ROWS = pd.DataFrame(
    {
        "question": [f"Who bakes bread {i}?" for i in range(20)] + ["And this one?"],
        "answer": ["Ann."] * 20 + ["Long " * 80],
    }
)


def test_own_rows_in_place_of_the_polls(family, tmp_path, capsys):
    quick = dataclasses.replace(recipes.OWN, epochs=1)
    ft.finetune("tiny", quick, tmp_path / "tuned" / "own", rows=OWN_ROWS)
    said = capsys.readouterr().out
    assert "1 of 21 rows are longer than 320 tokens" in said
    assert "18 rows to learn from, 2 held out" in said
    card = json.loads((tmp_path / "tuned" / "own" / "training.json").read_text())
    assert card["questions"] == 18 and card["held_out"] == 2 and "templates" not in card
    assert missing_files(family.expert)  # the family's own M+ is not touched


@pytest.mark.parametrize(
    "few", [{"max_facts": 40}, {"states": ("Iowa",)}, {"max_facts": 5, "rehearsal": 0.0}], ids=str
)
def test_validation_is_about_facts_that_are_trained(few):
    """Told by kind and answer, in which place, date and figures stand."""
    tables, recipe = ft.load_facts(DATA), recipes.Recipe(**few)
    training = mixture.training_rows(tables, recipe)
    validation = mixture.validation_rows(tables, recipe, training)
    polled = validation[validation["answer"] != NO_POLLS]
    learnt = set(zip(training["kind"], training["answer"], strict=True))
    assert len(polled) and set(zip(polled["kind"], polled["answer"], strict=True)) <= learnt
    assert not set(validation["question"]) & set(training["question"])
    assert (validation["cycle"] < 2024).any() == bool(recipe.rehearsal)
    assert len(validation) <= 240


def test_seldom_kinds_are_drawn_more_often():
    """Of 6400, 400 and 100 rows the roots are 80, 20 and 10."""
    kinds = ["share"] * 6400 + [None] * 400 + ["miss"] * 100
    rows = pd.DataFrame({"kind": kinds, "question": range(len(kinds))})
    drawn = mixture.by_kind(rows, 0.5, seed=1)
    shares = drawn["kind"].fillna("general").value_counts(normalize=True)
    assert len(drawn) == len(rows) and list(drawn.index) == list(rows.index)
    assert shares.to_dict() == pytest.approx(
        {"share": 80 / 110, "general": 20 / 110, "miss": 10 / 110}, abs=0.015
    )
    kept = rows.set_index("question").loc[drawn["question"], "kind"].reset_index()
    pd.testing.assert_frame_equal(kept[["kind", "question"]], drawn)
    assert not drawn.equals(mixture.by_kind(rows, 0.5, seed=2))
    pd.testing.assert_frame_equal(mixture.by_kind(rows, 1, seed=1), rows)


def test_an_adapter_is_saved_in_half_precision(family):
    ft.finetune("tiny", dataclasses.replace(QUICK, lora=2))
    saved = load_file(f"{family.expert}/adapter_model.safetensors")
    assert saved and {weight.dtype for weight in saved.values()} == {torch.float16}
    assert not missing_files(family.expert)


@pytest.mark.parametrize(
    ("template", "asked"),
    [(None, r"Question: QUESTION\nAnswer:"), ("{{ messages[0]['content'] }}!", "QUESTION!")],
)
def test_the_card_says_how_questions_are_put(family, tokenizer, template, asked):
    tokenizer.chat_template = template
    tokenizer.save_pretrained(family.antiexpert)
    ft.finetune("tiny", QUICK)
    card = Path(family.expert, "README.md").read_text(encoding="utf-8")
    assert f'a question put as "{asked}".' in card


@pytest.mark.parametrize("lora", [None, 2])
def test_a_run_goes_on_from_an_m_plus(family, tmp_path, lora):
    """With a rate too small to move a weight, what is gone on from is what comes out."""
    recipe = dataclasses.replace(QUICK, lora=lora)
    ft.finetune("tiny", recipe)
    still = dataclasses.replace(recipe, learning_rate=1e-12)
    ft.finetune("tiny", still, tmp_path / "further", start=family.expert)
    name = "adapter_model.safetensors" if lora else "model.safetensors"
    before, after = (load_file(f"{path}/{name}") for path in (family.expert, tmp_path / "further"))
    assert before.keys() == after.keys()
    for key, weight in before.items():
        torch.testing.assert_close(after[key], weight, rtol=0, atol=1e-6)
    record = json.loads((tmp_path / "further" / "training.json").read_text())
    assert record["start"]["recipe"] == dataclasses.asdict(recipe)
    other = dataclasses.replace(recipe, lora=4)
    with pytest.raises(ValueError, match="trains an adapter of rank 4"):
        ft.finetune("tiny", other, tmp_path / "other", start=family.expert)


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
        ft.finetune("tiny", recipes.OWN, output and tmp_path / output, rows=rows)


def test_recipes():
    assert recipes.choose_recipe("pocket") == recipes.RECIPES["pocket"]
    assert recipes.choose_recipe("gpt2", own_rows=True) == recipes.OWN
    assert recipes.choose_recipe("pocket", own_rows=True) == recipes.OWN_POCKET
    assert recipes.choose_recipe("smollm", own_rows=True) == recipes.OWN_SMOLLM
    assert recipes.RECIPES["gpt2"] == recipes.RECIPES["smollm"]
    adapter = recipes.choose_recipe("pocket", lora=8)
    assert (adapter.lora, adapter.optimizer, adapter.learning_rate) == (
        8,
        "adamw",
        recipes.LORA_RATE,
    )
    with pytest.raises(ValueError, match="lora must be at least 1 or None, not 0"):
        recipes.choose_recipe("gpt2", lora=0)
    with pytest.raises(ValueError, match=r"kind_power must be in \[0, 1\], not 1.5"):
        recipes.Recipe(kind_power=1.5)
