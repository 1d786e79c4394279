"""Three causal language models that act as one Hugging Face causal language model.

The base M is large and untouched, the antiexpert M- is small and untouched, the expert M+ is M-
after fine-tuning. A forward pass runs all three on the same tokens, each with a key-value cache
of its own, and returns `base + alpha * (expert - antiexpert)` as if one model had said it.
"""

import copy
import math
from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    Cache,
    DynamicCache,
    GenerationMixin,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils import can_return_tuple, logging

from proxy_tuning.logits import proxy_logits

logger = logging.get_logger(__name__)

PARTS = ("base", "expert", "antiexpert")


class ProxyTunedConfig(PreTrainedConfig):
    """What the composite model adds to its parts: alpha, and what callers ask of any config."""

    model_type = "proxy_tuned"

    alpha: float = 1.0
    """Weight of (expert - antiexpert); finite."""
    vocab_size: int | None = None
    """V, the same in all three parts."""
    max_position_embeddings: int | None = None
    """The shortest context of the three parts, in tokens; None where no part states one."""
    use_cache: bool = True


class ProxyTunedCache(Cache):
    """One cache per part. `layers` is all their layers, so every cache operation reaches all."""

    def __init__(self, caches: list[Cache]):
        self.caches = caches
        super().__init__(layers=[layer for cache in caches for layer in cache.layers])


