"""Who proposes tokens to speculative decoding, and how many in a round."""

import math
import statistics
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from transformers import Cache, DynamicCache, PreTrainedModel

from proxy_tuning.decoding import warpers
from proxy_tuning.parts import positions

GAMMAS = (*range(9), 12, 16)
"""How many tokens may be proposed; 0 is the plain loop."""
LATEST = 5
"""Rounds of one gamma that its cost is told by."""
GUESS = 0.75
"""The share of proposals kept that is expected of who has proposed nothing yet."""
PROBE = 64
"""After so many rounds of the plain loop, one proposal, to see whether it pays by now."""


class Drafter:
    """Proposes what may come next; a round of `speculate` asks one of them.

    Args:
        model: the `ProxyTunedForCausalLM` that is to be sped up.
        caches: those of `speculate`, by part; a drafter with a cache of its own adds it.
        weigh: logits to probabilities (see `weigher`); None decodes greedily.
        generator: source of chance.
    """

    def __init__(
        self,
        model,
        caches: dict[str, Cache],
        weigh: Callable | None = None,
        generator: torch.Generator | None = None,
    ):
        self.model, self.caches = model, caches
        self.weigh, self.generator = weigh, generator

    def propose(self, ids: torch.Tensor, mask: torch.Tensor, count: int):
        """Proposals after texts.

        Args:
            ids: texts so far, (R, S) int64.
            mask: 0 on the padding, (R, S + count).
            count: gamma.

        Returns:
            The proposals (R, gamma) int64; what they were drawn from (R, gamma, V), None where
            decoding is greedy; and by part the logits after each token (R, gamma + 1, V) that
            are known.
        """
        raise NotImplementedError

    def choose(self, logits: torch.Tensor, q: list[torch.Tensor]) -> torch.Tensor:
        """A proposal per row (R, 1) by logits (R, 1, V); appends what it was drawn from to q."""
        if self.weigh is None:
            return logits.argmax(dim=-1)
        q.append(self.weigh(logits))  # (R, 1, V)
        return draw(q[-1][:, 0], self.generator)[:, None]


def tokens_in(model, name: str, cache: Cache) -> int:
    """How many tokens of the text a part's cache holds; its own prefix counts for nothing."""
    held = cache.get_seq_length()
    return held - len(getattr(model.config, f"{name}_prefix", None) or []) if held else 0


class Nobody(Drafter):
    """No proposals: the plain loop."""

    def propose(self, ids, mask, count):
        return ids[:, :0], None, {}


class Part(Drafter):
    """One of the three writes on alone; its logits after the last proposal are computed, too."""

    name: str

    def propose(self, ids, mask, count):
        cache, drafted, q, logits = self.caches[self.name], [], [], []
        new = ids[:, tokens_in(self.model, self.name, cache) :]
        for step in range(count + 1):
            seen = mask[:, : ids.shape[1] + step]
            logits.append(self.model.run(self.name, new, seen, cache=cache, logits_to_keep=1))
            if step < count:
                new = self.choose(logits[-1], q)  # (R, 1)
                drafted.append(new)
        drafted = torch.cat([ids[:, :0], *drafted], dim=1)
        known = {self.name: torch.cat(logits, dim=1)}
        return drafted, torch.cat(q, dim=1) if q else None, known


class Expert(Part):
    """M+ proposes: it agrees with the steered M on what it was tuned for."""

    name = "expert"


class Base(Part):
    """M proposes: steering leaves it alone elsewhere, and M- and M+ then read in one pass each."""

    name = "base"


