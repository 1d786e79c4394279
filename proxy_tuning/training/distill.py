"""M-, M's little sibling: layers taken out of M, and what is left healed by distillation from M.

    python -m proxy_tuning.training.distill --own-text FILE --output DIR

Layers go in steps, the block first that M misses least, and between the steps a LoRA adapter on
what is left learns M's next-token distributions (Muralidharan et al. 2024, arXiv 2407.14679:
depth pruning with distillation). What is read is text that M wrote itself
(`proxy_tuning.training.own_text`) and plain English that comes with Python and Debian. M's
distributions are kept as the likeliest `TOP` tokens and one number for all others, so a run that
is taken up again computes nothing twice. M's embedding and the kept layers are not stored: M- is
M, a list of layers, and the adapter.
"""

import argparse
import ast
import hashlib
import itertools
import json
import random
import re
import sysconfig
import time
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed

from proxy_tuning.families import FAMILIES, load_part, locate
from proxy_tuning.families.smollm import NAME, keep_layers
from proxy_tuning.records import WORK, machine, replaced_folder, write_json, written_beside
from proxy_tuning.training.packing import IGNORED, pack

TOP = 32  # of M's likeliest tokens are kept
ROW = 256  # tokens of a text at most
BATCH = 4096  # tokens of a step, about
CHUNK = 256  # positions whose logits are in memory at once
RANK = 112
PROBE = 3  # texts of each kind that a block is chosen by
HELD_OUT = 64  # batches' worth of each kind of text is never trained on, in rows
EVERY = 50  # steps between two states that are kept


def documentation():
    """Plain English on any machine with Python and Debian: docstrings, help topics, Perl's pages."""
    from pydoc_data.topics import topics

    texts = list(topics.values())
    library = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(library.rglob("*.py")):
        if "site-packages" in path.parts or "test" in path.parts:
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        kinds = ast.Module | ast.ClassDef | ast.FunctionDef
        found = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds))
        texts += [text for text in found if text and len(text) > 200]
    for path in sorted(Path("/usr/share/perl").rglob("*.pod")):
        texts.append(path.read_text(encoding="utf-8", errors="replace"))
    for path in sorted(Path("/usr/share/common-licenses").glob("*")):
        texts.append(path.read_text(encoding="utf-8", errors="replace"))
    seen = dict.fromkeys(re.sub(r"[ \t]+", " ", text).strip() for text in texts)
    return [text for text in seen if len(text) > 200]


def rows_of(tokenizer, own_text):
    """(kind, token ids) of all texts, cut into rows of at most `ROW` tokens."""
    rows = []
    for line in Path(own_text).read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if "chat" in record:
            question, answer = record["chat"]
            messages = [
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            ]
            text = tokenizer.apply_chat_template(messages, tokenize=False)
            if not record["done"]:
                text = text.removesuffix("<|im_end|>\n")
            rows.append(("own", tokenizer(text)["input_ids"][:ROW]))
        elif len(record["text"]) > 40:
            rows.append(("own", tokenizer(record["text"])["input_ids"][:ROW]))
    for text in documentation():
        ids = tokenizer(text)["input_ids"]
        rows += [("english", ids[i : i + ROW]) for i in range(0, len(ids), ROW)]
    return [(kind, ids) for kind, ids in rows if len(ids) >= 16]


def batches_of(rows, seed=0):
    """(training, held out by kind): packed batches of about `BATCH` tokens, in a fixed order."""
    rows = list(rows)
    random.Random(seed).shuffle(rows)
    held_out, training, count = {}, [], {"own": 0, "english": 0}
    for kind, ids in rows:
        if count[kind] < HELD_OUT:
            count[kind] += 1
            held_out.setdefault(kind, []).append(ids)
        else:
            training.append(ids)
    return grouped(training), {kind: grouped(ids) for kind, ids in held_out.items()}


