"""Questions to token ids, and batches of them without waste.

A batch of questions is packed into a few lines of nearly one length. Positions restart with every
question, by which transformers keeps their attention apart, and the vocabulary is projected only
where the next token is a target: neither padding nor prompts cost that product. A system prompt,
with which all questions begin, is read once a line.
"""

import heapq
from os.path import commonprefix

import datasets
import torch

from proxy_tuning.prompts import continuation, prompt

IGNORED = -100  # the label that the loss leaves out
LINE = 384  # tokens in a packed line, about
WORTH_SHARING = 8  # tokens that all rows begin with; fewer are read with every row


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


def pack(rows, length=LINE, share=False):
    """A batch of rows as tensors input_ids, labels and position_ids (lines, T), and row (rows,).

    Every row, longest first, goes to the line that is shortest so far; `row` has them in the order
    in which they then stand. What a line lacks at its end is filled with tokens that are
    questions of their own, without a target. A model must be given position_ids and no attention
    mask, from which transformers tells the questions apart.

    Where `share` is set and all rows begin alike, a line has that beginning once, and there is an
    attention_mask (lines, 1, T, T), bool, to be given as well: a token sees the beginning and what
    came before it of its own row.

    Args:
        rows: dicts as `encode` makes them; where they have no number "row", it is their place.
        length: tokens that a line has, about; 1 gives every row a line of its own.
        share: whether rows may share their beginning; see `can_share`.
    """
    begin = beginning_of(rows) if share else 0
    own = [len(row["input_ids"]) - begin for row in rows]
    count = min(len(rows), max(1, sum(own) // max(1, length - begin)))
    lines = [[] for _ in range(count)]
    ends = [(begin, line) for line in range(count)]
    for i in sorted(range(len(rows)), key=lambda i: -own[i]):
        end, line = ends[0]
        lines[line].append(i)
        heapq.heapreplace(ends, (end + own[i], line))
    shape = count, max(ends)[0]
    packed = {
        "input_ids": torch.zeros(shape, dtype=torch.long),
        "labels": torch.full(shape, IGNORED),
        "position_ids": torch.zeros(shape, dtype=torch.long),
        "row": torch.tensor([rows[i].get("row", i) for line in lines for i in line]),
    }
    owner = torch.full(shape, -1)  # which row a token is of; the beginning and the filling of none
    packed["input_ids"][:, :begin] = torch.tensor(rows[0]["input_ids"][:begin])
    packed["position_ids"][:, :begin] = torch.arange(begin)
    for number, line in enumerate(lines):
        start = begin
        for i in line:
            here = number, slice(start, start + own[i])
            packed["input_ids"][here] = torch.tensor(rows[i]["input_ids"][begin:])
            packed["labels"][here] = torch.tensor(rows[i]["labels"][begin:])
            packed["position_ids"][here] = torch.arange(begin, begin + own[i])
            owner[here] = i
            start += own[i]
    if begin:
        alike = owner[:, :, None] == owner[:, None, :]
        alike[:, :, :begin] = True
        packed["attention_mask"] = alike.tril()[:, None]
    return packed


def beginning_of(rows):
    """How many tokens rows begin with alike, short of what predicts the first target of any.

    0 for fewer than `WORTH_SHARING`, and for one row alone.
    """
    asked = min(next(i for i, label in enumerate(r["labels"]) if label != IGNORED) for r in rows)
    begin = min(len(commonprefix([row["input_ids"] for row in rows])), asked - 1)
    return begin if len(rows) > 1 and begin >= WORTH_SHARING else 0


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
        attention_mask=batch.get("attention_mask"),
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


@torch.no_grad()
def can_share(model):
    """Whether a model reads rows that share their beginning as it reads each of them alone.

    Measured, as `line_length` is. Not where it has sliding windows, which a mask of ours would undo.
    """
    if getattr(model.config, "sliding_window", None) or line_length(model) == 1:
        return False
    training = model.training
    begin = list(range(1, WORTH_SHARING + 1))
    rows = [
        {"input_ids": [*begin, *own], "labels": [IGNORED] * (len(begin) + 1) + own[1:]}
        for own in ([11, 12, 13], [13, 11, 12])
    ]
    batches = [
        {name: tensor.to(model.device) for name, tensor in pack(rows, length, share).items()}
        for length, share in ((1, False), (LINE, True))
    ]
    alone, shared = (target_logits(model.eval(), batch).float() for batch in batches)
    model.train(training)
    return bool((alone - shared).abs().max() < 1e-2 * alone.std())
