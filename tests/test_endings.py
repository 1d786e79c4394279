"""The end of a run: an M+ that is there stays, learning by heart is said, answers are shown."""

import dataclasses

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from test_finetune import OWN_ROWS, QUICK, family, tokenizer  # noqa: F401, fixtures
from test_quiet import GENERAL
from transformers import Trainer

from proxy_tuning.families import load_family, missing_files
from proxy_tuning.training import endings, recipes
from proxy_tuning.training import finetune as ft
from proxy_tuning.training.material import split_rows

ROWS = OWN_ROWS.head(20)
BY_HEART = dataclasses.replace(recipes.OWN, epochs=60, learning_rate=1e-2, batch_size=4)


def weights(folder):
    return load_file(f"{folder}/model.safetensors")


def test_an_m_plus_that_is_there_stays_and_is_compared(family, capsys):  # noqa: F811
    quick = dataclasses.replace(QUICK, max_facts=12)
    ft.finetune("tiny", quick)
    before, beside = weights(family.expert), endings.TUNED / "tiny-new"
    assert "stays as it is" not in capsys.readouterr().out
    ft.finetune("tiny", dataclasses.replace(quick, epochs=2, learning_rate=5e-3))
    said = capsys.readouterr().out
    assert not missing_files(beside) and "stays as it is" in said
    assert "The new one is better." in said and f"--expert {beside}" in said
    assert all(torch.equal(before[name], now) for name, now in weights(family.expert).items())


def test_learning_by_heart_is_said_and_the_last_state_is_kept(family, tmp_path, capsys):  # noqa: F811
    """All that is trained is answered alike, what is held out otherwise: learning makes it worse."""
    held_out = split_rows(ROWS, BY_HEART.seed)[1]["question"]
    rows = ROWS.assign(answer=ROWS["answer"].where(~ROWS["question"].isin(held_out), "%%%%%%%%"))
    log = ft.finetune("tiny", BY_HEART, tmp_path / "own", rows=rows)
    assert endings.never_fell(log)
    said = capsys.readouterr().out
    assert "WARNING: the held-out loss never fell" in said
    first, last = weights(tmp_path / "own"), weights(tmp_path / "own-last")
    assert any(not torch.equal(first[name], last[name]) for name in first)
    assert not missing_files(tmp_path / "own-last")
    assert said.count("\nheld out: ") == 2 * 2 and said.count("\ntrained on: ") == 2 * 3


def test_when_the_loss_fell():
    log = [{"loss": 3.0}, {"eval_loss": 1.0}, {"eval_loss": 2.0}]
    assert endings.never_fell(log)
    assert not endings.never_fell([*log, {"eval_loss": 0.9}])
    assert not endings.never_fell(log[:2])


def test_shown_answers_are_those_of_the_saved_models(family, tmp_path, capsys):  # noqa: F811
    quick = dataclasses.replace(recipes.OWN, epochs=12, learning_rate=5e-3, batch_size=4)
    ft.finetune("tiny", quick, tmp_path / "own", rows=ROWS)
    said = capsys.readouterr().out.split("The M+ in ")[1]
    assert said.count("M+         Ann.") == said.count("steered M  ") == 5  # M here is M-
    model, tok = load_family(family, expert=str(tmp_path / "own"))
    question = said.split("held out: ")[1].splitlines()[0]
    answer = endings.answer_questions(model, tok, [question])[0]["steered"]
    assert f"held out: {question}\n  to learn   Ann.\n" in said and f"steered M  {answer}" in said
    endings.show_answers(
        "none", family.antiexpert, None, pd.DataFrame(columns=list(ROWS)), ROWS[:0]
    )
    assert capsys.readouterr().out == ""


def test_a_quiet_run_that_broke_off_ends_as_one_that_did_not(
    family,  # noqa: F811
    tmp_path,
    monkeypatch,
    capsys,
):
    monkeypatch.setattr(ft, "general_rows", lambda: GENERAL)
    recipe = dataclasses.replace(
        recipes.OWN, epochs=4, learning_rate=3e-3, batch_size=4, quiet=1.0, quiet_texts=2
    )
    ft.finetune("tiny", recipe, tmp_path / "whole", rows=ROWS)
    step = Trainer.training_step

    def interrupted(self, *args, **kwargs):
        if self.state.global_step >= 7:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, "training_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ft.finetune("tiny", recipe, tmp_path / "broken", rows=ROWS)
    monkeypatch.setattr(Trainer, "training_step", step)
    ft.finetune("tiny", recipe, tmp_path / "broken", rows=ROWS)
    assert "Going on from checkpoint-6" in capsys.readouterr().out
    broken = weights(tmp_path / "broken")
    for name, weight in weights(tmp_path / "whole").items():
        torch.testing.assert_close(broken[name], weight, atol=1e-3, rtol=0)
