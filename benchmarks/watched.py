"""What steering changes on the real trio, token by token: on the polls, and where it should change nothing.

    python -m benchmarks.watched --output results/watched.json

Questions about 2024 that M+ has learnt, in validation wordings, formal and as people type them,
and general questions of data/questions; `analysis.watch` looks at every token of the steered answers.
By these a gate is chosen: the highest of `GATES` that would change at most one in fifty answers on the polls.
"""

import argparse

import pandas as pd

from proxy_tuning.decoding import HISTORIES
from proxy_tuning.evaluation import sets
from proxy_tuning.evaluation.analysis import by_class, watch, word_classes
from proxy_tuning.evaluation.asked_sets import mark_typed
from proxy_tuning.evaluation.poll_task import all_facts, polls_task
from proxy_tuning.families import load_family
from proxy_tuning.logits import PLAIN
from proxy_tuning.polls.tables import load_facts
from proxy_tuning.records import DATA, machine, write_json
from proxy_tuning.training.mixture import as_typed
from proxy_tuning.training.recipes import Recipe, recipe_of

GATES = (0.01, 0.03, 0.1, 0.3, 0.5, 1.0, 2.0)
"""Nats of KL(M+ || M-), see `logits.gated`."""
KEPT = ("set", "question", "answer", *HISTORIES, *(f"{name}_right" for name in HISTORIES), "kl")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", default="smollm")
    parser.add_argument("--questions", type=int, default=48, help="of each set at most")
    parser.add_argument("--output", default="results/watched.json")
    options = parser.parse_args()
    model, tokenizer = load_family(options.family, line=PLAIN)
    tables = load_facts(DATA)
    recipe = Recipe(**recipe_of(model.sources["expert"], options.family))
    asked = polls_task(tables, recipe.states).choice.query("set == 'new'").head(options.questions)
    typed = pd.concat(as_typed(tables, recipe, "validation")).query("status != 'unseen'")
    typed = typed.sample(options.questions, random_state=0).assign(set="typed")
    general = pd.DataFrame(sets.load("general")).sample(options.questions, random_state=0)
    general = general.reset_index(drop=True)
    rows = general.rename(columns={"q1": "question"})[["question"]].assign(
        answer=general["answers"].str[0], set="general", leader=None
    )
    rows = pd.concat([asked, typed, rows], ignore_index=True)
    words = word_classes(all_facts(tables, recipe.states))
    answers, tokens = watch(model, tokenizer, rows, words)
    for number in range(len(asked), len(asked) + len(typed)):
        row = rows.loc[number].to_dict()
        row["silent"] = row["status"] not in ("known", "unseen")
        for name in HISTORIES:
            answers.at[number, f"{name}_right"] = mark_typed(row, answers.at[number, name])["right"]
    for number, row in enumerate(general.to_dict("records"), start=len(asked) + len(typed)):
        for name in HISTORIES:
            said = answers.at[number, name]
            answers.at[number, f"{name}_right"] = sets.grade_short(row, said)
    record = {
        "command": f"python -m benchmarks.watched --family {options.family} --questions "
        f"{options.questions} --output {options.output}",
        "machine": machine(),
        "alpha": model.alpha,
        "answers": answers[list(KEPT)].round(4).to_dict("records"),
        "gates": gates(answers, tokens),
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


def gates(answers, tokens):
    """What each of `GATES` would do: by set, answers in which it gives a token back to M, and tokens.

    An answer is changed where a token that is not M's first choice lies under the gate.
    """
    found = []
    sets_of = tokens["row"].map(answers["set"])
    for gate in GATES:
        under = tokens["kl"] < gate
        changed = (under & tokens["changed"]).groupby(tokens["row"]).any()
        of_answers = changed.groupby(answers["set"]).mean().round(4).to_dict()
        of_tokens = under.groupby(sets_of).mean().round(4).to_dict()
        found.append({"gate": gate, "answers_changed": of_answers, "tokens_under": of_tokens})
        print(found[-1])
    return found


def extremes(answers, tokens):
    """Of each set the right answer, and the wrong one, that steering changed most: their rows."""
    changed = tokens.groupby("row")["changed"].sum()
    kinds = answers.groupby(["set", answers["steered_right"].astype(bool)], sort=False)
    return [changed[of_kind.index].idxmax() for _, of_kind in kinds]


if __name__ == "__main__":
    main()
