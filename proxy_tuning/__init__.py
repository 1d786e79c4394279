"""Proxy-tuning: base + alpha * (expert - antiexpert), at every token."""

from proxy_tuning.families import load_family
from proxy_tuning.logits import proxy_logits
from proxy_tuning.model import ProxyTunedConfig, ProxyTunedForCausalLM

__all__ = ["ProxyTunedConfig", "ProxyTunedForCausalLM", "load_family", "proxy_logits"]
