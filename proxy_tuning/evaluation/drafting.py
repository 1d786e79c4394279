"""How many of the tokens that a draft proposes are kept, in the domain of M+ and out of it."""

import time

from proxy_tuning.prompts import prompt
from proxy_tuning.speculative import speculate

GAMMA = 3
COUNT = 12  # questions of each set
DRAFTS = ("none", "ngram", "expert")
LENGTH = 40  # tokens of an answer


def measure_drafts(model, tokenizer, sets, count=COUNT):
    """A row per draft and set: acceptance rate, tokens a round of one text, tokens a second.

    Questions are answered in one batch with a fixed gamma, so that the acceptance rate does not
    hang on the machine; tokens a second are of that batch. Args: sets, an `asked_sets.Sets`.
    """
    records = []
    for name, rows in sets.drawn(("typed", "near_misses"), count).items():
        prompts = [prompt(question, tokenizer) for question in rows["question"]]
        inputs = tokenizer(prompts, return_tensors="pt", padding=True).to(model.device)
        for draft in DRAFTS:
            found = accepted(model, inputs, draft)
            records.append({"draft": draft, "set": name, "questions": len(rows)} | found)
    return records


def accepted(model, inputs, draft, gamma=GAMMA, length=LENGTH):
    """What one draft gives on a batch of prompts: see `measure_drafts`."""
    tokens = proposed = kept = rounds = 0
    begun = time.perf_counter()
    for done in speculate(
        model,
        inputs["input_ids"],
        inputs["attention_mask"],
        max_new_tokens=length,
        draft=draft,
        gamma=0 if draft == "none" else gamma,
    ):
        tokens += int(done.counts.sum())
        rounds += len(done.rows)
        proposed += (done.ids.shape[1] - 1) * len(done.rows)
        kept += int(done.accepted.sum())
    return {
        "gamma": gamma if proposed else 0,
        "acceptance_rate": round(kept / proposed, 4) if proposed else None,
        "tokens_per_round": round(tokens / rounds, 3),
        "tokens_per_second": round(tokens / (time.perf_counter() - begun), 2),
    }
