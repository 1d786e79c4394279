"""Completions of a benchmark's prompts, in the form that the benchmark's own public scorer reads."""

import functools
import json
import os
from pathlib import Path

import pandas as pd
import torch
from tqdm.auto import tqdm

from proxy_tuning.answering import resolve_draft, write
from proxy_tuning.decoding import Beginning
from proxy_tuning.model import ProxyTunedForCausalLM

FORMS = {
    "humaneval": {"prompt": "prompt", "keep": ["task_id"], "output": "completion"},
    "ds1000": {"prompt": "prompt", "keep": ["metadata"], "output": "code"},
    "alpaca_eval": {"prompt": "instruction", "keep": ["instruction"], "output": "output"},
    "toxigen": {"prompt": "text", "keep": ["text", "target_groups"], "output": "prediction"},
    "truthfulqa": {"prompt": "Question", "keep": None, "output": "proxy-tuned"},
}
"""Per form the column that is continued, those that the scorer needs (None: all), and where the
completion goes."""


def read_prompts(path):
    """A table from a .jsonl, .json (a list) or .csv file."""
    path = Path(path)
    if path.suffix not in (".jsonl", ".json", ".csv"):
        raise ValueError(f"prompts come as .jsonl, .json or .csv, not {path.name}")
    if path.suffix == ".csv":
        return pd.read_csv(path)
    text = path.read_text(encoding="utf-8")
    lines = text.split("\n") if path.suffix == ".jsonl" else []
    return pd.DataFrame([json.loads(line) for line in lines if line] or json.loads(text))


def complete(
    model,
    tokenizer,
    prompts,
    *,
    max_new_tokens=512,
    samples=1,
    temperature=0.0,
    stop=(),
    batch_size=8,
    seed=0,
):
    """What the model writes after each prompt: `samples` texts per prompt, cut at the first `stop`.

    Without drafts, what all prompts begin with is read once.

    Args: temperature 0 takes the likeliest token, above 0 samples by the seed.
    """
    torch.manual_seed(seed)
    given = {"max_new_tokens": max_new_tokens, "temperature": temperature}
    if not isinstance(model, ProxyTunedForCausalLM) or len(model.experts) > 1:
        go_on = generator(model, tokenizer, None, **given)
    elif resolve_draft(model, temperature=temperature) == "none":
        shared = os.path.commonprefix([ids[:-1] for ids in tokenizer(list(prompts))["input_ids"]])
        shares = shared and not any(model.new_cache().is_sliding)
        beginning = Beginning(model, shared) if shares else None
        go_on = generator(model, tokenizer, beginning, **given)
    else:
        go_on = functools.partial(write, model, **given)
    prompts = [prompt for prompt in prompts for _ in range(samples)]
    texts = []
    for start in tqdm(range(0, len(prompts), batch_size), desc="completing", unit="batch"):
        batch = prompts[start : start + batch_size]
        inputs = tokenizer(batch, return_tensors="pt", padding=True).to(model.device)
        new_ids = go_on(inputs["input_ids"], inputs["attention_mask"])
        texts += tokenizer.batch_decode(new_ids, skip_special_tokens=True)
    return [cut(text, stop) for text in texts]


def generator(model, tokenizer, beginning, *, max_new_tokens, temperature):
    """From prompts (B, T) and a mask the new tokens (B, N), by `generate`.

    Args: beginning, a `Beginning` that all prompts share, or None.
    """
    sampling = {"do_sample": True, "temperature": temperature, "top_k": 0}

    def go_on(input_ids, attention_mask):
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        ids = model.generate(
            **(beginning.inputs(**inputs) if beginning else inputs),
            max_new_tokens=max_new_tokens,
            pad_token_id=tokenizer.pad_token_id,
            **(sampling if temperature > 0 else {"do_sample": False}),
        )
        return ids[:, input_ids.shape[1] :]

    return go_on


def cut(text, stop):
    """The text before the first of these strings."""
    return text[: min((text.find(s) for s in stop if s in text), default=len(text))]


def export(model, tokenizer, source, output, form, samples=1, temperature=0.0, **options):
    """Complete the prompts of a benchmark's own file and write what its scorer reads.

    Args: source, the benchmark's file; output, .jsonl, .json or .csv; form, one of `FORMS`; the
    rest as for `complete`.
    Raises ValueError, before any work, for an unknown form, a file without the form's columns, or
    several samples without a temperature.
    """
    if form not in FORMS:
        raise ValueError(f"form must be one of {', '.join(FORMS)}, not {form!r}")
    if samples > 1 and not temperature > 0:
        raise ValueError(f"{samples} samples need a temperature above 0")
    if Path(output).suffix not in (".jsonl", ".json", ".csv"):
        raise ValueError(f"completions are written as .jsonl, .json or .csv, not {output}")
    names, rows = FORMS[form], read_prompts(source)
    keep = list(rows.columns) if names["keep"] is None else names["keep"]
    if missing := {names["prompt"], *keep} - set(rows.columns):
        raise ValueError(f"{source} has no {', '.join(sorted(missing))}: not a file for {form}")
    prompts = rows[names["prompt"]].tolist()
    if form == "truthfulqa":
        prompts = [f"{prompt}\n\nAnswer:" for prompt in prompts]
    texts = complete(model, tokenizer, prompts, samples=samples, temperature=temperature, **options)
    done = rows.loc[rows.index.repeat(samples), keep].assign(**{names["output"]: texts})
    if form == "alpaca_eval":
        done["generator"] = "proxy-tuned"
    if form in ("alpaca_eval", "truthfulqa"):
        done[names["output"]] = done[names["output"]].str.strip()
    write_table(done, Path(output))


def write_table(rows, path):
    """A table as .jsonl, .json (a list) or .csv."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        rows.to_csv(path, index=False)
    else:
        rows.to_json(path, orient="records", lines=path.suffix == ".jsonl", force_ascii=False)
