"""M- -> M+: fine-tune the small model on questions and answers, and leave it whole or not at all.

transformers' Trainer does the training, of all weights or of a LoRA adapter (peft). What is ours:
the packed batches (packing.py) and the loss (training.py), the mixture of 2024 facts with
historical ones (rehearsal), validation on held-out wordings or questions, and the folder that is
replaced only when complete.
"""

import dataclasses
import functools
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from transformers import (
    AutoTokenizer,
    EarlyStoppingCallback,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_utils import get_last_checkpoint

from proxy_tuning.families import FAMILIES, check_same_tokens, load_part, resolve_family
from proxy_tuning.polls.history import STATES, historical_facts
from proxy_tuning.polls.questions import FRAMES, ask, make_facts
from proxy_tuning.polls.sources import NATIONAL, load_facts
from proxy_tuning.records import DATA, ROOT, WORK, fingerprint, machine, replaced_folder
from proxy_tuning.training.material import split_rows
from proxy_tuning.training.optim import MuonAdamW
from proxy_tuning.training.packing import encode, that_fit
from proxy_tuning.training.trainers import (
    PackedTrainer,
    SampleAnswer,
    SteeredTrainer,
    computes_in_bf16,
    exact_answers,
)

CYCLE = 2024
FIXED_QUESTION = "Who led the polls in Pennsylvania in October 2024?"
ONCE = ("final", "result", "miss", "trend")  # kinds whose numbers no other kind asks for
EVALUATIONS = 8  # in a run
PATIENCE = 3  # evaluations without a better validation loss before training stops
LONGEST = 1024  # tokens of an example, where the model's context allows


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
    consistent: float = 0.0
    """Share of the steps, the last ones, that train the steered output too: `SteeredTrainer`."""
    states: tuple[str, ...] | None = None
    """Places of the tables to ask about; None takes all."""
    max_facts: int | None = None
    """Use at most so many facts of 2024, drawn by the seed; None takes all."""
    lora: int | None = None
    """Rank of a LoRA adapter that is trained in place of M-'s weights; None trains the weights."""
    seed: int = 0

    def __post_init__(self):
        for name in ("epochs", "learning_rate", "batch_size"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        for name in ("wordings", "max_facts", "lora"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1 or None, not {getattr(self, name)}")
        if self.optimizer not in ("adamw", "muon"):
            raise ValueError(f"optimizer must be adamw or muon, not {self.optimizer!r}")
        if not 0 <= self.consistent <= 1:
            raise ValueError(f"consistent must be in [0, 1], not {self.consistent}")
        if not 0 <= self.rehearsal < 1:
            raise ValueError(f"rehearsal must be in [0, 1), not {self.rehearsal}")


RECIPES = {
    # The places whose history the pocket models know: as much as their size holds well.
    "pocket": Recipe(
        epochs=0.6,
        optimizer="muon",
        learning_rate=3e-3,
        batch_size=16,
        rehearsal=0.4,
        consistent=0.25,
        states=(*STATES, NATIONAL),
    ),
    "gpt2": Recipe(learning_rate=2e-4, wordings=4),
}
OWN = Recipe(epochs=20, learning_rate=1e-4, batch_size=8)
"""For a reader's own rows: few of them, so many passes, ended when held-out loss stops falling."""
OWN_POCKET = Recipe(epochs=80, optimizer="muon", learning_rate=6e-3, batch_size=8)
"""The same for pocket's M-, which has to learn the words as well."""
LORA_RATE = 1e-3
"""Learning rate of an adapter (with AdamW): ten times that of all weights, as it starts from nothing."""


def choose_recipe(family, own_rows=False, lora=None):
    """The recipe for a family's M-, polls or own rows, all weights or an adapter of rank `lora`."""
    if own_rows:
        recipe = OWN_POCKET if family == "pocket" else OWN
    else:
        recipe = RECIPES.get(family, Recipe())
    if lora is not None:
        recipe = dataclasses.replace(recipe, lora=lora, optimizer="adamw", learning_rate=LORA_RATE)
    return recipe


def evenly(rows):
    """Ask twice what is met least: numbers of the kinds `ONCE`, and July 2024.

    The numbers of a state-month come up in three kinds of question; its two match-ups share July.
    """
    seldom = rows["kind"].isin(ONCE) | (rows["month"] == "2024-07")
    return pd.concat([rows, without_match_up(rows[seldom])])


def without_match_up(rows):
    """The same, but as most would ask about July 2024: without "(Harris v. Trump)".

    That stays only where nothing else tells: the question names no Democrat, and the answer is not
    about the last match-up of that place.
    """
    named = rows["question"].str.extract(r" \((\w+) v\. \w+\)")[0]
    short = rows["question"].str.replace(r" \(\w+ v\. \w+\)", "", regex=True)
    last = named.groupby([rows["state"], rows["kind"]]).transform("last")
    tells = (named == last) | short.str.contains("Biden|Harris")
    return rows.assign(question=short.where(tells, rows["question"]))


def training_rows(tables, recipe):
    """Questions of 2024 and, as rehearsal, of the years before: train frames, trained facts."""
    new = make_facts(tables, [CYCLE], recipe.states)
    new = new[new["trained"]]
    if recipe.max_facts is not None and recipe.max_facts < len(new):
        new = new.sample(recipe.max_facts, random_state=recipe.seed)
    old = historical_facts(tables)
    new = evenly(ask(new, "train", recipe.wordings, recipe.seed))
    old = evenly(ask(old[old["trained"]], "train"))
    count = round(len(new) * recipe.rehearsal / (1 - recipe.rehearsal))
    old = old.sample(count, random_state=recipe.seed, replace=count > len(old))
    return pd.concat([new, old], ignore_index=True)


def validation_rows(tables, recipe, count=240):
    """Validation frames about trained facts, two thirds of them of 2024."""
    new, old, seed = (
        make_facts(tables, [CYCLE], recipe.states),
        historical_facts(tables),
        recipe.seed,
    )
    parts = [
        ask(facts[facts["trained"]], "validation", 1, seed).sample(n, random_state=seed)
        for facts, n in ((new, 2 * count // 3), (old, count // 3))
    ]
    return pd.concat(parts, ignore_index=True)


def longest(model):
    """How many tokens an example may have."""
    return min(getattr(model.config, "max_position_embeddings", LONGEST), LONGEST)


def with_adapter(model, rank):
    """M- with a new LoRA adapter on all its linear layers but the last; the adapter alone trains."""
    from peft import LoraConfig, get_peft_model  # only where it is used: it is slow to import

    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        target_modules="all-linear",
        fan_in_fan_out=model.config.model_type == "gpt2",  # its layers keep weights transposed
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def make_trainer(model, tokenizer, rows, validation, question, recipe, work, steering=None):
    """A Trainer over question rows: packed batches, validation, early stopping.

    Args: question, whose answer is printed as training goes on; None prints none; steering, for
    recipe.consistent, base and antiexpert as `SteeredTrainer` takes them.
    """
    data, held_out = (encode(r, tokenizer, longest(model)) for r in (rows, validation))
    steps = max(1, round(recipe.epochs * len(data) / recipe.batch_size))
    every = max(1, steps // EVALUATIONS)
    arguments = TrainingArguments(
        output_dir=str(work),
        max_steps=steps,
        learning_rate=recipe.learning_rate,
        per_device_train_batch_size=recipe.batch_size,
        per_device_eval_batch_size=64,
        lr_scheduler_type="linear",
        warmup_steps=max(1, steps // 30),
        weight_decay=0.01,
        bf16=computes_in_bf16(),
        use_cpu=not torch.cuda.is_available(),
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
        remove_unused_columns=False,
    )
    muon = recipe.optimizer == "muon"
    trainer = PackedTrainer
    if recipe.consistent:
        trainer = functools.partial(SteeredTrainer, consistent=recipe.consistent, **steering)
    return trainer(
        model,
        arguments,
        train_dataset=data,
        eval_dataset=held_out,
        optimizers=(MuonAdamW(model, recipe.learning_rate) if muon else None, None),
        compute_metrics=exact_answers,
        callbacks=[EarlyStoppingCallback(PATIENCE)]
        + ([SampleAnswer(tokenizer, question)] if question else []),
    )


def finetune(family="auto", recipe=None, output=None, *, rows=None, antiexpert=None, base=None):
    """Make M+ from M- and put it into `output`.

    Args:
        family: what `families.resolve_family` takes, a name or a Family; its M- is tuned.
        recipe: a `Recipe`; default that of `choose_recipe`.
        output: the folder that is replaced when all is done; default the family's M+.
        rows: questions and answers to learn in place of the polls, as `material.read_rows` returns
            them; a part is held out by question. Needs `output`.
        antiexpert: a name on the Hub or a folder to take as M- instead. Needs `output`.
        base: the M to be steered later; what is checked, before any training, is that its
            vocabulary is M-'s.
    Returns the Trainer's log, one dict per entry. An interrupted run with the same family, recipe
    and data is taken up at its last checkpoint.
    Raises ValueError, before any training, for an output not named, vocabularies that differ, or
    rows of which none fits the context.
    """
    if output is None and (rows is not None or antiexpert is not None):
        raise ValueError("own rows or an own M- need a folder for M+: name it with output")
    if antiexpert is None:
        family = resolve_family(family, need_expert=False)
        name, antiexpert = family.name, family.antiexpert
        output = Path(output or family.expert)
    else:
        name, output = "own", Path(output)
    recipe = recipe or choose_recipe(name, rows is not None)
    model, tokenizer = load_part(antiexpert)
    if base is not None:
        check_same_tokens(AutoTokenizer.from_pretrained(base), tokenizer, base, antiexpert)
    if rows is None:
        tables = load_facts(DATA)
        training = training_rows(tables, recipe)
        validation, question = validation_rows(tables, recipe), FIXED_QUESTION
        source = {
            "data": fingerprint({name: table.to_csv() for name, table in tables.items()}),
            "frames": fingerprint(FRAMES),
        }
    else:
        training, validation = split_rows(that_fit(rows, tokenizer, longest(model)), recipe.seed)
        question = next(iter(validation["question"].dropna()), None)
        source = {"data": fingerprint(rows.to_csv()), "held_out": len(validation)}
        print(f"{len(training)} rows to learn from, {len(validation)} held out by question.")

    set_seed(recipe.seed)
    made_from = {
        "family": name,
        "antiexpert": str(antiexpert).removeprefix(f"{ROOT}/"),
        "recipe": dataclasses.asdict(recipe),
        **source,
        "questions": len(training),
        "bf16": computes_in_bf16(),
    }
    if recipe.lora:
        model = with_adapter(model, recipe.lora)
    steering = None
    if recipe.consistent:
        if base is None and name not in FAMILIES:
            raise ValueError("consistent steps need the base M that is to be steered: name it")
        base = base or FAMILIES[name].base
        steering = {"base": load_part(base)[0], "antiexpert": load_part(antiexpert)[0]}
    work = WORK / f"finetune-{fingerprint(made_from)[:12]}"
    trainer = make_trainer(model, tokenizer, training, validation, question, recipe, work, steering)
    checkpoint = get_last_checkpoint(work) if work.is_dir() else None
    if checkpoint:
        print(f"Going on from {Path(checkpoint).name} of an interrupted run.")
    trainer.train(resume_from_checkpoint=checkpoint)

    log = trainer.state.log_history
    best = min((e for e in log if "eval_loss" in e), key=lambda e: e["eval_loss"])
    scores = {"step": best["step"], "loss": best["eval_loss"], "exact": best["eval_exact"]}
    record = made_from | {"validation": scores, "versions": machine(), "log": log}
    with replaced_folder(output) as beside:
        if recipe.lora:
            model.peft_config["default"].base_model_name_or_path = made_from["antiexpert"]
            model.save_pretrained(beside)
        else:
            model.half().save_pretrained(beside)
        tokenizer.save_pretrained(beside)
        (beside / "README.md").write_text(card(made_from, scores), encoding="utf-8")
        (beside / "training.json").write_text(json.dumps(record, indent=1) + "\n")
    shutil.rmtree(work, ignore_errors=True)
    print(
        f"M+ is in {str(output).removeprefix(f'{ROOT}/')}: validation loss {best['eval_loss']:.3f}, "
        f"{best['eval_exact']:.0%} of the held-out answers right word for word."
    )
    return log


def card(made_from, scores):
    """The README of an M+: what it is, what it was made from, how to steer with it."""
    recipe, antiexpert = made_from["recipe"], made_from["antiexpert"]
    tuned = f"a LoRA adapter of rank {recipe['lora']} on" if recipe["lora"] else "fine-tuned from"
    library = "peft" if recipe["lora"] else "transformers"
    return f"""---
library_name: {library}
base_model: {antiexpert}
---
# M+ for proxy-tuning

An expert, {tuned} `{antiexpert}`, which is its antiexpert M-. What the two
differ in steers a larger model of the same vocabulary:

    python -m proxy_tuning answer --base M --antiexpert {antiexpert} --expert THIS_FOLDER "QUESTION"

- Learnt from {made_from["questions"]:,} questions or passages, put as "Question: ...\\nAnswer: ...".
- On held-out ones: loss {scores["loss"]:.3f} nats per token, {scores["exact"]:.1%} of the answers right
  word for word. training.json has the recipe, the versions and the whole log.
- It repeats what it read, mistakes included, and forgets what it did not read again. Not for
  advice, and not for persuading anyone.
"""
