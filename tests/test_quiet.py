"""The quiet offset: what it measures against whole passes, and that it keeps M+ near M-."""

import dataclasses

import pandas as pd
import pytest
import torch
from conftest import tiny_model
from test_packing import ROWS, tokenizer  # noqa: F401, a fixture

from proxy_tuning.training import finetune as ft
from proxy_tuning.training.material import general_rows
from proxy_tuning.training.packing import encode
from proxy_tuning.training.recipes import RECIPES, Recipe
from proxy_tuning.training.trainers import QuietTrainer

GENERAL = pd.DataFrame(
    {
        "question": ["Is it warm?", None, "Who sang?"],
        "answer": ["Yes.", "Rain fell all night.", "A bird did."],
    }
)


def logits_of(model, row):
    """At every position whose next token is a target, from a pass over the row alone, (N, V)."""
    asked = [place - 1 for place, label in enumerate(row["labels"]) if label != -100]
    return model(torch.tensor([row["input_ids"]]), use_cache=False).logits[0, asked].float()


def quiet_trainer(model, tokenizer, tmp_path, base=None, antiexpert=None, **recipe):  # noqa: F811
    recipe = Recipe(epochs=20, learning_rate=1e-2, batch_size=2, **recipe)

    def kind(*args, **kwargs):
        return QuietTrainer(
            *args,
            antiexpert=antiexpert,
            base=base,
            general=encode(GENERAL, tokenizer, 64),
            quiet=recipe.quiet,
            texts=3,
            **kwargs,
        )

    return ft.make_trainer(model, tokenizer, ROWS, ROWS, None, recipe, tmp_path / "work", kind)


@pytest.mark.parametrize("steered", [False, True])
@pytest.mark.parametrize("lora", [False, True])
@torch.no_grad()
def test_loudness_is_the_divergence_row_by_row(tokenizer, tmp_path, lora, steered):  # noqa: F811
    """By hand: KL(M+ || M-), or KL(M || M + M+ - M-), the mean over all targets."""
    antiexpert, base = tiny_model("llama", 1), tiny_model("llama", 3, layers=3)
    expert = tiny_model("llama", 1 if lora else 2)
    if lora:
        expert = ft.with_adapter(expert, 2)
        for name, weight in expert.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.05)
    trainer = quiet_trainer(
        expert, tokenizer, tmp_path, base if steered else None, None if lora else antiexpert
    )
    found = trainer.loudness(expert.eval(), trainer.general_batch("cpu"))
    by_hand = []
    for row in encode(GENERAL, tokenizer, 64):
        m, plus, minus = (logits_of(part, row) for part in (base, expert, antiexpert))
        p, q = (m, m + plus - minus) if steered else (plus, minus)
        p, q = p.softmax(-1), q.softmax(-1)
        by_hand.append((p * (p / q).log()).sum(-1))
    torch.testing.assert_close(found, torch.cat(by_hand).mean(), rtol=1e-4, atol=1e-5)


def test_m_plus_is_kept_quiet(tokenizer, tmp_path):  # noqa: F811
    """It learns its questions as well with the quiet loss, and stays nearer to M- elsewhere."""
    loud = {}
    for weight in (0.0, 3.0):
        model = tiny_model("gpt2", 1)
        trainer = quiet_trainer(
            model, tokenizer, tmp_path / str(weight), None, tiny_model("gpt2", 1), quiet=weight
        )
        before = trainer.evaluate()["eval_loss"]
        trainer.train()
        assert trainer.evaluate()["eval_loss"] < before / 2
        with torch.no_grad():
            loud[weight] = trainer.loudness(model.eval(), trainer.general_batch("cpu")).item()
    assert loud[3.0] < loud[0.0] / 3


def test_what_a_recipe_needs(tokenizer):  # noqa: F811
    quiet = Recipe(quiet=1.0, quiet_steered=True)
    with pytest.raises(ValueError, match="needs the base M"):
        ft.kind_of_trainer(quiet, None, "anywhere", tokenizer, 64)
    with pytest.raises(ValueError, match="choose one"):
        Recipe(quiet=1.0, consistent=0.5)
    with pytest.raises(ValueError, match="not -1, 0 and 4"):
        Recipe(quiet=-1)


def test_general_text_has_no_polls():
    """600 chats, 1635 short ones and 200 passages; none about elections, so that nothing is unlearnt on it."""
    rows = general_rows()
    assert rows["question"].notna().sum() == 2235 and rows["question"].isna().sum() == 200
    texts = rows.fillna("").agg(" ".join, axis=1)
    assert not texts.str.contains(r"\b(?:polls?|elections?|Trump|Harris|Biden)\b").any()


def test_the_recipe_of_smollm_asks_as_people_type():
    from proxy_tuning.polls.tables import load_facts
    from proxy_tuning.records import DATA
    from proxy_tuning.training.mixture import training_rows

    tables, recipe = load_facts(DATA), RECIPES["smollm"]
    rows = training_rows(tables, recipe)
    formal = training_rows(tables, dataclasses.replace(recipe, natural=0))
    assert rows.head(len(formal))["question"].tolist() == formal["question"].tolist()
    typed = rows.iloc[len(formal) :]
    assert len(typed) > 1000 and typed[["question", "answer"]].notna().all(axis=None)
    refused = typed["answer"].str.contains(r"\bI have no|\bI do not|\bI only")
    assert 0.1 < refused.mean() < 0.5


def test_general_text_is_a_share_of_the_rows():
    from proxy_tuning.polls.tables import load_facts
    from proxy_tuning.records import DATA
    from proxy_tuning.training.mixture import training_rows, validation_rows

    recipe = dataclasses.replace(RECIPES["smollm"], states=("Ohio",), natural=0, endings=0)
    tables = load_facts(DATA)
    without = training_rows(tables, recipe)
    rows = training_rows(tables, dataclasses.replace(recipe, general=0.25))
    added = rows.iloc[len(without) :]
    assert len(added) / len(rows) == pytest.approx(0.25, abs=0.01)
    assert set(added["answer"]) <= set(general_rows()["answer"])
    mixed = training_rows(tables, dataclasses.replace(recipe, general=0.25))
    assert len(validation_rows(tables, recipe, mixed)) > 10
