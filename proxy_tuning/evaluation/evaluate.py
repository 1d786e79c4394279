"""The table of measurements: M, M-, M+, M tuned directly, steered M and its variants, and rules.

`evaluate` makes it for one trio; what each column means is in `measures.py`.
"""

import copy
import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd

from proxy_tuning.answering import greedy_answers
from proxy_tuning.evaluation.measures import (
    RULES,
    all_facts,
    compared,
    disagreement,
    forms_of,
    gap_closed,
    kept,
    mark,
    measure,
    question_sets,
    summary,
)
from proxy_tuning.families import check_same_tokens, load_part
from proxy_tuning.model import ProxyTunedForCausalLM
from proxy_tuning.parts import WithoutAdapter
from proxy_tuning.polls.facts import make_facts
from proxy_tuning.polls.questions import ask, grade
from proxy_tuning.polls.tables import load_facts
from proxy_tuning.polls.templates import SPLITS
from proxy_tuning.records import DATA, fingerprint, machine
from proxy_tuning.training.mixture import CYCLE
from proxy_tuning.training.recipes import RECIPES

DIRECT = "M tuned directly"
STEERED = "proxy-tuned M"
PLAUSIBILITY = 0.1
ALPHAS = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
"""From these the alpha of the table is chosen, on validation wordings."""
CHOICE = 60  # questions of each set that alpha is chosen with


def steered(model, experts=None, alpha=None, **variant):
    """Another `ProxyTunedForCausalLM` of the same weights: other experts, alpha or variant."""
    other = ProxyTunedForCausalLM(
        model.base,
        model.expert if experts is None else experts,
        model.antiexpert,
        model.alpha if alpha is None else alpha,
        line=dataclasses.replace(model.line, **variant),
    )
    other.generation_config, other.draft = model.generation_config, model.draft
    return other


def alone(part):
    """A part as a model of its own: M- without the adapter that makes it M+."""
    if isinstance(part, WithoutAdapter):
        return copy.deepcopy(part.expert).unload().eval()
    return part


def systems_of(model, chosen, direct=None, experts=None):
    """The models of the table by name, each an ordinary causal language model.

    Args: model, the trio at the alpha of the first steered row; chosen, another alpha; direct, M
    tuned directly; experts, further M+ by name, alone, as proxies, and all together.
    """
    experts = experts or {}
    yield "M", model.base
    yield "M-", alone(model.antiexpert)
    yield "M+", model.expert
    if direct is not None:
        yield DIRECT, direct
    yield f"{STEERED}, alpha {model.alpha:g}", model
    if chosen != model.alpha:
        yield f"{STEERED}, alpha {chosen:g} (chosen)", steered(model, alpha=chosen)
    yield f"{STEERED}, adaptive alpha", steered(model, adaptive=True)
    yield f"{STEERED}, plausibility {PLAUSIBILITY:g}", steered(model, plausibility=PLAUSIBILITY)
    for name, expert in experts.items():
        yield f"M+ {name}", expert
        yield f"{STEERED} by {name}", steered(model, expert)
    if experts:
        together = [model.expert, *experts.values()]
        share = model.alpha / len(together)
        yield (
            f"{STEERED}, {len(together)} experts",
            steered(model, together, [share] * len(together)),
        )


