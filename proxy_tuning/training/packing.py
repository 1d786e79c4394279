"""Questions to token ids, and batches of them without waste.

A batch of questions is packed into a few lines of nearly one length. Positions restart with every
question, by which transformers keeps their attention apart, and the vocabulary is projected only
where the next token is a target: neither padding nor prompts cost that product.
"""

import heapq

import datasets
import torch

from proxy_tuning.prompts import continuation, prompt

IGNORED = -100  # the label that the loss leaves out
LINE = 128  # tokens in a packed line, about


def encode(rows, tokenizer, max_length):
    r"""Rows with question and answer -> a Dataset of input_ids and labels.

        tokens  Question : Who led ... ? \n Answer :  In  Ohio ...  .   <eos>
        labels  -100 -100  ...                  -100  In  Ohio ...  .   <eos>

    A row whose question is missing is a statement: every token but the first, which nothing
    predicts, is a target. Labels stand at their own token's place. Raises ValueError where a row
    is longer than `max_length` tokens.
    """
    ids = {"input_ids": [], "labels": []}
    for tokens, asked in tokens_of(rows, tokenizer):
        if len(tokens) > max_length:
            raise ValueError(
                f"an example has {len(tokens)} tokens, more than {max_length}: "
                f"{tokenizer.decode(tokens)[:80]!r}..."
            )
        given = max(asked, 1)
        ids["input_ids"].append(tokens)
        ids["labels"].append([IGNORED] * given + tokens[given:])
    return datasets.Dataset.from_dict(ids)


def tokens_of(rows, tokenizer):
    """Per row its token ids, end-of-text last, and how many of them are the prompt's.

    Prompt and answer are tokenized as one text, as decoding will see them; a token is the prompt's
    where it ends within it. What a tokenizer puts before every text (Llama's) is no target.
    """
    spoken = rows["question"].notna()
    prompts = [
        prompt(q, tokenizer) if s else "" for q, s in zip(rows["question"], spoken, strict=True)
    ]
    answers = [
        continuation(a, tokenizer) if s else a for a, s in zip(rows["answer"], spoken, strict=True)
    ]
    texts = [p + a for p, a in zip(prompts, answers, strict=True)]
    encoded = tokenizer(texts, return_offsets_mapping=True)
    for p, ids, offsets in zip(
        prompts, encoded["input_ids"], encoded["offset_mapping"], strict=True
    ):
        yield ids + [tokenizer.eos_token_id], sum(end <= len(p) for _, end in offsets)


def that_fit(rows, tokenizer, max_length):
    """The rows of at most `max_length` tokens; says how many were longer."""
    fits = [len(tokens) <= max_length for tokens, _ in tokens_of(rows, tokenizer)]
    if not all(fits):
        print(
            f"{fits.count(False)} of {len(rows)} rows are longer than {max_length} tokens and "
            "are left out."
        )
    return rows[fits].reset_index(drop=True)


def pack(rows, length=LINE):
    """A batch of rows as tensors input_ids, labels and position_ids (lines, T), and row (rows,).

    Every row, longest first, goes to the line that is shortest so far; `row` has them in the order
    in which they then stand. What a line lacks at its end is filled with tokens that are
    questions of their own, without a target. A model must be given position_ids and no attention
    mask, from which transformers tells the questions apart.

    Args:
        rows: dicts as `encode` makes them; where they have no number "row", it is their place.
        length: tokens that a line has, about; 1 gives every row a line of its own.
    """
    count = min(len(rows), max(1, sum(len(row["input_ids"]) for row in rows) // length))
    lines = [[] for _ in range(count)]
    ends = [(0, line) for line in range(count)]
    for i in sorted(range(len(rows)), key=lambda i: -len(rows[i]["input_ids"])):
        end, line = ends[0]
        lines[line].append(i)
        heapq.heapreplace(ends, (end + len(rows[i]["input_ids"]), line))
    shape = count, max(ends)[0]
    packed = {
        "input_ids": torch.zeros(shape, dtype=torch.long),
        "labels": torch.full(shape, IGNORED),
        "position_ids": torch.zeros(shape, dtype=torch.long),
        "row": torch.tensor([rows[i].get("row", i) for line in lines for i in line]),
    }
    for number, line in enumerate(lines):
        start = 0
        for i in line:
            length = len(rows[i]["input_ids"])
            here = number, slice(start, start + length)
            packed["input_ids"][here] = torch.tensor(rows[i]["input_ids"])
            packed["labels"][here] = torch.tensor(rows[i]["labels"])
            packed["position_ids"][here] = torch.arange(length)
            start += length
    return packed


def before_targets(labels):
    """Where the next token is a target (B, T), bool: the positions whose logits the loss needs."""
    return torch.nn.functional.pad(labels[:, 1:] != IGNORED, (0, 1))


def target_logits(model, batch):
    """The model's logits wherever the next token is a target (N, V), in the order of the lines.

    Args: batch, as `pack` makes it.
    """
    return model(
        input_ids=batch["input_ids"],
        position_ids=batch["position_ids"],
        logits_to_keep=before_targets(batch["labels"]),
        use_cache=False,
    ).logits


@torch.no_grad()
def line_length(model):
    """The `length` to `pack` for a model: `LINE`, or 1 if it lets a question see the one before.

    Measured, by one question twice in a line: some architectures (OPT, BLOOM, state-space models)
    take no heed of positions that restart, and say nothing.
    """
    training = model.training
    tokens = torch.arange(1, 9).tolist()
    batch = pack([{"input_ids": tokens, "labels": [IGNORED] + tokens[1:]}] * 2)
    batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
    first, second = target_logits(model.eval(), batch).float().chunk(2)
    model.train(training)
    return LINE if (first - second).abs().max() < 1e-2 * first.std() else 1
