"""Speculative decoding: the output of the plain loop, with fewer passes of the base.

A draft proposes gamma tokens. Base and antiexpert read all of them in one pass, and so the steered
distribution r is known at each; a proposal drawn from q is kept with probability min(1, r / q),
and where one is refused another token is drawn from the positive part of r - q. What comes out has
exactly the distribution r (Leviathan et al. 2023, arXiv 2211.17192, theorem 3.5); greedy decoding
is the case where r and q are all on one token. Temperature and filters are applied before r is
formed. M+ is a draft whose own logits steering needs anyway (arXiv 2310.12962, section 3.3).
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from transformers import Cache, PreTrainedModel

from proxy_tuning.caches import layers_of
from proxy_tuning.decoding import check_trio, end_of_text
from proxy_tuning.drafts import (
    DRAFTS,
    Drafter,
    Drafters,
    Other,
    check_draft,
    draw,
    tokens_in,
    weigher,
)
from proxy_tuning.model import ProxyTunedForCausalLM
from proxy_tuning.parts import check_prompt

WRITERS = {
    "steered": ("base", "expert", "antiexpert"),
    "base": ("base",),
    "expert": ("expert",),
}
"""Whose text is written, and whose passes it takes."""


@dataclass(frozen=True)
class Round:
    """The tokens that one pass of the base gave, for the R rows that are still being written."""

    rows: torch.Tensor
    """Which prompts these rows continue, (R,) int64."""
    ids: torch.Tensor
    """New tokens, (R, gamma + 1) int64; the first `counts` of each row are its text, no others."""
    counts: torch.Tensor
    """How many tokens each row got, from 1 to gamma + 1, (R,) int64."""
    accepted: torch.Tensor
    """How many proposals each row kept, (R,) int64."""
    logits: dict[str, torch.Tensor]
    """Raw logits by whose they are, (R, gamma + 1, V) float32; each token was chosen from the
    writer's, and those of the parts that were run are there, too."""
    finished: torch.Tensor
    """Rows that end here, by end-of-text or for want of room, (R,) bool."""

    def new_tokens(self) -> dict[int, list[int]]:
        """The tokens that the round gave, by prompt."""
        rows = zip(self.rows.tolist(), self.ids.tolist(), self.counts.tolist(), strict=True)
        return {row: ids[:count] for row, ids, count in rows}


