"""One model of vLLM that holds base, experts and antiexperts, each of vLLM's own class for it."""

import os
from collections.abc import Iterable
from typing import Any

import torch
from huggingface_hub import snapshot_download
from torch import nn
from vllm.compilation.backends import set_model_tag
from vllm.config import VllmConfig
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader
from vllm.model_executor.models.utils import (
    AutoWeightsLoader,
    init_vllm_registered_model,
    maybe_prefix,
)

from proxy_tuning.logits import Line
from proxy_tuning.parts import role
from proxy_tuning.serving.alphas import BY_ENGINE
from proxy_tuning.serving.served_config import ServedConfig

WEIGHTS = "model*.safetensors"
LOADERS = ("auto", "hf", "safetensors", "fastsafetensors", "dummy")
"""Those `--load-format` that read the weights of all parts."""
PROPOSERS = ("ngram", "ngram_gpu", "suffix", "draft_model")
"""Speculation that needs nothing of the model but its logits."""


class ServedModel(nn.Module):
    """`base + alpha * (expert - antiexpert)` for vLLM, from a folder that `save_pretrained` wrote.

    Raises:
        ValueError: an option of vLLM that does not go with three models.
    """

    base: Any

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = ""):
        super().__init__()
        check_options(vllm_config)
        self.config: ServedConfig = vllm_config.model_config.hf_config
        self.names = self.config.part_names
        self.widths = []
        for name in self.names:
            config = self.config.part_config(name)
            with set_model_tag(name):  # compiled code is kept apart
                part = init_vllm_registered_model(
                    vllm_config, prefix=maybe_prefix(prefix, name), hf_config=config
                )
            setattr(self, name, part)
            self.widths.append(config.get_text_config().hidden_size)
        self.line = Line(**self.config.line or {})
        self.row_alphas = BY_ENGINE[vllm_config.instance_id]
        self.allow_patterns_overrides = [base_weights(vllm_config)]
        self.secondary_weights = [
            DefaultModelLoader.Source(
                where["model"],
                where["revision"],
                where["subfolder"],
                prefix=f"{name}.",
                fall_back_to_pt=False,
                allow_patterns_overrides=[WEIGHTS],
            )
            for name, where in self.config.places.items()
            if name != "base"
        ]

    def embed_input_ids(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.base.embed_input_ids(input_ids)

    def forward(
        self,
        input_ids: torch.Tensor,
        positions: torch.Tensor,
        intermediate_tensors=None,
        inputs_embeds=None,
    ) -> torch.Tensor:
        """The parts' last hidden states side by side, (tokens, sum of widths), base first."""
        states = [getattr(self, name)(input_ids, positions) for name in self.names]
        return torch.cat(states, dim=-1)

    def compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor | None:
        """Steered logits, (rows, V) float32; None on a rank that does not sample."""
        states = hidden_states.split(self.widths, dim=-1)
        logits = {
            name: getattr(self, name).compute_logits(state)
            for name, state in zip(self.names, states, strict=True)
        }
        base = logits["base"]
        alphas = self.row_alphas.take(
            self.config.alphas(), len(hidden_states), hidden_states.device
        )
        if base is None:
            return None
        vocab = self.config.vocab_size  # parts may have rows of padding after it
        experts = [each[:, :vocab] for name, each in logits.items() if role(name) == "expert"]
        antiexperts = [
            each[:, :vocab] for name, each in logits.items() if role(name) == "antiexpert"
        ]
        if len(antiexperts) < len(experts):  # one serves all
            antiexperts *= len(experts)
        return self.line(base[:, :vocab], experts, antiexperts, alphas)

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        """Hand every part its weights; the base's come first, and without its name."""
        parts = tuple(f"{name}." for name in self.names if name != "base")
        named = (
            (key if key.startswith(parts) else f"base.{key}", tensor) for key, tensor in weights
        )
        return AutoWeightsLoader(self).load_weights(named)


def base_weights(vllm_config: VllmConfig) -> str:
    """The pattern by which vLLM finds the base's weights from the model's folder.

    Raises:
        ValueError: a base by reference where the model is not a local folder.
    """
    path, where = vllm_config.model_config.model, vllm_config.model_config.hf_config.places["base"]
    if where["subfolder"]:
        return f"{where['subfolder']}/{WEIGHTS}"
    if not os.path.isdir(path):
        raise ValueError(
            f"{path} has its base by reference, which is served from a local folder only: "
            "download it, and serve that"
        )
    folder = where["model"]
    if not os.path.isdir(folder):
        folder = snapshot_download(
            folder,
            revision=where["revision"],
            cache_dir=vllm_config.load_config.download_dir,
            allow_patterns=[WEIGHTS],
        )
    return f"{os.path.abspath(folder)}/{WEIGHTS}"  # joined to the folder, it stays what it is


def check_options(vllm_config: VllmConfig) -> None:
    """ValueError for options of vLLM that would reach one of the parts only, or break them."""
    model, load = vllm_config.model_config, vllm_config.load_config
    context = model.hf_config.max_position_embeddings
    speculation = vllm_config.speculative_config
    refused = {
        "pipeline parallelism": vllm_config.parallel_config.pipeline_parallel_size > 1,
        f"quantization {model.quantization}": model.quantization is not None,
        "embeddings as prompts": model.enable_prompt_embeds,
        "LoRA adapters per request": vllm_config.lora_config is not None,
        f"load format {load.load_format}": load.load_format not in LOADERS,
        f"speculation by {speculation and speculation.method}": speculation is not None
        and speculation.method not in PROPOSERS,
        f"a context of {model.max_model_len} tokens, where the shortest of the parts is {context},": (
            context is not None and model.max_model_len > context
        ),
    }
    for what, asked in refused.items():
        if asked:
            raise ValueError(f"{what} does not go with a proxy-tuned model in vLLM")
