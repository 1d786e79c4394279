"""Proxy-tuning as a generation recipe that transformers loads from a folder or the Hub.

    model.generate(
        **inputs, custom_generate=FOLDER, trust_remote_code=True,
        expert=expert, antiexpert=antiexpert, alpha=1.0,
    )

At every token the logits are `base + alpha * (expert - antiexpert)`; `model` is the base. All
modes of `generate` work: greedy, sampling, beams, assisted. `proxy_tuning.serving.hub` writes the
folder, in which this file is custom_generate/generate.py.
"""

from collections.abc import Sequence

import torch
from transformers import (
    DynamicCache,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
)

from proxy_tuning.logits import STRONGEST, Line

BEFORE_THE_LINE = {"repetition_penalty": 1.0, "guidance_scale": 1.0}
"""What transformers would do to the base's logits alone, with the values that do nothing."""


def generate(
    model,
    expert: PreTrainedModel | Sequence[PreTrainedModel] | None = None,
    antiexpert: PreTrainedModel | Sequence[PreTrainedModel] | None = None,
    alpha: float | Sequence[float] = 1.0,
    line: dict | None = None,
    logits_processor: list | None = None,
    **kwargs,
):
    """`model.generate`, steered.

    Args:
        model: M, a causal language model of transformers, large and untouched.
        expert: M+; or several, each adding its own difference.
        antiexpert: M-; with several experts one for all or one each.
        alpha: weight of (expert - antiexpert), one for all or one for each expert.
        line: variants, the other fields of `Line`: {"plausibility": 0.1}.
        logits_processor, kwargs: as in `generate`; what is given here works on steered logits.

    Returns:
        What `generate` returns.

    Raises:
        ValueError: no expert or antiexpert, numbers of them that do not fit, or an option that
            transformers would apply to the base's logits before they are steered.
    """
    experts, antiexperts = as_list(expert), as_list(antiexpert)
    if not experts or len(antiexperts) not in (1, len(experts)):
        raise ValueError(
            f"expert and antiexpert need to be models, one antiexpert for all or one each; got "
            f"{len(experts)} and {len(antiexperts)}"
        )
    alphas = list(alpha) if isinstance(alpha, Sequence) else [alpha] * len(experts)
    if len(alphas) != len(experts) or not all(abs(a) <= STRONGEST for a in alphas):
        raise ValueError(
            f"{len(experts)} expert(s) take as many finite alphas, at most {STRONGEST}, got {alpha}"
        )
    chosen = kwargs.get("generation_config") or model.generation_config
    for option, idle in BEFORE_THE_LINE.items():
        value = kwargs.get(option, getattr(chosen, option, None))
        if value not in (None, idle):
            raise ValueError(f"{option}={value} would change the base's logits alone: leave it out")
    steering = Steering(
        experts,
        antiexperts,
        Line(**line or {}),
        alphas,
        kwargs.get("attention_mask"),
        normalised=(kwargs.get("num_beams", chosen.num_beams) or 1) > 1,
    )
    processors = LogitsProcessorList([steering, *(logits_processor or [])])
    return model.generate(logits_processor=processors, **kwargs)


def as_list(models) -> list[PreTrainedModel]:
    if models is None:
        return []
    return list(models) if isinstance(models, Sequence) else [models]


class Steering(LogitsProcessor):
    """Adds what the small models say to the base's logits."""

    def __init__(
        self, experts, antiexperts, line: Line, alphas: list, attention_mask, normalised: bool
    ):
        self.experts = [Reader(each, attention_mask) for each in experts]
        self.antiexperts = [Reader(each, attention_mask) for each in antiexperts]
        self.line, self.alphas, self.normalised = line, alphas, normalised

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Steered logits (B, V) float32, from token ids (B, T) and the base's logits (B, V).

        Beams add up log-probabilities, so that those come in and go out there.
        """
        experts = [reader.logits(input_ids).to(scores.device) for reader in self.experts]
        antiexperts = [reader.logits(input_ids).to(scores.device) for reader in self.antiexperts]
        if len(antiexperts) < len(experts):  # one serves all
            antiexperts *= len(experts)
        steered = self.line(scores, experts, antiexperts, self.alphas)
        return steered.log_softmax(-1) if self.normalised else steered


class Reader:
    """A small model that reads along, and keeps the keys and values of what it has read.

    Args:
        model: a causal language model.
        attention_mask: of the prompts, (B, T), or None where nothing is padded.
    """

    def __init__(self, model: PreTrainedModel, attention_mask: torch.Tensor | None):
        self.model, self.prompt_mask = model, attention_mask
        self.forget()

    def forget(self) -> None:
        self.cache = DynamicCache(config=self.model.config)
        self.read = torch.empty(0, 0, dtype=torch.long)

    @torch.no_grad()
    def logits(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Logits for the next token, (B, V); beams may have moved, and drafts been taken back."""
        input_ids = input_ids.to(self.model.device)
        self.go_back(input_ids)
        known = self.read.shape[1]
        mask = self.mask(input_ids)
        out = self.model(
            input_ids=input_ids[:, known:],
            attention_mask=mask,
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0)[:, known:],
            past_key_values=self.cache,
            use_cache=True,
        )
        self.read = input_ids
        return out.logits[:, -1]

    def go_back(self, input_ids: torch.Tensor) -> None:
        """Forget what is not the beginning of these rows, and the last token of them."""
        if len(self.read) != len(input_ids):
            return self.forget()
        shared = min(self.read.shape[1], input_ids.shape[1] - 1)
        same = (self.read[:, :shared] == input_ids[:, :shared]).all(0)  # (shared,)
        kept = int(same.cumprod(0).sum())
        if kept == self.read.shape[1]:
            return None
        if any(self.cache.is_sliding):
            return self.forget()
        self.cache.crop(kept - self.read.shape[1])
        self.read = self.read[:, :kept]
        return None

    def mask(self, input_ids: torch.Tensor) -> torch.Tensor:
        """1 where a token counts, (B, T): the prompts' mask, a row for each beam, then ones."""
        if self.prompt_mask is None:
            return torch.ones_like(input_ids)
        prompts = self.prompt_mask.to(input_ids)
        prompts = prompts.repeat_interleave(len(input_ids) // len(prompts), dim=0)
        new = input_ids.shape[1] - prompts.shape[1]
        return torch.cat([prompts, prompts.new_ones(len(prompts), new)], dim=1)
