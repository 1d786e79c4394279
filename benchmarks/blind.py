"""Answers graded by a person who does not see whose they are.

    python -m benchmarks.blind sheet answers.jsonl SHEET.tsv KEY.tsv --systems M M+ ...
    python -m benchmarks.blind table docs/examples/blind_sheet.tsv docs/examples/blind_key.tsv

`answers.jsonl` is what `evaluate --sets N --answers FILE` wrote. The sheet has the questions drawn by the
seed, under each the answers of all systems in an order of its own, and a column to be filled before the
key is looked at: 2 right and to the point, 1 partly (figures without the conclusion, one half of two, a right
refusal with a slip), 0 wrong, beside the point or no English.
"""

import argparse
import random

import pandas as pd

from proxy_tuning.records import written_beside

SETS = {"natural": 14, "natural, out of scope": 6, "general": 5, "near_misses": 5}
"""Questions drawn of each set."""


def drawn(answers, systems, seed):
    """The answers to be graded, a row each, in the order of the sheet.

    Args:
        answers: with the columns system, set, question and answered.

    Raises:
        ValueError: a system has no answers.
    """
    if missing := set(systems) - set(answers["system"]):
        raise ValueError(f"there are no answers of {', '.join(sorted(missing))}")
    answers, rows, chance = answers[answers["system"].isin(systems)], [], random.Random(seed)
    for name, count in SETS.items():
        asked = sorted(answers.loc[answers["set"] == name, "question"].unique())
        for question in chance.sample(asked, min(count, len(asked))):
            its = answers[(answers["set"] == name) & (answers["question"] == question)]
            rows += chance.sample(its.to_dict("records"), len(its))
    return pd.DataFrame(rows).assign(number=range(1, len(rows) + 1))


def table(graded):
    """Mean grade by system and set, and the questions of each, as Markdown."""
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
    parser.add_argument("files", nargs="+")
    parser.add_argument("--systems", nargs="+", default=[])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.what == "sheet":
        answers, sheet, key = options.files
        rows = drawn(pd.read_json(answers, lines=True), options.systems, options.seed)
        files = {
            sheet: rows[["number", "question", "answered"]].assign(grade=""),
            key: rows[["number", "set", "system", "right"]],
        }
        for path, columns in files.items():
            with written_beside(path) as beside:
                columns.to_csv(beside, sep="\t", index=False)
        return
    sheet, key = (pd.read_csv(path, sep="\t") for path in options.files)
    if not sheet["grade"].isin((0, 1, 2)).all():
        raise ValueError(f"{options.files[0]} has lines without a grade of 0, 1 or 2")
    graded = sheet.merge(key, on="number", validate="one_to_one")
    print(table(graded))
    print("\nMarked right by rule, and graded:")
    print(pd.crosstab(graded["right"], graded["grade"]).to_string())


if __name__ == "__main__":
    main()