@torch.no_grad()
def speculate(
    model: ProxyTunedForCausalLM,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    *,
    max_new_tokens: int,
    writer: str = "steered",
    draft: str | PreTrainedModel = "auto",
    gamma: int | None = None,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    alpha: float | torch.Tensor | None = None,
    generator: torch.Generator | None = None,
    eos_token_id: int | None = None,
) -> Iterator[Round]:
    """Generate with a `ProxyTunedForCausalLM`, several tokens in a `Round`.

    Args:
        writer: whose text, one of `WRITERS`: the steered M's, M's alone or M+'s alone.
        draft: who proposes: "expert" (M+), "base" (M), "expert-int8" (M+ in 8 bits, if it was
            loaded), "ngram" (what followed the same words before), "learnt" (what follows them in
            an answer that M+ learnt, if these were loaded), "none" (the plain loop), "auto" (in
            every round whichever pays best; with a fixed gamma "learnt", without that M+), or any
            other causal language model of this vocabulary.
        gamma: number of proposals in a round; None adapts it to the acceptance rate and to the
            time that passes take, down to 0, the plain loop. With chance, only a fixed gamma of
            one drafter is repeatable.
        The others are as in `proxy_tuning.decoding.stream`.

    Raises:
        ValueError: as `stream`; an unknown writer or draft or one with another vocabulary, a gamma
            below 0, M+ or M as the draft of a text of one part, or a part whose cache forgets what leaves
            its window.
    """
    check_trio(model)
    check_prompt(input_ids)
    if writer not in WRITERS:
        raise ValueError(f"no writer is named {writer!r}; there are {', '.join(WRITERS)}")
    if gamma is not None and gamma < 0:
        raise ValueError(f"gamma needs to be 0 or more, got {gamma}")
    if alpha is not None:
        model._alphas(alpha, len(input_ids))  # an error now, not after a pass
    if isinstance(alpha, torch.Tensor):
        alpha = alpha.to(model.device)
    names = WRITERS[writer]
    caches = {
        name: cache
        for name, cache in cache_for(model, input_ids, attention_mask).caches.items()
        if name in names
    }
    weigh = weigher(temperature, top_k, top_p) if temperature else None
    drafters = drafters_of(draft, writer, model, caches, weigh, generator)
    for name, cache in caches.items():
        if any(cache.is_sliding):
            raise ValueError(f"{name} sees a window of the text, and its cache cannot step back")
    eos = end_of_text(model, eos_token_id)  # (E,)
    room = model.fit(input_ids.shape[1], max_new_tokens)

    ids = input_ids.to(model.device)  # (R, S): texts so far; the caches lack their last token
    mask = torch.ones_like(ids) if attention_mask is None else attention_mask.to(model.device)
    rows = torch.arange(len(ids), device=model.device)  # (R,): which texts are still written
    left = torch.full_like(rows, room)  # (R,) tokens that may still come
    known = model.drafts_known.setdefault((writer, len(rows)), {})
    drafting = Drafters(drafters, len(rows), gamma, known)
    first = True

    while len(rows):
        start = time.perf_counter()
        drafter, count = drafting.next()
        count = 0 if first else min(count, int(left.min()) - 1)
        # the proposals, and what the models say to them
        mask = torch.cat([mask, mask.new_ones(len(rows), count)], dim=1)  # (R, S + gamma)
        drafted, q, known = drafter.propose(ids, mask, count)
        ids = torch.cat([ids, drafted], dim=1)  # (R, S + gamma)
        logits = {name: each.float() for name, each in known.items()}
        for name in names:
            if name not in logits:
                new = ids[:, tokens_in(model, name, caches[name]) :]
                out = model.run(name, new, mask, cache=caches[name], logits_to_keep=count + 1)
                logits[name] = out.float()  # (R, gamma + 1, V)
        if writer == "steered":
            row_alpha = alpha[rows] if isinstance(alpha, torch.Tensor) and alpha.dim() else alpha
            logits["steered"] = model.combine(*(logits[name] for name in names), alpha=row_alpha)
        if weigh is None:
            accepted, next_ids = agree(logits[writer], drafted)  # (R,), (R,)
        else:
            accepted, next_ids = judge(weigh(logits[writer]), q, drafted, generator)

        # what was kept, up to the end of the text
        new_ids = torch.cat([drafted, next_ids[:, None]], dim=1)  # (R, gamma + 1)
        new_ids.scatter_(1, accepted[:, None], next_ids[:, None])
        place = torch.arange(count + 1, device=ids.device)
        ends = torch.isin(new_ids, eos) & (place <= accepted[:, None])  # (R, gamma + 1)
        end = torch.where(ends.any(1), ends.long().argmax(1), count)  # (R,)
        counts = torch.minimum(accepted, end) + 1
        left = left - counts
        finished = ends.any(1) | (left == 0)
        took = time.perf_counter() - start
        yield Round(rows, new_ids, counts, accepted, logits, finished)
        start = time.perf_counter() - took  # not the caller's time

        # the caches forget what was refused, and the rows that are finished
        newest = new_ids.gather(1, counts[:, None] - 1)
        refused = count + 1 - counts
        on = ~finished
        if finished.any():
            for cache in caches.values():
                cache.batch_select_indices(on.nonzero()[:, 0].cpu())  # layers may be elsewhere
            rows, left, ids, mask, newest, refused = (
                x[on] for x in (rows, left, ids, mask, newest, refused)
            )
        if len(rows):
            ids, mask = step_back(caches, ids, mask, refused)
            ids = torch.cat([ids, newest], dim=1)
            mask = torch.cat([mask, torch.ones_like(newest)], dim=1)
        if not first:  # the prompt takes another time
            drafting.learn(count, accepted, time.perf_counter() - start)
        first = False


def generate(model: ProxyTunedForCausalLM, input_ids: torch.Tensor, *args, **kwargs):
    """Prompts and what `speculate` writes after them, (B, T + N); arguments as there.

    A row that ends before the longest is filled with end-of-text.
    """
    eos = end_of_text(model, kwargs.get("eos_token_id"))
    texts: list[list[int]] = [[] for _ in input_ids]
    for done in speculate(model, input_ids, *args, **kwargs):
        for row, ids in done.new_tokens().items():
            texts[row] += ids
    longest = max(map(len, texts))
    new = [text + [eos[0].item()] * (longest - len(text)) for text in texts]
    return torch.cat([input_ids, torch.tensor(new, device=input_ids.device)], dim=1)