class ProxyTunedForCausalLM(PreTrainedModel, GenerationMixin):
    """A base steered by the difference of two small models.

    Args:
        base, expert, antiexpert: causal language models over one vocabulary; anything that can
            be called as one of transformers' causal LMs can. Base and antiexpert are frozen.
        alpha: weight of (expert - antiexpert), a finite number; 0 is the base alone.

    Raises:
        ValueError: vocabularies of different sizes, or an alpha that is not finite.
    """

    config_class = ProxyTunedConfig
    _supports_sdpa = True

    def __init__(self, base, expert, antiexpert, alpha: float = 1.0):
        sizes = [part.config.vocab_size for part in (base, expert, antiexpert)]
        if len(set(sizes)) > 1:
            raise ValueError(f"{PARTS} need one vocabulary, got sizes {sizes}")
        lengths = [
            part.config.max_position_embeddings
            for part in (base, expert, antiexpert)
            if getattr(part.config, "max_position_embeddings", None)
        ]
        super().__init__(
            ProxyTunedConfig(
                vocab_size=sizes[0],
                max_position_embeddings=min(lengths, default=None),
            )
        )
        self.base = base.requires_grad_(False)
        self.antiexpert = antiexpert.requires_grad_(False)
        self.expert = expert
        self.alpha = alpha
        if getattr(base, "generation_config", None) is not None:
            self.generation_config = copy.deepcopy(base.generation_config)
        self.post_init()
        self.train(expert.training)

    def init_weights(self):
        """Nothing to do: the parts come with their weights."""

    def train(self, mode: bool = True):
        """Only the expert ever trains; base and antiexpert stay in evaluation mode."""
        super().train(mode)
        self.base.eval()
        self.antiexpert.eval()
        return self

    @property
    def alpha(self) -> float:
        """Weight of (expert - antiexpert)."""
        return self.config.alpha

    @alpha.setter
    def alpha(self, value: float):
        if not math.isfinite(value):
            raise ValueError(f"alpha needs to be a finite number, got {value}")
        self.config.alpha = float(value)

    def new_cache(self) -> ProxyTunedCache:
        """Empty caches for all three parts."""
        parts = (self.base, self.expert, self.antiexpert)
        return ProxyTunedCache([DynamicCache(config=part.config) for part in parts])

    def fit(self, prompt_length: int, max_new_tokens: int) -> int:
        """How many of `max_new_tokens` fit into the shortest context after the prompt.

        Raises:
            ValueError: the prompt alone fills the context.
        """
        context = self.config.max_position_embeddings or math.inf
        if prompt_length >= context:
            raise ValueError(
                f"the prompt has {prompt_length} tokens, and the shortest context of the parts "
                f"holds {context}: shorten the prompt"
            )
        if prompt_length + max_new_tokens > context:
            logger.warning(
                f"Generation stops after {context - prompt_length} new tokens instead of "
                f"{max_new_tokens}: the shortest context of the parts holds {context}."
            )
        return min(max_new_tokens, context - prompt_length)

    def _prepare_cache_for_generation(self, generation_config, model_kwargs, *args):
        """Where `generate` would make one cache, make one per part."""
        if model_kwargs.get("past_key_values") is None and generation_config.use_cache:
            model_kwargs["past_key_values"] = self.new_cache()

    def run(
        self,
        part: PreTrainedModel,
        input_ids: torch.LongTensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        cache: Cache | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs,
    ) -> torch.Tensor:
        """Logits of one part alone, on its own device; arguments as in `part_logits`.

        Gradients flow only where `part` is the expert.

        Returns:
            (B, K, V), the part's own dtype.
        """
        if input_ids is None or input_ids.numel() == 0:
            raise ValueError("input_ids is empty: a prompt needs at least one token")
        if position_ids is None:
            past = cache.get_seq_length() if cache is not None else 0
            position_ids = positions(input_ids, attention_mask, past)
        with torch.set_grad_enabled(torch.is_grad_enabled() and part is self.expert):
            return part(
                input_ids=input_ids.to(part.device),
                attention_mask=None if attention_mask is None else attention_mask.to(part.device),
                position_ids=position_ids.to(part.device),
                past_key_values=cache,
                use_cache=cache is not None,
                logits_to_keep=logits_to_keep,
                **kwargs,
            ).logits

    def part_logits(
        self,
        input_ids: torch.LongTensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: ProxyTunedCache | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits of base, expert and antiexpert, before they are combined.

        Args:
            input_ids: the tokens that the caches do not hold yet, (B, T).
            attention_mask: 1 for tokens and 0 for padding, over cached and new tokens, (B, S).
            position_ids: (B, T); counted from `attention_mask` where absent, so that a
                left-padded row gives what its prompt gives alone.
            past_key_values: extended in place; None computes without caches.
            logits_to_keep: how many last positions to project, K; 0 for all T.

        Returns:
            Three tensors (B, K, V) in the parts' own dtypes, on the base's device.

        Raises:
            ValueError: no tokens.
        """
        parts = (self.base, self.expert, self.antiexpert)
        caches = past_key_values.caches if past_key_values is not None else (None,) * len(parts)
        return tuple(
            self.run(
                part, input_ids, attention_mask, position_ids, cache, logits_to_keep, **kwargs
            ).to(self.device)
            for part, cache in zip(parts, caches)
        )

    def combine(
        self,
        base: torch.Tensor,
        expert: torch.Tensor,
        antiexpert: torch.Tensor,
        alpha: float | torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Steered logits, float32, from what `part_logits` returns; alpha None is the model's."""
        return proxy_logits(base, expert, antiexpert, self.alpha if alpha is None else alpha)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: ProxyTunedCache | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs,
    ) -> CausalLMOutputWithPast:
        """Steered logits; arguments as in `part_logits`.

        Returns:
            logits: float32 (B, K, V).
            past_key_values: the cache, where `use_cache`.
        """
        use_cache = self.config.use_cache if use_cache is None else use_cache
        if not use_cache:
            past_key_values = None
        elif past_key_values is None:
            past_key_values = self.new_cache()
        logits = self.combine(
            *self.part_logits(
                input_ids, attention_mask, position_ids, past_key_values, logits_to_keep, **kwargs
            )
        )  # (B, K, V)
        return CausalLMOutputWithPast(logits=logits, past_key_values=past_key_values)

    def save_pretrained(self, save_directory: str | Path, **kwargs):
        """Write a self-contained folder: the config, and each part in a folder of its own."""
        folder = Path(save_directory)
        for name in PARTS:
            getattr(self, name).save_pretrained(folder / name, **kwargs)
        self.config.architectures = [type(self).__name__]
        self.config.save_pretrained(folder)
        self.generation_config.save_pretrained(folder)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, *, config=None, **kwargs):
        """Load what `save_pretrained` wrote; keywords go on to each part's `from_pretrained`."""
        kwargs.pop("_from_auto", None)
        kwargs.pop("adapter_kwargs", None)
        if config is None:
            config, kwargs = ProxyTunedConfig.from_pretrained(
                pretrained_model_name_or_path, return_unused_kwargs=True, **kwargs
            )
        parts = {
            name: AutoModelForCausalLM.from_pretrained(
                pretrained_model_name_or_path, subfolder=name, use_safetensors=True, **kwargs
            )
            for name in PARTS
        }
        return cls(**parts, alpha=config.alpha)


def positions(
    input_ids: torch.LongTensor, attention_mask: torch.Tensor | None, past: int
) -> torch.LongTensor:
    """Position of each new token in its own row, (B, T) or (1, T); padding counts for nothing.

    `past` is the number of cached tokens, padding included.
    """
    length = input_ids.shape[1]
    if attention_mask is None:
        return torch.arange(past, past + length, device=input_ids.device)[None]
    return (attention_mask.long().cumsum(-1) - 1).clamp(min=0)[:, -length:]


AutoConfig.register(ProxyTunedConfig.model_type, ProxyTunedConfig)
AutoModelForCausalLM.register(ProxyTunedConfig, ProxyTunedForCausalLM)
