"""Whether the first layers of M+ could draft for all of it: how often their first choice is its own.

    python -m benchmarks.early_layers --output results/early_layers.json

Questions about 2024 that M+ has learnt, in validation wordings, and chats that M wrote; M+ reads them
with their answers, and at every place where an answer goes on, the state after each of its
layers goes through its last norm and the vocabulary, untrained.
"""

import argparse

import pandas as pd
import torch

from proxy_tuning.families import load_part, resolve_family
from proxy_tuning.polls.tables import load_facts
from proxy_tuning.records import DATA, machine, write_json
from proxy_tuning.training.endings import load_expert
from proxy_tuning.training.finetune import longest
from proxy_tuning.training.material import general_rows
from proxy_tuning.training.mixture import as_typed
from proxy_tuning.training.packing import before_targets, encode, pack
from proxy_tuning.training.recipes import Recipe, recipe_of


@torch.inference_mode()
def agreement(model, batch):
    """Per number of layers, the share of targets where its first choice is the whole model's."""
    at = before_targets(batch["labels"])
    states = model.base_model(
        input_ids=batch["input_ids"], position_ids=batch["position_ids"], output_hidden_states=True
    ).hidden_states  # the last one is normed already
    own = model.lm_head(states[-1][at]).argmax(-1)
    return {
        depth: round(
            (model.lm_head(model.model.norm(states[depth][at])).argmax(-1) == own)
            .double()
            .mean()
            .item(),
            4,
        )
        for depth in range(1, len(states) - 1)
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=48, help="of each kind")
    parser.add_argument("--output", default="results/early_layers.json")
    options = parser.parse_args()
    family = resolve_family("smollm")
    tokenizer = load_part(family.antiexpert)[1]
    expert = load_expert(family.expert, family.antiexpert).merge_and_unload().float().eval()
    recipe = Recipe(**recipe_of(family.expert, family.name))
    typed = pd.concat(as_typed(load_facts(DATA), recipe, "validation")).query("status != 'unseen'")
    kinds = {"polls": typed, "general chat": general_rows().dropna()}
    record = {
        "command": f"python -m benchmarks.early_layers --questions {options.questions}",
        "machine": machine(),
        "layers": expert.config.num_hidden_layers,
    }
    for kind, rows in kinds.items():
        rows = rows.sample(options.questions, random_state=0)
        batch = pack(list(encode(rows, tokenizer, longest(expert))))
        record[kind] = agreement(expert, batch)
        print(kind, record[kind])
    write_json(options.output, record)


if __name__ == "__main__":
    main()
