"""M- -> M+: fine-tune the small model on questions and answers, and leave it whole or not at all.

transformers' Trainer does the training. What is ours: the labels (the prompt is masked, the
end-of-text token stays a target), the mixture of 2024 facts with historical ones (rehearsal),
validation on held-out wordings, and the folder that is replaced only when complete.
"""

import dataclasses
import hashlib
import json
import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

import datasets
import pandas as pd
import torch
import transformers
from transformers import (
    DataCollatorForSeq2Seq,
    EarlyStoppingCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_utils import get_last_checkpoint

from proxy_tuning.decoding import greedy_answers
from proxy_tuning.families import load_part, resolve_family
from proxy_tuning.optim import MuonAdamW
from proxy_tuning.pocket.corpus import historical_facts
from proxy_tuning.polls import load_facts
from proxy_tuning.questions import FRAMES, ask, make_facts, prompt

ROOT = Path(__file__).parents[1]
DATA = ROOT / "data"
WORK = ROOT / ".work"  # checkpoints and other by-products, ignored by git
CYCLE = 2024
FIXED_QUESTION = "Who led the polls in Pennsylvania in October 2024?"
ALONE = 3  # times that a fact is asked whose numbers no other kind of question repeats
EVALUATIONS = 8  # in a run
PATIENCE = 3  # evaluations without a better validation loss before training stops
IGNORED = -100  # the label that the loss leaves out


def encode(rows, tokenizer, max_length):
    """Rows with question and answer -> a Dataset of input_ids and labels.

        tokens  Question : Who led ... ? \\n Answer :  In  Ohio ...  .   <eos>
        labels  -100 -100  ...                  -100  In  Ohio ...  .   <eos>

    A row whose question is missing is a statement: every token is a target. Labels stand at
    their own token's place; the model shifts them. Raises ValueError where a row is longer than
    `max_length` tokens.
    """
    spoken = rows["question"].notna()
    prompts = [prompt(q) if s else "" for q, s in zip(rows["question"], spoken, strict=True)]
    answers = [f" {a}" if s else a for a, s in zip(rows["answer"], spoken, strict=True)]
    ids = {"input_ids": [], "labels": []}
    for p, a in zip(
        *(tokenizer(list(texts))["input_ids"] for texts in (prompts, answers)), strict=True
    ):
        a = a + [tokenizer.eos_token_id]
        if len(p) + len(a) > max_length:
            raise ValueError(
                f"an example has {len(p) + len(a)} tokens, more than {max_length}: "
                f"{tokenizer.decode(p + a)[:80]!r}..."
            )
        ids["input_ids"].append(p + a)
        ids["labels"].append([IGNORED] * len(p) + a)
    return datasets.Dataset.from_dict(ids)


@dataclass(frozen=True)
class Recipe:
    """How M+ is made; checked when made."""

    epochs: float = 3
    """Passes over the training questions."""
    optimizer: str = "adamw"
    """"adamw", or "muon": `optim.MuonAdamW`, which learns facts in far fewer steps."""
    learning_rate: float = 1e-4
    """The highest rate, after warm-up; it falls linearly to zero."""
    batch_size: int = 32
    """Questions per step."""
    wordings: int | None = None
    """Training frames per fact, drawn by the seed; None takes all."""
    rehearsal: float = 0.3
    """Share of the training questions that are about the years before 2024."""
    max_facts: int | None = None
    """Use at most so many facts of 2024, drawn by the seed; None takes all."""
    seed: int = 0

    def __post_init__(self):
        for name in ("epochs", "learning_rate", "batch_size"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        for name in ("wordings", "max_facts"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1 or None, not {getattr(self, name)}")
        if self.optimizer not in ("adamw", "muon"):
            raise ValueError(f"optimizer must be adamw or muon, not {self.optimizer!r}")
        if not 0 <= self.rehearsal < 1:
            raise ValueError(f"rehearsal must be in [0, 1), not {self.rehearsal}")


RECIPES = {
    "pocket": Recipe(epochs=1, optimizer="muon", learning_rate=6e-3, batch_size=16),
    "gpt2": Recipe(learning_rate=2e-4, wordings=4),
}


def evenly(rows):
    """Repeat the questions on numbers that only one kind tells, so that all are met as often.

    A state-month's shares come up in four kinds of question; a result, a last average, a trend or
    Kennedy's share in one.
    """
    alone = rows["kind"].isin(["final", "result", "miss", "trend"])
    alone |= rows["slots"].map(lambda slots: slots.get("who") == "Kennedy")
    return rows.loc[rows.index.repeat(alone.map({True: ALONE, False: 1}))]


def training_rows(tables, recipe):
    """Questions of 2024 and, as rehearsal, of the years before: train frames, trained facts."""
    new = make_facts(tables, [CYCLE])
    new = new[new["trained"]]
    if recipe.max_facts is not None and recipe.max_facts < len(new):
        new = new.sample(recipe.max_facts, random_state=recipe.seed)
    old = historical_facts(tables)
    new = evenly(ask(new, "train", recipe.wordings, recipe.seed))
    old = evenly(ask(old[old["trained"]], "train"))
    count = round(len(new) * recipe.rehearsal / (1 - recipe.rehearsal))
    old = old.sample(count, random_state=recipe.seed, replace=count > len(old))
    return pd.concat([new, old], ignore_index=True)


def validation_rows(tables, count=240, seed=0):
    """Validation frames about trained facts, two thirds of them of 2024."""
    new, old = make_facts(tables, [CYCLE]), historical_facts(tables)
    parts = [
        ask(facts[facts["trained"]], "validation", 1, seed).sample(n, random_state=seed)
        for facts, n in ((new, 2 * count // 3), (old, count // 3))
    ]
    return pd.concat(parts, ignore_index=True)


def exact_answers(prediction):
    """The share of answers whose every token is the model's first choice.

    That is the share that greedy decoding gives word for word, told without generating: as long
    as all tokens so far are right, decoding sees what this pass sees.
    Args: prediction with predictions (N, T) first choices and label_ids (N, T).
    """
    chosen, labels = prediction.predictions[:, :-1], prediction.label_ids[:, 1:]
    return {"exact": float(((chosen == labels) | (labels == IGNORED)).all(axis=1).mean())}


class SampleAnswer(TrainerCallback):
    """Prints what the model says to one fixed question, so that a person sees it learn."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def on_evaluate(self, args, state, control, model=None, **kwargs):
        text, *_ = greedy_answers(model, self.tokenizer, [FIXED_QUESTION])
        print(f"step {state.global_step}: {text}", flush=True)


def make_trainer(model, tokenizer, rows, validation, recipe, work):
    """A Trainer over question rows: length-bucketed batches, validation, early stopping."""
    context = model.config.max_position_embeddings
    data, held_out = (encode(r, tokenizer, context) for r in (rows, validation))
    steps = max(1, round(recipe.epochs * len(data) / recipe.batch_size))
    every = max(1, steps // EVALUATIONS)
    gpu = torch.cuda.is_available()
    arguments = TrainingArguments(
        output_dir=str(work),
        max_steps=steps,
        learning_rate=recipe.learning_rate,
        per_device_train_batch_size=recipe.batch_size,
        per_device_eval_batch_size=64,
        train_sampling_strategy="group_by_length",
        lr_scheduler_type="linear",
        warmup_steps=max(1, steps // 30),
        weight_decay=0.01,
        bf16=gpu and torch.cuda.is_bf16_supported(),
        use_cpu=not gpu,
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        logging_steps=max(1, every // 5),
        seed=recipe.seed,
        report_to="none",
    )
    muon = recipe.optimizer == "muon"
    return Trainer(
        model,
        arguments,
        train_dataset=data,
        eval_dataset=held_out,
        data_collator=DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORED),
        optimizers=(MuonAdamW(model, recipe.learning_rate) if muon else None, None),
        compute_metrics=exact_answers,
        preprocess_logits_for_metrics=lambda logits, labels: logits.argmax(-1),
        callbacks=[SampleAnswer(tokenizer), EarlyStoppingCallback(PATIENCE)],
    )


def fingerprint(*things):
    """SHA-256 over JSON-able things: which data, which frames, which recipe."""
    return hashlib.sha256(json.dumps(things, sort_keys=True, default=str).encode()).hexdigest()


def replace_folder(beside, folder):
    """Put the complete folder `beside` in the place of `folder`; at no time is half of it there."""
    old = Path(f"{folder}.old")
    shutil.rmtree(old, ignore_errors=True)
    if Path(folder).exists():
        os.replace(folder, old)
    os.replace(beside, folder)
    shutil.rmtree(old, ignore_errors=True)


def finetune(family="auto", recipe=None, output=None):
    """Make M+ from a family's M- and put it into `output`.

    Args:
        family: a name of `families.FAMILIES`, or "auto".
        recipe: a `Recipe`; default the family's own of RECIPES.
        output: the folder that is replaced when all is done; default the family's M+.
    Returns the Trainer's log, one dict per entry. An interrupted run with the same family, recipe
    and data is taken up at its last checkpoint.
    """
    family = resolve_family(family, need_expert=False)
    recipe = recipe or RECIPES[family.name]
    output = Path(output or family.expert)
    model, tokenizer = load_part(family.antiexpert)
    tables = load_facts(DATA)
    rows, validation = training_rows(tables, recipe), validation_rows(tables, seed=recipe.seed)

    set_seed(recipe.seed)
    made_from = {
        "family": family.name,
        "antiexpert": family.antiexpert.removeprefix(f"{ROOT}/"),
        "recipe": dataclasses.asdict(recipe),
        "data": fingerprint({name: table.to_csv() for name, table in tables.items()}),
        "frames": fingerprint(FRAMES),
        "questions": len(rows),
    }
    work = WORK / f"finetune-{fingerprint(made_from)[:12]}"
    trainer = make_trainer(model, tokenizer, rows, validation, recipe, work)
    checkpoint = get_last_checkpoint(work) if work.is_dir() else None
    if checkpoint:
        print(f"Going on from {Path(checkpoint).name} of an interrupted run.")
    trainer.train(resume_from_checkpoint=checkpoint)

    log = trainer.state.log_history
    best = min((e for e in log if "eval_loss" in e), key=lambda e: e["eval_loss"])
    beside = Path(f"{output}.part")
    shutil.rmtree(beside, ignore_errors=True)
    model.half().save_pretrained(beside)
    tokenizer.save_pretrained(beside)
    (beside / "training.json").write_text(
        json.dumps(
            made_from
            | {
                "validation": {
                    "step": best["step"],
                    "loss": best["eval_loss"],
                    "exact": best["eval_exact"],
                },
                "versions": {
                    "python": platform.python_version(),
                    "torch": torch.__version__,
                    "transformers": transformers.__version__,
                },
                "log": log,
            },
            indent=1,
        )
        + "\n"
    )
    replace_folder(beside, output)
    shutil.rmtree(work, ignore_errors=True)
    print(
        f"M+ is in {output}: validation loss {best['eval_loss']:.3f}, "
        f"{best['eval_exact']:.0%} of the held-out wordings answered word for word."
    )
    return log
