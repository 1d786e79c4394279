"""The models inside a proxy-tuned one: their names, what each must be and reads, and its source."""

import copy
import inspect
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Required, TypedDict

import torch
from huggingface_hub import try_to_load_from_cache
from transformers import DynamicCache, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import LinearAttentionCacheLayerMixin

if TYPE_CHECKING:
    from peft import PeftModel  # takes a second to import


def role(name: str) -> str:
    """What a part does, from its name: expert_2 is an expert."""
    return name.split("_")[0]


def named_parts(base, expert, antiexpert) -> dict[str, PreTrainedModel]:
    """The parts by name, base first; an antiexpert seen through its expert where it is one's base.

    Raises:
        ValueError: neither one antiexpert nor one per expert, or none where it is needed.
    """
    experts = list(expert) if isinstance(expert, Sequence) else [expert]
    antiexperts = list(antiexpert) if isinstance(antiexpert, Sequence) else [antiexpert]
    if antiexperts == [None]:
        antiexperts *= len(experts)
    if len(antiexperts) not in (1, len(experts)):
        raise ValueError(f"{len(experts)} expert(s), but {len(antiexperts)} antiexperts")
    if any(is_adapted(plus) and plus.get_base_model() is base for plus in experts):
        raise ValueError("the base has an expert's adapter in it: load it a second time")
    for i, minus in enumerate(antiexperts):
        # an adapter is put into the very model it is made from, so that one is no longer M-
        users = experts if len(antiexperts) == 1 else experts[i : i + 1]
        owners = [p for p in users if is_adapted(p) and minus in (None, p.get_base_model())]
        if owners:
            antiexperts[i] = WithoutAdapter(owners[0])
        elif minus is None:
            raise ValueError(f"a {type(users[0]).__name__} expert needs an antiexpert")
    parts = {"base": base}
    for kind, models in {"expert": experts, "antiexpert": antiexperts}.items():
        names = [f"{kind}_{i}" for i in range(1, len(models) + 1)] if len(models) > 1 else [kind]
        parts |= dict(zip(names, models, strict=True))
    return parts


ADAPTERS = threading.Lock()
"""Held while a model with an adapter reads: peft switches it on and off in the model itself."""


class WithoutAdapter(torch.nn.Module):
    """M- seen through an M+ that is M- plus an adapter: the same weights, the adapter off."""

    def __init__(self, expert: "PeftModel"):
        super().__init__()
        self._expert = (expert,)  # in a tuple, so that its weights are not registered twice

    @property
    def expert(self) -> "PeftModel":
        return self._expert[0]

    @property
    def config(self) -> PreTrainedConfig:
        return self.expert.config

    @property
    def device(self) -> torch.device:
        return self.expert.device

    def forward(self, **kwargs):
        training = self.expert.training
        self.expert.eval()  # M- is never in training: no dropout
        try:
            with self.expert.disable_adapter():
                return self.expert(**kwargs)
        finally:
            self.expert.train(training)

    def save_pretrained(self, save_directory: str | Path, **kwargs):
        """Write M-, free of the adapter; takes a copy of it in memory."""
        whole(self).save_pretrained(save_directory, **kwargs)


def is_adapted(part) -> bool:
    """Whether this is a model with an adapter of peft around it."""
    return hasattr(part, "get_base_model")


def bare(part) -> torch.nn.Module:
    """The model itself, without an adapter around it."""
    part = part.expert if isinstance(part, WithoutAdapter) else part
    return part.get_base_model() if is_adapted(part) else part


def whole(part):
    """A part as a model of its own: as it is, or a copy with its adapter merged or taken off."""
    with ADAPTERS:
        if isinstance(part, WithoutAdapter):
            return copy.deepcopy(part.expert).unload()
        return copy.deepcopy(part).merge_and_unload() if is_adapted(part) else part


def check_parts(parts: dict[str, PreTrainedModel]) -> None:
    """ValueError for parts that cannot be one model: vocabularies, or the kind of cache."""
    sizes = {name: part.config.vocab_size for name, part in parts.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"the parts need one vocabulary, got sizes {sizes}")
    for name, part in parts.items():
        takes = inspect.signature(bare(part).forward).parameters
        layers = DynamicCache(config=part.config).layers
        if "past_key_values" not in takes or any(
            isinstance(layer, LinearAttentionCacheLayerMixin) for layer in layers
        ):
            raise ValueError(
                f"{name} is a {type(bare(part)).__name__}: its cache does not consist of keys and "
                "values per token, and cannot be carried, cropped and reordered with the others"
            )


