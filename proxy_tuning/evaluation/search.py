"""Search by proxy: recipes tried on a share of the facts, and whether their ranks hold on all.

That a small part of the data ranks hyperparameters as all of it does, for a fraction of the
hours, is "The Power of Proxy Data and Proxy Networks for Hyper-Parameter Optimization in Medical
Image Segmentation" (arXiv 2107.05471). Here each trial is an M+, judged as it will be used:
steering M, on validation wordings.
"""

import dataclasses
import math
import shutil
import time
from pathlib import Path

import pandas as pd
from scipy.stats import spearmanr

from proxy_tuning.evaluation.evaluate import alpha_sweep, rates
from proxy_tuning.evaluation.measures import moved
from proxy_tuning.evaluation.peers import ALPHAS, variant_of
from proxy_tuning.evaluation.plain_text import passages
from proxy_tuning.evaluation.poll_task import polls_task
from proxy_tuning.families import load_family
from proxy_tuning.polls.facts import make_facts
from proxy_tuning.polls.tables import load_facts
from proxy_tuning.records import DATA, WORK, claimed, fingerprint, machine, write_json
from proxy_tuning.training.finetune import finetune
from proxy_tuning.training.mixture import CYCLE, fact_names, training_rows
from proxy_tuning.training.recipes import BRIEF, choose_recipe

QUESTIONS = 100  # of each set
TEXTS = 10  # that a quiet M+ has to leave alone
RANKS = (8, 16, 32, 64)


def search(family, trials, share, output, *, storage=None, seed=0):
    """Try recipes on a share of the facts, then each of them on all; what was tried stays tried.

    Args:
        family: a `Family`; its own recipe is the first trial, the brief one where it has one.
        trials: how many recipes.
        share: of the facts, above 0 and under 1.
        output: the JSON file of what this returns, written after every trial on all facts.
        storage: Optuna's own, a SQLite file; a search of the same recipe that was cut off goes on
            from it. None is below .work.
        seed: of Optuna's sampler.

    Returns:
        `summed_up` of the trials, and what they were.

    Raises:
        ValueError: a share or a number of trials that is none.
        OSError: another process searches with this storage.
    """
    if not 0 < share < 1 or trials < 2:
        raise ValueError(f"share must be in (0, 1) and trials at least 2, not {share} and {trials}")
    import optuna  # only here: it is no requirement of the rest

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    own = BRIEF.get(family.name) or choose_recipe(family.name)
    tables = load_facts(DATA)
    facts = int(make_facts(tables, [CYCLE], own.states)["trained"].sum())
    few = max(1, round(share * facts))
    storage = Path(storage or WORK / f"search-{family.name}.sqlite")
    place = storage.with_suffix(".trial")
    with claimed(place):
        study = optuna.create_study(
            study_name=f"{few} of {facts} facts by {fingerprint(dataclasses.asdict(own))[:8]}",
            storage=f"sqlite:///{storage}",
            direction="maximize",
            load_if_exists=True,
        )
        # A sampler that begins anew with the same seed would draw the same recipes again.
        study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))
        put_in_line(study, own)
        while len(done := finished(study)) < trials:
            trial = study.ask(space(own))
            recipe = dataclasses.replace(own, max_facts=few, **trial.params)
            found = attempt(family, recipe, tables, place)
            trial.set_user_attr("proxy", found)
            study.tell(trial, found["quality"])
            print(f"trial {trial.number}, {few} facts: {trial.params} {found}", flush=True)
        for trial in done[:trials]:
            name = f"full {trial.number}"
            if name not in study.user_attrs:
                recipe = dataclasses.replace(own, **trial.params)
                study.set_user_attr(name, attempt(family, recipe, tables, place))
                print(f"trial {trial.number}, all facts: {study.user_attrs[name]}", flush=True)
            tried = [
                {"params": t.params, "proxy": t.user_attrs["proxy"], "full": full}
                for t in done[:trials]
                if (full := study.user_attrs.get(f"full {t.number}"))
            ]
            record = {
                "command": f"python -m proxy_tuning search --family {family.name} --trials {trials} "
                f"--share {share:g} --output {output}",
                "family": family.name,
                "share": share,
                "facts": facts,
                "machine": machine(),
                "trials": tried,
            }
            write_json(output, record | summed_up(tried))
    return record | summed_up(tried)


