"""How fast each way of decoding is, against the ways it replaces, in one process and in turn.

    python benchmarks/speed.py --output results/benchmark.json     (make benchmark)
    python benchmarks/speed_tables.py results/benchmark.json       that as Markdown

Shapes: "smollm" and "pocket" are families with their own weights and questions, an adapter merged;
the others have random weights at the sizes of GPT-2's family. Random models do not agree with each
other, so there the acceptance rate is set, not measured: every pass is computed, and a coin of that
rate decides. Such rows are marked "set". Questions of a family are read whole, whatever a cell says.

Families are steered by their own line, questions answered up to end-of-text.
Each way is warmed up, and then all take turns. Times are medians with their range, of the clock
and of the processor (on a machine that does other work too, the second is the one to compare).
Texts are compared with those of the plain torch loop.
"""

import argparse
import contextlib
import functools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import torch
from transformers import AutoTokenizer, DynamicCache, GPT2Config, GPT2LMHeadModel

from proxy_tuning import ProxyTunedForCausalLM, load_family, speculative
from proxy_tuning.decoding import stream
from proxy_tuning.engines.onnx_runtime import onnx_model
from proxy_tuning.parts import whole
from proxy_tuning.prompts import prompt
from proxy_tuning.records import ROOT, machine, write_json

SIZES = {"gpt2": (12, 768, 12), "gpt2-large": (36, 1280, 20), "gpt2-xl": (48, 1600, 25)}
"""Layers, width and heads of M."""
SMALL = (6, 768, 12)
"""Those of M- and M+, distilGPT-2's."""
QUESTIONS = (
    "Who led the polls in Pennsylvania in October 2024?",
    "Who led the polls in Ohio in May 2016?",
    "How did the polls in Michigan change from August to September 2024?",
    "Who led the polls in Georgia in July 2024?",
)
CHAT = (
    "Why is the sky blue?",
    "Give me three tips for sleeping well.",
    "How does a bicycle stay upright?",
    "Write two sentences about the sea.",
)
TOPICS = {"pocket": {"polls": QUESTIONS}, "smollm": {"polls": QUESTIONS, "chat": CHAT}}
"""What the families are asked: what M+ learnt, and what it leaves to M."""


def random_model(layers: int, width: int, heads: int, seed: int) -> GPT2LMHeadModel:
    torch.manual_seed(seed)
    return GPT2LMHeadModel(GPT2Config(n_layer=layers, n_embd=width, n_head=heads)).eval()


def torch_trio(shape: str):
    """(model, tokenizer); random models have none."""
    if shape in TOPICS:
        model, tokenizer = load_family(shape)
        parts = {name: whole(getattr(model, name)).eval() for name in model.part_names}
        trio = ProxyTunedForCausalLM(**parts, line=model.line)
        trio.learnt = model.learnt
        return trio, tokenizer
    base, small = random_model(*SIZES[shape], seed=0), random_model(*SMALL, seed=6)
    # speed does not depend on what the weights are, and one export serves both
    return ProxyTunedForCausalLM(base, small, small), None


@torch.no_grad()
def three_in_a_row(model, ids, count):
    """The public implementation's loop: three models with caches, one after another."""
    parts = (model.base, model.expert, model.antiexpert)
    caches = [DynamicCache(config=part.config) for part in parts]
    mask, new = torch.ones_like(ids), ids
    for _ in range(count):
        base, expert, antiexpert = (
            part(input_ids=new, attention_mask=mask, past_key_values=cache, use_cache=True).logits[
                :, -1
            ]
            for part, cache in zip(parts, caches, strict=True)
        )
        new = (base + model.alpha * (expert - antiexpert)).argmax(-1, keepdim=True)
        ids, mask = torch.cat([ids, new], dim=1), torch.cat([mask, torch.ones_like(new)], dim=1)
    return ids


def plain(model, ids, count):
    steps = stream(model, ids, max_new_tokens=count, eos_token_id=-1)
    return torch.cat([ids, torch.stack([step.next_ids for step in steps], dim=1)], dim=1)


