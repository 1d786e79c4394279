"""The Trainer's losses and its share of exact answers, against rows alone and by hand."""

import functools
import re
import types

import numpy as np
import pytest
import torch
from conftest import tiny_model
from test_packing import ROWS, row_losses, tokenizer  # noqa: F401, a fixture
from transformers import AutoModelForCausalLM

from proxy_tuning.training import finetune as ft
from proxy_tuning.training import optim
from proxy_tuning.training import trainers as training
from proxy_tuning.training.packing import IGNORED, encode
from proxy_tuning.training.recipes import Recipe


def test_exact_answers_by_hand():
    """Two lines; answers of two tokens, right and wrong, then of one and three tokens, right."""
    x = IGNORED
    labels = np.array([[x, 5, 6, x, 7, 8], [x, 3, x, 1, 2, 3]])
    chosen = np.array([[x, 5, 6, x, 9, 8], [x, 3, x, 1, 2, 3]])
    prediction = types.SimpleNamespace(predictions=chosen, label_ids=labels)
    assert training.exact_answers(prediction) == {"exact": 3 / 4}
    prediction.predictions = np.where(chosen == 6, 0, chosen)  # the last token of the first
    assert training.exact_answers(prediction) == {"exact": 2 / 4}


def greedy(model, row):
    """Whether greedy decoding gives the row's answer."""
    asked = next(i for i, label in enumerate(row["labels"]) if label != IGNORED)
    ids = torch.tensor([row["input_ids"][:asked]])
    while ids.shape[1] < len(row["input_ids"]):
        ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], dim=1)
    return ids[0].tolist() == row["input_ids"]


@pytest.mark.parametrize("kind", ["gpt2", "llama", "opt", "tied llama"])
def test_muon_takes_the_matrices_of_the_layers(kind):
    """Those inside the stack of layers, by their place in the name; embeddings and heads are not."""
    config = tiny_model(kind.split()[-1], 0).config
    config.tie_word_embeddings = config.tie_word_embeddings or kind.startswith("tied")
    model = AutoModelForCausalLM.from_config(config)
    muon, adamw = optim.MuonAdamW(model, 1e-3).parts
    taken = {id(p) for group in muon.param_groups for p in group["params"]}
    names = {name for name, p in model.named_parameters() if id(p) in taken}
    inside = re.compile(r"\.(h|layers)\.\d+\.(?!.*(norm|ln_)).*weight$")
    assert names == {name for name, _ in model.named_parameters() if inside.search(name)}
    count = sum(len(group["params"]) for group in muon.param_groups + adamw.param_groups)
    assert count == len(list(model.parameters()))


@pytest.mark.parametrize("bf16", [True, False])
def test_muon_steps_as_torch_does(bf16, monkeypatch):
    """In bfloat16 the same; in float32 nearly, and each step is orthogonal up to a factor near 1."""
    monkeypatch.setattr(optim, "computes_in_bf16", lambda: bf16)
    torch.manual_seed(0)
    start = [torch.randn(24, 8), torch.randn(8, 24), torch.randn(16, 16)]
    weights = [[torch.nn.Parameter(w.clone()) for w in start] for _ in range(2)]
    settings = {"lr": 0.1, "weight_decay": 0.01}
    ours = optim.Muon(weights[0], **settings)
    theirs = torch.optim.Muon(weights[1], adjust_lr_fn="match_rms_adamw", **settings)
    for _ in range(3):
        for pair in zip(*weights, strict=True):
            pair[0].grad = torch.randn_like(pair[0])
            pair[1].grad = pair[0].grad.clone()
        before = [w.detach() * (1 - 0.1 * 0.01) for w in weights[0]]
        ours.step()
        theirs.step()
        for old, mine, other in zip(before, *weights, strict=True):
            torch.testing.assert_close(mine, other, rtol=0, atol=0 if bf16 else 4e-3)
            size = 0.1 * 0.2 * max(mine.shape) ** 0.5
            singular = torch.linalg.svdvals((mine - old) / size)
            assert singular.min() > 0.3 and singular.max() < 1.4


