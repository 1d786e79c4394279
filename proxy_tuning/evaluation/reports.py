"""Results files -> Markdown: `python -m proxy_tuning.evaluation.reports` writes results/README.md anew."""

import json
import re
from pathlib import Path

from proxy_tuning.records import RESULTS, written_beside

INTRODUCTION = """# Results

Every table here is made from the JSON file beside it by `python -m proxy_tuning.evaluation.reports`; the
file has the command, the seed, the versions, the machine and the fingerprint of the data. In brackets:
bootstrap 95% intervals over facts, of seconds over batches; rows over several seeds have the lowest and
the highest seed there. What is asked and how it is graded: [poll_task.py](../proxy_tuning/evaluation/poll_task.py).

    python -m proxy_tuning evaluate --family pocket --direct DIR --experts DIR DIR ... \\
        --limit 300 --output results/pocket.json

`--sets N` asks typed test templates and the fixed sets of [data/questions](../data/questions/README.md)
besides, reads plain English and tries drafts (the variants of the line are left out then):

    python -m proxy_tuning evaluate --family smollm --direct DIR --experts DIR ... \\
        --limit 30 --sets 1087 --answers FILE --output results/smollm.json

Of those sets "right" is what [asked_sets.py](../proxy_tuning/evaluation/asked_sets.py) counts as right,
"offset" is KL(M+ || M-) in nats a token along the steered answers and on plain text; KL(M || steered M) there is
what it does to M.

`--direct` takes M tuned directly, `--experts` further M+, by folder: other seeds in pocket.json, other
recipes in recipes.json. They are made with

    python -m proxy_tuning finetune --family pocket --epochs 1.6 --consistent 0 \\
        --antiexpert proxy_tuning/families/pocket/base --expert DIR
    python -m proxy_tuning finetune --family pocket --epochs 1.6 --seed 1 --expert DIR
    python -m proxy_tuning finetune --family pocket --epochs 1.6 --rehearsal 0 --expert DIR
    python -m proxy_tuning finetune --family pocket --expert DIR            # as the notebook does
"""

REPORTS = {
    "polls": {
        "answers": {
            ("new", "leader_accuracy"): "2024: leader accuracy",
            ("new", "exact_match"): "2024: exact match",
            ("new", "absolute_error"): "2024: mean absolute error (points)",
            ("old", "leader_accuracy"): "before: leader accuracy",
            ("old", "exact_match"): "before: exact match",
            ("unseen", "leader_accuracy"): "2024 months never trained on: leader accuracy",
            ("unseen", "absolute_error"): "there: mean absolute error (points)",
            ("against", "leader_accuracy"): "where the state's party did not lead: leader accuracy",
        },
        "beside": {
            ("new", "leader_likelier"): "2024: right candidate likelier",
            ("against", "leader_likelier"): "where the state's party did not lead",
            ("new", "perplexity"): "perplexity of 2024's answers",
            ("old", "perplexity"): "perplexity of answers before",
            ("all", "well_formed"): "well-formed",
            ("all", "abstained"): "no polls: says so",
            ("all", "spoke"): "polls: answers",
            ("all", "seconds"): "seconds per answer",
            ("all", "ms_per_token"): "milliseconds per token",
        },
        "gap": {
            ("new", "leader_accuracy gap closed"): "gap closed: leader accuracy",
            ("new", "exact_match gap closed"): "gap closed: exact match",
            ("old", "leader_accuracy kept"): "M's leader accuracy before kept",
            ("old", "exact_match kept"): "M's exact match before kept",
        },
        "asked": {
            ("typed", "right"): "typed, test templates: right",
            ("typed", "exact_match"): "exact match",
            ("typed", "leader_accuracy"): "leader accuracy",
            ("typed", "abstention_precision"): "abstention: precision",
            ("typed", "abstention_recall"): "recall",
            ("natural", "right"): "natural, places taught: right",
            ("natural, not taught", "right"): "not taught: right",
            ("natural, out of scope", "right"): "out of scope: right",
            ("natural, all", "nonsense"): "natural, all: nonsense",
            ("natural, all", "abstention_precision"): "abstention: precision",
            ("natural, all", "abstention_recall"): "recall",
        },
        "kept": {
            ("general", "kept of M"): "general: kept of what M has right",
            ("general", "lost of M"): "lost",
            ("general", "gained of M"): "gained",
            ("general", "kept of M-"): "kept of what M- has right",
            ("near_misses", "kept of M"): "near misses: kept of what M has right",
            ("near_misses", "lost of M"): "lost",
            ("near_misses", "gained of M"): "gained",
            ("near_misses", "kept of M-"): "kept of what M- has right",
            ("text: english", "perplexity"): "perplexity: English of packages",
            ("text: general", "perplexity"): "general text",
        },
        "offset": {
            (name, "offset"): name
            for name in (
                "typed",
                "natural",
                "natural, not taught",
                "natural, out of scope",
                "near_misses",
                "general",
                "text: english",
                "text: general",
                "text: right answers",
            )
        }
        | {
            ("text: english", "moved"): "KL(M \\|\\| steered M): text: english",
            ("text: general", "moved"): "text: general",
        },
    },
    "own": {
        "answers": {
            ("own", "exact_match"): "exact match",
            ("own", "f1"): "F1 of words",
            ("validation", "exact_match"): "validation: exact match",
            ("validation", "f1"): "validation: F1 of words",
            ("trained", "exact_match"): "trained on: exact match",
            ("trained", "f1"): "trained on: F1 of words",
            ("all", "perplexity"): "perplexity of the answers",
            ("all", "seconds"): "seconds per answer",
        },
        "gap": {
            (name, f"{score} gap closed"): f"gap closed: {heading}"
            for name in ("own", "validation")
            for score, heading in (("exact_match", "exact match"), ("f1", "F1 of words"))
        },
    },
}
"""Per task the reports of a results file: set and score -> heading. See `reports_of`."""
HEADLINE = {
    ("new", "exact_match"): "2024: exact match",
    ("new", "leader_accuracy"): "2024: leader accuracy",
    ("old", "exact_match kept"): "before: M's exact match kept",
    ("old", "leader_accuracy kept"): "before: M's leader accuracy kept",
}
"""The columns of the README's report."""
HEADLINE_SETS = {
    ("new", "exact_match"): "2024: exact match",
    ("natural", "right"): "questions in visitors' words: right",
    ("general", "kept of M"): "general knowledge of M kept",
    ("near_misses", "kept of M"): "near misses: kept",
}
"""The same where `evaluate --sets` asked more."""
COUNTS = ("lost", "gained")
PLAIN = ("absolute_error", "perplexity", "seconds", "ms_per_token", "offset", "moved")


