"""The measurements of one trio on a `Task`: M, M-, M+, M tuned directly, steered M, its variants, rules.

What each column means is in measures.py and in the task.
"""

import dataclasses
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd

from proxy_tuning.answering import greedy_answers
from proxy_tuning.evaluation.asked_sets import measure_sets, with_facts
from proxy_tuning.evaluation.drafting import measure_drafts
from proxy_tuning.evaluation.measures import (
    compared,
    disagreement,
    gap_closed,
    kept,
    measure,
    summary,
)
from proxy_tuning.evaluation.peers import ALPHAS, last_figures, peers_of, variant_of
from proxy_tuning.evaluation.plain_text import measure_texts
from proxy_tuning.evaluation.pool import each
from proxy_tuning.families import check_same_tokens, load_part
from proxy_tuning.parts import whole
from proxy_tuning.records import machine
from proxy_tuning.training.recipes import recipe_of

DIRECT = "M tuned directly"
TOLD = "M with the facts in its prompt"
STEERED = "proxy-tuned M"
PLAUSIBILITY = 0.1


def systems_of(model, chosen, direct=None, experts=None, variants=True):
    """The models to measure by name, each an ordinary causal language model.

    Args: model, the trio at the alpha of the first steered row; chosen, another alpha; direct, M
    tuned directly, by name; experts, further M+ by name, alone, as proxies, and all together; variants,
    whether those of the line are among them.
    """
    experts = experts or {}
    yield "M", model.base
    yield "M-", whole(model.antiexpert).eval()
    yield "M+", model.expert
    yield from (direct or {}).items()
    yield f"{STEERED}, alpha {model.alpha:g}", model
    if chosen != model.alpha:
        yield f"{STEERED}, alpha {chosen:g} (chosen)", variant_of(model, alpha=chosen)
    for name, expert in experts.items():
        yield f"M+ {name}", expert
        yield f"{STEERED} by {name}", variant_of(model, expert)
    if not variants:
        return
    yield f"{STEERED}, adaptive alpha", variant_of(model, adaptive=True)
    yield f"{STEERED}, plausibility {PLAUSIBILITY:g}", variant_of(model, plausibility=PLAUSIBILITY)
    if experts:
        together = [model.expert, *experts.values()]
        share = model.alpha / len(together)
        yield (
            f"{STEERED}, {len(together)} experts",
            variant_of(model, together, [share] * len(together)),
        )