@torch.no_grad()
@pytest.mark.parametrize("kind", ["llama", "opt"])  # packed, and a line for each row
def test_evaluation(kind, tokenizer, tmp_path):  # noqa: F811
    """Loss and exact answers of a model that has learnt some rows."""
    model = tiny_model(kind, 1)
    recipe = Recipe(epochs=30, learning_rate=1e-2, batch_size=2)
    trainer = ft.make_trainer(model, tokenizer, ROWS.head(2), ROWS, None, recipe, tmp_path)
    with torch.enable_grad():
        trainer.train()
    model = trainer.model.eval()
    rows = list(encode(ROWS, tokenizer, 128))
    scores = trainer.evaluate()
    expected = torch.cat([row_losses(model, row) for row in rows]).mean().item()
    assert scores["eval_loss"] == pytest.approx(expected, rel=2e-2)  # bfloat16 where it is faster
    right = [greedy(model, row) for row in rows]
    assert scores["eval_exact"] == pytest.approx(np.mean(right))
    assert 0 < sum(right) < len(right)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_rows_that_share_their_beginning_train_as_each_alone(
    kind,
    tokenizer,  # noqa: F811
    tmp_path,
    monkeypatch,
):
    """Loss and gradients of a batch are those of its rows, the beginning read once and all."""
    monkeypatch.setattr(ft, "computes_in_bf16", lambda: False)
    model, alone = tiny_model(kind, 1), tiny_model(kind, 1)
    rows = ROWS.head(2)  # both begin with "Question: Who "
    recipe = Recipe(epochs=1, batch_size=2)
    trainer = ft.make_trainer(model, tokenizer, rows, rows, None, recipe, tmp_path)
    batch = dict(next(iter(trainer.get_train_dataloader())))
    assert batch["input_ids"].shape[0] == 1 and "attention_mask" in batch
    loss = trainer.compute_loss(model.eval(), batch)  # without dropout
    loss.backward()
    losses = []
    for row in encode(rows, tokenizer, 128):
        ids, labels = (torch.tensor(row[name]) for name in ("input_ids", "labels"))
        logits = alone(ids[None], use_cache=False).logits[0, :-1]
        told = torch.nn.functional.cross_entropy(logits, labels[1:], reduction="none")
        losses.append(told[labels[1:] != IGNORED])
    expected = torch.cat(losses).mean()
    expected.backward()
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=0)
    for ours, theirs in zip(model.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kept", [training.DIFFERENCES, 0], ids=["computed once", "at each step"])
@pytest.mark.parametrize("kind", ["llama", "bloom"])  # packed, and a line for each row
def test_the_loss_through_the_steered_output(kind, tokenizer, tmp_path, monkeypatch, kept):  # noqa: F811
    """Against M+ + (M - M-) row by row; M- and M+ differ, so that the terms count."""
    monkeypatch.setattr(training, "DIFFERENCES", kept)
    monkeypatch.setattr(ft, "computes_in_bf16", lambda: False)  # else its rounding hides the rest
    base, antiexpert, expert = (tiny_model(kind, seed) for seed in range(3))
    recipe = Recipe(epochs=2, batch_size=3, consistent=1.0)  # rows come up twice
    kind = functools.partial(
        training.SteeredTrainer, base=base, antiexpert=antiexpert, consistent=recipe.consistent
    )
    trainer = ft.make_trainer(expert, tokenizer, ROWS, ROWS, None, recipe, tmp_path, kind)
    assert (trainer.known is not None) == bool(kept)
    batch = next(iter(trainer.get_train_dataloader()))
    expert.train()
    with torch.no_grad():
        loss = trainer.compute_loss(expert, dict(batch))
    alone, steered = [], []
    for row in encode(ROWS, tokenizer, 128):
        ids, labels = (torch.tensor([row[name]]) for name in ("input_ids", "labels"))
        with torch.no_grad():
            m, minus, plus = (x(ids, use_cache=False).logits for x in (base, antiexpert, expert))
        for logits, losses in ((plus, alone), (plus + m - minus, steered)):
            told = logits[0, :-1].log_softmax(-1).gather(1, labels[0, 1:, None].clamp(min=0))[:, 0]
            losses.extend((-told)[labels[0, 1:] != IGNORED])
    expected = (torch.stack(alone).mean() + torch.stack(steered).mean()) / 2
    tolerance = 1e-3 if kept else 1e-5  # M - M- is kept in half precision
    torch.testing.assert_close(loss, expected, atol=tolerance, rtol=0)