def space(own):
    """What is searched, by field of the recipe: near its own value, and only what it uses."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    found = {
        "learning_rate": FloatDistribution(own.learning_rate / 8, own.learning_rate * 4, log=True),
        "epochs": FloatDistribution(own.epochs / 6, own.epochs, log=True),
    }
    if own.rehearsal:
        found["rehearsal"] = FloatDistribution(0.1, 0.7)
    if own.lora:
        found["lora"] = CategoricalDistribution(RANKS)
    if own.quiet:
        found["quiet"] = FloatDistribution(own.quiet / 8, own.quiet * 2, log=True)
    return found


def put_in_line(study, own):
    """The recipe itself goes first; what a killed process was at comes next."""
    from optuna.trial import TrialState

    if not study.trials:
        study.enqueue_trial({name: getattr(own, name) for name in space(own)})
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params)


def finished(study):
    """The trials that have a value, in their order."""
    from optuna.trial import TrialState

    return study.get_trials(states=(TrialState.COMPLETE,))


def attempt(family, recipe, tables, place):
    """Make an M+ and steer with it; it is thrown away.

    Args: place, a folder that may be written.
    Returns quality (the mean of the next two), learnt (the mean of leader accuracy and exact match on
    the facts that it was trained on), kept (the same of the years before, or of a quiet M+
    exp(-KL(M || steered M)) on general text), alpha (the best of `ALPHAS`, at which these
    are), and the seconds that training took.
    """
    begun = time.perf_counter()
    shutil.rmtree(place, ignore_errors=True)
    finetune(recipe=recipe, output=place, antiexpert=family.antiexpert, base=family.base)
    seconds = time.perf_counter() - begun
    model, tokenizer = load_family(family, expert=place)
    task = polls_task(tables, recipe.states)
    rows = task.questions["validation"]
    learnt = set(fact_names(training_rows(tables, recipe)))
    new = rows[(rows["set"] == task.new) & fact_names(rows).isin(learnt)]
    sets = [new] if recipe.quiet else [new, rows[rows["set"] == task.old]]
    asked = pd.concat([each.sample(min(QUESTIONS, len(each)), random_state=0) for each in sets])
    judged = alpha_sweep(model, tokenizer, task, asked.reset_index(drop=True), ALPHAS)
    found = rates(judged, ["alpha", "set"], task.aims).mean(axis=1).unstack()
    if recipe.quiet:
        found[task.old] = [left_alone(model, tokenizer, alpha) for alpha in found.index]
    quality = found.mean(axis=1)
    alpha = quality.idxmax()
    shutil.rmtree(place)
    return {
        "quality": round(float(quality[alpha]), 4),
        "learnt": round(float(found.loc[alpha, task.new]), 4),
        "kept": round(float(found.loc[alpha, task.old]), 4),
        "alpha": float(alpha),
        "seconds": round(seconds, 1),
    }


def left_alone(model, tokenizer, alpha):
    """exp(-KL(M || steered M)), the KL in nats a token of general text: 1 where M is left alone."""
    pairs = dict(passages(tokenizer, TEXTS))["general"]
    return math.exp(-moved(variant_of(model, alpha=alpha), tokenizer, pairs).mean())


def summed_up(tried):
    """Whether the ranks hold, what they cost, and the best recipe by the trials on all facts.

    Returns spearman, its p-value and how many pairs; hours of all trials on the share, of all
    trials on all facts, and of the search by proxy, which needs one of these; own, the quality of
    the family's recipe on all facts, best and by_proxy, those of the best and of what the search
    by proxy would have taken, with their params.
    """
    proxy, full = (
        pd.Series([each[kind]["quality"] for each in tried]) for kind in ("proxy", "full")
    )
    seconds = {kind: [each[kind]["seconds"] for each in tried] for kind in ("proxy", "full")}
    rank = spearmanr(proxy, full) if len(tried) > 1 else None
    best, by_proxy = full.idxmax(), proxy.idxmax()
    return {
        "spearman": rank and round(float(rank.statistic), 4),
        "p_value": rank and round(float(rank.pvalue), 5),
        "pairs": len(tried),
        "hours": {
            "proxy": round(sum(seconds["proxy"]) / 3600, 3),
            "full": round(sum(seconds["full"]) / 3600, 3),
            "by_proxy": round((sum(seconds["proxy"]) + seconds["full"][by_proxy]) / 3600, 3),
        },
        "own": tried[0]["full"]["quality"],
        "best": {"quality": full[best], "params": tried[best]["params"]},
        "by_proxy": {"quality": full[by_proxy], "params": tried[by_proxy]["params"]},
    }
