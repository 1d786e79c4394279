"""How fast fine-tuning is on packed lines, against a loop that pads each batch to its longest.

    python benchmarks/training.py          prints a table and writes results/training.json

The questions, the batch size and M- are those of the recipes of pocket and of smollm, there with a
LoRA adapter; "distilgpt2" has that model's shape, vocabulary and random weights, and reads pocket's
tokens. A step is forward, backward and AdamW at learning rate 0: so the weights stay, and all ways
must give one loss. All take turns on each batch. Useful tokens are those of questions and answers,
without padding; "shared" reads a system prompt, with which all questions begin, once a line, and
they count for every question all the same.
"""

import argparse
import statistics
import sys
import time

import torch
from transformers import DataCollatorForSeq2Seq, GPT2Config, GPT2LMHeadModel

from proxy_tuning.families import FAMILIES, load_part, resolve_family
from proxy_tuning.polls.tables import load_facts
from proxy_tuning.records import DATA, ROOT, machine, write_json
from proxy_tuning.training.finetune import longest, with_adapter
from proxy_tuning.training.mixture import training_rows
from proxy_tuning.training.packing import IGNORED, encode, pack, target_logits
from proxy_tuning.training.recipes import RECIPES


def padded(model, tokenizer, rows):
    """transformers' own way: rows padded to the longest, the vocabulary at every position."""
    tokenizer.padding_side = "right"
    collate = DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORED)
    return model(**collate([dict(row) for row in rows]), use_cache=False).loss


def packed(model, tokenizer, rows, share=False):
    batch = pack(rows, share=share)
    labels = batch["labels"][batch["labels"] != IGNORED]
    return torch.nn.functional.cross_entropy(target_logits(model, batch).float(), labels)


def shared(model, tokenizer, rows):
    return packed(model, tokenizer, rows, share=True)


WAYS = {
    "padded, float32": (padded, False),
    "packed, float32": (packed, False),
    "shared, float32": (shared, False),
    "padded, bfloat16": (padded, True),
    "packed, bfloat16": (packed, True),
    "shared, bfloat16": (shared, True),
}


def measure(model, tokenizer, batches):
    """A row per way: useful tokens a second, median and range, and the loss on the last batch."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)
    speeds, losses = {way: [] for way in WAYS}, {}
    for number, rows in enumerate(batches):
        useful = sum(len(row["input_ids"]) for row in rows)
        for way, (loss_of, bf16) in WAYS.items():
            begin = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = loss_of(model, tokenizer, rows)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses[way] = loss.item()
            if number:  # the first batch warms up
                speeds[way].append(useful / (time.perf_counter() - begin))
    slow = statistics.median(speeds["padded, float32"])
    return [
        {
            "way": way,
            "useful_tokens_per_second": [round(of(v)) for of in (statistics.median, min, max)],
            "times_padded": round(statistics.median(v) / slow, 2),
            "loss": round(losses[way], 5),
        }
        for way, v in speeds.items()
    ]


def batches_of(family, tokenizer, model, count):
    """`count` batches of the family's recipe."""
    recipe = RECIPES[family]
    size = recipe.batch_size
    rows = training_rows(load_facts(DATA), recipe).sample(size * count, random_state=0)
    data = encode(rows, tokenizer, longest(model))
    return [[data[i + j] for j in range(size)] for i in range(0, len(data), size)]


def main(options):
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    pocket, its_tokenizer = load_part(FAMILIES["pocket"].antiexpert)
    smollm, tokenizer = load_part(resolve_family("smollm", need_expert=False).antiexpert)
    smollm = with_adapter(smollm, RECIPES["smollm"].lora)
    shapes = {
        "pocket M-": ("pocket", pocket, its_tokenizer),
        "distilgpt2": ("pocket", GPT2LMHeadModel(GPT2Config(n_layer=6)), its_tokenizer),
        "smollm M-, adapter": ("smollm", smollm, tokenizer),
    }
    result = {
        "command": " ".join(["python", "benchmarks/training.py", *sys.argv[1:]]),
        "machine": machine(),
        "threads": options.threads,
        "batch_size": RECIPES["smollm"].batch_size,
        "shapes": {},
    }
    print("| shape | way | useful tokens/s (range) | times padded | loss |\n" + "|---" * 5 + "|")
    for shape, (family, model, tokenizer) in shapes.items():
        dropout_off = model.float().eval()  # one loss for all ways; gradients are as in training
        batches = batches_of(family, tokenizer, model, options.batches)
        result["shapes"][shape] = measure(dropout_off, tokenizer, batches)
        for row in result["shapes"][shape]:
            speed, low, high = row["useful_tokens_per_second"]
            print(
                f"| {shape} | {row['way']} | {speed} ({low}-{high}) | {row['times_padded']} "
                f"| {row['loss']} |"
            )
    write_json(options.output, result)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", default=ROOT / "results" / "training.json")
    parser.add_argument("--batches", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    main(parser.parse_args())
