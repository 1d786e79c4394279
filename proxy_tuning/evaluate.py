"""What the models know: answers to held-out questions, graded against the facts.

Four sets of questions, all in wordings that nothing was trained on:

    new      2024 facts that M+ was trained on
    unseen   2024 state-months that nothing was trained on
    old      historical facts that M and M- were trained on
    silent   state-months without polls that training never mentions; right is to say so
"""

import json
import os
import platform
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import transformers

from proxy_tuning.decoding import HISTORIES, answer_questions, greedy_answers
from proxy_tuning.finetune import CYCLE, DATA, RECIPES, fingerprint
from proxy_tuning.pocket.corpus import historical_facts
from proxy_tuning.polls import load_facts
from proxy_tuning.questions import SPLITS, ask, grade, make_facts

SYSTEMS = dict(zip(HISTORIES, ("M", "M+", "proxy-tuned M"), strict=True))
SCORES = ["leader_right", "numbers_right", "abstained"]
RESAMPLES = 1000


def question_sets(tables, split="test", states=None, per_set=None, seed=0):
    """Questions in one wording per fact, with a column `set`; at most `per_set` of each set.

    Args: tables as `polls.load_facts` returns them; split, validation or test; states, the places
    that M+ was asked about (`finetune.Recipe.states`).
    """
    new, old = make_facts(tables, [CYCLE], states), historical_facts(tables)
    silent = pd.concat([new, old])
    silent = silent[silent["role"].isin(["withheld", "unpolled"]) & ~silent["trained"]]
    sets = {
        "new": new[new["role"] == "known"],
        "unseen": new[new["role"] == "unseen"],
        "old": old[old["role"] == "known"],
        "silent": silent,
    }
    rows = []
    for name, facts in sets.items():
        facts = facts.reset_index(drop=True)
        if per_set is not None and per_set < len(facts):
            facts = facts.sample(per_set, random_state=seed)
        rows.append(ask(facts, split, 1, seed).assign(set=name))
    return pd.concat(rows, ignore_index=True)


def graded_answers(model, tokenizer, rows, alpha=1.0, progress=True):
    """Ask M, M+ and the proxy-tuned M every question; one graded row per question and system."""
    answers = pd.DataFrame(
        answer_questions(
            model,
            tokenizer,
            rows["question"].tolist(),
            alpha=alpha,
            batch_size=64,
            progress=progress,
        )
    )
    return pd.concat(
        [grade(rows, answers[key]).assign(system=name) for key, name in SYSTEMS.items()],
        ignore_index=True,
    )


def interval(values, facts, seed=0):
    """Bootstrap 95% interval of a mean, resampling facts (cycle, state and month), not questions."""
    if values.empty:
        return None
    by_fact = values.astype(float).groupby(facts).agg(["sum", "count"]).to_numpy()  # (F, 2)
    draws = np.random.default_rng(seed).integers(len(by_fact), size=(RESAMPLES, len(by_fact)))
    sums = by_fact[draws].sum(axis=1)  # (R, 2)
    return [round(float(q), 4) for q in np.quantile(sums[:, 0] / sums[:, 1], [0.025, 0.975])]


def summary(graded):
    """Rates per system and set: a DataFrame with mean, interval and count of each score."""
    records = []
    for (system, name), rows in graded.groupby(["system", "set"], sort=False):
        facts = rows[["cycle", "state", "month"]].fillna("").astype(str).agg("|".join, axis=1)
        for score in SCORES:
            values = rows[score].dropna()
            if len(values):
                records.append(
                    {
                        "system": system,
                        "set": name,
                        "score": score,
                        "mean": round(float(values.astype(float).mean()), 4),
                        "interval": interval(values, facts[values.index]),
                        "questions": len(values),
                    }
                )
    return pd.DataFrame(records)


def score_by_split(model, tokenizer, tables, states=None, per_split=None, seed=0):
    """How one model alone answers 2024 facts, by the split that the wording belongs to.

    Returns columns split, score ("leader_right", "numbers_right") and mean.
    """
    facts = make_facts(tables, [CYCLE], states)
    facts = facts[facts["role"] == "known"].reset_index(drop=True)
    if per_split is not None and per_split < len(facts):
        facts = facts.sample(per_split, random_state=seed)
    records = []
    for split in SPLITS:
        rows = ask(facts, split, 1, seed)
        graded = grade(rows, greedy_answers(model, tokenizer, rows["question"].tolist()))
        for score in SCORES[:2]:
            mean = float(graded[score].dropna().astype(float).mean())
            records.append({"split": split, "score": score, "mean": mean})
    return pd.DataFrame(records)


def markdown(results):
    """The README's table of a results file: percent with its bootstrap 95% interval."""
    columns = {
        ("new", "leader_right"): "2024: right leader",
        ("new", "numbers_right"): "2024: all numbers right",
        ("old", "leader_right"): "before: right leader",
        ("old", "numbers_right"): "before: all numbers right",
        ("unseen", "leader_right"): "2024 months never trained on: right leader",
        ("silent", "abstained"): "no polls: says so",
    }
    cells = {(s["system"], s["set"], s["score"]): s for s in results["scores"]}
    lines = [f"| | {' | '.join(columns.values())} |", "|---" * (len(columns) + 1) + "|"]
    for system in SYSTEMS.values():
        row = []
        for column in columns:
            score = cells[system, *column]
            low, high = score["interval"]
            row.append(f"{score['mean']:.1%} ({100 * low:.0f}-{100 * high:.0f})")
        lines.append(f"| {system} | {' | '.join(row)} |")
    return "\n".join(lines)


def facts_fingerprint(tables):
    """SHA-256 over all fact tables: which data a number was measured on."""
    return fingerprint({name: facts.to_csv() for name, facts in tables.items()})


def machine():
    """What a published number was measured on and with."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "platform": platform.machine(),
        "cpus": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def write_results(path, content):
    """Write a JSON file under results/ beside its place and rename it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.part")
    beside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(beside, path)


def evaluate(model, tokenizer, family, alpha=1.0, split="test", per_set=None, seed=0):
    """Measure one trio; returns the summary and what `write_results` keeps of the run."""
    tables = load_facts(DATA)
    states = RECIPES[family].states if family in RECIPES else None
    rows = question_sets(tables, split, states, per_set, seed)
    start = time.perf_counter()
    table = summary(graded_answers(model, tokenizer, rows, alpha))
    return table, {
        "family": family,
        "alpha": alpha,
        "split": split,
        "questions": rows["set"].value_counts().to_dict(),
        "seconds": round(time.perf_counter() - start, 1),
        "seed": seed,
        "data": facts_fingerprint(tables),
        "machine": machine(),
        "scores": table.to_dict("records"),
    }
