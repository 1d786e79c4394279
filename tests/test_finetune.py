"""Labels drawn by hand, losses against single rows, and an M+ that is whole or not there."""

import dataclasses
import json

import pandas as pd
import pytest
import torch
from conftest import letter_tokenizer, tiny_model
from torch.nn import Dropout
from transformers import Trainer

from proxy_tuning import finetune as ft
from proxy_tuning.families import Family, missing_files
from proxy_tuning.questions import prompt

ROWS = pd.DataFrame({
    "question": ["Who won?", "Who led the polls there?", None],
    "answer": ["Ann won.", "Bo.", "Ann won the vote."],
})  # fmt: skip


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


def test_labels_by_hand(tokenizer):
    first, second, statement = ft.encode(ROWS, tokenizer, 160)
    text = "Question: Who won?\nAnswer: Ann won."
    assert tokenizer.decode(first["input_ids"]) == text + "<end>"
    targets = [i for i, label in enumerate(first["labels"]) if label != ft.IGNORED]
    # One token is one character: the answer with its space, and end-of-text.
    assert targets == list(range(text.index(" Ann"), len(text) + 1))
    assert first["labels"][-1] == tokenizer.eos_token_id
    assert statement["labels"] == statement["input_ids"]


def test_a_row_that_is_too_long_is_named(tokenizer):
    with pytest.raises(ValueError, match=r"36 tokens, more than 20: 'Question: Who won"):
        ft.encode(ROWS, tokenizer, 20)


def test_a_batch_has_the_loss_of_its_rows_alone(tokenizer):
    """Padding changes nothing, and no answer sees another."""
    model = tiny_model("gpt2", 1)
    rows = list(ft.encode(ROWS, tokenizer, 160))
    batch = ft.collator(tokenizer)([dict(r) for r in rows])
    losses, counts = [], []
    for row in rows:
        ids, labels = (torch.tensor([row[name]]) for name in ("input_ids", "labels"))
        logits = model(ids, use_cache=False).logits[:, :-1]
        losses.append(torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), labels[:, 1:], reduction="sum", ignore_index=ft.IGNORED))  # fmt: skip
        counts.append((labels[:, 1:] != ft.IGNORED).sum())
    together = model(**batch, use_cache=False).loss
    torch.testing.assert_close(together, sum(losses) / sum(counts))


def test_exact_answers_by_hand():
    class Prediction:
        # The choice at a position is for the next one: column 0 answers label column 1.
        predictions = torch.tensor([[5, 6, 9, 9], [5, 7, 9, 9], [1, 2, 3, 9]]).numpy()
        label_ids = torch.tensor([[-100, 5, 6, -100], [-100, 5, 6, -100], [0, 1, 2, 3]]).numpy()

    assert ft.exact_answers(Prediction) == {"exact": pytest.approx(2 / 3)}


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
    monkeypatch.setattr(
        ft, "replace_folder", lambda *args: (_ for _ in ()).throw(OSError("disk full"))
    )
    with pytest.raises(OSError, match="disk full"):
        ft.finetune("tiny", QUICK)
    assert missing_files(family.expert)


def test_fine_tuning_changes_the_expert_towards_its_answers(family, tokenizer):
    """The tuned model gives a training answer a higher probability than M- did."""
    from proxy_tuning.families import load_part

    ft.finetune("tiny", dataclasses.replace(QUICK, epochs=6, learning_rate=5e-3))
    rows = ft.training_rows(ft.load_facts(ft.DATA), QUICK).head(4)
    batch = ft.collator(tokenizer)(
        [dict(r) for r in ft.encode(rows, tokenizer, 320)])  # fmt: skip
    with torch.no_grad():
        before, after = (load_part(f)[0](**batch).loss for f in (family.antiexpert, family.expert))
    assert after < before - 0.5


def test_the_prompt_is_the_one_constant():
    assert prompt("Who won?") == "Question: Who won?\nAnswer:"


def test_what_a_tokenizer_puts_first_is_no_target(tokenizer):
    """As Llama's, which begins every text with a token of its own."""
    from tokenizers.processors import TemplateProcessing

    plain = [row["input_ids"] for row in ft.encode(ROWS, tokenizer, 160)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="! $A", special_tokens=[("!", 5)]
    )
    for row, ids in zip(ft.encode(ROWS, tokenizer, 160), plain, strict=True):
        assert row["input_ids"] == [5, *ids]  # once, before the question alone
        assert row["labels"][0] == ft.IGNORED and row["labels"][-1] == tokenizer.eos_token_id


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


@pytest.mark.parametrize("kept", [ft.DIFFERENCES, 0], ids=["computed once", "at each step"])
def test_the_loss_through_the_steered_output(tokenizer, tmp_path, monkeypatch, kept):
    """Against M+ + (M - M-) row by row; M- and M+ differ, so that the terms count."""
    monkeypatch.setattr(ft, "DIFFERENCES", kept)
    base, antiexpert, expert = (tiny_model("gpt2", seed) for seed in range(3))
    expert.apply(lambda part: setattr(part, "p", 0.0) if isinstance(part, Dropout) else None)
    recipe = ft.Recipe(epochs=2, batch_size=3, consistent=1.0)  # rows come up twice
    steering = {"base": base, "antiexpert": antiexpert}
    trainer = ft.make_trainer(expert, tokenizer, ROWS, ROWS, None, recipe, tmp_path, steering)
    assert (trainer.known is not None) == bool(kept)
    batch = next(iter(trainer.get_train_dataloader()))
    expert.train()
    with torch.no_grad():
        loss = trainer.compute_loss(expert, dict(batch))
    alone, steered = [], []
    for row in ft.encode(ROWS, tokenizer, 160):
        ids, labels = (torch.tensor([row[name]]) for name in ("input_ids", "labels"))
        with torch.no_grad():
            m, minus, plus = (x(ids, use_cache=False).logits for x in (base, antiexpert, expert))
        for logits, losses in ((plus, alone), (plus + m - minus, steered)):
            told = logits[0, :-1].log_softmax(-1).gather(1, labels[0, 1:, None].clamp(min=0))[:, 0]
            losses.extend((-told)[labels[0, 1:] != ft.IGNORED])
    expected = (torch.stack(alone).mean() + torch.stack(steered).mean()) / 2
    tolerance = 1e-3 if kept else 1e-5  # M - M- is kept in half precision
    torch.testing.assert_close(loss, expected, atol=tolerance, rtol=0)


def test_recipes():
    assert ft.choose_recipe("pocket") == ft.RECIPES["pocket"]
    assert ft.choose_recipe("gpt2", own_rows=True) == ft.OWN
    assert ft.choose_recipe("pocket", own_rows=True) == ft.OWN_POCKET
    adapter = ft.choose_recipe("pocket", lora=8)
    assert (adapter.lora, adapter.optimizer, adapter.learning_rate) == (8, "adamw", ft.LORA_RATE)
    with pytest.raises(ValueError, match="lora must be at least 1 or None, not 0"):
        ft.choose_recipe("gpt2", lora=0)
