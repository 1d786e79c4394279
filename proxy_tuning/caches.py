"""The key-value caches of several models as one."""

from typing import Protocol, cast

import torch
from transformers import Cache, DynamicCache


class KeysAndValues(Protocol):
    """A cache's layer as all parts have it, see `parts.check_parts`, once it is written to."""

    keys: torch.Tensor
    """(B, H, S, D)."""
    values: torch.Tensor
    """(B, H, S, D)."""

    def get_seq_length(self) -> int: ...

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None: ...


def layers_of(cache: Cache) -> list[KeysAndValues]:
    """A part's layers, whose keys and values may be looked into once something is cached."""
    return cast(list[KeysAndValues], cache.layers)


class ProxyTunedCache(Cache):
    """One cache per part, by its name; `layers` is all their layers, for what acts on each."""

    def __init__(self, caches: dict[str, Cache]):
        self.caches = caches
        super().__init__(layers=[layer for cache in caches.values() for layer in cache.layers])

    def reorder_cache(self, beam_idx: torch.LongTensor):
        for cache in self.caches.values():
            cache.reorder_cache(beam_idx)

    def batch_select_indices(self, indices: torch.Tensor):
        for cache in self.caches.values():
            cache.batch_select_indices(indices)


class TwinCache(DynamicCache):
    """The cache of a doubled batch: all rows of the expert, then the same of its antiexpert."""

    def reorder_cache(self, beam_idx: torch.LongTensor):
        super().reorder_cache(cast(torch.LongTensor, self._both(beam_idx)))

    def batch_select_indices(self, indices: torch.Tensor):
        super().batch_select_indices(self._both(indices))

    def _both(self, rows: torch.Tensor) -> torch.Tensor:
        """Row numbers in one half (R,) -> the same rows in both halves (2R,)."""
        half = layers_of(self)[0].keys.shape[0] // 2
        return torch.cat([rows, rows + half])
