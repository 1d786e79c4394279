"""Answers graded by a person who does not see whose they are.

    python -m benchmarks.blind sheet answers.jsonl --systems M M+ ... --output sheet.tsv
    python -m benchmarks.blind table answers.jsonl --systems M M+ ... --grades grades.tsv

`answers.jsonl` is what `evaluate --sets N --answers FILE` wrote. The sheet has the questions drawn by the
seed, and under each the answers of all systems, in an order of its own, without names. A grade is added to each
line: 2 right and to the point, 1 partly (the leader without the figures, a right refusal with a slip), 0 wrong,
beside the point or no English. The table is told only then.
"""

import argparse
import random

import pandas as pd

SETS = {"natural": 14, "natural, out of scope": 6, "general": 5, "near_misses": 5}
"""Questions drawn of each set."""


def drawn(path, systems, seed):
    """The answers to be graded, a row each, in the order of the sheet."""
    answers = pd.read_json(path, lines=True)
    answers = answers[answers["system"].isin(systems)]
    if missing := set(systems) - set(answers["system"]):
        raise ValueError(f"{path} has no answers of {', '.join(sorted(missing))}")
    rows, chance = [], random.Random(seed)
    for name, count in SETS.items():
        asked = sorted(answers.loc[answers["set"] == name, "question"].unique())
        for question in chance.sample(asked, min(count, len(asked))):
            its = answers[(answers["set"] == name) & (answers["question"] == question)]
            rows += chance.sample(its.to_dict("records"), len(its))
    return pd.DataFrame(rows).assign(number=range(1, len(rows) + 1))


def table(graded):
    """Mean grade and number of answers by system and set, as Markdown."""
    means = graded.pivot_table("grade", "system", "set", "mean", sort=False, margins=True)
    counts = graded.groupby("set", sort=False)["question"].nunique()
    heads = [f"{name} ({counts.get(name, counts.sum())})" for name in means.columns]
    lines = [f"| | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for system, row in means.drop(index="All").iterrows():
        lines.append(f"| {system} | {' | '.join(f'{mean:.2f}' for mean in row)} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["sheet", "table"])
    parser.add_argument("answers")
    parser.add_argument("--systems", nargs="+", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", help="of the sheet")
    parser.add_argument("--grades", help="a file with number and grade, with tabs")
    options = parser.parse_args()
    rows = drawn(options.answers, options.systems, options.seed)
    if options.what == "sheet":
        rows[["number", "question", "answered"]].to_csv(options.output, sep="\t", index=False)
        return
    grades = pd.read_csv(options.grades, sep="\t", comment="#")
    graded = rows.merge(grades, on="number", validate="one_to_one")
    if len(graded) < len(rows):
        raise ValueError(f"{len(rows) - len(graded)} answers have no grade in {options.grades}")
    print(table(graded))


if __name__ == "__main__":
    main()
