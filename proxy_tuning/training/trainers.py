"""transformers' Trainer on packed batches, plain or through the steered output."""

import functools
import logging

import datasets
import numpy as np
import torch
from tqdm.auto import trange
from transformers import Trainer, TrainerCallback

from proxy_tuning.answering import greedy_answers
from proxy_tuning.logits import divergence, proxy_logits
from proxy_tuning.training.packing import (
    IGNORED,
    can_share,
    line_length,
    pack,
    target_logits,
)

DIFFERENCES = 4 * 2**30  # bytes of M - M- on the training rows that are kept


def exact_answers(prediction):
    """The share of answers whose every token is the model's first choice.

    That is the share that greedy decoding gives word for word, told without generating: as long
    as all tokens so far are right, decoding sees what this pass sees.
    Args: prediction with predictions, the first choices, and label_ids, both (lines, T) and packed.
    """
    labels = prediction.label_ids.ravel()
    targets = labels != IGNORED
    starts = np.flatnonzero(targets & ~np.roll(targets, 1))  # the first token is never a target
    wrong = targets & (prediction.predictions.ravel() != labels)
    return {"exact": float((np.add.reduceat(wrong, starts) == 0).mean())}


def asks_for_no_mask(record):
    """Leaves out a warning that packed lines, which have no attention mask, would cause."""
    return "passing in an `attention_mask`" not in record.getMessage()


class PackedTrainer(Trainer):
    """Trains on batches that `packing.pack` makes; its loss is the mean over their targets.

    Args: as Trainer; beside, models that will read the same lines.
    """

    def __init__(self, model, *args, beside=(), **kwargs):
        readers = (model, *beside)
        self.pack = functools.partial(
            pack, length=min(map(line_length, readers)), share=all(map(can_share, readers))
        )
        super().__init__(model, *args, data_collator=self.pack, **kwargs)
        logging.getLogger("transformers.modeling_utils").addFilter(asks_for_no_mask)

    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        """The loss; with `return_outputs` also the first choices where there is a target."""
        labels = inputs["labels"]
        logits = target_logits(model, inputs)
        loss = self.loss_at_targets(logits, inputs, model.training)
        if not return_outputs:
            return loss
        chosen = torch.full_like(labels, IGNORED)
        chosen[labels != IGNORED] = logits.argmax(-1)
        return loss, {"loss": loss, "chosen": chosen}

    def loss_at_targets(self, logits, inputs, training):
        """Mean cross-entropy (nats) of logits (N, V), in float32."""
        labels = inputs["labels"]
        return torch.nn.functional.cross_entropy(logits.float(), labels[labels != IGNORED])


@torch.inference_mode()
def frozen_differences(base, antiexpert, data, pack, batch_size=64):
    """M - M- wherever a row has a target: per row a tensor (targets, V), float16 on the CPU.

    Args: data as `packing.encode` makes it; pack, what makes a batch of its rows.
    """
    differences = [None] * len(data)
    for start in trange(0, len(data), batch_size, desc="M - M-"):
        batch = pack([data[i] for i in range(start, min(start + batch_size, len(data)))])
        inputs = {name: tensor.to(base.device) for name, tensor in batch.items()}
        difference = target_logits(base, inputs) - target_logits(antiexpert, inputs)
        rows = [start + row for row in batch["row"].tolist()]
        lengths = [sum(label != IGNORED for label in data[row]["labels"]) for row in rows]
        for row, each in zip(rows, difference.half().cpu().split(lengths), strict=True):
            differences[row] = each
    return differences


