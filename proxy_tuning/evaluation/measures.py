"""Questions put to one model, and what its answers are worth: grades, rates and intervals.

Five sets of questions, all in wordings that nothing was trained on:

    new      2024 facts that M+ was trained on
    unseen   2024 state-months that nothing was trained on
    old      historical facts that M and M- were trained on
    silent   state-months without polls that training never mentions; right is to say so
    against  those of the new facts where the party that leads most in that state did not lead
"""

import re
import time

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from proxy_tuning.answering import greedy_answers
from proxy_tuning.logits import divergence
from proxy_tuning.polls.answers import NO_POLLS, before_leader, numbers_of
from proxy_tuning.polls.facts import make_facts
from proxy_tuning.polls.history import historical_facts
from proxy_tuning.polls.questions import ask, grade
from proxy_tuning.prompts import continuation, prompt
from proxy_tuning.training.mixture import CYCLE

RULES = ("always the leading party", "the state's leading party", "nearest trained month")
RATES = ("leader_accuracy", "leader_likelier", "exact_match", "absolute_error", "well_formed",
         "abstained", "spoke")  # fmt: skip
"""Scores with a value per question; `summary` adds perplexity and seconds."""
RESAMPLES = 1000
BATCH = 64  # questions answered together
READ = 16  # texts read together: all their logits are in memory at once


def all_facts(tables, states=None):
    """The facts that questions are about: 2024's of these states, and those of the years before."""
    return pd.concat(
        [make_facts(tables, [CYCLE], states), historical_facts(tables)], ignore_index=True
    )


def question_sets(facts, split="test", per_set=None, seed=0):
    """Questions in one wording per fact, with a column `set`; at most `per_set` of each set.

    Args: facts as `all_facts` returns them; split, validation or test.
    Adds a column per rule of `RULES`, with what the rule answers.
    """
    facts = with_rules(facts)
    new, known = facts["cycle"] == CYCLE, facts["status"] == "known"
    leaders = facts["leader"].notna()
    sets = {
        "new": new & known,
        "unseen": facts["status"] == "unseen",
        "old": ~new & known,
        "silent": facts["status"].isin(["withheld", "unpolled"]) & ~facts["trained"],
        "against": new & known & leaders & (facts[RULES[1]] != facts["leader"] + " led"),
    }
    rows = []
    for name, chosen in sets.items():
        chosen = facts[chosen].reset_index(drop=True)
        if per_set is not None and per_set < len(chosen):
            chosen = chosen.sample(per_set, random_state=seed)
        rows.append(ask(chosen, split, 1, seed).assign(set=name))
    return pd.concat(rows, ignore_index=True)


# Rules that need no model


def with_rules(facts):
    """The facts with what three rules answer to each, learnt from the facts that training may use.

    The leading party is that of most months, of the election year or of the state in it. The
    nearest trained month is for months of the status `unseen` alone, "" elsewhere.
    """
    learnt = facts[facts["trained"] & (facts["status"] == "known") & facts["month"].notna()]
    answers = [usual_leaders(facts, learnt, by) for by in (["cycle"], ["cycle", "state"])]
    answers.append(nearest_months(facts, learnt))
    return facts.assign(**dict(zip(RULES, answers, strict=True)))


def usual_leaders(facts, learnt, by):
    """'Trump led' for each fact where his party leads most months among those with the same `by`.

    "" where there is no such month.
    """
    learnt = learnt[(learnt["kind"] == "leader") & learnt["leader"].notna()]
    pairs = zip(learnt["slots"], learnt["leader"], strict=True)
    parties = ["dem" if slots["dem"] == leader else "rep" for slots, leader in pairs]
    usual = learnt.assign(party=parties).groupby(by)["party"]
    usual = usual.agg(lambda party: party.value_counts().idxmax())
    pairs = zip(facts["slots"], facts[by].join(usual, on=by)["party"], strict=True)
    return [f"{slots[party]} led" if party in slots else "" for slots, party in pairs]


