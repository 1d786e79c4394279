"""The token-by-token loop, written to be read: what the three models wanted at every step."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from transformers import (
    Cache,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

HISTORIES = ("base", "expert", "steered")
"""Who writes each of the three texts of `stream_side_by_side`, in the order of its rows."""


@dataclass(frozen=True)
class Step:
    """One new token in each of B rows."""

    next_ids: torch.Tensor
    """The tokens chosen, (B,) int64; end-of-text again and again in a finished row."""
    base: torch.Tensor
    """Raw logits of M, (B, V) float32."""
    expert: torch.Tensor
    """Raw logits of M+, (B, V) float32."""
    antiexpert: torch.Tensor
    """Raw logits of M-, (B, V) float32."""
    steered: torch.Tensor
    """Raw logits that the tokens were chosen from, (B, V) float32."""
    finished: torch.Tensor
    """Rows that have reached end-of-text, now or earlier, (B,) bool."""


@torch.no_grad()
def stream(
    model,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    alpha: float | torch.Tensor | None = None,
    generator: torch.Generator | None = None,
    eos_token_id: int | None = None,
    past_key_values: Cache | None = None,
) -> Iterator[Step]:
    """Generate with a `ProxyTunedForCausalLM`, one `Step` per token, as soon as it is known.

    Args:
        input_ids: prompts, (B, T) int64, padded on the left.
        attention_mask: 0 on the padding, (B, T); None where there is none.
        max_new_tokens: at most so many steps; fewer where every row ends or the context is full.
        temperature: 0 takes the most likely token, above 0 samples.
        top_k, top_p: sample among the k likeliest, and the likeliest that hold p of the
            probability; 0 and 1.0 switch them off.
        alpha: weight of (expert - antiexpert) in this call, a number or one per row (B,); None
            takes the model's. With several per prompt (B, K), each prompt is read once and
            continued at every alpha: B * K rows, those of a prompt together.
        generator: source of chance, on the model's device; None is torch's global one.
        eos_token_id: end-of-text; None takes the model's, -1 never stops.
        past_key_values: what has been read of the prompts, as in `generate`; it is written on.

    Raises:
        ValueError: an empty prompt, one that fills the context, or a filter out of range.
    """
    check_trio(model)
    choose = chooser(temperature, top_k, top_p, generator)
    eos = end_of_text(model, eos_token_id)  # (E,)
    max_new_tokens = model.fit(input_ids.shape[1], max_new_tokens)
    input_ids = input_ids.to(model.device)  # (B, T)
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask.to(model.device)
    cache = past_key_values or model.new_cache()
    new_ids = input_ids[:, cache.get_seq_length() :]  # what the caches do not hold yet
    copies = 1
    if isinstance(alpha, torch.Tensor) and alpha.dim() == 2:
        copies, alpha = alpha.shape[1], alpha.flatten()
    finished = torch.zeros(len(new_ids) * copies, dtype=torch.bool, device=model.device)  # (B,)

    for _ in range(max_new_tokens):
        # what each model wants next, given everything so far
        logits = model.part_logits(new_ids, mask, past_key_values=cache, logits_to_keep=1)
        base, expert, antiexpert = (
            x[:, -1].float().repeat_interleave(copies, dim=0) for x in logits
        )  # (B, V)
        if copies > 1:  # the prompt is read; from here on every alpha has a row
            mask = mask.repeat_interleave(copies, dim=0)
            cache.batch_repeat_interleave(copies)
            copies = 1
        # steer, choose, and leave finished rows at their end
        steered = model.combine(base, expert, antiexpert, alpha=alpha)  # (B, V)
        next_ids = choose(steered).masked_fill(finished, eos[0])  # (B,)
        finished = torch.isin(next_ids, eos)
        yield Step(next_ids, base, expert, antiexpert, steered, finished)
        if finished.all():
            return
        # only the new token goes in; the caches remember the rest
        new_ids = next_ids[:, None]  # (B, 1)
        mask = torch.cat([mask, torch.ones_like(new_ids)], dim=1)


class Beginning:
    """What many prompts begin with (instructions, examples), read once.

        beginning = Beginning(model, tokenizer(examples)["input_ids"])
        inputs = tokenizer([examples + q for q in questions], return_tensors="pt", padding=True)
        model.generate(**beginning.inputs(**inputs))

    Args:
        model: a `ProxyTunedForCausalLM`, whose weights stay as they are from here on.
        ids: the tokens that the prompts begin with, P of them.
        same_texts: whether all parts will read the same; in `speculate` they do not.

    Raises:
        ValueError: no tokens, or a part whose cache forgets what leaves its window.
    """

    @torch.no_grad()
    def __init__(self, model, ids: list[int], same_texts: bool = True):
        self.ids = torch.tensor([ids], device=model.device)  # (1, P)
        self.cache = model.new_cache(same_texts)
        if any(self.cache.is_sliding):
            raise ValueError("a part sees a window of the text: it cannot share a beginning")
        if same_texts:
            model.part_logits(self.ids, past_key_values=self.cache, logits_to_keep=1)
            return
        for name, cache in self.cache.caches.items():
            model.run(name, self.ids, torch.ones_like(self.ids), cache=cache, logits_to_keep=1)

    def starts(self, input_ids: torch.Tensor) -> bool:
        """Whether prompts (B, T) without padding all begin so and go on."""
        length = self.ids.shape[1]
        return input_ids.shape[1] > length and bool((input_ids[:, :length] == self.ids).all())

    def read(self, rows: int):
        """A cache for so many prompts, which holds what has been read."""
        cache = copy.deepcopy(self.cache)
        cache.batch_repeat_interleave(rows)
        return cache

    def inputs(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> dict[str, torch.Tensor | Cache]:
        """What `generate` and `stream` take in place of these prompts (B, T), padded on the left.

        Also (B, T) int64, but the padding stands after the beginning, which its cache holds.

        Raises:
            ValueError: a prompt that does not begin so, or has nothing after it.
        """
        ids, mask = input_ids.to(self.ids.device), attention_mask.to(self.ids.device)
        length = self.ids.shape[1]
        starts = mask.argmax(dim=1, keepdim=True)  # (B, 1)
        at = (starts + torch.arange(length, device=ids.device)).clamp(
            max=ids.shape[1] - 1
        )  # (B, P)
        if (mask.sum(1) <= length).any() or (ids.gather(1, at) != self.ids).any():
            raise ValueError("a prompt does not begin with these tokens, or ends with them")
        first = self.ids.expand(len(ids), -1)
        return {
            "input_ids": torch.cat([first, ids[:, length:]], dim=1),
            "attention_mask": torch.cat([torch.ones_like(first), mask[:, :-length]], dim=1),
            "past_key_values": self.read(len(ids)),
        }


@dataclass(frozen=True)
class SideBySide:
    """One new token in each of three texts, for B prompts; the logits follow the steered text."""

    next_ids: torch.Tensor
    """The tokens chosen, (3, B) int64, rows as in `HISTORIES`; end-of-text in a finished text."""
    base: torch.Tensor
    """Raw logits of M after the steered text, (B, V) float32."""
    expert: torch.Tensor
    """Raw logits of M+ there, (B, V) float32."""
    antiexpert: torch.Tensor
    """Raw logits of M- there, (B, V) float32."""
    steered: torch.Tensor
    """Raw steered logits there, (B, V) float32."""
    finished: torch.Tensor
    """Texts that have reached end-of-text, now or earlier, (3, B) bool."""


@torch.no_grad()
def stream_side_by_side(
    model,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    alpha: float | torch.Tensor | None = None,
    generator: torch.Generator | None = None,
    eos_token_id: int | None = None,
) -> Iterator[SideBySide]:
    """Let M alone, M+ alone and the proxy-tuned M write together; arguments as in `stream`.

    Each of the three continues its own text. Nothing is computed twice: the prompt goes through
    each model once, and then M and M+ take two rows per prompt (their own text and the steered
    one), M- one.
    """
    check_trio(model)
    choose = chooser(temperature, top_k, top_p, generator)
    eos = end_of_text(model, eos_token_id)  # (E,)
    max_new_tokens = model.fit(input_ids.shape[1], max_new_tokens)
    prompt = input_ids.to(model.device)
    mask = torch.ones_like(prompt) if attention_mask is None else attention_mask.to(model.device)
    finished = torch.zeros(3, len(prompt), dtype=torch.bool, device=model.device)  # (3, B)
    caches = model.new_cache(same_texts=False).caches

    # the prompt: one row per prompt, then two where two texts grow from it
    own_base, own_expert, antiexpert = (
        model.run(name, prompt, mask, cache=cache, logits_to_keep=1)[:, -1].float()
        for name, cache in caches.items()
    )  # (B, V)
    base, expert = own_base, own_expert
    for name in ("base", "expert"):
        caches[name].batch_repeat_interleave(2)  # rows: own, steered, own, steered, ...

    for step in range(max_new_tokens):
        steered = model.combine(base, expert, antiexpert, alpha=alpha)  # (B, V)
        scores = torch.cat([own_base, own_expert, steered])  # (3B, V)
        next_ids = choose(scores).view(3, -1).masked_fill(finished, eos[0])  # (3, B)
        finished = torch.isin(next_ids, eos)
        yield SideBySide(next_ids, base, expert, antiexpert, steered, finished)
        if finished.all() or step == max_new_tokens - 1:
            return
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
        for_base, for_expert, for_steered = next_ids  # (B,) each
        new_ids = {
            "base": torch.stack([for_base, for_steered], dim=1).view(-1, 1),  # (2B, 1)
            "expert": torch.stack([for_expert, for_steered], dim=1).view(-1, 1),  # (2B, 1)
            "antiexpert": for_steered.view(-1, 1),  # (B, 1)
        }
        both, both_expert, antiexpert = (
            model.run(name, ids, mask.repeat_interleave(len(ids) // len(mask), 0), cache=c)[
                :, -1
            ].float()
            for (name, ids), c in zip(new_ids.items(), caches.values(), strict=True)
        )
        own_base, base = both[0::2], both[1::2]
        own_expert, expert = both_expert[0::2], both_expert[1::2]


def chooser(
    temperature: float, top_k: int, top_p: float, generator: torch.Generator | None
) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function from logits (B, V) to next tokens (B,) int64: the likeliest, or a sample."""
    if temperature == 0:
        return lambda logits: logits.argmax(dim=-1)
    filters = warpers(temperature, top_k, top_p)

    def sample(logits: torch.Tensor) -> torch.Tensor:
        scores = filters(logits)  # (B, V)
        return torch.multinomial(scores.softmax(dim=-1), 1, generator=generator)[:, 0]

    return sample


def warpers(temperature: float, top_k: int, top_p: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """Temperature above 0 and filters: transformers' own, in the order of `generate`.

    The function takes and gives logits (B, V).
    """
    filters = LogitsProcessorList([TemperatureLogitsWarper(float(temperature))])
    if top_k != 0:
        filters.append(TopKLogitsWarper(top_k))
    if top_p != 1.0:
        filters.append(TopPLogitsWarper(top_p))
    return partial(filters, None)  # type: ignore[arg-type]  # none of these looks at the tokens


def check_trio(model) -> None:
    """ValueError for a model with several experts: a `Step` has room for one."""
    if len(model.experts) > 1:
        raise ValueError(f"{len(model.experts)} experts: these loops show one; use model.generate")


def end_of_text(model, eos_token_id: int | None = None) -> torch.Tensor:
    """Ids that end a text, (E,) int64: the one given, else the model's, else -1, no token's."""
    if eos_token_id is None:
        eos_token_id = model.generation_config.eos_token_id
    if eos_token_id is None:
        eos_token_id = -1
    return torch.tensor(eos_token_id, device=model.device).view(-1)
