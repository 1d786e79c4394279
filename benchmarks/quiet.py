"""What keeps steering quiet: M+ tuned in several ways on one place, alone and steering M.

    python -m benchmarks.quiet --output results/quiet.json

Every way has the same rows of the polls, the same passes and the same LoRA rank. M tuned directly
is there with the quiet text and without it. Folders that are complete in .work/quiet are not trained again, and
answers that are there are not asked again.
"""

import argparse
import dataclasses
import time

from proxy_tuning.evaluation.asked_sets import STEERED, Sets, measure_sets
from proxy_tuning.evaluation.peers import variant_of
from proxy_tuning.families import FAMILIES, load_family
from proxy_tuning.parts import whole
from proxy_tuning.polls.tables import load_facts
from proxy_tuning.records import DATA, WORK, fingerprint, machine, write_json
from proxy_tuning.training.endings import load_expert
from proxy_tuning.training.finetune import finetune
from proxy_tuning.training.recipes import BRIEF

FAMILY = FAMILIES["smollm"]
RECIPE = dataclasses.replace(BRIEF["smollm"], quiet_texts=2)
SILENT = dataclasses.replace(RECIPE, quiet=0.0)
WAYS = {
    "KL(M || steered M)": RECIPE,
    "no general text": SILENT,
    "KL(M+ || M-)": dataclasses.replace(RECIPE, quiet_steered=False),
    "general text as answers": dataclasses.replace(SILENT, general=0.4),
}
DIRECT = {"KL to M": RECIPE, "no general text": SILENT}
RECIPES = {"M+": WAYS, "M": DIRECT}
NAMES = ("typed", "near_misses", "general")


def folder_of(kind, way):
    """Where what is tuned in one way, by its recipe of today, lies: kind is 'M+' or 'M'."""
    made = fingerprint(dataclasses.asdict(RECIPES[kind][way]))
    return WORK / "quiet" / f"{kind} {''.join(c if c.isalnum() else '-' for c in way)} {made[:8]}"


def train(kind, antiexpert):
    """Tune a part in each of the ways, unless that is done: minutes by way."""
    minutes = {}
    for way, recipe in RECIPES[kind].items():
        if not (folder_of(kind, way) / "training.json").is_file():
            start = time.perf_counter()
            finetune("own", recipe, folder_of(kind, way), antiexpert=antiexpert, base=FAMILY.base)
            minutes[way] = (time.perf_counter() - start) / 60
    return minutes


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=400, help="questions of each set at most")
    parser.add_argument("--output", default="results/quiet.json")
    options = parser.parse_args()
    minutes = {"M+": train("M+", FAMILY.antiexpert), "M": train("M", FAMILY.base)}

    first = next(iter(WAYS))
    model, tokenizer = load_family("smollm", expert=folder_of("M+", first))
    experts = {way: load_expert(folder_of("M+", way), FAMILY.antiexpert) for way in WAYS}
    trios = {way: variant_of(model, expert) for way, expert in experts.items()}
    systems = {"M": model.base, "M-": whole(model.antiexpert).eval()}
    for way in WAYS:
        systems |= {f"M+, {way}": experts[way], f"{STEERED}, {way}": trios[way]}
    for way in DIRECT:
        tuned = load_expert(folder_of("M", way), FAMILY.base)
        systems[f"M tuned directly, {way}"] = tuned
    sets = Sets(load_facts(DATA), RECIPE.states, options.sets, names=NAMES)
    scores = measure_sets(systems, {}, trios[first], tokenizer, sets)
    named = {"M+": "M+", "M": "M tuned directly"}
    recipes = {
        f"{named[kind]}, {way}": recipe
        for kind, ways in RECIPES.items()
        for way, recipe in ways.items()
    }
    record = {
        "command": f"python -m benchmarks.quiet --sets {options.sets} --output {options.output}",
        "task": "polls",
        "split": "test",
        "alpha": model.alpha,
        "chosen_alpha": model.alpha,
        "machine": machine(),
        "recipes": {name: dataclasses.asdict(recipe) for name, recipe in recipes.items()},
        "minutes": minutes,
        "scores": scores,
        "seeds": [],
    }
    write_json(options.output, record)


if __name__ == "__main__":
    main()