def nearest_months(facts, learnt):
    """For each unseen month the same question's answer in the nearest one that is trained on.

    Months with the same match-up come first, then the nearer, then the earlier.
    """
    keys = ["cycle", "state", "kind", "who"]
    facts, learnt = (rows.assign(who=who_is_asked(rows)) for rows in (facts, learnt))
    groups = {key: list(rows.itertuples()) for key, rows in learnt.groupby(keys)}
    answers = []
    for row, *key in zip(facts.itertuples(), *(facts[k] for k in keys), strict=True):
        near = groups.get(tuple(key), []) if row.status == "unseen" else []
        nearest = min(near, key=lambda other: distance(row, other), default=None)
        answers.append(nearest.answer if nearest else "")
    return answers


def who_is_asked(facts):
    """The candidate whose share is asked for, '' where there is none."""
    return [slots.get("who", "") for slots in facts["slots"]]


def distance(fact, other):
    """What `nearest_months` sorts by."""
    first, second = (12 * int(f.month[:4]) + int(f.month[5:]) for f in (fact, other))
    return fact.slots["dem"] != other.slots["dem"], abs(first - second), second


# One model: what it answers, and what it finds likely


def measure(model, tokenizer, rows, forms, progress=False):
    """Ask a model every question: one graded row per row.

    Args: model, any causal language model; rows as `question_sets` returns them; forms, from
    `forms_of`. Returns the columns of `mark`, and besides
        leader_likelier   whether the right candidate is likelier than the other, see `candidates`
        nats, tokens      of the right answer after its question, where it has numbers
        batch, seconds    which questions were answered together, and how long each took
    """
    once = rows.drop_duplicates("question").reset_index(drop=True)
    questions = once["question"].tolist()
    texts, seconds = [], []
    for start in tqdm(range(0, len(once), BATCH), unit="batch", disable=not progress):
        batch = questions[start : start + BATCH]
        begun = time.perf_counter()
        texts += greedy_answers(model, tokenizer, batch, batch_size=BATCH)
        seconds += [(time.perf_counter() - begun) / len(batch)] * len(batch)
    told = pd.DataFrame({"answered": texts, "seconds": seconds}, index=questions)
    told["batch"] = np.arange(len(told)) // BATCH

    polled = once[(once["answer"] != NO_POLLS) & (once["set"] != "against")]
    pairs = [
        (prompt(question, tokenizer), continuation(answer, tokenizer))
        for question, answer in zip(polled["question"], polled["answer"], strict=True)
    ]
    read = log_likelihoods(model, tokenizer, pairs)
    told.loc[polled["question"], "nats"] = -read[:, 0]
    told.loc[polled["question"], "tokens"] = read[:, 1]

    led = once[once["leader"].notna() & (once["answer"] != NO_POLLS)]
    pairs = [pair for row in led.itertuples() for pair in candidates(row, tokenizer)]
    right, other = log_likelihoods(model, tokenizer, pairs)[:, 0].reshape(-1, 2).T
    told.loc[led["question"], "leader_likelier"] = right > other
    told = told.loc[rows["question"]].reset_index(drop=True)
    graded = mark(rows, told["answered"], forms)
    return graded.assign(**told.drop(columns="answered"))


def candidates(row, tokenizer=None):
    """Two ways to go on after a question and the start of its answer, the right one first.

        Question: Who led ... ?\\nAnswer: In Ohio in May 2024,  |  Trump led
        Question: Who led ... ?\\nAnswer: In Ohio in May 2024,  |  Biden led

    Args: row with question, answer, leader and the slots dem and rep.
    Returns two pairs of texts, (what is given, what is compared).
    """
    start, verb = before_leader(row.answer)
    given = prompt(row.question, tokenizer) + continuation(start, tokenizer)
    dem, rep = row.slots["dem"], row.slots["rep"]
    other = dem if row.leader == rep else rep
    return [(given, f" {name} {verb}") for name in (row.leader, other)]