def check_devices(device_map) -> None:
    """ValueError for a device that this machine does not have."""
    devices = device_map.values() if isinstance(device_map, dict) else [device_map]
    for device in devices:
        if device in (None, "auto", "balanced", "balanced_low_0", "sequential", "disk"):
            continue
        try:
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError) as error:
            raise ValueError(f"device {device!r} cannot hold a model here: {error}") from error


def reference(
    name: str, part: PreTrainedModel, folder: Path, revisions: dict[str, str]
) -> dict[str, str | None]:
    """Where a part was loaded from: a name on the Hub with its revision, or a relative folder."""
    source = part.config.name_or_path
    if is_adapted(part) or isinstance(part, WithoutAdapter):
        raise ValueError(f"{name} shares its weights with an adapter: save it self-contained")
    if not source:
        raise ValueError(f"{name} was not loaded from anywhere: save it self-contained")
    if Path(source).is_dir():
        return {"name": os.path.relpath(source, folder), "revision": None}
    cached = try_to_load_from_cache(source, "config.json")  # .../snapshots/COMMIT/config.json
    commit = Path(cached).parent.name if isinstance(cached, str) else None
    return {"name": source, "revision": revisions.get(name, commit)}


# What a part reads


class Prompt(TypedDict, total=False):
    """What a part reads in place of the model's own arguments."""

    input_ids: Required[torch.Tensor]
    """(B, T) int64."""
    attention_mask: torch.Tensor | None
    """(B, S)."""
    position_ids: torch.Tensor | None
    """(B, T) int64."""


def check_prompt(input_ids: torch.Tensor | None) -> torch.Tensor:
    """The prompt as it is, (B, T) int64; ValueError for one without tokens."""
    if input_ids is None or input_ids.numel() == 0:
        raise ValueError("input_ids is empty: a prompt needs at least one token")
    return input_ids


def from_the_end(logits_to_keep: int | torch.Tensor, length: int) -> int | torch.Tensor:
    """Which of `length` positions to project, counted from the end, where all texts agree."""
    if isinstance(logits_to_keep, torch.Tensor):
        return logits_to_keep % length - length
    return logits_to_keep or length


def positions(
    input_ids: torch.Tensor, attention_mask: torch.Tensor | None, past: int
) -> torch.Tensor:
    """Position of each new token in its row, (B, T) or (1, T) int64; padding counts for nothing.

    `past` is the number of cached tokens, padding included.
    """
    length = input_ids.shape[1]
    if attention_mask is None:
        return torch.arange(past, past + length, device=input_ids.device)[None]
    return (attention_mask.long().cumsum(-1) - 1).clamp(min=0)[:, -length:]


def with_prefix(
    prefix: list[int], inputs: dict[str, torch.Tensor], first: bool
) -> dict[str, torch.Tensor]:
    """Put the same tokens before every row, between its padding and its text.

    Args:
        inputs: input_ids and position_ids (B, T), and attention_mask (B, S) where there is one.
        first: whether nothing is cached; later the prefix is, and only counts.
    """
    ids = inputs["input_ids"]
    before = {
        "input_ids": torch.tensor(prefix, device=ids.device).expand(len(ids), -1),  # (B, P)
        "position_ids": torch.arange(len(prefix), device=ids.device).expand(len(ids), -1),
        "attention_mask": ids.new_ones(len(ids), len(prefix)),
    }
    inputs = inputs | {"position_ids": inputs["position_ids"] + len(prefix)}
    grow = inputs.keys() if first else inputs.keys() & {"attention_mask"}
    grown = {key: torch.cat([before[key], inputs[key]], dim=1) for key in grow}
    if "attention_mask" in inputs:
        # the padding of 0 0 t t stays on the left of prefix p p: 0 0 p p t t
        started = torch.cat([before["attention_mask"], inputs["attention_mask"].cumsum(1) > 0], 1)
        order = started.argsort(dim=1, stable=True)  # (B, P + S)
        grown = {key: value.gather(1, order) for key, value in grown.items()}
    return inputs | grown
