"""Speculative decoding: the output of the plain loop, with fewer passes of the base.

A draft proposes gamma tokens. Base and antiexpert read all of them in one pass, and so the steered
distribution r is known at each; a proposal drawn from q is kept with probability min(1, r / q),
and where one is refused another token is drawn from the positive part of r - q. What comes out has
exactly the distribution r (Leviathan et al. 2023, arXiv 2211.17192, theorem 3.5); greedy decoding
is the case where r and q are all on one token. Temperature and filters are applied before r is
formed. M+ is a draft whose own logits steering needs anyway (arXiv 2310.12962, section 3.3).
"""

import functools
import statistics
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from transformers import Cache, DynamicCache, PreTrainedModel

from proxy_tuning.decoding import check_trio, end_of_text, warpers
from proxy_tuning.model import ProxyTunedForCausalLM
from proxy_tuning.parts import check_prompt, positions

GAMMAS = range(9)
"""How many tokens a draft may propose; 0 is the plain loop."""
PROBE = 64
"""After so many rounds of the plain loop, one proposal, to see whether it pays by now."""


@dataclass(frozen=True)
class Round:
    """The tokens that one pass of the base gave, for the R rows that are still being written."""

    rows: torch.LongTensor
    """Which prompts these rows continue, (R,)."""
    ids: torch.LongTensor
    """New tokens, (R, gamma + 1); the first `counts` of each row are its text, the others not."""
    counts: torch.LongTensor
    """How many tokens each row got, from 1 to gamma + 1, (R,)."""
    accepted: torch.LongTensor
    """How many proposals each row kept, (R,)."""
    steered: torch.Tensor
    """Raw logits that each token was chosen from, (R, gamma + 1, V) float32."""
    finished: torch.BoolTensor
    """Rows that end here, by end-of-text or for want of room, (R,)."""


