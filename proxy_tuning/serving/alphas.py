"""Alpha per request in vLLM: which weight each row of the batch has in the step at hand.

The line is applied where vLLM computes logits, which is told nothing of requests. A logits
processor is: before every step, which request is in which row. So one here notes the rows'
weights, for the model in the same process to take, and leaves the logits alone.
"""

from collections import defaultdict

import torch
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, MoveDirectionality

from proxy_tuning.serving.requests import own_alphas


class RowAlphas:
    """The weights of one engine's rows, {row: a weight per expert}, where a request has its own."""

    def __init__(self) -> None:
        self.rows: dict[int, list[float]] = {}
        self.announced = False

    def take(self, default: list[float], count: int, device) -> list[float | torch.Tensor]:
        """A weight for each expert, a number or (count,), for the rows of the step announced.

        Only the first call of a step is for its rows: vLLM then computes the logits of prompts,
        one prompt's tokens as rows, and those have the model's own alpha.
        """
        announced, self.announced = self.announced, False
        if not (announced and self.rows):
            return list(default)
        weights = torch.tensor([self.rows.get(row, default) for row in range(count)])
        return list(weights.to(device).unbind(1))


BY_ENGINE: defaultdict[str, RowAlphas] = defaultdict(RowAlphas)
"""What the processor and the model of one engine share, by `VllmConfig.instance_id`."""


class RequestAlpha(LogitsProcessor):
    """Reads `alpha` of a request's `extra_args` (over HTTP: `vllm_xargs`), checked before."""

    def __init__(self, vllm_config, device: torch.device, is_pin_memory: bool):
        self.experts = vllm_config.model_config.hf_config.experts
        self.alphas = BY_ENGINE[vllm_config.instance_id]

    def is_argmax_invariant(self) -> bool:
        return True  # what `apply` does, not what alpha does

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        return logits

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Before a step: rows emptied, then filled, then moved, in the order of vLLM's interface."""
        self.alphas.announced = True
        if batch_update is None:
            return
        rows = self.alphas.rows
        for row in batch_update.removed:
            rows.pop(row, None)
        for row, params, *_ in batch_update.added:
            rows.pop(row, None)
            if "alpha" in (params.extra_args or {}):
                rows[row] = own_alphas(params.extra_args["alpha"], self.experts)
        for source, target, direction in batch_update.moved:
            moving, displaced = rows.pop(source, None), rows.pop(target, None)
            if moving is not None:
                rows[target] = moving
            if displaced is not None and direction == MoveDirectionality.SWAP:
                rows[source] = displaced
