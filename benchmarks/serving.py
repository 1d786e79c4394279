"""Throughput of one trio: our batched loop, vLLM's composite model, and M alone in vLLM.

    python -m proxy_tuning export FOLDER --to vllm --family pocket
    python benchmarks/serving.py FOLDER --python VLLM_ENVIRONMENT/bin/python --output FILE.json

All prompts at once, greedy, until each text ends, eager, prefix cache off, float32, one thread; the
three in turn, round
by round. Tokens per second of processor time are given beside those of the clock, because other
work on the machine changes the latter alone. Without a tokenizer in FOLDER prompts are random.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

WAYS = ("our batched loop", "vLLM, the trio", "vLLM, M alone")
ANSWER = "answer: "
"""Before what an engine says on standard output, where vLLM writes too."""


def timed(generate) -> dict:
    """{tokens, wall, cpu} of one call that returns token ids per prompt; seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    tokens = generate()
    return {
        "tokens": tokens,
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
    }


def engine(folder: str, new: int) -> None:
    """In vLLM's environment: for each line of prompts on standard input, a line of `timed`."""
    from vllm import LLM, SamplingParams

    llm = LLM(
        folder,
        dtype="float32",
        enforce_eager=True,
        enable_prefix_caching=False,
        block_size=32,
        max_num_seqs=64,
        kv_cache_memory_bytes=2**29,
        skip_tokenizer_init=True,
        max_model_len=128,
    )
    params = SamplingParams(temperature=0, max_tokens=new)
    for line in sys.stdin:
        prompts = [{"prompt_token_ids": ids} for ids in json.loads(line)]
        out = timed(
            lambda prompts=prompts: [
                list(each.outputs[0].token_ids)
                for each in llm.generate(prompts, params, use_tqdm=False)
            ]
        )
        print(f"{ANSWER}{json.dumps(out)}", flush=True)


class Engine:
    """The same, asked from here."""

    def __init__(self, python: str, folder: str, new: int):
        quiet = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "HF_HUB_OFFLINE": "1"}
        quiet |= {"TORCHDYNAMO_DISABLE": "1", "VLLM_NO_USAGE_STATS": "1", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [python, __file__, folder, "--engine", "--tokens", str(new)],
            env=os.environ | quiet,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, prompts: list[list[int]]) -> dict:
        self.process.stdin.write(json.dumps(prompts) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith(ANSWER):
                return json.loads(line.removeprefix(ANSWER))
        raise RuntimeError("the engine ended")


def loop(model, prompts: list[list[int]], new: int) -> list[list[int]]:
    """Our composite model under transformers' loop, all prompts in one left-padded batch."""
    import torch

    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(each)) + each for each in prompts])
    mask = torch.tensor([[0] * (longest - len(each)) + [1] * len(each) for each in prompts])
    out = model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=new)
    ends = model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    return [until(row, ends) for row in out[:, longest:].tolist()]


def until(row: list[int], ends: list[int]) -> list[int]:
    """A text up to and with the token that ends it, without the padding after that."""
    found = (place for place, token in enumerate(row) if token in ends)
    return row[: next(found, len(row)) + 1]


def make_prompts(folder: str, count: int, vocab: int) -> list[list[int]]:
    """Questions where there is a tokenizer, else random tokens, 8 to 32 of them."""
    import torch
    from transformers import AutoTokenizer

    if Path(folder, "tokenizer.json").is_file():
        from proxy_tuning.prompts import prompt

        tokenizer = AutoTokenizer.from_pretrained(folder)
        places = ("Ohio", "Texas", "Florida", "Iowa", "Nevada", "Georgia", "Maine", "Arizona")
        questions = [
            f"Who led the polls in {place} in {month} 2024?"
            for month in ("January", "March", "April", "May", "July", "August", "June", "October")
            for place in places
        ]
        return [tokenizer(prompt(q, tokenizer))["input_ids"] for q in questions[:count]]
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(8, 33, (count,), generator=generator).tolist()
    return [torch.randint(1, vocab, (n,), generator=generator).tolist() for n in lengths]


def measure(options) -> dict:
    import torch
    from transformers import AutoModelForCausalLM

    import proxy_tuning.model  # noqa: F401  # so that transformers knows the composite model
    from proxy_tuning.records import machine

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(options.folder, dtype=torch.float32)
    prompts = make_prompts(options.folder, options.prompts, model.config.vocab_size)
    trio = Engine(options.python, options.folder, options.tokens)
    alone = Engine(options.python, str(Path(options.folder, "base")), options.tokens)
    ask = {
        WAYS[0]: lambda prompts: timed(lambda: loop(model, prompts, options.tokens)),
        WAYS[1]: trio.ask,
        WAYS[2]: alone.ask,
    }
    for way in WAYS:
        ask[way](prompts[:2])  # warm
    rounds = [{way: ask[way](prompts) for way in WAYS} for _ in range(options.rounds)]
    figures = {
        way: {
            f"tokens per {unit}": [
                round(sum(map(len, each[way]["tokens"])) / each[way][clock], 1) for each in rounds
            ]
            for clock, unit in (("wall", "second"), ("cpu", "processor second"))
        }
        for way in WAYS
    }
    for way, each in figures.items():
        print(way, {unit: statistics.median(values) for unit, values in each.items()})
    ours, theirs = rounds[0][WAYS[0]]["tokens"], rounds[0][WAYS[1]]["tokens"]
    same = sum(a == b for a, b in zip(ours, theirs, strict=True))
    print(f"same texts: {same} of {len(prompts)}")
    return {
        "prompts": len(prompts),
        "new tokens each, at most": options.tokens,
        "new tokens in all": sum(map(len, theirs)),
        "same texts": same,
        "figures": figures,
        "machine": machine(),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="as `export --to vllm` writes it")
    parser.add_argument("--python", help="of an environment with vLLM and this package")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", help="JSON file; the figures go under the folder's name")
    parser.add_argument("--engine", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.engine:
        engine(options.folder, options.tokens)
        return
    figures = measure(options)
    if options.output:
        from proxy_tuning.records import write_json

        path = Path(options.output)
        known = json.loads(path.read_text()) if path.is_file() else {}
        write_json(path, known | {Path(options.folder).name: figures})


if __name__ == "__main__":
    main()
