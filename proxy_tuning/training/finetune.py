"""M- -> M+: fine-tune the small model on questions and answers, and leave it whole or not at all.

transformers' Trainer does the training, of all weights or of a LoRA adapter (peft). What is ours:
the packed batches (packing.py) and the loss (trainers.py), how (recipes.py) and on what it is
trained (mixture.py, material.py), and the folder that is replaced only when complete.
"""

import contextlib
import dataclasses
import functools
import json
import shutil
from pathlib import Path

import torch
from transformers import (
    EarlyStoppingCallback,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_utils import get_last_checkpoint

from proxy_tuning.families import (
    check_same_tokens,
    load_part,
    load_tokenizer,
    missing_files,
    resolve_family,
)
from proxy_tuning.learnt import write_learnt
from proxy_tuning.loading import add_adapter, in_one_line
from proxy_tuning.polls.natural_forms import NATURAL
from proxy_tuning.polls.tables import load_facts
from proxy_tuning.polls.templates import TEMPLATES
from proxy_tuning.prompts import prompt
from proxy_tuning.records import DATA, ROOT, WORK, claimed, fingerprint, machine, replaced_folder
from proxy_tuning.training.endings import (
    compare_with,
    load_expert,
    never_fell,
    place_for,
    short,
    show_answers,
    warn_of_memorising,
)
from proxy_tuning.training.material import general_rows, split_rows
from proxy_tuning.training.mixture import training_rows, validation_rows
from proxy_tuning.training.optim import MuonAdamW, computes_in_bf16
from proxy_tuning.training.packing import encode, that_fit
from proxy_tuning.training.recipes import choose_recipe, record_of
from proxy_tuning.training.trainers import (
    PackedTrainer,
    QuietTrainer,
    SampleAnswer,
    SteeredTrainer,
    exact_answers,
)

FIXED_QUESTION = "Who led the polls in Pennsylvania in October 2024?"
EVALUATIONS = 8  # in a run
PATIENCE = 3  # evaluations without a better validation loss before training on own rows stops
LONGEST = 1024  # tokens of an example, where the model's context allows


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


def going_on(start, antiexpert, rank):
    """An M+ that was saved, to be trained further: whole weights, or its adapter on M-.

    Args: start, its folder; antiexpert, the model M-; rank, the recipe's `lora`.
    Raises ValueError where the folder holds another kind of M+ or an adapter of another rank.
    """
    adapter = Path(start, "adapter_config.json")
    found = None
    if adapter.is_file():
        with in_one_line(adapter):
            found = json.loads(adapter.read_text(encoding="utf-8"))["r"]
    if found != rank:
        kinds = ["whole weights" if r is None else f"an adapter of rank {r}" for r in (found, rank)]
        raise ValueError(f"{start} is {kinds[0]}, and the recipe trains {kinds[1]}: choose alike")
    if rank is None:
        return load_part(start)[0]
    return add_adapter(antiexpert, start, is_trainable=True)


def beginning(start):
    """What an M+ that is gone on from was made of: its training.json without the log."""
    return {name: value for name, value in record_of(start).items() if name != "log"}


def make_trainer(
    model, tokenizer, rows, validation, question, recipe, work, kind=PackedTrainer, patience=None
):
    """A Trainer over question rows: packed batches, validation, the best state kept.

    Args: question, whose answer is printed as training goes on; None prints none; kind, from
    `kind_of_trainer`; patience, evaluations without a better loss before it stops; None goes on
    to the end, where the learning rate is zero.
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
    return kind(
        model,
        arguments,
        train_dataset=data,
        eval_dataset=held_out,
        optimizers=(MuonAdamW(model, recipe.learning_rate) if muon else None, None),
        compute_metrics=exact_answers,
        callbacks=([EarlyStoppingCallback(patience)] if patience else [])
        + ([SampleAnswer(tokenizer, question)] if question else []),
    )


def finetune(
    family="auto", recipe=None, output=None, *, rows=None, antiexpert=None, base=None, start=None
):
    """Make M+ from M- and put it into `output`.

    Args:
        family: what `families.resolve_family` takes, a name or a Family; its M- is tuned.
        recipe: a `Recipe`; default that of `choose_recipe`.
        output: the folder that is replaced when all is done. By default the family's M+ or, where
            a complete one is there, a folder beside it: `endings.place_for`.
        rows: questions and answers to learn in place of the polls, as `material.read_rows` returns
            them; a part is held out by question. Needs `output`.
        antiexpert: a name on the Hub or a folder to take as M- instead. Needs `output`.
        base: the M to be steered later, in place of the family's. Its vocabulary must be M-'s;
            recipes with `consistent` or `quiet_steered` read its logits.
        start: the folder of an M+ of this M- to go on from, in place of M- itself; an adapter of
            the recipe's rank where the recipe has one, else whole weights.
    Ends by printing questions with M+'s and the steered M's answers; where the held-out loss never
    fell, the last state is kept too, in `output` with -last at its end.
    Returns the Trainer's log, one dict per entry. An interrupted run with the same family, recipe
    and data is taken up at its last checkpoint.
    Raises OSError, before any training, where nothing can be written beside `output`, or another
    run that lives writes to it or has the same recipe and data; ValueError for an output not named
    or with something in it that is no M+, vocabularies that differ, a recipe that needs a base
    where there is none, a start of another kind or rank than the recipe's, or rows of which none
    fits the context.
    """
    if output is None and (rows is not None or antiexpert is not None):
        raise ValueError("own rows or an own M- need a folder for M+: name it with output")
    earlier = None
    if antiexpert is None:
        family = resolve_family(family, need_expert=False)
        name, antiexpert, base = family.name, family.antiexpert, base or family.base
        output = output or place_for(family)
        if rows is None and Path(output) != Path(family.expert):
            earlier = None if missing_files(family.expert) else family.expert
    else:
        name = "own"
    output = Path(output)
    recipe = recipe or choose_recipe(name, rows is not None)
    for place in (output, place_of_last(output)):
        check_place(place)
    with contextlib.ExitStack() as held:
        held.enter_context(claimed(output))
        return make_m_plus(held, name, recipe, output, rows, antiexpert, base, start, earlier)


def check_place(output):
    """ValueError for a place where M+ cannot go: a file, or a folder of other things, to be lost."""
    if output.exists() and not output.is_dir():
        raise ValueError(f"{output} is a file: name a folder for M+")
    if output.is_dir() and any(output.iterdir()) and not (output / "training.json").is_file():
        raise ValueError(
            f"{output} has something in it that is no M+, and would be lost: name another folder"
        )


def place_of_last(output):
    """Where the last state goes if the first one was the best."""
    return output.with_name(f"{output.name}-last")


def make_m_plus(held, name, recipe, output, rows, antiexpert, base, start, earlier):
    """What `finetune` does once it is known what is made, from what and where to.

    Args: held, the ExitStack that holds `output`, and then the checkpoints, against other runs;
    earlier, the folder of an M+ to compare with, or None.
    """
    model, tokenizer = load_part(antiexpert)
    if base is not None:
        check_same_tokens(load_tokenizer(base), tokenizer, base, antiexpert)
    training, validation, question, source = material(rows, recipe, tokenizer, longest(model))

    set_seed(recipe.seed)
    made_from = {
        "family": name,
        "antiexpert": str(antiexpert).removeprefix(f"{ROOT}/"),
        "recipe": dataclasses.asdict(recipe),
        **source,
        "questions": len(training),
        "bf16": computes_in_bf16(),
    }
    if recipe.quiet_steered or recipe.consistent:
        made_from["base"] = str(base).removeprefix(f"{ROOT}/")
    if start is not None:
        made_from["start"] = beginning(start)
        model = going_on(start, model, recipe.lora)
    elif recipe.lora:
        model = with_adapter(model, recipe.lora)
    kind = kind_of_trainer(recipe, base, antiexpert, tokenizer, longest(model))
    work = WORK / f"finetune-{fingerprint(made_from)[:12]}"
    held.enter_context(claimed(work))
    patience = None if rows is None else PATIENCE
    trainer = make_trainer(
        model, tokenizer, training, validation, question, recipe, work, kind, patience
    )
    checkpoint = last_whole_checkpoint(work)
    if checkpoint:
        print(f"Going on from {Path(checkpoint).name} of an interrupted run.")
    trainer.train(resume_from_checkpoint=checkpoint)

    log = trainer.state.log_history
    evaluations = [entry for entry in log if "eval_loss" in entry]
    best = min(evaluations, key=lambda entry: entry["eval_loss"])
    answers = training.loc[training["question"].notna(), "answer"]
    save(output, model, tokenizer, made_from, log, best, answers)
    last = place_of_last(output) if never_fell(log) else None
    if last is not None:
        state = load_expert(get_last_checkpoint(work), antiexpert)
        save(last, state, tokenizer, made_from, log, evaluations[-1], answers)
        warn_of_memorising(output, last)
    if earlier is not None:
        compare_with(earlier, output, antiexpert, trainer, best["eval_loss"], best["eval_exact"])
    shutil.rmtree(work, ignore_errors=True)
    for folder in filter(None, (output, last)):
        show_answers(folder, antiexpert, base, training, validation)
    return log


def last_whole_checkpoint(work):
    """The newest checkpoint below a folder, None without any; newer ones that broke off go.

    transformers writes a checkpoint's trainer_state.json last of all its files.
    """
    while work.is_dir() and (newest := get_last_checkpoint(work)):
        try:
            json.loads(Path(newest, "trainer_state.json").read_text(encoding="utf-8"))
            return newest
        except (FileNotFoundError, ValueError):
            shutil.rmtree(newest)
    return None


def kind_of_trainer(recipe, base, antiexpert, tokenizer, max_length):
    """What makes the Trainer of a recipe, from the arguments that all of them take.

    Args: base and antiexpert, names or folders; base may be None where the recipe does not need it.
    Raises ValueError where it does.
    """
    if base is None and (recipe.consistent or recipe.quiet_steered):
        raise ValueError("this recipe needs the base M that is to be steered: name it")
    if recipe.consistent:
        frozen = {"base": load_part(base)[0], "antiexpert": load_part(antiexpert)[0]}
        return functools.partial(SteeredTrainer, consistent=recipe.consistent, **frozen)
    if recipe.quiet:
        return functools.partial(
            QuietTrainer,
            antiexpert=None if recipe.lora else load_part(antiexpert)[0],
            base=load_part(base)[0] if recipe.quiet_steered else None,
            general=encode(that_fit(general_rows(), tokenizer, max_length), tokenizer, max_length),
            quiet=recipe.quiet,
            texts=recipe.quiet_texts,
        )
    return PackedTrainer


def material(rows, recipe, tokenizer, max_length):
    """What to learn and what to validate on: the polls, or own rows if there are any.

    Args: max_length, in tokens; longer own rows are left out.
    Returns (training rows, validation rows, a question to ask at intervals or None, where they come
    from as the record keeps it).
    """
    if rows is not None:
        training, validation = split_rows(that_fit(rows, tokenizer, max_length), recipe.seed)
        print(f"{len(training)} rows to learn from, {len(validation)} held out by question.")
        source = {"data": fingerprint(rows.to_csv()), "held_out": len(validation)}
        return training, validation, next(iter(validation["question"].dropna()), None), source
    tables = load_facts(DATA)
    training = training_rows(tables, recipe)
    source = {
        "data": fingerprint({name: table.to_csv() for name, table in tables.items()}),
        "templates": fingerprint([TEMPLATES, NATURAL] if recipe.natural else TEMPLATES),
    }
    if recipe.quiet or recipe.general:
        source["general"] = fingerprint(general_rows().to_csv())
    return training, validation_rows(tables, recipe, training), FIXED_QUESTION, source


def save(output, model, tokenizer, made_from, log, evaluation, answers):
    """Put M+, its card, its training.json and learnt.jsonl into `output`, all or nothing.

    Weights are in half precision. Args: evaluation, the entry of the log that is about the state
    of `model`; answers, what it learnt to say.
    """
    scores = {
        "step": evaluation["step"],
        "loss": evaluation["eval_loss"],
        "exact": evaluation["eval_exact"],
    }
    record = made_from | {"validation": scores, "versions": machine(), "log": log}
    with replaced_folder(output) as beside:
        if made_from["recipe"]["lora"]:
            model.peft_config["default"].base_model_name_or_path = made_from["antiexpert"]
        model.half().save_pretrained(beside)
        tokenizer.save_pretrained(beside)
        asked = prompt("QUESTION", tokenizer)
        (beside / "README.md").write_text(card(made_from, scores, asked), encoding="utf-8")
        (beside / "training.json").write_text(json.dumps(record, indent=1) + "\n")
        write_learnt(beside, answers)
    print(
        f"M+ is in {short(output)}: validation loss {scores['loss']:.3f}, "
        f"{scores['exact']:.0%} of the held-out answers right word for word."
    )


def card(made_from, scores, asked):
    """The README of an M+: what it is, what it was made from, how to steer with it.

    Args: asked, the text of a prompt.
    """
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

- Learnt from {made_from["questions"]:,} questions or passages, a question put as {json.dumps(asked)}.
- On held-out ones: loss {scores["loss"]:.3f} nats per token, {scores["exact"]:.1%} of the answers right
  word for word. training.json has the recipe, the versions and the whole log.
- learnt.jsonl has answers that it was trained on, as drafts: without the file it answers the same, slower.
- It repeats what it read, mistakes included, and forgets what it did not read again. Not for
  advice, and not for persuading anyone.
"""
