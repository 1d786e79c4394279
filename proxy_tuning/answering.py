"""Questions to answers: the one way in which commands, tables and the widget let the models speak.

Without drafts it is the plain loop of decoding.py, with them speculative decoding; both write the
same greedy texts (in float32 but where the two likeliest tokens are within 1e-4).
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from tqdm.auto import tqdm

from proxy_tuning.decoding import (
    HISTORIES,
    Beginning,
    SideBySide,
    end_of_text,
    stream,
    stream_side_by_side,
)
from proxy_tuning.drafts import check_draft
from proxy_tuning.model import ProxyTunedForCausalLM
from proxy_tuning.prompts import prompt
from proxy_tuning.speculative import speculate

LONGEST_ANSWER = 80
"""Tokens: how a lead moved takes 75 of smollm's."""
TEMPLATE = 8
"""Tokens that prompts must have in common for them to be worth a cache."""


def read_template(model: ProxyTunedForCausalLM, tokenizer) -> None:
    """Read what every prompt begins with once, for all that `speculate` will answer.

    Only where that are `TEMPLATE` tokens or more, and of a trio without sliding windows; its weights must
    stay as they are.
    """
    first, second = (tokenizer(prompt(text, tokenizer))["input_ids"] for text in ("Is", "who"))
    shared = os.path.commonprefix([first, second])
    if len(shared) >= TEMPLATE and len(model.experts) == 1 and not model.sees_windows:
        model.beginning = Beginning(model, shared, same_texts=False)


def resolve_draft(model: ProxyTunedForCausalLM, draft=None, temperature: float = 0.0):
    """The draft that is meant: the model's where none is named.

    For "auto" that is "none" with chance, which is then repeatable by its seed, and where a part
    sees a window of the text.
    """
    draft = model.draft if draft is None else draft
    if isinstance(draft, str):
        check_draft(draft)
    return "none" if draft == "auto" and (temperature or model.sees_windows) else draft


def grow(
    model: ProxyTunedForCausalLM,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    *,
    max_new_tokens: int,
    draft=None,
    **options,
) -> Iterator[dict[int, list[int]]]:
    """What the steered M writes after each prompt, as it comes: new tokens by row, the end included.

    Args:
        draft: as in `speculative.speculate`; None is the model's, "none" the plain loop.
        The others are as in `decoding.stream`, but for `past_key_values`. With alphas (B, K) the
            rows are B * K, those of a prompt together.
    """
    draft = resolve_draft(model, draft, options.get("temperature", 0.0))
    options["max_new_tokens"] = max_new_tokens
    if draft == "none":
        finished = None
        for step in stream(model, input_ids, attention_mask, **options):
            on = step.finished.new_ones(len(step.next_ids)) if finished is None else ~finished
            finished = step.finished
            yield {row: [int(step.next_ids[row])] for row in on.nonzero()[:, 0].tolist()}
        return
    alpha = options.get("alpha")
    if isinstance(alpha, torch.Tensor) and alpha.dim() == 2:
        copies, options["alpha"] = alpha.shape[1], alpha.flatten()
        input_ids = input_ids.repeat_interleave(copies, dim=0)
        if attention_mask is not None:
            attention_mask = attention_mask.repeat_interleave(copies, dim=0)
    for done in speculate(model, input_ids, attention_mask, draft=draft, **options):
        yield done.new_tokens()


def write(model: ProxyTunedForCausalLM, input_ids: torch.Tensor, *args, **kwargs):
    """All that `grow` gives, a list of token ids per row; arguments as there."""
    texts: dict[int, list[int]] = {}
    for new in grow(model, input_ids, *args, **kwargs):
        for row, ids in new.items():
            texts.setdefault(row, []).extend(ids)
    return [texts[row] for row in sorted(texts)]


@dataclass(frozen=True)
class Written:
    """What came to one of the three texts of some prompts."""

    writer: str
    """Whose text: one of `HISTORIES`."""
    ids: dict[int, list[int]]
    """New tokens by prompt, end-of-text included."""
    logits: dict[str, torch.Tensor] | None = None
    """With the steered text, raw logits of all four, (R, N, V) float32: rows as in `ids`, whose
    tokens are the first of the N places."""


