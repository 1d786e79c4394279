"""What runs the parts of a model: torch, or ONNX Runtime on the CPU.

model.py knows only that each part can be called like a causal language model; here a part is
exchanged for another that gives the same logits.
"""

import importlib.util

import torch

from proxy_tuning.logits import divergence
from proxy_tuning.parts import bare, is_adapted, whole

ENGINES = ("auto", "torch", "onnx", "onnx-int8")
PACKAGES = ("onnx", "onnxruntime", "onnxscript")


def run_on(engine: str, model, prompts: list[torch.Tensor]) -> None:
    """Put an engine under all parts of a `ProxyTunedForCausalLM`, in place.

    Args:
        engine: "torch" leaves the parts as they are. "onnx" is ONNX Runtime on the CPU in
            float32, whose logits are within 1e-4 of torch's. "onnx-int8" has weights of 8 bits and
            therefore other logits: how far off they are is measured on the prompts and printed.
            "auto" is "onnx" where all parts can run on it and have been exported before, else
            "torch"; it prints one line that says which and why.
        model: as torch has it; its own weights are released, part by part. An adapter is merged
            into a copy of its M-.
        prompts: tokens (1, T) int64 each; what "onnx-int8" is measured on is the model's answers.

    Raises:
        ValueError: an unknown engine, or ONNX Runtime for a part that it cannot run.
    """
    check_engine(engine)
    if engine == "torch":
        return
    own = {name: getattr(model, name) for name in model.part_names}
    obstacle = next((f"{name}: {why}" for name, p in own.items() if (why := why_not(p))), "")
    del own
    if obstacle and engine == "auto":
        print(f"Engine torch: ONNX Runtime cannot run {obstacle}.")
        return
    if obstacle:
        raise ValueError(f"engine={engine!r} cannot run {obstacle}")

    from proxy_tuning.engines.onnx_runtime import OnnxCausalLM, find_export, make_export

    parts = {name: whole(getattr(model, name)) for name in model.part_names}
    precision = "int8" if engine == "onnx-int8" else "float32"
    graphs = {name: find_export(part, precision) for name, part in parts.items()}
    if engine == "auto":
        if None in graphs.values():
            print('Engine torch: these weights are not exported yet (engine="onnx" does it once).')
            return
        print("Engine onnx: all parts can run on it and are exported.")
    if precision == "int8":
        texts = [answer(model, prompt) for prompt in prompts]
        before = torch.cat([steered(model, text) for text in texts])  # (N, V)
    for name in list(parts):
        part = parts.pop(name)
        graph = graphs[name] or make_export(part, precision)
        setattr(model, name, OnnxCausalLM(part.config, graph, part.generation_config))
        del part  # before the next is exported: one copy of the weights at a time
    if precision == "int8":
        kl, agreement = compare(before, torch.cat([steered(model, text) for text in texts]))
        print(
            f"Engine onnx-int8: KL(float32 || int8) is {kl:.2g} nats a token, and the greedy "
            f"choice the same at {agreement:.1%} of {len(before)} positions, at alpha {model.alpha}."
        )


def expert_in_8_bits(model, engine: str, draft: str):
    """M+ as ONNX Runtime has it in 8 bits, to propose tokens; None where none is wanted.

    Args:
        model: a `ProxyTunedForCausalLM` as torch has it.
        engine: what will run the parts.
        draft: "expert-int8" exports it where that was not done before; "auto" takes an earlier
            export where the parts are to run on ONNX Runtime in float32; others need none.

    Raises:
        ValueError: "expert-int8" for an M+ that ONNX Runtime cannot run, or for several.
    """
    if draft != "expert-int8" and (draft, engine) not in (("auto", "auto"), ("auto", "onnx")):
        return None
    several = len(model.experts) > 1
    obstacle = "several experts" if several else why_not(model.expert)
    if obstacle and draft == "expert-int8":
        raise ValueError(f"draft='expert-int8' cannot run expert: {obstacle}")
    if obstacle:
        return None
    from proxy_tuning.engines.onnx_runtime import OnnxCausalLM, find_export, make_export

    expert = whole(model.expert)
    graph = find_export(expert, "int8")
    if graph is None and draft == "expert-int8":
        graph = make_export(expert, "int8")
    return graph and OnnxCausalLM(expert.config, graph, expert.generation_config)


def check_engine(engine: str) -> None:
    """ValueError for an engine that there is not."""
    if engine not in ENGINES:
        raise ValueError(f"no engine is named {engine!r}; there are {', '.join(ENGINES)}")


def why_not(part) -> str:
    """What keeps a part from ONNX Runtime on the CPU; empty where nothing does."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed: pip install {' '.join(missing)}"
    if is_adapted(part) and not hasattr(part, "merge_and_unload"):
        return "its adapter cannot be merged into M-"
    part = bare(part)
    if part.device.type != "cpu":
        return f"it is on {part.device}"
    if part.dtype != torch.float32:
        return f"it is {str(part.dtype).removeprefix('torch.')}, not float32"
    kinds = getattr(part.config, "layer_types", None) or ["full_attention"]
    if set(kinds) != {"full_attention"}:
        return "its layers do not all see the whole text"
    if getattr(part.config, "sliding_window", None):
        return "its layers see a window of the text"
    return ""


@torch.no_grad()
def answer(model, prompt: torch.Tensor) -> torch.Tensor:
    """A prompt (1, T) int64 and 32 tokens of the greedy answer to it at most."""
    return model.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=32, do_sample=False
    )


@torch.no_grad()
def steered(model, text: torch.Tensor) -> torch.Tensor:
    """Logits (T, V) after each token of a text (1, T) int64."""
    return model(text, use_cache=False).logits[0]


def compare(logits: torch.Tensor, others: torch.Tensor) -> tuple[float, float]:
    """(mean KL in nats, share of equal argmax) of logits (N, V)."""
    kl = divergence(logits.log_softmax(-1), others.log_softmax(-1)).mean()
    same = (logits.argmax(-1) == others.argmax(-1)).float().mean()
    return kl.item(), same.item()