def alpha_sweep(model, tokenizer, task, rows, alphas, batch_size=256):
    """Greedy answers to `rows` at every alpha, all alphas of a question in one batch: judged rows.

    Returns a row per question and alpha, as `task.judge` does, with a column alpha.
    """
    every = rows.loc[rows.index.repeat(len(alphas))].reset_index(drop=True)
    every["alpha"] = list(alphas) * len(rows)
    answers = greedy_answers(
        model,
        tokenizer,
        rows["question"].tolist(),
        alphas=list(alphas),
        batch_size=max(1, batch_size // len(alphas)),
    )
    return task.judge(every, answers)


def rates(judged, by, aims):
    """Mean of each of the scores `aims` per group of the columns `by`."""
    return judged.groupby(by)[list(aims)].agg(lambda values: values.dropna().astype(float).mean())


def choose_alpha(model, tokenizer, task):
    """The alpha of `ALPHAS` with the best mean of the task's aims, new and old.

    Asked are `task.choice`. Returns it with a row per alpha and set, and the rates. Of equals the
    nearest to 1.
    """
    found = rates(
        alpha_sweep(model, tokenizer, task, task.choice, ALPHAS), ["alpha", "set"], task.aims
    )
    quality = found.mean(axis=1).groupby("alpha").mean().round(4)
    chosen = min(ALPHAS, key=lambda alpha: (-quality[alpha], abs(alpha - 1)))
    return chosen, found.round(4).reset_index()


def quality_of(system, tokenizer, task):
    """The mean of the aims on `task.choice`, by which the peers' strengths are chosen."""
    answers = greedy_answers(system, tokenizer, task.choice["question"].tolist())
    judged = task.judge(task.choice.reset_index(drop=True), answers)
    return rates(judged, "set", task.aims).mean(axis=None)


def evaluate(
    model,
    tokenizer,
    family,
    task,
    split="test",
    seed=0,
    direct=(),
    experts=(),
    progress=True,
    sets=None,
    workers=1,
):
    """Measure a trio on a task; returns what `records.write_json` keeps of the run.

    Args:
        model, tokenizer, family: as `load_family` gives them.
        task: a `Task`. Where it has no questions to choose them with, alpha stays as it is and
            nothing is gated.
        seed: what the questions were drawn by, for the record.
        direct: folders of M tuned directly; the first is what the gap is reckoned to.
        experts: folders of further M+, named in the reports as the folders are.
        sets: `asked_sets.Sets`, asked besides, in place of the line's variants and of the gate;
            None asks none.
        workers: how many systems are measured at a time, as `pool.each` has it; their seconds are
            then those of a machine that is shared.
    """
    if split not in task.questions:
        raise ValueError(f"{task.name} has the splits {list(task.questions)}, not {split!r}")
    rows = task.questions[split]
    further = {Path(folder).name: load_beside(model, tokenizer, folder) for folder in experts}
    if len(further) < len(experts):
        raise ValueError(f"the folders of experts need different names, got {list(experts)}")
    tuned = {
        DIRECT if i == 0 else f"{DIRECT}, {Path(folder).name}": load_beside(
            model, tokenizer, folder
        )
        for i, folder in enumerate(direct)
    }
    chosen, choice, gate = model.alpha, pd.DataFrame(), None
    if task.choice is not None:
        chosen, choice = choose_alpha(model, tokenizer, task)
        gate = choose_gate(model, tokenizer, task) if sets is None else None
    graded = {rule: task.judge(rows, rows[rule]) for rule in task.rules}
    systems = dict(systems_of(model, chosen, tuned, further, variants=sets is None))
    rewritten = {}

    def qualities(tried):
        return dict(each(lambda _, system: quality_of(system, tokenizer, task), tried, workers))

    if sets is not None:
        told = last_figures(sets.tables, sets.states)
        systems |= peers_of(model, tokenizer, qualities, told)
        systems[TOLD], rewritten[TOLD] = model.base, with_facts(sets.tables)

    def measured(name, system):
        print(f"{time.strftime('%H:%M:%S')} {name}", flush=True)
        asked = rows.assign(question=rows["question"].map(rewritten.get(name, str)))
        return measure(system, tokenizer, asked, task.judge, progress)

    graded |= each(measured, systems, workers)
    if gate is not None:
        plain = graded[f"{STEERED}, alpha {model.alpha:g}"]
        kl = disagreement(model, tokenizer, plain["question"], plain["answered"])
        graded[f"{STEERED}, gated at {gate:.2g} nats"] = gated(graded["M"], plain, kl, gate)
    graded = pd.concat(
        [rows.assign(system=name) for name, rows in graded.items()], ignore_index=True
    )
    recipes = {"M+": recipe_of(model.sources.get("expert", ""), family)}
    recipes |= {f"M+ {Path(folder).name}": recipe_of(folder) for folder in experts}
    recipes |= dict(zip(tuned, map(recipe_of, direct), strict=True))
    scores = [
        *scores_of_rules(graded, task),
        *summary(graded[~graded["system"].isin(task.rules)], task).to_dict("records"),
        *comparisons(graded, task),
    ]
    drafts = []
    if sets is not None:
        scores += measure_sets(systems, rewritten, model, tokenizer, sets, workers)
        trio = {name: system for name, system in systems.items() if system is model}
        scores += measure_texts(systems, trio, tokenizer)
        drafts = measure_drafts(model, tokenizer, sets)
    return {
        "task": task.name,
        "family": family,
        "split": split,
        "alpha": model.alpha,
        "line": dataclasses.asdict(model.line),
        "draft": model.draft,
        "chosen_alpha": chosen,
        "choice": choice.to_dict("records"),
        "chosen_gate": gate,
        "questions": rows["set"].value_counts().to_dict(),
        "seed": seed,
        "data": task.data,
        "machine": machine(),
        "workers": workers,
        "recipes": recipes,
        "scores": scores,
        "drafts": drafts,
        "seeds": over_seeds(scores, recipes, model.alpha),
    }


def choose_gate(model, tokenizer, task):
    """From which KL(M+ || M-) along the steered answer on it is better than that of M alone.

    Asked are `task.choice`; better is as in `choose_alpha`. Returns the threshold in nats, half-way
    between two questions.
    """
    rows = task.choice.reset_index(drop=True)
    base, steered = (
        task.judge(rows, greedy_answers(part, tokenizer, rows["question"].tolist()))
        for part in (model.base, model)
    )
    kl = disagreement(model, tokenizer, rows["question"], steered["answered"])
    ends = np.sort(kl)
    thresholds = [0.0, *(ends[1:] + ends[:-1]) / 2, ends[-1] + 1]

    def quality(threshold):
        return rates(gated(base, steered, kl, threshold), "set", task.aims).mean(axis=None)

    return float(max(thresholds, key=quality))


def gated(base, steered, kl, threshold):
    """Graded rows of M alone where M+ and M- hardly differ on a question, else of the steered M.

    It is steered first in any case, so that its seconds count. Args: base, steered, rows in one
    order; kl (N,) from `measures.disagreement`.
    """
    own = kl < threshold
    rows = pd.concat([base[own], steered[~own]]).sort_index()
    if "seconds" in rows:
        rows.loc[own, "seconds"] += steered.loc[own, "seconds"]
    return rows


def load_beside(model, tokenizer, folder):
    """A model of the same vocabulary, where the trio is and of its dtype."""
    part, its_tokenizer = load_part(folder)
    check_same_tokens(tokenizer, its_tokenizer, "the trio", folder)
    part.generation_config.pad_token_id = tokenizer.pad_token_id
    return part.to(model.device, model.base.dtype)


def scores_of_rules(graded, task):
    """`summary` of the rules, in the sets and scores that the task reports them by."""
    table = summary(graded[graded["system"].isin(task.rules)], task)
    return [
        row
        for row in table.to_dict("records")
        if (row["set"], row["score"]) in task.rules[row["system"]]
    ]


def comparisons(graded, task):
    """Of every model but M: the gap it closes on new facts, and what it keeps of M's old ones."""
    systems = [name for name in graded["system"].unique() if name not in (*task.rules, "M")]
    figures = [("kept", task.old, ("M",), kept)] if task.old else []
    if DIRECT in systems:
        figures.append(("gap closed", task.new, ("M", DIRECT), gap_closed))
    for system in systems:
        for figure, name, others, ratio in figures:
            for score in task.aims:
                found = compared(graded, system, others, name, score, ratio)
                if found is not None:
                    yield found | {"score": f"{score} {figure}"}


def over_seeds(scores, recipes, alpha):
    """Mean, lowest and highest score over the M+ whose recipes differ in the seed alone.

    Args: recipes by the name of M+ in the reports. One row per system, set and score.
    """
    proxies = {"M+": f"{STEERED}, alpha {alpha:g}"}
    groups = {}
    for name, recipe in recipes.items():
        if not name.startswith(DIRECT) and recipe is not None:
            proxies.setdefault(name, f"{STEERED} by {name.removeprefix('M+ ')}")
            groups.setdefault(json.dumps(recipe | {"seed": None}), []).append(name)
    records = []
    for names in groups.values():
        if len(names) == 1:
            continue
        for kind in ("M+", STEERED):
            members = names if kind == "M+" else [proxies[name] for name in names]
            rows = pd.DataFrame([s for s in scores if s["system"] in members])
            for (name, score), means in rows.groupby(["set", "score"], sort=False)["mean"]:
                records.append(
                    {
                        "system": f"{kind}, {len(names)} seeds ({', '.join(names)})",
                        "set": name,
                        "score": score,
                        "mean": round(float(means.mean()), 4),
                        "interval": [float(means.min()), float(means.max())],
                    }
                )
    return records


def score_by_split(model, tokenizer, task):
    """How one model alone answers the new facts, by the split that the wording belongs to.

    Returns columns split, score (the task's aims) and mean.
    """
    records = []
    for split, rows in task.questions.items():
        rows = rows[rows["set"] == task.new]
        judged = task.judge(rows, greedy_answers(model, tokenizer, rows["question"].tolist()))
        for score in task.aims:
            mean = float(judged[score].dropna().astype(float).mean())
            records.append({"split": split, "score": score, "mean": mean})
    return pd.DataFrame(records)