def generated(model, ids, count, **kwargs):
    mask = torch.ones_like(ids)
    how = {"max_new_tokens": count, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    return model.generate(ids, attention_mask=mask, **how, **kwargs)


def assisted(trio, ids, count):
    """M alone, to which M+ proposes, by transformers' assisted generation."""
    return generated(trio.base, ids, count, assistant_model=trio.expert)


class Drafted:
    """Speculative decoding; notes the acceptance rate. `share` sets it instead."""

    def __init__(self, model, draft="expert", share=None, writer="steered"):
        self.model, self.draft, self.share, self.writer = model, draft, share, writer
        self.kept = self.tested = 0

    def __call__(self, ids, count):
        texts = [[] for _ in ids]
        with set_share(self.share) if self.share is not None else contextlib.nullcontext():
            how = {"draft": self.draft, "writer": self.writer, "eos_token_id": -1}
            for done in speculative.speculate(self.model, ids, max_new_tokens=count, **how):
                gamma = done.ids.shape[1] - 1
                self.kept += done.accepted.sum().item()
                self.tested += (done.accepted + 1).clamp(max=gamma).sum().item()
                rows = zip(done.rows.tolist(), done.ids.tolist(), done.counts.tolist(), strict=True)
                for row, new, n in rows:
                    texts[row] += new[:n]
        return torch.cat([ids, torch.tensor(texts)], dim=1)


@contextlib.contextmanager
def set_share(share: float):
    """Judge as always, then let a coin decide how many proposals are kept."""
    agree = speculative.agree
    coin = torch.Generator().manual_seed(0)

    def coin_agree(steered, drafted):
        _, tokens = agree(steered, drafted)
        kept = torch.rand(drafted.shape, generator=coin) < share
        return kept.long().cumprod(dim=1).sum(dim=1), tokens

    speculative.agree = coin_agree
    try:
        yield
    finally:
        speculative.agree = agree


def ways(shape: str, model, shares, engines) -> dict:
    """Name -> function of (ids, count)."""
    found = {
        "torch: three models in a row (a)": lambda ids, n: three_in_a_row(model, ids, n),
        "torch: M alone (b)": lambda ids, n: generated(model.base, ids, n),
        "torch: assisted generation, M+ assists (c)": lambda ids, n: generated(
            model, ids, n, assistant_model=model.expert
        ),
        "torch: plain": lambda ids, n: plain(model, ids, n),
    }
    drafts = {"M+": "expert"}
    if shape in TOPICS:
        drafts |= {"M": "base", "n-grams": "ngram", "learnt answers": "learnt"}
        drafts |= {"whichever pays": "auto"}
    drafted = {"torch": (model, drafts)}
    if "onnx" in engines:
        parts = {name: onnx_model(getattr(model, name)) for name in model.part_names}
        onnx = ProxyTunedForCausalLM(**parts, line=model.line)
        onnx.learnt = model.learnt
        found["onnx: M alone"] = lambda ids, n: generated(onnx.base, ids, n)
        found["onnx: plain"] = lambda ids, n: plain(onnx, ids, n)
        drafts = {"M+": "expert", "n-grams": "ngram"} | drafts
        if "onnx-int8" in engines:
            drafts["M+ int8"] = onnx_model(model.expert, "int8")
        drafted["onnx"] = (onnx, drafts)
    if "onnx-int8" in engines:
        parts = {name: onnx_model(getattr(model, name), "int8") for name in model.part_names}
        coarse = ProxyTunedForCausalLM(**parts, line=model.line)
        coarse.learnt = model.learnt
        found["onnx-int8: M alone"] = lambda ids, n: generated(coarse.base, ids, n)
        found["onnx-int8: plain"] = lambda ids, n: plain(coarse, ids, n)
        drafts = {"M+": "expert", "n-grams": "ngram"} | drafts
        drafted["onnx-int8"] = (coarse, {k: v for k, v in drafts.items() if k != "M+ int8"})
    for engine, (trio, drafts) in drafted.items():
        if shape in TOPICS:
            found[f"{engine}: M alone, n-grams draft"] = Drafted(trio, "ngram", writer="base")
            found[f"{engine}: M alone, M+ assists"] = functools.partial(assisted, trio)
        for name, draft in drafts.items():
            for share in shares:
                label = f"{engine}: drafts by {name}" + (f", {share} set" if share else "")
                found[label] = Drafted(trio, draft, share)
    return found


def until_end(text, ids, end) -> int:
    """How many new tokens a row has up to its end-of-text, with that."""
    new = text[0, ids.shape[1] :].tolist()
    return new.index(end) + 1 if end in new else len(new)


def measure(shape, model, prompts, counts, repeats, shares, engines) -> list[dict]:
    """One row per way: seconds a token, and how its texts compare with the plain torch loop's.

    Args: counts, new tokens for each of the prompts.
    """
    found = ways(shape, model, shares, engines)
    if len(prompts[0]) > 1:  # assisted generation is for one row
        found = {name: way for name, way in found.items() if "assist" not in name}
    asked = list(zip(prompts, counts, strict=True))
    expected = [plain(model, ids, count) for ids, count in asked]
    wall, cpu = ({name: [] for name in found} for _ in range(2))
    texts = {}
    for way in found.values():
        way(prompts[0], min(counts[0], 8))  # warm up
    for repeat in range(repeats):
        for name, way in found.items():
            begin = time.perf_counter(), time.process_time()
            texts[name] = [way(ids, count) for ids, count in asked]
            tokens = sum(count * len(ids) for ids, count in asked)
            wall[name].append((time.perf_counter() - begin[0]) / tokens)
            cpu[name].append((time.process_time() - begin[1]) / tokens)
            print(f"{shape} {repeat} {name}: {cpu[name][-1] * 1e3:.1f} ms", flush=True)
    rows = []
    slow = statistics.median(cpu["torch: three models in a row (a)"])
    alone = statistics.median(cpu["torch: M alone (b)"])
    for name, way in found.items():
        seconds = statistics.median(cpu[name])
        row = {
            "way": name,
            "cpu_ms_per_token": spread(cpu[name]),
            "wall_ms_per_token": spread(wall[name]),
            "times_a": round(slow / seconds, 2),
            "times_b": round(alone / seconds, 2),
        }
        if "alone" not in name and "set" not in name:
            new = [
                (ours == theirs)[:, ids.shape[1] :].float().flatten()
                for ours, theirs, ids in zip(texts[name], expected, prompts, strict=True)
            ]
            row["same_tokens"] = round(torch.cat(new).mean().item(), 4)
        if isinstance(way, Drafted) and way.tested:
            row["share_kept"] = round(way.kept / way.tested, 3)
        rows.append(row)
    return rows


def spread(seconds: list[float]) -> list[float]:
    """Median, least and most, in milliseconds."""
    return [round(1e3 * of(seconds), 2) for of in (statistics.median, min, max)]


def bandwidth() -> float:
    """Bytes a second at which one thread reads memory, the best of five."""
    x = torch.ones(64 * 2**20)
    times = []
    for _ in range(5):
        begin = time.thread_time()
        x.sum()
        times.append(time.thread_time() - begin)
    return x.numel() * 4 / min(times)


LOADING = """
import json, sys, time
clock = lambda: (time.perf_counter(), time.process_time())
memory = lambda: int(next(l for l in open("/proc/self/status") if l.startswith("VmRSS")).split()[1])
times = [clock()]
from proxy_tuning import load_family
times.append(clock())
before = memory()
model, tokenizer = load_family(engine=sys.argv[1], **json.loads(sys.argv[3]))
times.append(clock())
model.generate(**tokenizer(sys.argv[2], return_tensors="pt"), max_new_tokens=30)
times.append(clock())
took = [[round(b - a, 2) for a, b in zip(*two)] for two in zip(times, times[1:])]
names = ("import_s", "load_s", "answer_s")
print(json.dumps(dict(zip(names, took)) | {"grown_mb": round((memory() - before) / 1024, 1)}))
"""


def loading(shape: str, engine: str, tokenizer_name: str) -> dict:
    """A family in a fresh process: [clock, processor] seconds to import, load and answer; memory."""
    model, tokenizer = torch_trio(shape)
    weights = sum(
        p.numel() * 4 for name in model.part_names for p in getattr(model, name).parameters()
    )
    with tempfile.TemporaryDirectory() as folder:
        family = {"name": shape}
        if tokenizer is None:
            parts = {"base": model.base, "expert": model.expert}
            parts["antiexpert"] = random_model(*SMALL, seed=7)
            tokenizer = AutoTokenizer.from_pretrained(tokenizer_name)
            family = {name: f"{folder}/{name}" for name in parts}
            for name, part in parts.items():
                part.save_pretrained(family[name])
                tokenizer.save_pretrained(family[name])
        asked = prompt(QUESTIONS[0], tokenizer)
        command = [sys.executable, "-c", LOADING, engine, asked, json.dumps(family)]
        out = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(out.stdout.splitlines()[-1])
    return {"shape": shape, "engine": engine, "weights_mb": round(weights / 2**20, 1)} | found


def weight_bytes(model) -> int:
    """Float32 weights that a token needs: all of the three models but GPT-2's position tables."""
    parts = [getattr(model, name) for name in model.part_names]
    numbers = sum(p.numel() for part in parts for p in part.parameters())
    gpt2 = [part.config for part in parts if part.config.model_type == "gpt2"]
    return 4 * (numbers - sum(config.n_positions * config.n_embd for config in gpt2))


def cells(options, shape: str, model, tokenizer):
    """(topic, prompts, new tokens) for every cell that the shape's context holds."""
    for batch in options.batches:
        for cell in options.cells:
            length, count = map(int, cell.split("/"))
            if length + count > model.config.max_position_embeddings:
                continue
            if tokenizer is None:
                chance = torch.Generator().manual_seed(0)
                ids = torch.randint(model.config.vocab_size, (batch, length), generator=chance)
                yield None, [ids], count
                continue
            for topic, questions in TOPICS[shape].items():
                texts = [tokenizer(prompt(q, tokenizer))["input_ids"] for q in questions]
                yield topic, [torch.tensor([text] * batch) for text in texts], count


def main(options):
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    result = {
        "command": " ".join(["python", "benchmarks/speed.py", *sys.argv[1:]]),
        "machine": machine(),
        "threads": options.threads,
        "conditions": options.conditions,
        "load_average": [round(os.getloadavg()[0], 1)],
        "memory_bandwidth_gb_s": round(bandwidth() / 1e9, 1),
        "loading": [
            loading(shape, engine, options.tokenizer)
            for shape in options.shapes
            for engine in options.loading
        ],
        "cells": [],
    }
    write_json(options.output, result)
    for shape in options.shapes:
        model, tokenizer = torch_trio(shape)
        shares = [None] if tokenizer else options.shares
        floor = 1e-6 * weight_bytes(model) / result["memory_bandwidth_gb_s"]
        for topic, prompts, count in cells(options, shape, model, tokenizer):
            end = tokenizer.eos_token_id if tokenizer else -1
            counts = [until_end(plain(model, ids, count), ids, end) for ids in prompts]
            rows = measure(shape, model, prompts, counts, options.repeats, shares, options.engines)
            cell = {
                "shape": shape,
                "topic": topic,
                "prompt": prompts[0].shape[1],
                "new": count,
                "lengths": counts,
                "batch": len(prompts[0]),
                "repeats": options.repeats,
                "floor_ms_per_token": round(floor / len(prompts[0]), 2),
                "rows": rows,
            }
            result["cells"].append(cell)
            result["load_average"].append(round(os.getloadavg()[0], 1))
            result["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            write_json(options.output, result)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", default=ROOT / "results" / "benchmark.json")
    parser.add_argument(
        "--shapes", nargs="*", default=["pocket", "gpt2"], choices=[*TOPICS, *SIZES]
    )
    parser.add_argument("--cells", nargs="*", default=["8/8", "64/128", "512/8", "8/512"])
    parser.add_argument("--batches", nargs="*", type=int, default=[1])
    parser.add_argument("--shares", nargs="*", type=float, default=[0.5, 0.8, 0.95])
    parser.add_argument("--engines", nargs="*", default=["onnx", "onnx-int8"])
    parser.add_argument("--loading", nargs="*", default=["torch", "onnx"])
    parser.add_argument(
        "--tokenizer", default="gpt2", help="name or folder of GPT-2's tokenizer, for --loading"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--conditions", help="what else ran meanwhile, for the record")
    main(parser.parse_args())
