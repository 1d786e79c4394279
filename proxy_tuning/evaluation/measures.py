"""Questions put to one model, and what its answers are worth: likelihoods, rates and intervals."""

import time

import numpy as np
import pandas as pd
import torch
from scipy.stats import bootstrap
from tqdm.auto import tqdm

from proxy_tuning.answering import greedy_answers
from proxy_tuning.logits import divergence
from proxy_tuning.prompts import continuation, prompt

RESAMPLES = 1000
BATCH = 64  # questions answered together
READ = 16  # texts read together: all their logits are in memory at once


def measure(model, tokenizer, rows, judge, progress=False):
    """Ask a model every question: one judged row per row.

    Args: model, any causal language model; rows and judge as a `Task` has them. Returns the columns
    of `judge`, and besides
        leader_likelier   whether the likely candidate is likelier than the unlikely one
        nats, tokens      of the right answer after its question, where it is to be read
        batch, seconds    which questions were answered together, and how long each took
        written           tokens of the answer
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
    told["written"] = [len(ids) for ids in tokenizer(texts)["input_ids"]]

    known = once[once["read"]]
    found = log_likelihoods(model, tokenizer, after_prompts(known, known["answer"], tokenizer))
    told.loc[known["question"], "nats"] = -found[:, 0]
    told.loc[known["question"], "tokens"] = found[:, 1]
    if "likely" in once:
        led = once[once["likely"].notna()]
        likely, unlikely = (
            log_likelihoods(model, tokenizer, continued(led, column, tokenizer))[:, 0]
            for column in ("likely", "unlikely")
        )
        told.loc[led["question"], "leader_likelier"] = likely > unlikely
    told = told.loc[rows["question"]].reset_index(drop=True)
    judged = judge(rows, told["answered"])
    return judged.assign(**told.drop(columns="answered"))


def after_prompts(rows, answers, tokenizer):
    """Pairs of texts: the prompt of each question, and an answer as it follows."""
    return [
        (prompt(question, tokenizer), continuation(answer, tokenizer))
        for question, answer in zip(rows["question"], answers, strict=True)
    ]


def continued(rows, column, tokenizer):
    r"""Pairs of texts: prompt and the answer's beginning, and how it goes on in that column.

    Question: Who led ... ?\nAnswer: In Ohio in May 2024,  |  Trump led
    """
    pairs = zip(after_prompts(rows, rows["beginning"], tokenizer), rows[column], strict=True)
    return [(start + beginning, rest) for (start, beginning), rest in pairs]


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


def disagreement(model, tokenizer, questions, answers, batch_size=READ):
    """Mean KL(M+ || M-) in nats over the tokens of each answer after its question, (N,)."""
    pairs = after_prompts({"question": questions}, answers, tokenizer)
    return offsets(model, tokenizer, pairs, batch_size)


def offsets(model, tokenizer, pairs, batch_size=READ):
    """Mean KL(M+ || M-) in nats over the tokens of each second text after its first, (N,)."""
    parts = [next(iter(parts)) for parts in (model.experts, model.antiexperts)]
    readers = [lambda ids, mask, part=part: model.run(part, ids, mask) for part in parts]
    return divergences(*readers, tokenizer, pairs, batch_size)


def moved(model, tokenizer, pairs, batch_size=READ):
    """Mean KL(M || steered M) in nats over the tokens of each second text after its first, (N,)."""
    readers = [
        lambda ids, mask, m=m: m(input_ids=ids, attention_mask=mask).logits
        for m in (model.base, model)
    ]
    return divergences(*readers, tokenizer, pairs, batch_size)


@torch.no_grad()
def divergences(first, second, tokenizer, pairs, batch_size):
    """Mean KL(first || second) in nats over the tokens of each second text after its first, (N,).

    Args: first and second give logits (B, T, V) of ids (B, T) and their mask.
    """
    found = []
    for ids, mask, target in text_batches(tokenizer, pairs, batch_size):
        p, q = (read(ids, mask)[:, :-1].float().log_softmax(-1) for read in (first, second))
        kl = divergence(p, q).cpu()  # (B, T - 1)
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


# From questions to rates


def resampled(values, facts, weights=None, seed=0):
    """Means (R,) of values over resamples of the facts they belong to, not of the questions.

    scipy's bootstrap knows no clusters, so it is given each fact's sums. The same facts and seed give
    the same resamples, so that two models' can be subtracted.
    """
    weights = np.ones(len(values)) if weights is None else np.asarray(weights, float)
    sums = pd.DataFrame({"value": np.asarray(values, float) * weights, "weight": weights})
    by_fact = sums.groupby(np.asarray(facts)).sum()  # (F, 2)
    if len(by_fact) == 1:
        return np.full(RESAMPLES, (by_fact["value"] / by_fact["weight"]).item())
    return bootstrap(
        (by_fact["value"], by_fact["weight"]),
        lambda value, weight, axis: value.sum(axis) / weight.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=seed,
    ).bootstrap_distribution


def interval(means):
    """The 95% in the middle of resampled means (R,)."""
    return [round(float(q), 4) for q in np.quantile(means, [0.025, 0.975])]


def summary(graded, task):
    """Rates per system and set, and over all sets but `task.apart`: one row per score.

    Args: graded, rows of `measure` or `task.judge` with a column `system`.
    Returns columns system, set, score, mean, interval and questions. Perplexity is
    exp(nats / tokens), left out where a model gives a right token no probability at all. Intervals
    of seconds and of ms_per_token resample batches.
    """
    records = []
    columns = [*task.scores, "nats", "tokens", "batch", "seconds", "written"]
    graded = graded.reindex(columns=graded.columns.union(columns, sort=False))
    everything = graded[~graded["set"].isin(task.apart)].assign(set="all")
    groups = pd.concat([graded, everything]).groupby(["system", "set"], sort=False)
    for (system, name), rows in groups:
        record = {"system": system, "set": name}
        for score in task.scores:
            values = rows[score].dropna().astype(float)
            if len(values):
                draws = resampled(values, rows.loc[values.index, "fact"])
                records.append(record | described(score, values.mean(), draws, len(values)))
        read, timed = (rows[rows[column].notna()] for column in ("tokens", "batch"))
        if len(read) and np.isfinite(read["nats"]).all():
            per_token = read["nats"] / read["tokens"]
            draws = np.exp(resampled(per_token, read["fact"], read["tokens"]))
            mean = np.exp(read["nats"].sum() / read["tokens"].sum())
            records.append(record | described("perplexity", mean, draws, len(read)))
        if name == "all" and len(timed):
            draws = resampled(timed["seconds"], timed["batch"])
            records.append(
                record | described("seconds", timed["seconds"].mean(), draws, len(timed))
            )
            written = timed["written"].clip(lower=1)
            draws = resampled(1000 * timed["seconds"] / written, timed["batch"], written)
            mean = 1000 * timed["seconds"].sum() / written.sum()
            records.append(record | described("ms_per_token", mean, draws, len(timed)))
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
    draws = [resampled(part[score], part["fact"]) for part in parts]
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
