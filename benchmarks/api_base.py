"""How well a base behind an API is steered, by the number of log-probabilities that it shows.

    python -m benchmarks.api_base --base openai:pocket@http://127.0.0.1:8000/v1

docs/api_base.md says how such a server is started. Questions are of the test templates, about facts
that M+ was trained on; the last row is the same trio on this machine. Answers are kept, so that a
second run asks nothing.
"""

import argparse

from proxy_tuning.answering import greedy_answers
from proxy_tuning.evaluation.poll_task import polls_task
from proxy_tuning.families import FAMILIES, load_family
from proxy_tuning.polls.tables import load_facts
from proxy_tuning.records import DATA, RESULTS, machine, write_json
from proxy_tuning.remote.endpoint import CACHE, Budget, Endpoint
from proxy_tuning.remote.steering import RemoteTrio
from proxy_tuning.training.recipes import recipe_of

SHOWN = (1, 5, 20)
"""And all."""
NUDGE = 0.5
"""The threshold of nudging, in the middle of what the paper tried."""
SCORES = ("leader_accuracy", "exact_match")
COUNTED = ("requests", "tokens", "certain", "visible_mass")


def measure(trio, rows, judge, **said):
    """A row of the table: what the steered answers are worth, and what they took."""
    answers = [trio.answer(question) for question in rows["question"]]
    marked = judge(rows, [answer["steered"] for answer in answers])
    mean = {name: sum(answer[name] for answer in answers) / len(answers) for name in COUNTED}
    mean["certain"] /= mean["tokens"]
    return said | {score: float(marked[score].mean()) for score in SCORES} | mean


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", default="pocket", help="whose M- and M+")
    parser.add_argument("--base", required=True, help="openai:MODEL@URL")
    parser.add_argument("--limit", type=int, default=60, help="questions")
    parser.add_argument("--output", default=RESULTS / "api_base.json")
    options = parser.parse_args()
    model, tokenizer = load_family(options.family)
    states = recipe_of(FAMILIES[options.family].expert, options.family)["states"]
    task = polls_task(load_facts(DATA), states, options.limit)
    rows = task.questions["test"]
    rows = rows[rows["set"] == "new"]
    endpoint = Endpoint(options.base, Budget(10**6, 10**9), CACHE)
    table = []
    for top in (*SHOWN, model.config.vocab_size):
        for spread in (False, True):
            trio = RemoteTrio(endpoint, model, tokenizer, top=top, spread=spread)
            table.append(measure(trio, rows, task.judge, top=top, spread=spread))
            print(table[-1], flush=True)
    trio = RemoteTrio(endpoint, model, tokenizer, top=1, nudge=NUDGE)
    table.append(measure(trio, rows, task.judge, top=1, nudge=NUDGE))
    answers = greedy_answers(model, tokenizer, list(rows["question"]))
    marked = task.judge(rows, answers)
    table.append({"local": True} | {score: float(marked[score].mean()) for score in SCORES})
    record = {
        "command": f"python -m benchmarks.api_base --family {options.family} --base {options.base} "
        f"--limit {options.limit}",
        "questions": len(rows),
        "vocabulary": model.config.vocab_size,
        "machine": machine(),
        "table": table,
    }
    write_json(options.output, record)


if __name__ == "__main__":
    main()
