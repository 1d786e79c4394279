"""ONNX Runtime takes over from torch while the widget runs: answers wait for no export."""

import time

from proxy_tuning.answering import read_template
from proxy_tuning.engines import why_not
from proxy_tuning.model import ProxyTunedForCausalLM
from proxy_tuning.parts import bare, whole
from proxy_tuning.widget.desk import Desk

LARGEST = 1_000_000_000
"""Parameters of a trio that is exported unasked: it takes minutes, and four bytes of disk for each."""


def take_over(desk: Desk) -> None:
    """Export the desk's models, once for this machine, and let ONNX Runtime answer from then on.

    Does nothing where it cannot run them or they are larger than `LARGEST`, and says so where the disk
    is full: torch goes on.
    """
    begun, model = time.monotonic(), desk.model
    own = [getattr(model, name) for name in model.part_names]
    sizes = [sum(weight.numel() for weight in bare(part).parameters()) for part in own]
    if any(map(why_not, own)) or not all(sizes) or sum(sizes) > LARGEST:
        return
    try:
        faster = on_onnx_runtime(model)
        read_template(faster, desk.tokenizer)
        desk.model = faster
    except OSError as error:
        print(f"torch goes on answering: {error}", flush=True)
        return
    seconds = time.monotonic() - begun
    print(f"ONNX Runtime answers from now on, faster than torch ({seconds:.0f} s to export).")


def on_onnx_runtime(model: ProxyTunedForCausalLM) -> ProxyTunedForCausalLM:
    """The same trio on ONNX Runtime; the one on torch stays as it is, and may be in use."""
    from proxy_tuning.engines.onnx_runtime import onnx_model

    base, expert, antiexpert = (onnx_model(whole(getattr(model, n))) for n in model.part_names)
    other = ProxyTunedForCausalLM(base, expert, antiexpert, model.alpha, line=model.line)
    other.generation_config = model.generation_config
    other.draft, other.sources, other.learnt = model.draft, model.sources, model.learnt
    return other
