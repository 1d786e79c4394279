"""What vLLM calls in each of its processes, by the entry point `vllm.general_plugins`."""

from functools import cache

ARCHITECTURE = "ProxyTunedForCausalLM"
"""As in `architectures` of a saved model's config.json."""


@cache
def register() -> None:
    """Make vLLM know proxy-tuned folders; a second call does nothing."""
    from transformers import AutoConfig
    from vllm import ModelRegistry

    from proxy_tuning.serving.requests import guard_requests
    from proxy_tuning.serving.served_config import ServedConfig

    AutoConfig.register(ServedConfig.model_type, ServedConfig, exist_ok=True)
    ModelRegistry.register_model(ARCHITECTURE, "proxy_tuning.serving.served_model:ServedModel")
    guard_requests(ARCHITECTURE)
