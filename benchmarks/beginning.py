"""What it saves to read the common beginning of prompts once (`decoding.Beginning`).

    python benchmarks/beginning.py         prints a table and writes results/beginning.json

Models of random weights at the sizes of GPT-2 and distilGPT-2 read prompts of 512 tokens that
differ in the last 16, and write 8. Processor seconds, medians of three turns; the beginning has
been read before, as it is for all questions but the first.
"""

import argparse
import statistics
import time

import torch
from speed import torch_trio

from proxy_tuning.decoding import Beginning, stream
from proxy_tuning.records import ROOT, machine, write_json

SHARED, OWN, NEW = 496, 16, 8


@torch.no_grad()
def main(options):
    torch.set_num_threads(options.threads)
    model, _ = torch_trio("gpt2")
    chance = torch.Generator().manual_seed(0)
    first = torch.randint(model.config.vocab_size, (SHARED,), generator=chance)
    beginning = Beginning(model, first.tolist())
    rows = []
    print("| batch | whole prompts, s | beginning read before, s | times | same tokens |")
    print("|---" * 5 + "|")
    for batch in options.batches:
        rest = torch.randint(model.config.vocab_size, (batch, OWN), generator=chance)
        ids = torch.cat([first.expand(batch, -1), rest], dim=1)
        mask, seconds, texts = torch.ones_like(ids), {"whole": [], "shared": []}, {}
        for _ in range(3):
            for way in seconds:
                begin = time.process_time()
                inputs = {"input_ids": ids, "attention_mask": mask}
                if way == "shared":
                    inputs = beginning.inputs(**inputs)
                steps = stream(model, **inputs, max_new_tokens=NEW, eos_token_id=-1)
                texts[way] = torch.stack([step.next_ids for step in steps], dim=1)
                seconds[way].append(time.process_time() - begin)
        whole, shared = (round(statistics.median(times), 2) for times in seconds.values())
        same = (texts["whole"] == texts["shared"]).float().mean().item()
        rows.append({"batch": batch, "whole_s": whole, "shared_s": shared, "same_tokens": same})
        print(f"| {batch} | {whole} | {shared} | {whole / shared:.1f} | {same:.0%} |", flush=True)
    result = {"command": "python benchmarks/beginning.py", "machine": machine(), "rows": rows}
    write_json(options.output, result | {"threads": options.threads})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", default=ROOT / "results" / "beginning.json")
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 8])
    parser.add_argument("--threads", type=int, default=1)
    main(parser.parse_args())
