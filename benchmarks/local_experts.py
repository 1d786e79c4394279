"""Local experts: an M+ tuned for seconds on the facts nearest to a question, against the whole M+.

    python -m benchmarks.local_experts --output results/local_experts.json

Questions of 2024 in wordings that nothing was trained on. The neighbours are training questions;
what answers is M- tuned on them, and M steered by that. Outside is general text of M's own.
"""

import argparse
import dataclasses
import time

from proxy_tuning import ProxyTunedForCausalLM
from proxy_tuning.answering import greedy_answers
from proxy_tuning.evaluation.measures import moved, offsets
from proxy_tuning.evaluation.plain_text import passages
from proxy_tuning.evaluation.poll_task import polls_task
from proxy_tuning.families import load_family
from proxy_tuning.logits import PLAIN
from proxy_tuning.parts import whole
from proxy_tuning.polls.tables import load_facts
from proxy_tuning.records import DATA, machine, write_json
from proxy_tuning.training.local import Neighbours, local_expert
from proxy_tuning.training.mixture import training_rows
from proxy_tuning.training.recipes import Recipe, recipe_of

TEXTS = 4  # of M's own, that the offset is measured on after every question


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", default="smollm")
    parser.add_argument("--questions", type=int, default=24)
    parser.add_argument("--split", default="test", choices=["validation", "test"])
    parser.add_argument("--neighbours", type=int, default=6)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--output", default="results/local_experts.json")
    options = parser.parse_args()
    model, tokenizer = load_family(options.family, line=PLAIN)
    recipe = Recipe(**recipe_of(model.sources["expert"], options.family))
    tables = load_facts(DATA)
    task = polls_task(tables, recipe.states)
    rows = task.questions[options.split]
    rows = rows[rows["set"] == task.new].sample(options.questions, random_state=0)
    asked = rows["question"].tolist()
    formal = dataclasses.replace(recipe, natural=0, rehearsal=0.0, endings=0)
    known = Neighbours(training_rows(tables, formal))
    texts = dict(passages(tokenizer, TEXTS))["general"]
    outside = {
        "M+": (offsets(model, tokenizer, texts).mean(), moved(model, tokenizer, texts).mean())
    }
    answers = {
        name: greedy_answers(system, tokenizer, asked)
        for name, system in {"M": model.base, "M+": model.expert, "steered M": model}.items()
    }
    local = {name: [] for name in ("nearest", "local M+", "M steered by it")}
    small, seconds, found, there = whole(model.antiexpert).eval(), [], [], []
    for question, right in zip(asked, rows["answer"], strict=True):
        near = known.nearest(question, options.neighbours)
        there.append(right in set(near["answer"]))
        begun = time.perf_counter()
        rate = {"steps": options.steps, "learning_rate": options.learning_rate}
        with local_expert(small, tokenizer, near, **rate) as expert:
            seconds.append(time.perf_counter() - begun)
            trio = ProxyTunedForCausalLM(model.base, expert)
            local["nearest"].append(near["answer"].iloc[0])
            for name, system in zip(list(local)[1:], (expert, trio), strict=True):
                local[name] += greedy_answers(system, tokenizer, [question])
            pair = offsets(trio, tokenizer, texts).mean(), moved(trio, tokenizer, texts).mean()
            found.append(pair)
        print(f"{question}\n  {right}\n  {local['M steered by it'][-1]}", flush=True)
    outside["local M+"] = tuple(sum(each) / len(found) for each in zip(*found, strict=True))
    scores = []
    for name, said in (answers | local).items():
        judged = task.judge(rows.reset_index(drop=True), said)
        means = {
            aim: round(float(judged[aim].dropna().astype(float).mean()), 4) for aim in task.aims
        }
        scores.append({"system": name} | means)
        print(scores[-1])
    record = {
        "command": f"python -m benchmarks.local_experts --family {options.family} --questions "
        f"{options.questions} --split {options.split} --neighbours {options.neighbours} --steps "
        f"{options.steps} --learning-rate {options.learning_rate:g} --output {options.output}",
        "machine": machine(),
        "questions": len(asked),
        "answer_among_neighbours": sum(there),
        "seconds_to_tune": round(sum(seconds) / len(seconds), 2),
        "outside": {
            name: {"offset": round(float(kl), 4), "moved": round(float(by), 4)}
            for name, (kl, by) in outside.items()
        },
        "scores": scores,
    }
    write_json(options.output, record)
    print(
        {name: record[name] for name in ("answer_among_neighbours", "seconds_to_tune", "outside")}
    )


if __name__ == "__main__":
    main()
