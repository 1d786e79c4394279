"""What M, M+, the steered M and the gated one say to the fixed questions of data/questions, in half an hour.

    python -m benchmarks.asked --output results/asked.json

The part of `evaluate --sets` that shows why there are three models: questions in visitors' words,
near misses, and general questions that M answers rightly in three wordings. The seed chooses the
general ones; answers that are there are not asked again.
"""

import argparse

from proxy_tuning.evaluation.asked_sets import STEERED, Sets, measure_sets
from proxy_tuning.evaluation.peers import variant_of
from proxy_tuning.families import FAMILIES, load_family
from proxy_tuning.logits import PLAIN
from proxy_tuning.polls.tables import load_facts
from proxy_tuning.records import DATA, machine, write_json
from proxy_tuning.training.recipes import recipe_of

NAMES = ("natural", "near_misses", "general")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", default="smollm")
    parser.add_argument("--sets", type=int, default=300, help="questions of each set at most")
    parser.add_argument("--answers", help="file for all answers, as JSON lines")
    parser.add_argument("--output", default="results/asked.json")
    options = parser.parse_args()
    model, tokenizer = load_family(options.family, line=PLAIN)
    recipe = recipe_of(model.sources["expert"], options.family)
    sets = Sets(
        load_facts(DATA),
        recipe["states"],
        options.sets,
        bool(recipe.get("endings")),
        NAMES,
        options.answers,
    )
    systems = {
        "M": model.base,
        "M+": model.expert,
        f"{STEERED} M, alpha {model.alpha:g}": model,
    }
    if (line := FAMILIES[options.family].line) != PLAIN:
        systems[f"{STEERED} M, gate {line.gate:g}"] = variant_of(model, gate=line.gate)
    record = {
        "command": f"python -m benchmarks.asked --family {options.family} --sets {options.sets} "
        f"--output {options.output}",
        "task": "polls",
        "split": "test",
        "alpha": model.alpha,
        "chosen_alpha": model.alpha,
        "machine": machine(),
        "recipes": {"M+": recipe},
        "scores": measure_sets(systems, {}, model, tokenizer, sets),
        "seeds": [],
    }
    write_json(options.output, record)


if __name__ == "__main__":
    main()
