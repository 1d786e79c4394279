"""transformers' own generation loops, told what they need to know about three models."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from transformers import GenerationMixin
from transformers.utils import logging

from proxy_tuning.config import ProxyTunedConfig
from proxy_tuning.parts import check_prompt, role

logger = logging.get_logger(__name__)
OWN_IDS = ("expert_input_ids", "antiexpert_input_ids")
OWN_MASKS = ("expert_attention_mask", "antiexpert_attention_mask")


class ProxyTunedGenerationMixin(GenerationMixin):
    """What `ProxyTunedForCausalLM` adds to `GenerationMixin`: alpha, own prompts, several caches."""

    config: ProxyTunedConfig
    if TYPE_CHECKING:

        def _alphas(
            self, alpha: float | Sequence[float] | torch.Tensor, rows: int | None = None
        ) -> list[float | torch.Tensor]: ...

    def generate(self, inputs: torch.Tensor | None = None, *args, **kwargs):
        """`generate` of transformers, in all its modes.

        It takes `alpha` too, as `forward` does, and `expert_input_ids`, `antiexpert_input_ids`
        and their attention masks: whole prompts of their own (a chat template, say), padded on
        the left, after which all parts go on with the same tokens.

        Raises:
            ValueError: before any work, where the prompt is empty or fills the context of a part,
                or alpha is not finite or has a wrong shape.
        """
        prompt = kwargs.get("input_ids") if inputs is None else inputs
        if prompt is not None:
            check_prompt(prompt)
            if kwargs.get("alpha") is not None:
                self._alphas(kwargs["alpha"], len(prompt))
        kwargs["prompt_length"] = 1 if prompt is None else prompt.shape[1]
        return super().generate(inputs, *args, **kwargs)  # type: ignore[misc]  # no model yet

    def fit(self, prompt_length: int, max_new_tokens: int) -> int:
        """How many of `max_new_tokens` fit into the shortest context after the prompt.

        Raises:
            ValueError: none, because the prompt fills it or fewer than one is asked for.
        """
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens needs to be at least 1, got {max_new_tokens}")
        context = self.config.max_position_embeddings or math.inf
        if prompt_length >= context:
            raise ValueError(
                f"a prompt of {prompt_length} tokens leaves no room in the shortest context of "
                f"the parts, {context} tokens: shorten the prompt"
            )
        if prompt_length + max_new_tokens > context:
            logger.warning(
                f"Generation stops after {context - prompt_length} new tokens instead of "
                f"{max_new_tokens}: the shortest context of the parts holds {context}."
            )
        return int(min(max_new_tokens, context - prompt_length))

    def _prepare_cache_for_generation(self, generation_config, model_kwargs, *args):
        """Where `generate` would make one cache, make one per part; cut what cannot fit."""
        own = [model_kwargs[key] for key in OWN_IDS if model_kwargs.get(key) is not None]
        self._caches(model_kwargs.get("past_key_values"), own)
        texts = [model_kwargs["position_ids"], *own]  # (., T): each as long as what is read
        prompt_length = model_kwargs["prompt_length"]
        room = self.fit(
            max(text.shape[1] for text in texts), generation_config.max_length - prompt_length
        )
        generation_config.max_length = prompt_length + room
        if generation_config.cache_implementation not in (None, "dynamic"):
            raise ValueError(
                f"cache_implementation={generation_config.cache_implementation!r}: a proxy-tuned "
                "model has dynamic caches only"
            )
        if model_kwargs.get("past_key_values") is None and generation_config.use_cache:
            model_kwargs["past_key_values"] = self.new_cache(same_texts=not own)
            if generation_config.is_assistant:
                model_kwargs["past_key_values"].activate_past_recording()

    def prepare_inputs_for_generation(
        self, input_ids, past_key_values=None, prompt_length=None, **kwargs
    ):
        """Inputs of the next pass; a part with its own prompt gets that and what was generated."""
        own = {}
        for reader in ("expert", "antiexpert"):
            prompt = kwargs.pop(f"{reader}_input_ids", None)
            mask = kwargs.pop(f"{reader}_attention_mask", None)
            if prompt is None:
                continue
            new = input_ids[:, prompt_length:]
            mask = torch.ones_like(prompt) if mask is None else mask
            cached = 0
            if past_key_values is not None:
                name = next(name for name in self.part_names if role(name) == reader)
                cached = past_key_values.caches[name].get_seq_length()
                cached -= len(getattr(self.config, f"{reader}_prefix")) if cached else 0
            own[f"{reader}_input_ids"] = torch.cat([prompt, new], dim=1)[:, cached:]
            own[f"{reader}_attention_mask"] = torch.cat([mask, torch.ones_like(new)], dim=1)
        inputs = super().prepare_inputs_for_generation(
            input_ids, past_key_values=past_key_values, **kwargs
        )
        return inputs | own

    def _get_candidate_generator(self, *, model_kwargs, **kwargs):
        """An assistant gets every keyword of `generate` but those that only this class knows."""
        ours = {"alpha", "prompt_length", *OWN_IDS, *OWN_MASKS}
        theirs = {key: value for key, value in model_kwargs.items() if key not in ours}
        return super()._get_candidate_generator(model_kwargs=theirs, **kwargs)