def reports_of(results):
    """The reports of a results file's task; of a task not in `REPORTS` one, with all its scores."""
    found = {(s["set"], s["score"]): f"{s['set']}: {s['score']}" for s in results["scores"]}
    return REPORTS.get(results["task"], {"answers": found})


def markdown(results, report="answers"):
    """One of its task's reports from a results file, in percent or plain, with 95% intervals.

    Where a system has no such score there is a dash, and no column where none has. Rows over seeds
    give the lowest and the highest in place of the interval. "" where there is no score at all.
    """
    scores = results["scores"] + results["seeds"]
    found = {(s["set"], s["score"]) for s in scores}
    columns = {key: name for key, name in reports_of(results)[report].items() if key in found}
    systems = [s["system"] for s in scores if (s["set"], s["score"]) in columns]
    return rows_of(scores, dict.fromkeys(systems), columns) if columns else ""


def headline(results):
    """The README's report: M, M-, M+, M tuned directly, proxy-tuned M and that by several experts."""
    steered = f"proxy-tuned M, alpha {results['alpha']:g}"
    shown = re.compile(
        rf"M|M-|M\+|M tuned directly|{re.escape(steered)}|proxy-tuned M, \d+ experts"
    )
    systems = dict.fromkeys(s["system"] for s in results["scores"] if shown.fullmatch(s["system"]))
    asked = any(score["set"] == "general" for score in results["scores"])
    return rows_of(results["scores"], systems, HEADLINE_SETS if asked else HEADLINE)


def drafts_table(results):
    """Acceptance rates by draft and set as Markdown, "" where `evaluate --sets` did not run."""
    rows = [row for row in results.get("drafts", []) if row["acceptance_rate"] is not None]
    if not rows:
        return ""
    lines = ["| draft | questions | acceptance rate | tokens a round |", "|---|---|---|---|"]
    for row in rows:
        lines.append(
            f"| {row['draft']}, {row['gamma']} proposals | {row['questions']} {row['set']} | "
            f"{row['acceptance_rate']:.1%} | {row['tokens_per_round']:.2f} |"
        )
    return "\n".join(lines)


def rows_of(scores, systems, columns):
    """A Markdown table: a line per system, a column per (set, score) of `columns`."""
    cells = {(s["system"], s["set"], s["score"]): cell(s) for s in scores}
    lines = [f"| | {' | '.join(columns.values())} |", "|---" * (len(columns) + 1) + "|"]
    for system in systems:
        row = [cells.get((system, *column), "-") for column in columns]
        name = system.replace("|", "\\|")
        lines.append(f"| {name} | {' | '.join(row)} |")
    return "\n".join(lines)


def cell(score):
    """'68.8% (61-76)', '0.82 (0.7-0.9)' for what is no share, '12' for a count."""
    if score["score"].startswith(COUNTS):
        return f"{score['mean']:g}"
    mean, (low, high) = score["mean"], score["interval"]
    if score["score"] in PLAIN:
        return f"{mean:.3g} ({low:.3g}-{high:.3g})"
    return f"{mean:.1%} ({100 * low:.0f}-{100 * high:.0f})"


def page(folder=RESULTS):
    """All results files of a folder that `evaluate` wrote, as one Markdown page."""
    parts = [INTRODUCTION]
    for path in sorted(Path(folder).glob("*.json")):
        results = json.loads(path.read_text(encoding="utf-8"))
        if "seeds" not in results:  # another command's
            continue
        machine = results["machine"]
        parts.append(
            f"## [{path.name}]({path.name})\n\n    {results['command']}\n\n"
            f"{results['split']} wordings, alpha {results['alpha']:g}; chosen on validation "
            f"wordings: {results['chosen_alpha']:g}. torch {machine['torch']}, transformers "
            f"{machine['transformers']}, {machine['gpu'] or machine['platform']}, "
            f"{machine['cpus']} CPU cores."
        )
        parts.append("\n".join(f"- {line}" for line in differences(results["recipes"])))
        parts += [markdown(results, report) for report in reports_of(results)]
        parts.append(drafts_table(results))
    return "\n\n".join(part.rstrip() for part in parts if part) + "\n"


def differences(recipes):
    """Of several M+, by name, a line each with what their recipes differ in."""
    known = {name: recipe for name, recipe in recipes.items() if recipe is not None}
    keys = {key for recipe in known.values() for key in recipe}
    differ = sorted(k for k in keys if len({str(r.get(k)) for r in known.values()}) > 1)
    for name, recipe in known.items() if differ else ():
        yield f"{name}: " + ", ".join(f"{key} {recipe.get(key)}" for key in differ)


if __name__ == "__main__":
    with written_beside(RESULTS / "README.md") as beside:
        beside.write_text(page(), encoding="utf-8")