def cache_for(model, input_ids: torch.Tensor, attention_mask: torch.Tensor | None):
    """Caches of the parts; they hold the model's `beginning` where all prompts start with it.

    Padded prompts are read whole.
    """
    beginning, ids = model.beginning, input_ids.to(model.device)
    padded = attention_mask is not None and not attention_mask.all()
    if beginning is None or padded or not beginning.starts(ids):
        return model.new_cache(same_texts=False)
    return beginning.read(len(ids))


def drafters_of(draft, writer, model, caches, weigh, generator) -> dict[str, Drafter]:
    """Who may propose, by name."""
    if not isinstance(draft, str):
        return {"model": Other(draft, model, caches, weigh, generator)}
    check_draft(draft)
    if draft in ("expert", "base") and writer != "steered":
        raise ValueError("M+ and M draft for the steered M alone: name another draft")
    names = [draft]
    if draft == "auto":
        names = ["expert", "ngram", "base"] if writer == "steered" else ["ngram"]
        names = ["learnt", *names] if model.learnt and writer != "base" else names
        names += ["expert-int8"] if model.quantised_expert and writer == "steered" else []
    return {name: DRAFTS[name](model, caches, weigh, generator) for name in names}


# Which proposals are kept


def agree(steered: torch.Tensor, drafted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`judge` for greedy decoding, by logits (R, gamma + 1, V).

    Proposals are kept until the first that is not the likeliest token, which comes after them.
    """
    likeliest = steered.argmax(dim=-1)  # (R, gamma + 1)
    accepted = (likeliest[:, :-1] == drafted).long().cumprod(dim=1).sum(dim=1)
    return accepted, likeliest.gather(1, accepted[:, None])[:, 0]


def judge(
    r: torch.Tensor,
    q: torch.Tensor | None,
    drafted: torch.Tensor,
    generator: torch.Generator | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """How many proposals each row keeps, and the token that comes after them.

    Args:
        r: probabilities (R, gamma + 1, V) that the text is to be drawn from.
        q: probabilities (R, gamma, V) that the proposals were drawn from; None without any.
        drafted: proposals, (R, gamma) int64.

    Returns:
        Two tensors (R,) int64: the number of proposals kept, and the token at the first place
        without.
    """
    gamma = drafted.shape[1]
    accepted = drafted.new_zeros(len(drafted))  # (R,)
    if gamma and q is not None:
        chance = torch.rand(drafted.shape, generator=generator, device=r.device)  # (R, gamma)
        share = r[:, :gamma].gather(2, drafted[..., None]) / q.gather(2, drafted[..., None])
        accepted = (chance < share[..., 0]).long().cumprod(dim=1).sum(dim=1)
    row = torch.arange(len(drafted), device=r.device)
    rest = r[row, accepted]  # (R, V): r after the proposals kept ...
    if gamma and q is not None:
        less = (rest - q[row, accepted.clamp(max=gamma - 1)]).clamp(min=0)  # (R, V)
        # ... less q where one was refused; nothing is left only where r is q but for rounding
        refused = (accepted < gamma) & less.any(dim=1)
        rest = torch.where(refused[:, None], less, rest)
    return accepted, draw(rest, generator)


def step_back(
    caches: dict[str, Cache],
    ids: torch.Tensor,
    mask: torch.Tensor,
    refused: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Take the last `refused` (R,) tokens of each row out of the caches, ids and mask (R, S).

    Rows are moved to the right, so that what is left is a batch padded on the left again, no
    wider than its longest row. Returns the new ids and mask.
    """
    lengths = mask.sum(dim=1) - refused  # (R,)
    width = int(lengths.max())
    drop, shifts = mask.shape[1] - width, refused.tolist()

    def move(x: torch.Tensor, dim: int) -> torch.Tensor:
        """Columns `drop` to the end, each row from so many places to the left."""
        size = x.shape[dim] - drop  # of S; with the part's own prefix; less, in a resting draft
        if all(shift == drop for shift in shifts):
            return x.narrow(dim, 0, size)
        rolled = (row.roll(shift, dim - 1) for row, shift in zip(x, shifts, strict=True))
        return torch.stack([row.narrow(dim - 1, drop, size) for row in rolled])

    for cache in caches.values():
        for layer in layers_of(cache):
            if layer.get_seq_length():
                layer.keys = move(layer.keys, 2)  # (R, H, S, D)
                layer.values = move(layer.values, 2)
    real = torch.arange(width, device=mask.device) >= width - lengths[:, None]
    return move(ids, 1), real.to(mask.dtype)
