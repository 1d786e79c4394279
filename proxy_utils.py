"""What the notebooks import, from one place; nothing is defined here."""

from proxy_tuning import ProxyTunedForCausalLM, load_family, proxy_logits
from proxy_tuning.decoding import answer_questions, stream, stream_side_by_side
from proxy_tuning.families import FAMILIES, load_part, resolve_family

__all__ = [
    "FAMILIES",
    "ProxyTunedForCausalLM",
    "answer_questions",
    "load_family",
    "load_part",
    "proxy_logits",
    "resolve_family",
    "stream",
    "stream_side_by_side",
]
