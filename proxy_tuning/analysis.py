"""What steering changed, token by token, as DataFrames."""

import pandas as pd

from proxy_tuning.decoding import stream
from proxy_tuning.questions import prompt


def what_each_wanted(model, tokenizer, question, max_new_tokens=60, alpha=None):
    """The steered greedy answer, one row per token: the first choice of each model there.

    Returns columns token, M, M-, M+ and steered ('Harris' 0.98: the likeliest token and its
    probability), and changed, which marks the tokens that M alone would not have taken.
    """
    ids = tokenizer(prompt(question), return_tensors="pt").input_ids.to(model.device)
    rows = []
    for step in stream(model, ids, max_new_tokens=max_new_tokens, alpha=alpha):
        row = {"token": repr(tokenizer.decode(step.next_ids))}
        wishes = {"M": step.base, "M-": step.antiexpert, "M+": step.expert, "steered": step.steered}
        for name, logits in wishes.items():
            probability, token = logits[0].softmax(-1).max(-1)
            row[name] = f"{tokenizer.decode(token)!r} {probability:.2f}"
        row["changed"] = "*" if step.base.argmax() != step.next_ids else ""
        rows.append(row)
    return pd.DataFrame(rows)