def grouped(texts):
    batches, batch, size = [], [], 0
    for ids in texts:
        batch.append({"input_ids": ids, "labels": [IGNORED, *ids[1:]]})
        size += len(ids)
        if size >= BATCH:
            batches.append(pack(batch, ROW))
            batch, size = [], 0
    return [*batches, pack(batch, ROW)] if batch else batches


def few(texts, count=PROBE):
    """The first texts as one batch."""
    texts = itertools.islice(texts, count)
    return pack([{"input_ids": ids, "labels": [IGNORED, *ids[1:]]} for ids in texts], ROW)


def body(model):
    """What turns tokens into hidden states, under an adapter or bare."""
    bare = model.get_base_model() if isinstance(model, PeftModel) else model
    return bare.model


def hidden_states(model, batch):
    """The last hidden states at all positions with a target, (N, D)."""
    states = body(model)(
        input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False
    ).last_hidden_state
    before = torch.nn.functional.pad(batch["labels"][:, 1:] != IGNORED, (0, 1))
    return states[before]


@torch.inference_mode()
def targets_of(teacher, batch):
    """M's likeliest tokens after each position: ids (N, TOP) and log-probabilities (N, TOP)."""
    with torch.autocast("cpu", torch.bfloat16):
        states = hidden_states(teacher, batch)
    output = teacher.get_output_embeddings().weight
    ids, scores = [], []
    for chunk in states.to(output.dtype).split(CHUNK):
        logits = (chunk @ output.T).float()  # (C, V)
        top = logits.topk(TOP)
        ids.append(top.indices)
        scores.append(top.values - logits.logsumexp(-1, keepdim=True))
    return torch.cat(ids), torch.cat(scores)


class Targets:
    """`targets_of` by batch, each computed once and kept in a folder by the hash of its tokens."""

    def __init__(self, teacher, folder):
        self.teacher, self.folder = teacher, Path(folder)

    def __call__(self, batch):
        ids = batch["input_ids"]
        name = hashlib.sha256(ids.numpy().tobytes() + str(tuple(ids.shape)).encode()).hexdigest()
        path = self.folder / f"{name[:32]}.safetensors"
        if not path.is_file():
            ids, scores = targets_of(self.teacher, batch)
            with written_beside(path) as beside:
                save_file({"ids": ids.to(torch.uint16), "scores": scores.half()}, beside)
        kept = load_file(path)
        return kept["ids"].long(), kept["scores"].float()


class TopAndRest(torch.autograd.Function):
    """Cross-entropy of a student to a teacher of whom `TOP` tokens and the rest are known.

    The rest is one bucket in both: loss = -sum_top p log q - p_rest log q_rest, whose gradient in
    the student's logits is q - p at the top and q (1 - p_rest / q_rest) elsewhere. Logits are made
    and left chunk by chunk, since all of them would take more time to move than to compute.
    """

    @staticmethod
    def forward(ctx, states, output, ids, scores):
        """Mean loss in nats; states (N, D), output (V, D), ids and scores (N, TOP)."""
        gradient, total = torch.empty_like(states), 0.0
        for at in range(0, len(states), CHUNK):
            here = slice(at, at + CHUNK)
            logits = states[here] @ output.T  # (C, V)
            i, p = ids[here], scores[here].exp()
            whole = logits.logsumexp(-1, keepdim=True)
            log_q = logits.gather(-1, i).float() - whole.float()
            q = log_q.exp()
            p_rest, q_rest = ((1 - x.sum(-1, keepdim=True)).clamp(min=1e-4) for x in (p, q))
            total -= ((p * log_q).sum() + (p_rest * q_rest.log()).sum()).item()
            probabilities = logits.sub_(whole).exp_()
            probabilities.mul_((1 - p_rest / q_rest).to(logits.dtype))
            probabilities.scatter_(-1, i, (q - p).to(logits.dtype))
            gradient[here] = probabilities @ output
        ctx.save_for_backward(gradient / len(states))
        return torch.tensor(total / len(states))

    @staticmethod
    def backward(ctx, grad_output):
        return ctx.saved_tensors[0] * grad_output.to(ctx.saved_tensors[0].dtype), None, None, None


