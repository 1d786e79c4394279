"""Proxy-tuning: base + alpha * (expert - antiexpert), at every token."""

import importlib

HOMES = {
    "Line": "logits",
    "ProxyTunedConfig": "config",
    "ProxyTunedForCausalLM": "model",
    "load_family": "families",
    "proxy_logits": "logits",
}
"""Which module defines what; it loads when asked for, so that a command speaks at once."""
__all__ = list(HOMES)


def __getattr__(name):
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{HOMES[name]}"), name)