class Other(Drafter):
    """A fourth model writes on; where nothing is to be proposed, it falls behind and rests."""

    def __init__(self, draft: PreTrainedModel, model, caches, weigh=None, generator=None):
        super().__init__(model, caches, weigh, generator)
        if draft.config.vocab_size != model.config.vocab_size:
            raise ValueError(
                f"a draft with {draft.config.vocab_size} tokens for a vocabulary of "
                f"{model.config.vocab_size}"
            )
        contexts = [
            getattr(each.config, "max_position_embeddings", None) or math.inf
            for each in (draft, model)
        ]
        if contexts[0] < contexts[1]:
            raise ValueError(
                f"a draft with a context of {contexts[0]} tokens for a model with {contexts[1]}"
            )
        self.draft = draft
        caches["draft"] = DynamicCache(config=draft.config)

    def propose(self, ids, mask, count):
        if count == 0:
            return ids[:, :0], None, {}
        cache, length, q = self.caches["draft"], ids.shape[1], []
        for step in range(count + 1):  # the last pass is for its cache alone
            new, seen = ids[:, cache.get_seq_length() :], mask[:, : ids.shape[1]]
            logits = self.draft(
                input_ids=new,
                attention_mask=seen,
                position_ids=positions(new, seen, 0),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits
            if step < count:
                ids = torch.cat([ids, self.choose(logits, q)], dim=1)
        return ids[:, length:], torch.cat(q, dim=1) if q else None, {}


class QuantisedExpert(Other):
    """M+ in 8 bits, which `load_family` puts beside the trio, writes on."""

    def __init__(self, model, caches, weigh=None, generator=None):
        if model.quantised_expert is None:
            raise ValueError(
                'there is no M+ in 8 bits beside this trio: load_family(draft="expert-int8") makes it'
            )
        super().__init__(model.quantised_expert, model, caches, weigh, generator)


class Ngrams(Drafter):
    """What followed the last words of each text where they stood before; costs no pass."""

    def propose(self, ids, mask, count):
        texts = (text[real] for text, real in zip(ids, mask[:, : ids.shape[1]].bool(), strict=True))
        drafted = torch.stack([self.followed(text, count) for text in texts])  # (R, gamma)
        if self.weigh is None:
            return drafted, None, {}
        q = torch.nn.functional.one_hot(drafted, self.model.config.vocab_size).float()
        return drafted, q, {}

    def followed(self, text: torch.Tensor, count: int) -> torch.Tensor:
        """`count` tokens after a text (T,), both int64."""
        return what_followed(text, count)


class Learnt(Ngrams):
    """What follows the last words of each text in an answer that M+ learnt; costs no pass."""

    def __init__(self, model, caches, weigh=None, generator=None):
        if model.learnt is None:
            raise ValueError(
                "beside this M+ are no answers that it learnt (learnt.jsonl): name another draft"
            )
        super().__init__(model, caches, weigh, generator)

    def followed(self, text, count):
        found = self.model.learnt.following(text.cpu(), count).to(text.device)
        return torch.cat([found, text[-1].expand(count - len(found))])


DRAFTS = {
    "none": Nobody,
    "ngram": Ngrams,
    "learnt": Learnt,
    "expert": Expert,
    "base": Base,
    "expert-int8": QuantisedExpert,
}
"""Drafters by name; "auto" is all that a text can have, each round the one that pays best."""


def what_followed(text: torch.Tensor, count: int, longest: int = 3) -> torch.Tensor:
    """The `count` tokens after the latest earlier place of the longest known suffix of a text (T,).

    Both int64. Where even the last token is new, or the text ends too early, the last token again.
    """
    found = text[:0]
    for length in range(min(longest, len(text) - 1), 0, -1):
        windows = text[:-1].unfold(0, length, 1)  # (T - length, length)
        places = (windows == text[-length:]).all(1).nonzero()
        if len(places):
            found = text[places[-1].item() + length :][:count]
            break
    return torch.cat([found, text[-1].expand(count - len(found))])


def weigher(temperature: float, top_k: int, top_p: float) -> Callable:
    """A function from logits (R, K, V) to the probabilities that tokens are drawn with."""
    filters = warpers(temperature, top_k, top_p)

    def weigh(logits: torch.Tensor) -> torch.Tensor:
        scores = filters(logits.float().flatten(0, 1))  # (R * K, V)
        return scores.softmax(dim=-1).view(logits.shape)

    return weigh


def draw(weights: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    """One token per row (R,) int64, by weights (R, V) that need not sum to 1."""
    return torch.multinomial(weights, 1, generator=generator)[:, 0]


# How many to propose


@dataclass(frozen=True)
class Fixed:
    """The same number of proposals in every round."""

    count: int

    def gamma(self) -> int:
        return self.count

    def rate(self) -> float:
        return 0.0  # no drafter is preferred: the first one it is

    def learn(self, gamma: int, accepted: torch.Tensor, seconds: float) -> None:
        pass


@dataclass
class Known:
    """What earlier texts told of a drafter."""

    seconds: dict[int, deque[float]] = field(default_factory=lambda: {0: deque(maxlen=LATEST)})
    """gamma -> what its latest rounds took, 0 among them."""
    kept: float = GUESS
    tested: float = 1.0
    """Proposals, the latest counting most."""

    def next_text(self) -> float:
        """The share to expect; a little of it is hope again, so that nobody is given up for good."""
        self.kept = 0.9 * self.kept + 0.1 * GUESS * self.tested
        return self.kept / self.tested

    def learn(self, kept: float, tested: float) -> None:
        self.kept = 0.98 * self.kept + kept
        self.tested = 0.98 * self.tested + tested


class Pace:
    """The gamma with most tokens a second, by what was kept lately and what rounds took.

    With a share s of proposals kept, gamma of them give 1 + s + ... + s**gamma tokens. The first
    guess is smaller in a batch, whose rows get out of step by it.

    Args:
        rows: texts of the batch.
        known: of earlier texts; it goes on to be filled. None where nothing is known.
    """

    def __init__(self, rows: int = 1, known: Known | None = None):
        self.first = 3 if rows == 1 else 1
        self.known = known or Known()
        self.seconds = self.known.seconds
        self.kept, self.tested = 4 * self.known.next_text(), 4.0  # worth four proposals
        self.plain = 0  # rounds since something was proposed

    def gamma(self) -> int:
        for needed in (self.first, 0):  # two rounds to see what they cost
            if not self.seconds.get(needed):
                return needed
        best = max(GAMMAS, key=lambda gamma: self.tokens(gamma) / self.cost(gamma))
        return 1 if best == 0 and self.plain >= PROBE else best

    def rate(self) -> float:
        """Tokens a second that it expects; until it has seen what rounds cost, what they give at most.

        That is with as many proposals as may be, for nothing; infinite while a plain round is unknown.
        """
        if not self.seconds[0]:
            return math.inf
        if not self.seconds.get(self.first):
            return self.tokens(max(GAMMAS)) / self.cost(0)
        gamma = self.gamma()
        return self.tokens(gamma) / self.cost(gamma)

    def tokens(self, gamma: int) -> float:
        return sum((self.kept / self.tested) ** i for i in range(gamma + 1))

    def cost(self, gamma: int) -> float:
        """Seconds of a round: measured, or on the line through the nearest measured ones."""
        if self.seconds.get(gamma):
            return statistics.median(self.seconds[gamma])
        known = sorted(self.seconds)
        below = max(g for g in known if g < gamma)
        above = min((g for g in known if g > gamma), default=None)
        if above is None:
            above, below = below, 0
        at_below, at_above = self.cost(below), self.cost(above)
        return at_below + (at_above - at_below) * (gamma - below) / (above - below)

    def learn(self, gamma: int, accepted: torch.Tensor, seconds: float) -> None:
        self.seconds.setdefault(gamma, deque(maxlen=LATEST)).append(seconds)
        self.plain = self.plain + 1 if gamma == 0 else 0
        if gamma:
            tested = (accepted + 1).clamp(max=gamma).sum().item()
            kept = accepted.sum().item()
            self.kept = 0.9 * self.kept + kept
            self.tested = 0.9 * self.tested + tested
            self.known.learn(kept, tested)


def check_draft(draft: str) -> None:
    """ValueError for a draft that there is not."""
    if draft != "auto" and draft not in DRAFTS:
        raise ValueError(f"no draft is named {draft!r}; there are auto, {', '.join(DRAFTS)}")


class Drafters:
    """Of several drafters, each with a pace of its own, in every round the one that pays best.

    Args:
        drafters: by name, each of which can propose; a fixed `gamma` is everybody's.
        rows: texts of the batch.
        known: of earlier texts, by drafter, and under "none" what rounds without proposals took,
            which are alike for all; it goes on to be filled, so that only the first text pays for
            finding out. None for nothing known.
    """

    def __init__(
        self,
        drafters: dict[str, Drafter],
        rows: int,
        gamma: int | None,
        known: dict[str, Known] | None = None,
    ):
        self.drafters = drafters
        known = {} if known is None else known
        plain = known.setdefault("none", Known()).seconds[0]
        self.paces = {
            name: Pace(rows, known.setdefault(name, Known({0: plain})))
            if gamma is None and name != "none"
            else Fixed(gamma or 0)
            for name in drafters
        }
        self.asked = next(iter(drafters))

    def next(self) -> tuple[Drafter, int]:
        """Who proposes in this round, and how many."""
        if len(self.drafters) > 1:
            self.asked = max(self.paces, key=lambda name: self.paces[name].rate())
        return self.drafters[self.asked], self.paces[self.asked].gamma()

    def learn(self, gamma: int, accepted: torch.Tensor, seconds: float) -> None:
        """What the round gave to whom was asked."""
        self.paces[self.asked].learn(gamma, accepted, seconds)
