"""ONNX Runtime on the CPU: a causal language model as one graph, its cache as input and output.

transformers' own exporter makes the graph (export.py), once. It is kept in a folder that is named
after a hash of the weights, in `XDG_CACHE_HOME/proxy_tuning/engines` (by default under ~/.cache).
"""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import onnxruntime
import torch
from safetensors import SafetensorError
from transformers import DynamicCache, GenerationConfig, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from proxy_tuning.caches import layers_of
from proxy_tuning.records import claimed, file_hash

GRAPH = "model.onnx"
MANIFEST = "export.json"
"""Written last: the digest of each file, the versions that made them, and the parameters in them."""
UNFINISHED = "unfinished-"
"""What the folder of an export is called until it is whole."""


class OnnxCausalLM(PreTrainedModel, GenerationMixin):
    """A causal language model without torch weights; called, and generating, like any other.

    Args:
        config: of the model that was exported.
        graph: the file that `make_export` wrote.
        generation_config: of that model.
    """

    _supports_sdpa = True

    def __init__(self, config, graph: Path, generation_config: GenerationConfig | None = None):
        super().__init__(config)
        if generation_config is not None:
            self.generation_config = generation_config
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # the three parts take turns: what one leaves spinning would slow down the next
        options.add_session_config_entry("session.force_spinning_stop", "1")
        manifest = json.loads(graph.with_name(MANIFEST).read_text(encoding="utf-8"))
        self.parameter_count: int = manifest["parameters"]
        self.session = onnxruntime.InferenceSession(
            graph, options, providers=["CPUExecutionProvider"]
        )
        self.outputs = [output.name for output in self.session.get_outputs()]
        self.past = [i.name for i in self.session.get_inputs() if "past_key_values" in i.name]
        shape = next(i.shape for i in self.session.get_inputs() if i.name == self.past[0])
        self.heads, self.width = int(shape[1]), int(shape[3])

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32

    def num_parameters(self, *args, **kwargs) -> int:
        """Those of the model that was exported."""
        return self.parameter_count

    def save_pretrained(self, *args, **kwargs):
        raise ValueError('ONNX Runtime holds no weights to save: load with engine="torch"')

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: DynamicCache | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs,
    ) -> CausalLMOutputWithPast:
        """As transformers' models: logits (B, K, V) float32, and the cache extended in place.

        Token ids and positions are (B, T) int64.
        """
        rows, length = input_ids.shape
        cache = past_key_values
        if cache is None and (self.config.use_cache if use_cache is None else use_cache):
            cache = DynamicCache(config=self.config)
        cached = cache.get_seq_length() if cache is not None else 0
        if attention_mask is None:
            attention_mask = input_ids.new_ones(rows, cached + length)
        if position_ids is None:
            position_ids = torch.arange(cached, cached + length)
        if not isinstance(logits_to_keep, torch.Tensor):
            logits_to_keep = torch.arange(-(logits_to_keep or length), 0)
        if cache is not None and cached:
            past = [x for layer in layers_of(cache) for x in (layer.keys, layer.values)]
        else:
            past = [torch.empty(rows, self.heads, 0, self.width)] * len(self.past)
        feed = {
            "input_ids": input_ids,
            "attention_mask": attention_mask.long(),
            "position_ids": position_ids.expand(rows, -1),
            "logits_to_keep": logits_to_keep,
        } | dict(zip(self.past, past, strict=True))
        logits, *present = self._run(feed)
        if cache is not None:
            new = zip(layers_of(cache), present[0::2], present[1::2], strict=True)
            for layer, keys, values in new:
                layer.lazy_initialization(keys, values)
                layer.keys, layer.values = keys, values  # (B, H, S, D)
        return CausalLMOutputWithPast(logits=logits, past_key_values=cache)

    def _run(self, feed: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        """All outputs of the graph; nothing is copied on the way in or out."""
        tensors = {name: tensor.contiguous().numpy() for name, tensor in feed.items()}
        values = {
            name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in tensors.items()
        }
        outputs = self.session.run_with_ort_values(self.outputs, values)
        return [torch.from_dlpack(output._ortvalue.to_dlpack()) for output in outputs]


def onnx_model(part: PreTrainedModel, precision: str = "float32") -> OnnxCausalLM:
    """A torch model on ONNX Runtime, exported where it has not been; arguments as `make_export`."""
    graph = find_export(part, precision) or make_export(part, precision)
    return OnnxCausalLM(part.config, graph, part.generation_config)


# Exported once: a folder per model, found by what is in it


def find_export(part: PreTrainedModel, precision: str = "float32") -> Path | None:
    """The graph of an earlier export, None where there is none that can be trusted."""
    folder = folder_of(part, precision)
    return folder / GRAPH if is_intact(folder) else None


def make_export(part: PreTrainedModel, precision: str = "float32") -> Path:
    """Export a torch model, in place of an earlier export that cannot be trusted.

    Args:
        part: a causal language model, float32, on the CPU.
        precision: "float32", or "int8": weights of 8 bits, a scale and an offset for 16 of them.

    Returns:
        The graph's file, its weights beside it. Where the cache cannot be written, in a temporary
        folder that is deleted when this process ends.
    """
    source = None
    if precision == "int8":
        source = find_export(part) or make_export(part)
    folder = folder_of(part, precision)
    name = part.config.name_or_path or type(part).__name__
    print(f"Exporting {name} to ONNX ({precision}), once, a minute or so: {folder}")
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(claimed(folder.parent, wait=True))
            folder.parent.mkdir(exist_ok=True)
            remove_unfinished(folder.parent)
            work = Path(tempfile.mkdtemp(dir=folder.parent, prefix=UNFINISHED))
        except OSError as error:
            print(f"The export cannot be kept: {error}")
            TEMPORARY.append(tempfile.TemporaryDirectory(prefix="proxy-tuning-"))
            return write_export(part, source, Path(TEMPORARY[-1].name))
        try:
            if not is_intact(folder):  # another process may have been faster
                write_export(part, source, work)
                shutil.rmtree(folder, ignore_errors=True)
                work.rename(folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return folder / GRAPH


def remove_unfinished(cache: Path) -> None:
    """Remove what exports left that were killed; whoever calls has claimed the cache."""
    for left in cache.glob(f"{UNFINISHED}*"):
        shutil.rmtree(left, ignore_errors=True)


TEMPORARY: list[tempfile.TemporaryDirectory] = []
"""Exports of this process that could not be kept."""


def folder_of(part: PreTrainedModel, precision: str) -> Path:
    """Where the export of these very weights belongs."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "proxy_tuning" / "engines" / f"{content_hash(part)}-{precision}"


def content_hash(part: PreTrainedModel) -> str:
    """SHA-256 of a model's configuration and weights, 32 hexadecimal digits of it."""
    config = part.config.to_diff_dict()
    for key in ("_name_or_path", "transformers_version", "architectures", "dtype"):
        config.pop(key, None)
    digest = hashlib.sha256(f"{type(part).__name__} {json.dumps(config, sort_keys=True)}".encode())
    for name, tensor in part.named_parameters():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().contiguous().numpy().data)
    return digest.hexdigest()[:32]


def versions() -> dict[str, str]:
    """What an export depends on besides the model; "export" is export.py, whose graphs changed."""
    names = ("onnxruntime", "onnxscript", "torch", "transformers")
    return {name: version(name) for name in names} | {"export": "2"}


def is_intact(folder: Path) -> bool:
    """Whether a folder holds a complete export of these versions, not a bit of it changed."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files = manifest["files"]
        return (
            manifest["versions"] == versions()
            and "parameters" in manifest
            and all(file_hash(folder / name) == files[name] for name in (GRAPH, f"{GRAPH}.data"))
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def write_export(part: PreTrainedModel, source: Path | None, folder: Path) -> Path:
    """Write graph, weights and manifest into an empty folder; returns the graph's file.

    Args:
        part: the torch model.
        source: the float32 graph that is to have weights of 8 bits.
        folder: where to.

    Raises:
        OSError: the disk is full, or the exporter failed.
    """
    graph = folder / GRAPH
    if source is None:
        try:
            part.save_pretrained(folder / "torch")
        except SafetensorError as error:
            raise OSError(f"{folder} cannot be written: {error}") from error
        run_exporter("float32", folder / "torch", graph)
    else:
        run_exporter("int8", source, graph)
    shutil.rmtree(folder / "torch", ignore_errors=True)
    files = {path.name: file_hash(path) for path in folder.iterdir()}
    manifest = {"versions": versions(), "files": files, "parameters": part.num_parameters()}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    return graph


def run_exporter(precision: str, source: Path, target: Path) -> None:
    """export.py in a process of its own, which would else keep a copy of the weights in this one.

    It ends with this process, even if that is killed: then the pipe that it reads from is closed.
    """
    reads, writes = os.pipe()
    module = "proxy_tuning.engines.export"
    command: list[str | Path] = [sys.executable, "-m", module, precision, source, target]
    try:
        done = subprocess.run(
            command, stdin=reads, capture_output=True, text=True, errors="replace"
        )
    finally:
        os.close(reads)
        os.close(writes)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        why = next((line for line in reversed(said) if "rror" in line), said[-1])
        raise OSError(f"the export to ONNX failed: {why[:300]}")
