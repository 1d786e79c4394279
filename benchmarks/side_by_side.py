"""Whether the three parts are faster side by side: a core for M, one for M- and M+, or all cores for each in turn.

    python -m benchmarks.side_by_side --output results/side_by_side.json

A round reads the same new tokens with all three after a cached text, on ONNX Runtime, which lets go of
Python's lock. Both ways take turns; nothing else may run.
"""

import argparse
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import torch
from transformers import DynamicCache

from proxy_tuning.engines.onnx_runtime import onnx_model
from proxy_tuning.families import load_family
from proxy_tuning.parts import whole
from proxy_tuning.records import machine, write_json

CACHED = 64  # tokens
GROUPS = (("base",), ("antiexpert", "expert"))  # about as many layers each


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", default="smollm")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", default="results/side_by_side.json")
    options = parser.parse_args()
    model, _ = load_family(options.family)
    parts = {name: whole(getattr(model, name)) for name in model.part_names}
    ways, cores = {}, torch.get_num_threads()
    for way, threads in (("in turn, all cores each", cores), ("side by side, a core each", 1)):
        torch.set_num_threads(threads)  # which a session takes
        ways[way] = {name: onnx_model(part) for name, part in parts.items()}
    torch.set_num_threads(cores)
    rows = []
    with ThreadPoolExecutor(len(GROUPS)) as pool, torch.inference_mode():
        for new in (1, 4, 8, 16):
            seconds = {way: [] for way in ways}
            for _ in range(options.rounds + 1):  # the first warms up
                for way, sessions in ways.items():
                    caches = {name: after(part) for name, part in sessions.items()}
                    groups = [sum(GROUPS, ())] if "turn" in way else GROUPS
                    begun = time.perf_counter()
                    jobs = [pool.submit(read, sessions, caches, names, new) for names in groups]
                    for job in jobs:
                        job.result()
                    seconds[way].append(time.perf_counter() - begun)
            turn, side = (1e3 * statistics.median(times[1:]) for times in seconds.values())
            rows.append({"new_tokens": new, "in_turn_ms": round(turn, 1)})
            rows[-1] |= {"side_by_side_ms": round(side, 1), "times": round(turn / side, 3)}
            print(rows[-1], flush=True)
    record = {"command": f"python -m benchmarks.side_by_side --rounds {options.rounds}"}
    write_json(options.output, record | {"machine": machine(), "cached": CACHED, "rows": rows})


def after(part) -> DynamicCache:
    """A cache that holds `CACHED` tokens."""
    cache = DynamicCache(config=part.config)
    part(torch.arange(1, CACHED + 1)[None], past_key_values=cache)
    return cache


def read(sessions, caches, names, new: int) -> None:
    for name in names:
        sessions[name](torch.arange(1, new + 1)[None], past_key_values=caches[name])


if __name__ == "__main__":
    main()