class SteeredTrainer(PackedTrainer):
    """Trains M+ through the steered output as well, in the last share `consistent` of the steps.

    There the loss is the mean of that of M+ and that of M+ + (M - M-), which is what is decoded at
    alpha 1 (consistent proxy tuning, arXiv 2407.01155, section 3, with its alpha_train at 1). So M+
    learns to make up for what M and M- disagree on. M and M- stay as they are; what they say to
    the training rows is computed once where rows come up more than once in these steps and it fits
    into `DIFFERENCES` bytes, else at each step.

    Args: base, M, and antiexpert, M-, frozen; consistent, a share of the steps.
    """

    def __init__(self, *args, base, antiexpert, consistent, **kwargs):
        super().__init__(*args, beside=(base, antiexpert), **kwargs)
        self.frozen = [m.to(self.args.device).eval() for m in (base, antiexpert)]
        self.consistent = consistent
        self.known = None
        labels = self.train_dataset["labels"]
        size = 2 * base.config.vocab_size * sum(len(row) - row.count(IGNORED) for row in labels)
        asked = consistent * self.args.max_steps * self.args.per_device_train_batch_size
        if asked > len(labels) and size <= DIFFERENCES:
            with self.accelerator.autocast():
                self.known = frozen_differences(*self.frozen, self.train_dataset, self.pack)
            row = datasets.Value("int64")
            self.train_dataset = self.train_dataset.add_column(
                "row", list(range(len(self.known))), feature=row
            )

    def loss_at_targets(self, logits, inputs, training):
        """The loss as above; in evaluation always M+ alone."""
        loss = super().loss_at_targets(logits, inputs, training)
        if not training or self.state.global_step < (1 - self.consistent) * self.state.max_steps:
            return loss
        if self.known is None:
            with torch.no_grad():
                base, antiexpert = (target_logits(model, inputs) for model in self.frozen)
            difference = base.float() - antiexpert.float()
        else:
            difference = torch.cat([self.known[i] for i in inputs["row"].tolist()])
        steered = logits.float() + difference.to(logits.device)
        return (loss + super().loss_at_targets(steered, inputs, training)) / 2


class QuietTrainer(PackedTrainer):
    """Trains M+ on its questions and holds it to M- on general text: a quiet offset.

    Beside the questions' cross-entropy every step has `quiet` times a KL divergence on general
    text, so that M+ - M- is about zero where nothing that was learnt is asked, and steering leaves
    M alone there. With M as `base` it is KL(M || steered M), what steering does to M; without,
    KL(M+ || M-). Keeping a model near its former self on other inputs is learning without
    forgetting (arXiv 1606.09282).

    Args:
        antiexpert: M-, frozen; None where M+ is an adapter on it, which is then switched off.
        general: rows as `packing.encode` makes them.
        quiet: the weight, in nats per nat.
        texts: of `general` in each step.
        base: M, frozen, or None.
    """

    def __init__(self, *args, antiexpert, general, quiet, texts, base=None, **kwargs):
        frozen = [model for model in (base, antiexpert) if model is not None]
        super().__init__(*args, beside=frozen, **kwargs)
        self.base, self.antiexpert = (
            model and model.to(self.args.device).eval() for model in (base, antiexpert)
        )
        self.general, self.quiet, self.texts = general, quiet, texts

    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        """The questions' loss as ever, and in training the quiet one."""
        found = super().compute_loss(model, inputs, return_outputs, **kwargs)
        if return_outputs or not model.training:
            return found
        return found + self.quiet * self.loudness(
            model, self.general_batch(inputs["labels"].device)
        )

    def general_batch(self, device):
        """The texts whose turn it is, packed: another part of the rows in every step."""
        first = self.state.global_step * self.texts
        rows = [self.general[(first + i) % len(self.general)] for i in range(self.texts)]
        return {name: tensor.to(device) for name, tensor in self.pack(rows).items()}

    def loudness(self, model, batch):
        """The divergence in nats a token, as the class says it, on a packed batch."""
        expert = target_logits(model, batch).float()  # (N, V)
        with torch.no_grad():
            antiexpert = self.antiexpert_logits(model, batch)
            base = None if self.base is None else target_logits(self.base, batch).float()
        if base is None:
            p, q = expert.log_softmax(-1), antiexpert.log_softmax(-1)
        else:
            steered = proxy_logits(base, expert, antiexpert, 1.0)
            p, q = base.log_softmax(-1), steered.log_softmax(-1)
        return divergence(p, q).mean()

    def antiexpert_logits(self, model, batch):
        """Logits of M- (N, V), float32: of its own model, or of M+ without the adapter."""
        if self.antiexpert is not None:
            return target_logits(self.antiexpert, batch).float()
        training = model.training
        model.eval()
        with self.accelerator.unwrap_model(model).disable_adapter():
            logits = target_logits(model, batch).float()
        model.train(training)
        return logits


class SampleAnswer(TrainerCallback):
    """Prints what the model says to one fixed question, so that a person sees it learn."""

    def __init__(self, tokenizer, question):
        self.tokenizer, self.question = tokenizer, question

    def on_train_begin(self, args, state, control, **kwargs):
        print(f"Asked at intervals: {self.question}", flush=True)

    def on_evaluate(self, args, state, control, model=None, **kwargs):
        text, *_ = greedy_answers(model, self.tokenizer, [self.question])
        print(f"step {state.global_step}: {text}", flush=True)
