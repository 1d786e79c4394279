"""A torch model to ONNX, with transformers' exporter; run as a process by onnx_runtime.py."""

import os
import sys
import tempfile
import threading
from pathlib import Path

import onnx_ir
import torch
from onnxruntime.quantization.matmul_nbits_quantizer import (
    DefaultWeightOnlyQuantConfig,
    MatMulNBitsQuantizer,
)
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.exporters import OnnxConfig, OnnxExporter

BLOCK = 16
"""Weights of 8 bits that share a scale and an offset."""
INT8 = 4
"""ONNX Runtime's accuracy level that multiplies in 8 bits; 1, in float32, is slower than float32 weights."""


@torch.no_grad()
def traced(folder: Path) -> onnx_ir.Model:
    """One pass of a saved model, for any numbers of rows, cached and new tokens."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    cache = DynamicCache(config=model.config)
    ids = torch.arange(16).view(2, 8) % model.config.vocab_size
    model(input_ids=ids[:, :5], past_key_values=cache, use_cache=True)
    inputs = {
        "input_ids": ids[:, 5:],
        "attention_mask": torch.ones(2, 8, dtype=torch.long),
        "position_ids": torch.arange(5, 8).expand(2, -1),
        "past_key_values": cache,
        "use_cache": True,
        "logits_to_keep": torch.tensor([-2, -1]),
    }
    return OnnxExporter().export(model, inputs, OnnxConfig(dynamic=True)).program


def quantise(graph: Path, target: Path, bits: int = 8, block: int = BLOCK) -> None:
    """Write a float32 export again, the weights of its matrices in few bits."""
    model = onnx_ir.load(graph)
    untie(model)
    config = DefaultWeightOnlyQuantConfig(bits=bits, block_size=block, accuracy_level=INT8)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        untied = Path(folder, target.name)
        save(model, untied)
        quantiser = MatMulNBitsQuantizer(str(untied), algo_config=config)
        quantiser.process()
        quantiser.model.save_model_to_file(str(target), use_external_data_format=True)


def save(model: onnx_ir.Model, target: Path) -> None:
    """Graph and weights in two files, as both are read."""
    onnx_ir.save(model, target, external_data=f"{target.name}.data")


def untie(model: onnx_ir.Model) -> None:
    """Give the output layer weights of its own, which can be of 8 bits; an embedding cannot."""
    for node in list(model.graph):
        factor = node.inputs[1] if node.op_type == "MatMul" else None
        turned = factor.producer() if factor is not None else None
        if turned is None or turned.op_type != "Transpose":
            continue
        stored = turned.inputs[0]
        if stored is None or not stored.is_initializer() or stored.const_value is None:
            continue
        weight = stored.const_value.numpy().T  # (D, V)
        own = onnx_ir.Value(name=f"{stored.name}.T", const_value=onnx_ir.tensor(weight))
        own.dtype, own.shape = onnx_ir.DataType.FLOAT, onnx_ir.Shape(weight.shape)
        model.graph.register_initializer(own)
        node.replace_input_with(1, own)


def end_with_parent() -> None:
    """Watch the pipe from the process that started this one, and end when it is closed."""

    def watch() -> None:
        os.read(0, 1)  # nothing is ever written: it returns when the pipe is closed
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    end_with_parent()
    precision, source, target = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    if precision == "int8":
        quantise(source, target)
    else:
        save(traced(source), target)