def distance(model, batch, targets):
    """The loss of a model to M's targets, in nats a token, less M's own entropy: a KL bound."""
    ids, scores = targets(batch)
    with torch.autocast("cpu", torch.bfloat16):
        states = hidden_states(model, batch)
    output = model.get_output_embeddings().weight.detach()
    loss = TopAndRest.apply(states.to(output.dtype), output, ids, scores)
    p = scores.exp()
    rest = (1 - p.sum(-1)).clamp(min=1e-4)
    return loss + ((p * scores).sum(-1) + rest * rest.log()).mean()


@torch.no_grad()
def measured(model, held_out, targets):
    """By kind of text: perplexity, and KL(M || M-) in nats over M's top tokens and the rest."""
    model.eval()
    found = {}
    for kind, batches in held_out.items():
        nats, kl, count = 0.0, 0.0, 0
        for batch in batches:
            with torch.autocast("cpu", torch.bfloat16):
                states = hidden_states(model, batch)
            labels = batch["labels"][batch["labels"] != IGNORED]
            output = model.get_output_embeddings().weight
            for chunk, wanted in zip(states.split(CHUNK), labels.split(CHUNK), strict=True):
                logits = (chunk.to(output.dtype) @ output.T).float()
                nats += torch.nn.functional.cross_entropy(logits, wanted, reduction="sum").item()
            kl += distance(model, batch, targets).item() * len(labels)
            count += len(labels)
        found[kind] = {"perplexity": float(torch.tensor(nats / count).exp()), "kl": kl / count}
    return found


class DistillTrainer(Trainer):
    """Trains on ready batches towards `Targets`."""

    def __init__(self, *args, targets, **kwargs):
        super().__init__(*args, **kwargs)
        self.targets = targets

    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        return distance(model, inputs, self.targets)


def block_to_remove(model, count, batches, targets):
    """Where the `count` neighbouring layers begin without which the model stays nearest to M."""
    layers, costs = list(body(model).layers), {}
    for start in range(1, len(layers) - count):
        body(model).layers = torch.nn.ModuleList(layers[:start] + layers[start + count :])
        with torch.no_grad():
            costs[start] = sum(distance(model, batch, targets).item() for batch in batches)
    body(model).layers = torch.nn.ModuleList(layers)
    return min(costs, key=costs.get)


def new_student(base, layers):
    """The layers of M with a fresh adapter on all their linear layers."""
    model = keep_layers(load_part(base)[0], layers)
    config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(model, config)


def save(model, folder, record):
    """Write M- in small form: its adapter in half precision, its layers, and how it was made."""
    model.peft_config["default"].base_model_name_or_path = NAME  # not where it lay on this machine
    with replaced_folder(folder) as beside:
        model.save_pretrained(beside)
        (beside / "README.md").unlink()  # peft's, with nothing filled in
        path = beside / "adapter_model.safetensors"
        save_file({k: v.to(torch.bfloat16) for k, v in load_file(path).items()}, path)
        write_json(beside / "distillation.json", record)


def load(base, folder):
    """M- and its record, to go on from: what `save` wrote, without the state of the optimiser."""
    record = json.loads((folder / "distillation.json").read_text(encoding="utf-8"))
    model = keep_layers(load_part(base)[0], record["layers"])
    return PeftModel.from_pretrained(model, folder, is_trainable=True), record