@torch.no_grad()
def log_likelihoods(model, tokenizer, pairs, batch_size=READ):
    """Log-probability in nats of each second text after its first, and its tokens: (N, 2).

    Both are tokenized as one text; a token is the first text's where it ends within it.
    """
    found = []
    for ids, mask, target in text_batches(tokenizer, pairs, batch_size):
        ids, mask = ids.to(model.device), mask.to(model.device)
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits  # (B, T, V)
        scores = logits[:, :-1].float().log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0].cpu()
        total = scores.where(target, 0).sum(1)  # (B,)
        found.append(torch.stack([total, target.sum(1)], dim=1))
    return torch.cat(found).numpy() if found else np.empty((0, 2))


@torch.no_grad()
def disagreement(model, tokenizer, questions, answers, batch_size=READ):
    """Mean KL(M+ || M-) in nats over the tokens of each answer after its question, (N,)."""
    pairs = [
        (prompt(q, tokenizer), continuation(a, tokenizer))
        for q, a in zip(questions, answers, strict=True)
    ]
    found = []
    for ids, mask, target in text_batches(tokenizer, pairs, batch_size):
        expert, antiexpert = (
            model.run(next(iter(parts)), ids, mask)[:, :-1].float().log_softmax(-1)
            for parts in (model.experts, model.antiexperts)
        )
        kl = divergence(expert, antiexpert).cpu()  # (B, T - 1)
        found.append(kl.where(target, 0).sum(1) / target.sum(1).clamp(min=1))
    return torch.cat(found).numpy()


def text_batches(tokenizer, pairs, batch_size):
    """Pairs of texts as batches of ids (B, T), mask (B, T) and targets (B, T - 1).

    Targets are True where the next token is one of the second text.
    """
    for start in range(0, len(pairs), batch_size):
        batch = pairs[start : start + batch_size]
        encoded = tokenizer([a + b for a, b in batch], return_offsets_mapping=True)
        given = [
            sum(end <= len(a) for _, end in offsets)
            for (a, _), offsets in zip(batch, encoded["offset_mapping"], strict=True)
        ]
        rows = [torch.tensor(ids) for ids in encoded["input_ids"]]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)  # (B, T)
        length = torch.tensor([len(row) for row in rows])[:, None]  # (B, 1)
        at = torch.arange(ids.shape[1])  # (T,)
        target = (at >= torch.tensor(given)[:, None]) & (at < length)  # (B, T)
        yield ids, (at < length).long(), target[:, 1:]


def mark(rows, texts, forms):
    """Compare answers with the facts: `questions.grade`, and besides

        absolute_error    see `absolute_error`
        well_formed   whether the answer is of a form in `forms`
        abstained     whether it says that there are no polls, where that is right
        spoke         whether it says anything else, where there are polls
    """  # fmt: skip
    graded = grade(rows, texts)
    said, silent = graded["abstained"].astype(float), rows["answer"] == NO_POLLS
    pairs = zip(graded["answered"], graded["answer"], strict=True)
    return graded.assign(
        absolute_error=[absolute_error(answer, fact) for answer, fact in pairs],
        well_formed=[form(text) in forms for text in graded["answered"]],
        abstained=said.where(silent),
        spoke=(1 - said).where(~silent),
    )


def absolute_error(answer, fact):
    """Mean distance in points of an answer's numbers from the fact's.

    NaN where it has not as many, or one above 100, which is no percentage.
    """
    said, true = numbers_of(answer), numbers_of(fact)
    if not true or len(said) != len(true) or max(said) > 100:
        return np.nan
    return float(np.abs(np.subtract(said, true)).mean())


def form(text):
    """An answer without its names and numbers: 'X in X 0, X had 0.0%.'"""
    text = re.sub(r"\d+(\.\d+)?", lambda number: "0.0" if number[1] else "0", text)
    return re.sub(r"[A-Z]\w*(\.? [A-Z]\w*)*", "X", text)


def forms_of(facts):
    """The forms that right answers have."""
    return set(facts["answer"].map(form))