@torch.no_grad()
def write_side_by_side(
    model: ProxyTunedForCausalLM,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    *,
    max_new_tokens: int,
    draft=None,
    temperature: float = 0.0,
    alpha: float | None = None,
    eos_token_id: int | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[Written]:
    """Let M alone, M+ alone and the steered M answer, as soon as something is known of a text.

    Without drafts, or with chance, the three grow together, a token each at a time. Else the
    steered text comes first. While it grows, M and M+ have read it: each would have written the
    same up to the first token that it would have chosen otherwise, and goes on alone from there.

    Args:
        As in `write`.
    """
    draft = resolve_draft(model, draft, temperature)
    given: dict[str, Any] = {"max_new_tokens": max_new_tokens, "eos_token_id": eos_token_id}
    if draft == "none" or temperature:
        given |= {"temperature": temperature, "generator": generator}
        steps = stream_side_by_side(model, input_ids, attention_mask, alpha=alpha, **given)
        yield from together(steps)
        return
    texts: list[list[int]] = [[] for _ in input_ids]
    own: dict[str, list[list[int]]] = {name: [[] for _ in input_ids] for name in ("base", "expert")}
    for done in speculate(model, input_ids, attention_mask, draft=draft, alpha=alpha, **given):
        new = done.new_tokens()
        yield Written("steered", new, done.logits)
        chosen = {name: done.logits[name].argmax(-1).tolist() for name in own}
        for place, (row, ids) in enumerate(new.items()):
            texts[row] += ids
            for name, of_rows in own.items():
                of_rows[row] += chosen[name][place][: len(ids)]
    for name, of_rows in own.items():
        begun = [common(*pair) for pair in zip(texts, of_rows, strict=True)]
        yield Written(name, dict(enumerate(begun)))
        yield from go_on_alone(model, name, input_ids, attention_mask, begun, **given)


def common(text: list[int], own: list[int]) -> list[int]:
    """What a model writes alone as far as it is known: up to its first choice that is another.

    Args:
        text: the steered text.
        own: what the model would have chosen at each of its places.
    """
    same = next(
        (i for i, pair in enumerate(zip(text, own, strict=True)) if pair[0] != pair[1]), len(text)
    )
    return own[: same + 1]


def go_on_alone(
    model, name, input_ids, attention_mask, begun, *, max_new_tokens, eos_token_id
) -> Iterator[Written]:
    """One part's own texts after prompts (B, T) and what it has written of each; n-grams draft."""
    ends = end_of_text(model, eos_token_id).tolist()
    room = model.fit(input_ids.shape[1], max_new_tokens)
    left = {
        row: room - len(ids)
        for row, ids in enumerate(begun)
        if ids[-1] not in ends and len(ids) < room
    }
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    texts = {row: input_ids[row][mask[row].bool()].tolist() + begun[row] for row in left}
    context = model.config.max_position_embeddings or math.inf
    together_fit = max(map(len, texts.values()), default=0) + max(left.values(), default=0)
    batches = [list(left)] if together_fit <= context else [[row] for row in left]
    for rows in filter(None, batches):
        ids, mask = padded([texts[row] for row in rows])
        options = {"max_new_tokens": max(left[row] for row in rows), "eos_token_id": eos_token_id}
        for done in speculate(model, ids, mask, writer=name, **options):
            new = {}
            for place, tokens in done.new_tokens().items():
                row = rows[place]
                new[row] = tokens[: left[row]]
                left[row] -= len(new[row])
            yield Written(name, new)


def padded(texts: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Texts as a batch padded on the left: ids and mask, (B, T) int64."""
    width = max(map(len, texts))
    ids = [[0] * (width - len(text)) + text for text in texts]
    mask = [[0] * (width - len(text)) + [1] * len(text) for text in texts]
    return torch.tensor(ids), torch.tensor(mask)


def together(steps: Iterator[SideBySide]) -> Iterator[Written]:
    """The plain loop's steps, a token of each unfinished text at a time."""
    finished = torch.tensor(False)
    for step in steps:
        on = (~finished).expand(step.next_ids.shape)  # (3, B)
        for place, name in enumerate(HISTORIES):
            rows = on[place].nonzero()[:, 0].tolist()
            logits = None
            if name == "steered":
                logits = {who: getattr(step, who)[rows, None] for who in (*PARTS, "steered")}
            yield Written(name, {row: [int(step.next_ids[place, row])] for row in rows}, logits)
        finished = step.finished


PARTS = ("base", "expert", "antiexpert")


def answer_questions(
    model: ProxyTunedForCausalLM,
    tokenizer,
    questions: list[str],
    *,
    draft=None,
    alpha: float | None = None,
    max_new_tokens: int = LONGEST_ANSWER,
    batch_size: int = 16,
    progress: bool = False,
) -> list[dict[str, str]]:
    """Greedy answers of M, M+ and the proxy-tuned M to each question, in the order given.

    Args:
        model, tokenizer: as `load_family` returns them (padding on the left).
        questions: plain questions; each is asked as `prompts.prompt` says.
        draft: as in `write`.
        alpha: weight of (expert - antiexpert); None takes the model's.
        max_new_tokens: longest answer, in tokens.
        batch_size: questions answered together.
        progress: whether to show a bar on standard error.

    Returns:
        One dictionary per question, keys question, base, expert and steered.
    """
    prompts = [prompt(question, tokenizer) for question in questions]
    batches = answered_together(model, tokenizer, prompts, max_new_tokens, batch_size)
    answers: dict[int, dict[str, str]] = {}
    for batch in tqdm(batches, desc="answering", unit="batch", disable=not progress):
        inputs = tokenizer([prompts[i] for i in batch], return_tensors="pt", padding=True)
        texts: dict[str, list[list[int]]] = {name: [[] for _ in batch] for name in HISTORIES}
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        options = {"max_new_tokens": max_new_tokens, "draft": draft, "alpha": alpha}
        for new in write_side_by_side(model, ids, mask, **options):
            for row, ids in new.ids.items():
                texts[new.writer][row] += ids
        said = {
            name: map(str.strip, tokenizer.batch_decode(rows, skip_special_tokens=True))
            for name, rows in texts.items()
        }
        for place, *three in zip(batch, *said.values(), strict=True):
            said_by = dict(zip(HISTORIES, three, strict=True))
            answers[place] = {"question": questions[place]} | said_by
    return [answers[place] for place in range(len(questions))]


def answered_together(model, tokenizer, prompts, max_new_tokens, batch_size) -> list[list[int]]:
    """Places of the prompts in batches; one that leaves no room for a whole answer comes first, alone.

    Padded to its length, the others of its batch would be cut short with it.
    """
    context = getattr(model.config, "max_position_embeddings", None) or math.inf
    lengths = [len(ids) for ids in tokenizer(prompts)["input_ids"]] if prompts else []
    long = [place for place, n in enumerate(lengths) if n + max_new_tokens > context]
    rest = [place for place, n in enumerate(lengths) if n + max_new_tokens <= context]
    batches = [rest[i : i + batch_size] for i in range(0, len(rest), batch_size)]
    return [[place] for place in long] + batches


@torch.no_grad()
def greedy_answers(
    model,
    tokenizer,
    questions: list[str],
    *,
    draft=None,
    alphas: list[float] | None = None,
    max_new_tokens: int = LONGEST_ANSWER,
    batch_size: int = 64,
) -> list[str]:
    """Greedy answers of any one causal language model, in the order of the questions.

    Args:
        model: anything with `generate`, the proxy-tuned model included.
        draft: for the proxy-tuned model alone, as in `write`.
        alphas: for the proxy-tuned model alone: each question is answered at each of them, in
            this order; None takes the model's.
        tokenizer, questions, max_new_tokens, batch_size: as in `answer_questions`.

    Raises:
        ValueError: alphas for a model with several experts, which takes one for each.
    """
    several = isinstance(model, ProxyTunedForCausalLM) and len(model.experts) > 1
    if several and alphas is not None:
        raise ValueError(f"{len(model.experts)} experts have an alpha each: no sweep over alphas")
    prompts = [prompt(question, tokenizer) for question in questions]
    answers: dict[int, list[str]] = {}
    for batch in answered_together(model, tokenizer, prompts, max_new_tokens, batch_size):
        texts = [prompts[place] for place in batch]
        inputs = tokenizer(texts, return_tensors="pt", padding=True).to(model.device)
        if isinstance(model, ProxyTunedForCausalLM) and not several:
            alpha = None if alphas is None else torch.tensor(alphas).expand(len(texts), -1)
            new_ids = write(
                model,
                inputs["input_ids"],
                inputs["attention_mask"],
                max_new_tokens=max_new_tokens,
                draft=draft,
                alpha=alpha,
            )
        else:
            ids = model.generate(
                **inputs,
                max_new_tokens=max_new_tokens,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
            )  # (B, T + N)
            new_ids = ids[:, inputs["input_ids"].shape[1] :]
        said = [text.strip() for text in tokenizer.batch_decode(new_ids, skip_special_tokens=True)]
        each = len(said) // len(batch)  # with several alphas there are several answers to each
        answers |= {place: said[i * each : (i + 1) * each] for i, place in enumerate(batch)}
    return [text for place in range(len(questions)) for text in answers[place]]
