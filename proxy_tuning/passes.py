"""One pass of several models: each part on its own tokens, positions, device and cache."""

import contextlib
import math
from typing import TYPE_CHECKING

import torch
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.utils import logging

from proxy_tuning.caches import ProxyTunedCache, TwinCache
from proxy_tuning.config import ProxyTunedConfig
from proxy_tuning.parts import (
    ADAPTERS,
    Prompt,
    WithoutAdapter,
    check_prompt,
    from_the_end,
    is_adapted,
    positions,
    role,
    with_prefix,
)

logger = logging.get_logger(__name__)


class PartPasses:
    """The passes of a `ProxyTunedForCausalLM`, which has the parts by their names."""

    config: ProxyTunedConfig
    part_names: tuple[str, ...]
    """Base first, then experts, then antiexperts."""
    if TYPE_CHECKING:

        @property
        def device(self) -> torch.device: ...

        @property
        def antiexperts(self) -> dict[str, PreTrainedModel]: ...

    @property
    def sees_windows(self) -> bool:
        """Whether a part sees a window of the text, so that its cache cannot step back."""
        configs = (getattr(self, name).config for name in self.part_names)
        return any(any(DynamicCache(config=config).is_sliding) for config in configs)

    def new_cache(self, same_texts: bool = True) -> ProxyTunedCache:
        """Empty caches for all parts.

        Where a LoRA expert and its antiexpert read the same texts, the two share one and are run
        as one doubled batch.
        """
        twins = self._twins(same_texts)
        caches: dict[str, Cache] = {
            name: (TwinCache if name in twins else DynamicCache)(config=getattr(self, name).config)
            for name in self.part_names
            if name not in twins.values()
        }
        return ProxyTunedCache(caches)

    def _twins(self, same_texts: bool) -> dict[str, str]:
        """Experts that can share a doubled batch with their antiexpert: name -> name.

        peft takes adapters row by row in inference alone, and not with DoRA.
        """
        twins = {}
        for name, part in self.antiexperts.items():
            twin = name.removeprefix("anti")
            if not isinstance(part, WithoutAdapter) or twin not in self.part_names:
                continue  # no adapter, or one antiexpert for several experts
            adapter = part.expert.peft_config[part.expert.active_adapter]
            if part.expert.training:
                say_two_passes("this is training")
            elif adapter.peft_type != "LORA" or adapter.use_dora:  # type: ignore[attr-defined]
                say_two_passes("the adapter is not plain LoRA")
            elif not same_texts or self.config.expert_prefix != self.config.antiexpert_prefix:
                say_two_passes("each reads at its own pace, or a text of its own")
            else:
                twins[twin] = name
        return twins

    def run(
        self,
        name: str,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        cache: Cache | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        twin: bool = False,
        **kwargs,
    ) -> torch.Tensor:
        """Logits of the part of that name alone.

        Arguments as in `part_logits`; `twin` runs a LoRA expert and its antiexpert as one batch
        of twice the rows.

        Returns:
            (B, K, V) in the part's own dtype, on the base's device; (2B, K, V) for twins.
        """
        part = getattr(self, name)
        rows, length = input_ids.shape
        past = cache.get_seq_length() if cache is not None else 0
        prefix = getattr(self.config, f"{role(name)}_prefix", [])
        if position_ids is None:
            position_ids = positions(input_ids, attention_mask, max(past - len(prefix), 0))
        inputs = {"input_ids": input_ids, "position_ids": position_ids.expand(rows, -1)}
        if attention_mask is not None:
            inputs["attention_mask"] = attention_mask
        if prefix:
            inputs = with_prefix(prefix, inputs, first=past == 0)
        if twin:
            inputs = {key: torch.cat([value, value]) for key, value in inputs.items()}
            kwargs["adapter_names"] = [part.active_adapter] * rows + ["__base__"] * rows
        switched = is_adapted(part) or isinstance(part, WithoutAdapter)
        with ADAPTERS if switched else contextlib.nullcontext():
            out = part(
                **{key: value.to(part.device) for key, value in inputs.items()},
                past_key_values=cache,
                use_cache=cache is not None,
                logits_to_keep=from_the_end(logits_to_keep, length),
                **kwargs,
            )
        return out.logits.to(self.device)

    def part_logits(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: ProxyTunedCache | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        own_prompts: dict[str, Prompt] | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, ...]:
        """Logits of base, expert and antiexpert, before they are combined.

        Args:
            input_ids: the tokens that the caches do not hold yet, (B, T) int64.
            attention_mask: 1 for tokens and 0 for padding, over cached and new tokens, (B, S).
            position_ids: (B, T) int64; counted from `attention_mask` where absent, so that a
                left-padded row gives what its prompt gives alone.
            past_key_values: extended in place; None computes without caches.
            logits_to_keep: how many last positions to project, K; a tensor (K,) says which; 0
                is all T.
            own_prompts: what "expert" or "antiexpert" reads instead, as `input_ids` and
                `attention_mask`. Logits are matched from the end, where the texts are the same.

        Returns:
            Tensors (B, K, V) in the parts' own dtypes, on the base's device: base, experts,
            antiexperts.

        Raises:
            ValueError: no tokens, more than fit the context, a cache that is not `new_cache`'s,
                or an own prompt of other rows, or shorter than the logits asked for.
        """
        own_prompts = own_prompts or {}
        caches = self._caches(past_key_values, own_prompts)
        check_prompt(input_ids)
        context = self.config.max_position_embeddings or math.inf
        total = input_ids.shape[1] + (
            0 if past_key_values is None else past_key_values.get_seq_length()
        )
        if total > context:
            raise ValueError(
                f"{total} tokens do not fit the shortest context of the parts, {context} tokens"
            )
        keep = from_the_end(logits_to_keep, input_ids.shape[1])
        for reader, prompt in own_prompts.items():
            ids = prompt["input_ids"]
            if len(ids) != len(input_ids) or isinstance(keep, int) and ids.shape[1] < keep:
                raise ValueError(
                    f"{reader}_input_ids of shape {tuple(ids.shape)} do not give {keep} logits "
                    f"for each of {len(input_ids)} rows; logits_to_keep asks for fewer"
                )
        shared: Prompt = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "position_ids": position_ids,
        }
        if caches:
            twins = {n: f"anti{n}" for n, cache in caches.items() if isinstance(cache, TwinCache)}
        else:
            twins = self._twins(same_texts=not own_prompts)
        logits = {}
        for name in self.part_names:
            if name in twins.values():
                continue
            out = self.run(
                name,
                **own_prompts.get(role(name), shared),
                cache=caches.get(name),
                logits_to_keep=keep,
                twin=name in twins,
                **kwargs,
            )
            if name in twins:
                logits[name], logits[twins[name]] = out.chunk(2)
            else:
                logits[name] = out
        return tuple(logits[name] for name in self.part_names)

    def _caches(self, cache: ProxyTunedCache | None, own_prompts) -> dict[str, Cache]:
        """The caches by part, {} for none; ValueError where they do not fit this model or call."""
        if cache is None:
            return {}
        if not isinstance(cache, ProxyTunedCache):
            raise ValueError(
                "past_key_values needs one cache per part, which new_cache() makes; got a "
                f"{type(cache).__name__}"
            )
        if own_prompts and any(isinstance(part, TwinCache) for part in cache.caches.values()):
            raise ValueError("own prompts need a cache per part: new_cache(same_texts=False)")
        return cache.caches


def say_two_passes(reason: str) -> None:
    logger.warning_once(f"The LoRA expert and its antiexpert take two passes: {reason}.")
