"""ONNX Runtime takes over from torch while the widget runs: answers wait for no export."""

import time

from proxy_tuning.engines import why_not
from proxy_tuning.model import ProxyTunedForCausalLM
from proxy_tuning.parts import whole
from proxy_tuning.widget.desk import Desk


def take_over(desk: Desk) -> None:
    """Export the desk's models, once for this machine, and let ONNX Runtime answer from then on.

    Does nothing where it cannot run them, and says so where the disk is full: torch goes on.
    """
    begun, model = time.monotonic(), desk.model
    own = [getattr(model, name) for name in model.part_names]
    if any(map(why_not, own)) or any(not list(part.parameters()) for part in own):
        return
    try:
        desk.model = on_onnx_runtime(model)
    except OSError as error:
        print(f"torch goes on answering: {error}", flush=True)
        return
    seconds = time.monotonic() - begun
    print(f"ONNX Runtime answers from now on, faster than torch ({seconds:.0f} s to export).")


def on_onnx_runtime(model: ProxyTunedForCausalLM) -> ProxyTunedForCausalLM:
    """The same trio on ONNX Runtime; the one on torch stays as it is, and may be in use."""
    from proxy_tuning.engines.onnx_runtime import onnx_model

    parts = {name: onnx_model(whole(getattr(model, name))) for name in model.part_names}
    other = ProxyTunedForCausalLM(**parts, alpha=model.alpha, line=model.line)
    other.generation_config = model.generation_config
    other.draft, other.sources = model.draft, model.sources
    return other