def alpha_sweep(model, tokenizer, rows, alphas, batch_size=256):
    """Greedy answers at every alpha, all alphas of a question in one batch: graded rows.

    Returns a row per question and alpha, as `questions.grade`, with a column alpha.
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
    return grade(every, answers)


def choose_alpha(model, tokenizer, facts, per_set=CHOICE, seed=0):
    """The alpha of `ALPHAS` with the best mean of leader accuracy and exact match, new and old.

    Asked in validation wordings. Returns it with the table: alpha, set and the two rates. Of
    equals the nearest to 1.
    """
    rows = question_sets(facts, "validation", per_set, seed)
    rows = rows[rows["set"].isin(["new", "old"])]
    graded = alpha_sweep(model, tokenizer, rows, ALPHAS)
    rates = graded.groupby(["alpha", "set"])[["leader_accuracy", "exact_match"]].agg(
        lambda values: values.dropna().astype(float).mean()
    )
    quality = rates.mean(axis=1).groupby("alpha").mean().round(4)
    chosen = min(ALPHAS, key=lambda alpha: (-quality[alpha], abs(alpha - 1)))
    return chosen, rates.round(4).reset_index()


def evaluate(
    model,
    tokenizer,
    family,
    split="test",
    per_set=None,
    seed=0,
    direct=None,
    experts=(),
    progress=True,
):
    """Measure a trio; returns what `records.write_json` keeps of the run.

    Args:
        model, tokenizer, family: as `load_family` gives them. What is asked about are the places
            that M+ learnt, by its training.json or the recipe of the family.
        split, per_set, seed: as for `measures.question_sets`.
        direct: the folder of M tuned directly.
        experts: folders of further M+, named in the table as the folders are.
    """
    tables = load_facts(DATA)
    recipe = recipe_of(model.expert.config.name_or_path) or recipe_of_family(family)
    facts = all_facts(tables, recipe and recipe["states"])
    rows, forms = question_sets(facts, split, per_set, seed), forms_of(facts)
    further = {Path(folder).name: load_beside(model, tokenizer, folder) for folder in experts}
    if len(further) < len(experts):
        raise ValueError(f"the folders of experts need different names, got {list(experts)}")
    tuned = load_beside(model, tokenizer, direct) if direct else None
    chosen, choice = choose_alpha(model, tokenizer, facts, min(per_set or CHOICE, CHOICE), seed)
    gate = choose_gate(model, tokenizer, facts, min(per_set or CHOICE, CHOICE), seed)
    graded = {rule: mark(rows, rows[rule], forms) for rule in RULES}
    for name, system in systems_of(model, chosen, tuned, further):
        print(name, flush=True)
        graded[name] = measure(system, tokenizer, rows, forms, progress)
    plain = graded[f"{STEERED}, alpha {model.alpha:g}"]
    kl = disagreement(model, tokenizer, plain["question"], plain["answered"])
    graded[f"{STEERED}, gated at {gate:.2g} nats"] = gated(graded["M"], plain, kl, gate)
    graded = pd.concat(
        [rows.assign(system=name) for name, rows in graded.items()], ignore_index=True
    )
    recipes = {"M+": recipe}
    recipes |= {f"M+ {Path(folder).name}": recipe_of(folder) for folder in experts}
    recipes |= {DIRECT: recipe_of(direct)} if direct else {}
    scores = [*scores_of_rules(graded), *scores_of_models(graded), *comparisons(graded)]
    return {
        "family": family,
        "split": split,
        "alpha": model.alpha,
        "chosen_alpha": chosen,
        "choice": choice.to_dict("records"),
        "chosen_gate": gate,
        "questions": rows["set"].value_counts().to_dict(),
        "seed": seed,
        "data": facts_fingerprint(tables),
        "machine": machine(),
        "recipes": recipes,
        "scores": scores,
        "seeds": over_seeds(scores, recipes, model.alpha),
    }


def evaluate_tasks(model, tokenizer, family, tasks, split="test", limit=None, seed=0):
    """Run tasks of lm-evaluation-harness; returns what `records.write_json` keeps of the run.

    Args: tasks, names of the harness's or of ours, see `harness.write_tasks`; limit, at most so
    many documents of each.
    """
    from proxy_tuning.evaluation.harness import POLLS, run_tasks  # only where it is used: an extra

    tables, rows = load_facts(DATA), None
    if any(task.startswith(POLLS) for task in tasks):
        recipe = recipe_of(model.expert.config.name_or_path) or recipe_of_family(family)
        rows = question_sets(all_facts(tables, recipe and recipe["states"]), split, limit, seed)
    return {
        "family": family,
        "alpha": model.alpha,
        "split": split,
        "seed": seed,
        "data": facts_fingerprint(tables),
        "machine": machine(),
        **run_tasks(model, tokenizer, tasks, rows, limit, seed),
    }


def recipe_of_family(family):
    """The recipe of that name as `recipe_of` returns it, None where there is none."""
    return dataclasses.asdict(RECIPES[family]) if family in RECIPES else None


def choose_gate(model, tokenizer, facts, per_set=CHOICE, seed=0):
    """From which KL(M+ || M-) along the steered answer on it is better than that of M alone.

    Asked in validation wordings; better is as in `choose_alpha`. Returns the threshold in nats,
    half-way between two questions.
    """
    rows = question_sets(facts, "validation", per_set, seed)
    rows = rows[rows["set"].isin(["new", "old"])].reset_index(drop=True)
    base, steered = (
        grade(rows, greedy_answers(part, tokenizer, rows["question"].tolist()))
        for part in (model.base, model)
    )
    kl = disagreement(model, tokenizer, rows["question"], steered["answered"])
    ends = np.sort(kl)
    thresholds = [0.0, *(ends[1:] + ends[:-1]) / 2, ends[-1] + 1]

    def quality(threshold):
        rates = gated(base, steered, kl, threshold).groupby("set")[
            ["leader_accuracy", "exact_match"]
        ]
        return rates.agg(lambda values: values.dropna().astype(float).mean()).mean(axis=None)

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


def recipe_of(folder):
    """What an M+ was trained with, from its training.json; None where there is none."""
    path = Path(folder, "training.json")
    return json.loads(path.read_text(encoding="utf-8"))["recipe"] if path.is_file() else None


def scores_of_rules(graded):
    """`summary` of the rules: leaders, and for the nearest month its numbers too."""
    table = summary(graded[graded["system"].isin(RULES)])
    nearest = (table["system"] == RULES[2]) & (table["set"] == "unseen")
    nearest &= table["score"].isin(["leader_accuracy", "exact_match", "absolute_error"])
    party = table["system"].isin(RULES[:2]) & (table["score"] == "leader_accuracy")
    party &= table["set"].isin(["new", "unseen", "old", "against"])
    return table[nearest | party].to_dict("records")


def scores_of_models(graded):
    """`summary` of the models."""
    return summary(graded[~graded["system"].isin(RULES)]).to_dict("records")


def comparisons(graded):
    """Of every model but M: the gap it closes on new facts, and what it keeps of M's old ones."""
    systems = [name for name in graded["system"].unique() if name not in (*RULES, "M")]
    figures = [("kept", "old", ("M",), kept)]
    if DIRECT in systems:
        figures.append(("gap closed", "new", ("M", DIRECT), gap_closed))
    for system in systems:
        for figure, name, others, ratio in figures:
            for score in ("leader_accuracy", "exact_match"):
                found = compared(graded, system, others, name, score, ratio)
                if found is not None:
                    yield found | {"score": f"{score} {figure}"}