def distill(base, own_text, output, steps, learning_rate=1e-3, seed=0):
    """Make M-, or go on with the one in `output`.

    Args:
        base: M, a name or a folder.
        own_text: what `own_text` wrote.
        output: the folder that M- is written to, again and again.
        steps: {depth: optimiser steps at that depth}, deepest first; the last depth is M-'s.
    """
    set_seed(seed)
    base = locate(base)
    teacher, tokenizer = load_part(base, dtype=torch.bfloat16)
    rows = rows_of(tokenizer, own_text)
    training, held_out = batches_of(rows, seed)
    probe = [few(ids for kind, ids in rows if kind == each) for each in held_out]
    targets = Targets(teacher, WORK / f"targets-{Path(base).name}")
    targets.folder.mkdir(parents=True, exist_ok=True)
    if (output / "distillation.json").is_file():
        model, record = load(base, output)
    else:
        model = new_student(base, range(teacher.config.num_hidden_layers))
        record = {
            "base": Path(base).name,
            "layers": list(range(teacher.config.num_hidden_layers)),
            "tokens": 0,
            "seconds": 0.0,
            "log": [],
            "M": measured(teacher, held_out, targets),
        }
    print(f"{len(training)} batches of about {BATCH} tokens; M: {record['M']}", flush=True)
    for depth, count in steps.items():
        if len(record["layers"]) < depth:
            continue  # an earlier run has been here
        while len(record["layers"]) > depth:
            size = min(2, len(record["layers"]) - depth)
            start = block_to_remove(model, size, probe, targets)
            print(f"out: {record['layers'][start : start + size]}", flush=True)
            del record["layers"][start : start + size]
            keep_layers(model, [*range(start), *range(start + size, len(body(model).layers))])
        print(f"{depth} layers: {measured(model, held_out, targets)}", flush=True)
        first = record["tokens"] // BATCH % len(training)
        order = training[first:] + training[:first]
        arguments = TrainingArguments(
            output_dir=str(WORK / "distill"),
            max_steps=count,
            learning_rate=learning_rate,
            per_device_train_batch_size=1,
            lr_scheduler_type="warmup_stable_decay",
            lr_scheduler_kwargs={"num_decay_steps": max(1, count // 4)},
            warmup_steps=10,
            max_grad_norm=1.0,
            use_cpu=True,
            logging_steps=10,
            save_strategy="no",
            report_to="none",
            remove_unused_columns=False,
            seed=seed,
        )
        keeper = Keeper(model, output, record, held_out, targets)
        trainer = DistillTrainer(
            model,
            arguments,
            train_dataset=order,
            data_collator=lambda rows: rows[0],
            targets=targets,
            callbacks=[keeper],
        )
        trainer.train()
        if count % EVERY:
            keeper.keep()
    return record


class Keeper(TrainerCallback):
    """Measures and writes M- every `EVERY` steps: a run can be cut off at any moment."""

    def __init__(self, model, output, record, held_out, targets):
        self.model, self.output, self.record = model, output, record
        self.held_out, self.targets, self.start = held_out, targets, time.monotonic()

    def on_step_end(self, args, state, control, **kwargs):
        self.record["tokens"] += BATCH
        if state.global_step % EVERY == 0:
            self.keep()
            self.model.train()

    def keep(self):
        now = time.monotonic()
        self.record["seconds"] += now - self.start
        found = measured(self.model, self.held_out, self.targets)
        layers = len(self.record["layers"])
        self.record["log"].append(
            {"layers": layers, "tokens": self.record["tokens"], "seconds": self.record["seconds"]}
            | found
        )
        print(f"{layers} layers, {self.record['tokens']:,} tokens: {found}", flush=True)
        save(self.model, self.output, self.record | {"machine": machine()})
        self.start = time.monotonic()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", default=None, help="M; default: that of the family smollm")
    parser.add_argument("--own-text", required=True, help="what own_text wrote")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", default="24:40,20:60,17:400", help="DEPTH:STEPS, deepest first")
    options = parser.parse_args()
    steps = {int(d): int(n) for d, n in (pair.split(":") for pair in options.steps.split(","))}
    distill(options.base or FAMILIES["smollm"].base, options.own_text, options.output, steps)


if __name__ == "__main__":
    main()