# From questions to rates


def fact_keys(rows):
    """What intervals resample: cycle, state and month in one word, however often it is asked."""
    return rows[["cycle", "state", "month"]].fillna("").astype(str).agg("|".join, axis=1)


def resampled(values, facts, weights=None, seed=0):
    """Means (R,) of values over resamples of the facts they belong to, not of the questions.

    The same facts and seed give the same resamples, so that two models' can be subtracted.
    """
    weights = np.ones(len(values)) if weights is None else np.asarray(weights, float)
    sums = pd.DataFrame({"value": np.asarray(values, float) * weights, "weight": weights})
    by_fact = sums.groupby(np.asarray(facts)).sum().to_numpy()  # (F, 2)
    draws = np.random.default_rng(seed).integers(len(by_fact), size=(RESAMPLES, len(by_fact)))
    value, weight = by_fact[draws].sum(axis=1).T  # (R,) each
    return value / weight


def interval(means):
    """The 95% in the middle of resampled means (R,)."""
    return [round(float(q), 4) for q in np.quantile(means, [0.025, 0.975])]


def summary(graded):
    """Rates per system and set, and over all sets but `against`: one row per score.

    Args: graded, rows of `measure` or `mark` with a column `system`.
    Returns columns system, set, score, mean, interval and questions. Perplexity is
    exp(nats / tokens), left out where a model gives a right token no probability at all. Intervals
    of seconds resample batches.
    """
    records = []
    columns = graded.columns.union([*RATES, "nats", "tokens", "batch", "seconds"], sort=False)
    graded = graded.reindex(columns=columns)
    everything = graded[graded["set"] != "against"].assign(set="all")
    for (system, name), rows in pd.concat([graded, everything]).groupby(
        ["system", "set"], sort=False
    ):
        record = {"system": system, "set": name}
        facts = fact_keys(rows)
        for score in RATES:
            values = rows[score].dropna().astype(float)
            if len(values):
                draws = resampled(values, facts[values.index])
                records.append(record | described(score, values.mean(), draws, len(values)))
        read, timed = (rows[rows[column].notna()] for column in ("tokens", "batch"))
        if len(read) and np.isfinite(read["nats"]).all():
            per_token = read["nats"] / read["tokens"]
            draws = np.exp(resampled(per_token, facts[read.index], read["tokens"]))
            mean = np.exp(read["nats"].sum() / read["tokens"].sum())
            records.append(record | described("perplexity", mean, draws, len(read)))
        if name == "all" and len(timed):
            draws = resampled(timed["seconds"], timed["batch"])
            records.append(
                record | described("seconds", timed["seconds"].mean(), draws, len(timed))
            )
    return pd.DataFrame(records)


def described(score, mean, draws, questions):
    """One row of `summary`."""
    mean = round(float(mean), 4)
    return {"score": score, "mean": mean, "interval": interval(draws), "questions": questions}


def compared(graded, system, others, name, score, ratio):
    """A figure made from several systems' rates on one set, its interval from shared resamples.

    Args: others, names of the systems whose rates `ratio` takes before that of `system`.
    Returns a row like those of `summary` but for the score; None where there is no ratio.
    """
    rows = graded[(graded["set"] == name) & graded[score].notna()]
    if rows.empty:
        return None
    parts = [rows[rows["system"] == each] for each in (*others, system)]
    draws = [resampled(part[score], fact_keys(part)) for part in parts]
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = ratio(*(np.float64(part[score].astype(float).mean()) for part in parts))
        draws = ratio(*draws)
    if not np.isfinite(mean):
        return None
    draws = draws[np.isfinite(draws)]
    return {"system": system, "set": name} | described(score, mean, draws, len(parts[-1]))


def gap_closed(base, direct, system):
    """How far a system gets from M to M tuned directly: (system - base) / (direct - base)."""
    return (system - base) / (direct - base)


def kept(base, system):
    """What share of M's rate a system has."""
    return system / base