@torch.no_grad()
def speculate(
    model: ProxyTunedForCausalLM,
    input_ids: torch.LongTensor,
    attention_mask: torch.Tensor | None = None,
    *,
    max_new_tokens: int,
    draft: str | PreTrainedModel = "expert",
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
        draft: who proposes: "expert" (M+), "ngram" (what followed the same words before), or any
            other causal language model of this vocabulary, such as a quantised M+.
        gamma: number of proposals in a round; None adapts it to the share that is kept and to the
            time that passes take, down to 0, the plain loop. With chance, only a fixed gamma is
            repeatable.
        The others are as in `proxy_tuning.decoding.stream`.

    Raises:
        ValueError: as `stream`; an unknown draft or one with another vocabulary, a gamma below 0,
            or a part whose cache forgets what leaves its window.
    """
    check_trio(model)
    check_prompt(input_ids)
    if isinstance(draft, str) and draft not in DRAFTS:
        raise ValueError(f"no draft is named {draft!r}; there are {', '.join(DRAFTS)}")
    if gamma is not None and gamma < 0:
        raise ValueError(f"gamma needs to be 0 or more, got {gamma}")
    caches = model.new_cache(same_texts=False).caches
    if isinstance(draft, str):
        propose = DRAFTS[draft]
    else:
        propose = functools.partial(from_model, draft)
        caches["draft"] = DynamicCache(config=draft.config)
        if draft.config.vocab_size != model.config.vocab_size:
            raise ValueError(
                f"a draft with {draft.config.vocab_size} tokens for a vocabulary of "
                f"{model.config.vocab_size}"
            )
    for name, cache in caches.items():
        if any(cache.is_sliding):
            raise ValueError(f"{name} sees a window of the text, and its cache cannot step back")
    weigh = weigher(temperature, top_k, top_p) if temperature else None
    eos = end_of_text(model, eos_token_id)  # (E,)
    room = model.fit(input_ids.shape[1], max_new_tokens)

    ids = input_ids.to(model.device)  # (R, S): texts so far; the caches lack their last token
    mask = torch.ones_like(ids) if attention_mask is None else attention_mask.to(model.device)
    rows = torch.arange(len(ids), device=model.device)  # (R,): which texts are still written
    left = torch.full_like(rows, room)  # (R,) tokens that may still come
    pace = Pace(len(rows)) if gamma is None else Fixed(gamma)
    first = True

    while len(rows):
        start = time.perf_counter()
        count = 0 if first else min(pace.gamma(), int(left.min()) - 1)
        # the proposals, and what the three models say to them
        mask = torch.cat([mask, mask.new_ones(len(rows), count)], dim=1)  # (R, S + gamma)
        drafted, q, expert = propose(model, caches, ids, mask, count, weigh, generator)
        ids = torch.cat([ids, drafted], dim=1)  # (R, S + gamma)
        new = {"input_ids": ids[:, caches["base"].get_seq_length() :], "attention_mask": mask}
        new["logits_to_keep"] = count + 1
        if expert is None:
            expert = model.run("expert", **new, cache=caches["expert"])
        base = model.run("base", **new, cache=caches["base"])
        antiexpert = model.run("antiexpert", **new, cache=caches["antiexpert"])
        row_alpha = alpha[rows] if isinstance(alpha, torch.Tensor) and alpha.dim() else alpha
        steered = model.combine(base, expert, antiexpert, alpha=row_alpha)  # (R, gamma + 1, V)
        if weigh is None:
            accepted, next_ids = agree(steered, drafted)  # (R,), (R,)
        else:
            accepted, next_ids = judge(weigh(steered), q, drafted, generator)

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
        yield Round(rows, new_ids, counts, accepted, steered, finished)
        start = time.perf_counter() - took  # not the caller's time

        # the caches forget what was refused, and the rows that are finished
        newest = new_ids.gather(1, counts[:, None] - 1)
        refused = count + 1 - counts
        on = ~finished
        if finished.any():
            for cache in caches.values():
                cache.batch_select_indices(on.nonzero()[:, 0])
            rows, left, ids, mask, newest, refused = (
                x[on] for x in (rows, left, ids, mask, newest, refused)
            )
        if len(rows):
            ids, mask = step_back(caches, ids, mask, refused)
            ids = torch.cat([ids, newest], dim=1)
            mask = torch.cat([mask, torch.ones_like(newest)], dim=1)
        if not first:  # the prompt takes another time
            pace.learn(count, accepted, time.perf_counter() - start)
        first = False


def generate(model: ProxyTunedForCausalLM, input_ids: torch.LongTensor, *args, **kwargs):
    """Prompts and what `speculate` writes after them, (B, T + N); arguments as there.

    A row that ends before the longest is filled with end-of-text.
    """
    eos = end_of_text(model, kwargs.get("eos_token_id"))
    texts = [[] for _ in input_ids]
    for done in speculate(model, input_ids, *args, **kwargs):
        for row, ids, count in zip(done.rows.tolist(), done.ids.tolist(), done.counts.tolist()):
            texts[row] += ids[:count]
    longest = max(map(len, texts))
    new = [text + [eos[0].item()] * (longest - len(text)) for text in texts]
    return torch.cat([input_ids, torch.tensor(new, device=input_ids.device)], dim=1)


# Who proposes: from texts (R, S) and a mask (R, S + gamma), the proposals (R, gamma), what they
# were drawn from (R, gamma, V) unless decoding is greedy, and the expert's logits
# (R, gamma + 1, V) where they are known


def from_expert(model, caches, ids, mask, count, weigh, generator):
    """M+ writes on alone; its logits after the last proposal are computed, too."""
    cache, drafted, q, logits = caches["expert"], [], [], []
    new = ids[:, caches["base"].get_seq_length() :]
    for step in range(count + 1):
        seen = mask[:, : ids.shape[1] + step]
        logits.append(model.run("expert", new, seen, cache=cache, logits_to_keep=1))  # (R, 1, V)
        if step < count:
            new = choose(logits[-1], weigh, generator, q)  # (R, 1)
            drafted.append(new)
    drafted = torch.cat([ids[:, :0], *drafted], dim=1)
    return drafted, torch.cat(q, dim=1) if q else None, torch.cat(logits, dim=1)


def from_model(draft, model, caches, ids, mask, count, weigh, generator):
    """A fourth model writes on; where nothing is to be proposed, it falls behind and rests."""
    if count == 0:
        return ids[:, :0], None, None
    cache, length, q = caches["draft"], ids.shape[1], []
    for step in range(count + 1):  # the last pass is for its cache alone
        new, seen = ids[:, cache.get_seq_length() :], mask[:, : ids.shape[1]]
        logits = draft(
            input_ids=new,
            attention_mask=seen,
            position_ids=positions(new, seen, 0),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits
        if step < count:
            ids = torch.cat([ids, choose(logits, weigh, generator, q)], dim=1)
    return ids[:, length:], torch.cat(q, dim=1) if q else None, None


def choose(logits, weigh, generator, q):
    """A proposal per row (R, 1) by logits (R, 1, V); appends what it was drawn from to q."""
    if weigh is None:
        return logits.argmax(dim=-1)
    q.append(weigh(logits))  # (R, 1, V)
    return draw(q[-1][:, 0], generator)[:, None]


def from_ngrams(model, caches, ids, mask, count, weigh, generator):
    """What followed the last words of each text where they stood before; costs no pass."""
    texts = (text[real] for text, real in zip(ids, mask[:, : ids.shape[1]].bool()))
    drafted = torch.stack([look_up(text, count) for text in texts])  # (R, gamma)
    if weigh is None:
        return drafted, None, None
    return drafted, torch.nn.functional.one_hot(drafted, model.config.vocab_size).float(), None


def look_up(text: torch.LongTensor, count: int, longest: int = 3) -> torch.LongTensor:
    """The `count` tokens after the latest earlier place of the longest known suffix of a text (T,).

    Where even the last token is new, or the text ends too early, the last token again.
    """
    found = text[:0]
    for length in range(min(longest, len(text) - 1), 0, -1):
        windows = text[:-1].unfold(0, length, 1)  # (T - length, length)
        places = (windows == text[-length:]).all(1).nonzero()
        if len(places):
            found = text[places[-1].item() + length :][:count]
            break
    return torch.cat([found, text[-1].expand(count - len(found))])


DRAFTS: dict[str, Callable] = {"expert": from_expert, "ngram": from_ngrams}


# Which proposals are kept


def weigher(temperature: float, top_k: int, top_p: float) -> Callable:
    """A function from logits (R, K, V) to the probabilities that tokens are drawn with."""
    filters = warpers(temperature, top_k, top_p)

    def weigh(logits: torch.Tensor) -> torch.Tensor:
        scores = filters(None, logits.float().flatten(0, 1))  # (R * K, V)
        return scores.softmax(dim=-1).view(logits.shape)

    return weigh


def agree(
    steered: torch.Tensor, drafted: torch.LongTensor
) -> tuple[torch.LongTensor, torch.LongTensor]:
    """`judge` for greedy decoding, by logits (R, gamma + 1, V): proposals are kept until the
    first that is not the likeliest token, and that token comes after them."""
    likeliest = steered.argmax(dim=-1)  # (R, gamma + 1)
    accepted = (likeliest[:, :-1] == drafted).long().cumprod(dim=1).sum(dim=1)
    return accepted, likeliest.gather(1, accepted[:, None])[:, 0]


def judge(
    r: torch.Tensor,
    q: torch.Tensor | None,
    drafted: torch.LongTensor,
    generator: torch.Generator | None = None,
) -> tuple[torch.LongTensor, torch.LongTensor]:
    """How many proposals each row keeps, and the token that comes after them.

    Args:
        r: probabilities (R, gamma + 1, V) that the text is to be drawn from.
        q: probabilities (R, gamma, V) that the proposals were drawn from.
        drafted: proposals, (R, gamma).

    Returns:
        Two tensors (R,): the number of proposals kept, and the token at the first place without.
    """
    gamma = drafted.shape[1]
    accepted = drafted.new_zeros(len(drafted))  # (R,)
    if gamma:
        chance = torch.rand(drafted.shape, generator=generator, device=r.device)  # (R, gamma)
        share = r[:, :gamma].gather(2, drafted[..., None]) / q.gather(2, drafted[..., None])
        accepted = (chance < share[..., 0]).long().cumprod(dim=1).sum(dim=1)
    row = torch.arange(len(drafted), device=r.device)
    rest = r[row, accepted]  # (R, V): r after the proposals kept ...
    if gamma:
        less = (rest - q[row, accepted.clamp(max=gamma - 1)]).clamp(min=0)  # (R, V)
        # ... less q where one was refused; nothing is left only where r is q but for rounding
        refused = (accepted < gamma) & less.any(dim=1)
        rest = torch.where(refused[:, None], less, rest)
    return accepted, draw(rest, generator)


def draw(weights: torch.Tensor, generator: torch.Generator | None) -> torch.LongTensor:
    """One token per row (R,), by weights (R, V) that need not sum to 1."""
    return torch.multinomial(weights, 1, generator=generator)[:, 0]


def step_back(
    caches: dict[str, Cache],
    ids: torch.LongTensor,
    mask: torch.Tensor,
    refused: torch.LongTensor,
) -> tuple[torch.LongTensor, torch.Tensor]:
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
        rolled = (row.roll(shift, dim - 1) for row, shift in zip(x, shifts))
        return torch.stack([row.narrow(dim - 1, drop, size) for row in rolled])

    for cache in caches.values():
        for layer in cache.layers:
            if layer.get_seq_length():
                layer.keys = move(layer.keys, 2)  # (R, H, S, D)
                layer.values = move(layer.values, 2)
    real = torch.arange(width, device=mask.device) >= width - lengths[:, None]
    return move(ids, 1), real.to(mask.dtype)


# How many to propose


@dataclass(frozen=True)
class Fixed:
    """The same number of proposals in every round."""

    count: int

    def gamma(self) -> int:
        return self.count

    def learn(self, gamma: int, accepted: torch.Tensor, seconds: float) -> None:
        pass


class Pace:
    """The gamma with most tokens a second, by what was kept lately and what rounds took.

    With a share s of proposals kept, gamma of them give 1 + s + ... + s**gamma tokens. The first
    guess is smaller in a batch, whose rows get out of step by it.
    """

    def __init__(self, rows: int = 1):
        self.first = 3 if rows == 1 else 1
        self.seconds = defaultdict(lambda: deque(maxlen=5))  # gamma -> of its latest rounds
        self.kept, self.tested = 3.0, 4.0  # a guess worth four proposals
        self.plain = 0  # rounds since something was proposed

    def gamma(self) -> int:
        for needed in (self.first, 0):  # two rounds to see what they cost
            if needed not in self.seconds:
                return needed
        best = max(GAMMAS, key=lambda gamma: self.tokens(gamma) / self.cost(gamma))
        return 1 if best == 0 and self.plain >= PROBE else best

    def tokens(self, gamma: int) -> float:
        return sum((self.kept / self.tested) ** i for i in range(gamma + 1))

    def cost(self, gamma: int) -> float:
        """Seconds of a round: measured, or on the line through the nearest measured ones."""
        if gamma in self.seconds:
            return statistics.median(self.seconds[gamma])
        known = sorted(self.seconds)
        below = max(g for g in known if g < gamma)
        above = min((g for g in known if g > gamma), default=None)
        if above is None:
            above, below = below, 0
        at_below, at_above = self.cost(below), self.cost(above)
        return at_below + (at_above - at_below) * (gamma - below) / (above - below)

    def learn(self, gamma: int, accepted: torch.Tensor, seconds: float) -> None:
        self.seconds[gamma].append(seconds)
        self.plain = self.plain + 1 if gamma == 0 else 0
        if gamma:
            tested = (accepted + 1).clamp(max=gamma).sum().item()
            self.kept = 0.9 * self.kept + accepted.sum().item()
            self.tested = 0.9 * self.tested + tested
