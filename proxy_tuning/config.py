"""The configuration of a proxy-tuned model."""

from transformers import AutoConfig, PreTrainedConfig


class ProxyTunedConfig(PreTrainedConfig):
    """What the composite model adds to its parts, and what callers ask of any config."""

    model_type = "proxy_tuned"

    line: dict | None = None
    """The fields of `logits.Line`; None is the plain line."""
    expert_prefix: list[int] | None = None
    """Token ids that experts read before every text."""
    antiexpert_prefix: list[int] | None = None
    """Token ids that antiexperts read before every text."""
    parts: dict[str, dict] | None = None
    """Where each part is, by its name; written by `save_pretrained`."""
    vocab_size: int | None = None
    """V, the same in all parts."""
    max_position_embeddings: int | None = None
    """The shortest context of the parts, less its prefix, in tokens; None where none is stated."""
    use_cache: bool = True


AutoConfig.register(ProxyTunedConfig.model_type, ProxyTunedConfig)
