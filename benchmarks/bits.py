"""What weights of few bits lose and gain, by how many of them share a scale: M alone on ONNX Runtime.

    python -m benchmarks.bits --output results/bits.json

Lost is measured along the greedy answers of torch's M to the questions of benchmarks/speed.py, prompts
included; milliseconds are those of the processor, one thread.
"""

import argparse
import json
import logging
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.speed import CHAT, QUESTIONS
from proxy_tuning.engines import compare
from proxy_tuning.engines.export import quantise
from proxy_tuning.engines.onnx_runtime import (
    GRAPH,
    MANIFEST,
    OnnxCausalLM,
    find_export,
    make_export,
)
from proxy_tuning.families import load_family
from proxy_tuning.logits import PLAIN
from proxy_tuning.prompts import prompt
from proxy_tuning.records import machine, write_json

KINDS = ((8, 16), (8, 32), (8, 64), (8, 128), (4, 16), (4, 32))
"""(bits of a weight, weights that share a scale and an offset)."""
TURNS = 3


@torch.no_grad()
def logits_of(model, texts):
    return torch.cat([model(text, use_cache=False).logits[0] for text in texts])  # (N, V)


def milliseconds(model, ids):
    """Of the processor, for each of 32 tokens after a prompt (1, T): the median of some turns."""
    taken = []
    for _ in range(TURNS):
        begun = time.process_time()
        model.generate(ids, max_new_tokens=32, min_new_tokens=32, do_sample=False, pad_token_id=0)
        taken.append((time.process_time() - begun) / 32 * 1000)
    return round(statistics.median(taken), 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", default="smollm")
    parser.add_argument("--output", default="results/bits.json")
    options = parser.parse_args()
    logging.getLogger("onnxruntime.quantization").setLevel(logging.WARNING)  # a line a node
    torch.set_num_threads(1)
    model, tokenizer = load_family(options.family, line=PLAIN)
    base = model.base
    prompts = [
        tokenizer(prompt(question, tokenizer), return_tensors="pt")["input_ids"]
        for question in (*QUESTIONS, *CHAT)
    ]
    texts = [base.generate(ids, max_new_tokens=48, do_sample=False) for ids in prompts]
    exact = logits_of(base, texts)
    graph = find_export(base) or make_export(base)
    rows = []

    def measure(bits, block, path):
        engine = OnnxCausalLM(base.config, path, base.generation_config)
        kl, agreement = compare(exact, logits_of(engine, texts))
        row = {"bits": bits, "block": block, "kl_nats": round(kl, 5)}
        row |= {
            "same_choice": round(agreement, 4),
            "ms_per_token": milliseconds(engine, prompts[0]),
        }
        size = sum(path.with_name(name).stat().st_size for name in (GRAPH, f"{GRAPH}.data"))
        rows.append(row | {"megabytes": round(size / 1e6)})
        print(json.dumps(rows[-1]), flush=True)

    measure(32, None, graph)
    for bits, block in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, GRAPH)
            quantise(graph, path, bits, block)
            shutil.copy(graph.with_name(MANIFEST), folder)
            measure(bits, block, path)
    record = {"command": f"python -m benchmarks.bits --family {options.family}"}
    record |= {"machine": machine(), "positions": len(exact), "rows": rows}
    write_json(options.output, record)


if __name__ == "__main__":
    main()