def over_seeds(scores, recipes, alpha):
    """Mean, lowest and highest score over the M+ whose recipes differ in the seed alone.

    Args: recipes by the name of M+ in the table. One row per system, set and score.
    """
    proxies = {"M+": f"{STEERED}, alpha {alpha:g}"}
    groups = {}
    for name, recipe in recipes.items():
        if name != DIRECT and recipe is not None:
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
                records.append({
                    "system": f"{kind}, {len(names)} seeds ({', '.join(names)})",
                    "set": name,
                    "score": score,
                    "mean": round(float(means.mean()), 4),
                    "interval": [float(means.min()), float(means.max())],
                })  # fmt: skip
    return records


def score_by_split(model, tokenizer, tables, states=None, per_split=None, seed=0):
    """How one model alone answers 2024 facts, by the split that the wording belongs to.

    Returns columns split, score ("leader_accuracy", "exact_match") and mean.
    """
    facts = make_facts(tables, [CYCLE], states)
    facts = facts[facts["status"] == "known"].reset_index(drop=True)
    if per_split is not None and per_split < len(facts):
        facts = facts.sample(per_split, random_state=seed)
    records = []
    for split in SPLITS:
        rows = ask(facts, split, 1, seed)
        graded = grade(rows, greedy_answers(model, tokenizer, rows["question"].tolist()))
        for score in ("leader_accuracy", "exact_match"):
            mean = float(graded[score].dropna().astype(float).mean())
            records.append({"split": split, "score": score, "mean": mean})
    return pd.DataFrame(records)


def facts_fingerprint(tables):
    """SHA-256 over all fact tables: which data a number was measured on."""
    return fingerprint({name: facts.to_csv() for name, facts in tables.items()})
