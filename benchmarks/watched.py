"""What steering changes on the real trio, token by token: on the polls, and where it should change nothing.

    python -m benchmarks.watched --output results/watched.json

Questions about 2024 that M+ has learnt, in validation wordings, and general questions of
data/questions; `analysis.watch` looks at every token of the steered answers.
"""

import argparse

import pandas as pd

from proxy_tuning.decoding import HISTORIES
from proxy_tuning.evaluation import sets
from proxy_tuning.evaluation.analysis import by_class, watch, word_classes
from proxy_tuning.evaluation.poll_task import all_facts, polls_task
from proxy_tuning.families import load_family
from proxy_tuning.polls.tables import load_facts
from proxy_tuning.records import DATA, machine, write_json
from proxy_tuning.training.recipes import recipe_of

KEPT = ("set", "question", "answer", *HISTORIES, *(f"{name}_right" for name in HISTORIES), "kl")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", default="smollm")
    parser.add_argument("--questions", type=int, default=48, help="of each set at most")
    parser.add_argument("--output", default="results/watched.json")
    options = parser.parse_args()
    model, tokenizer = load_family(options.family)
    tables = load_facts(DATA)
    states = recipe_of(model.sources["expert"], options.family)["states"]
    asked = polls_task(tables, states).choice.query("set == 'new'").head(options.questions)
    general = pd.DataFrame(sets.load("general")).sample(options.questions, random_state=0)
    general = general.reset_index(drop=True)
    rows = general.rename(columns={"q1": "question"})[["question"]].assign(
        answer=general["answers"].str[0], set="general", leader=None
    )
    rows = pd.concat([asked, rows], ignore_index=True)
    answers, tokens = watch(model, tokenizer, rows, word_classes(all_facts(tables, states)))
    for number, row in enumerate(general.to_dict("records"), start=len(asked)):
        for name in HISTORIES:
            said = answers.at[number, name]
            answers.at[number, f"{name}_right"] = sets.grade_short(row, said)
    record = {
        "command": f"python -m benchmarks.watched --family {options.family} --questions "
        f"{options.questions} --output {options.output}",
        "machine": machine(),
        "alpha": model.alpha,
        "answers": answers[list(KEPT)].round(4).to_dict("records"),
        "classes": [],
        "shown": [],
    }
    for name, of_set in answers.groupby("set", sort=False):
        of_set = tokens[tokens["row"].isin(of_set.index)]
        table = by_class(of_set).round(4).rename_axis("class").reset_index().assign(set=name)
        record["classes"] += table.to_dict("records")
        print(
            f"{name}: {of_set['changed'].mean():.1%} of {len(of_set)} tokens changed, "
            f"KL(M+ || M-) {of_set['kl'].mean():.3f} nats a token"
        )
    for row in extremes(answers, tokens):
        shown = tokens.loc[
            tokens["row"] == row, ["row", "token", "kind", "base", "steered", "changed"]
        ]
        record["shown"] += shown.round(4).to_dict("records")
    write_json(options.output, record)


def extremes(answers, tokens):
    """Of each set the right answer, and the wrong one, that steering changed most: their rows."""
    changed = tokens.groupby("row")["changed"].sum()
    kinds = answers.groupby(["set", answers["steered_right"].astype(bool)], sort=False)
    return [changed[of_kind.index].idxmax() for _, of_kind in kinds]


if __name__ == "__main__":
    main()
