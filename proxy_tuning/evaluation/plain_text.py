"""Plain English that has nothing to do with the polls: what steering does to it.

english   docstrings of installed packages, which nothing of a trio was trained on
general   data/general_text.jsonl, on which a quiet offset is trained
"""

import ast
import importlib.util
import re
from pathlib import Path

import numpy as np
import pandas as pd

from proxy_tuning.evaluation.measures import described, log_likelihoods, moved, offsets, resampled
from proxy_tuning.prompts import continuation, prompt
from proxy_tuning.training.material import general_rows

PACKAGES = ("numpy", "pandas")
FILES = 100  # of them are read, drawn by the seed
PROSE = (300, 700)  # characters of a passage
COUNT = 40  # passages of each kind
READ = 4  # passages read together: logits of a large vocabulary take much room
AFTER_PROSE = re.compile(r"\n\s*[A-Z][\w ]+\n\s*-{3}|>>>|::|\n\s*\.\. |\|")


def english(count=COUNT, seed=0):
    """Passages of prose from the docstrings of `PACKAGES`, drawn by the seed."""
    files, found = [], {}
    for package in PACKAGES:
        for place in importlib.util.find_spec(package).submodule_search_locations:
            paths = sorted(Path(place).rglob("*.py"))
            files += [path for path in paths if "tests" not in path.parts]
    for path in pd.Series(files).sample(FILES, random_state=seed):
        found |= dict.fromkeys(prose_of(path.read_text(encoding="utf-8")))
    return pd.Series(sorted(found)).sample(min(count, len(found)), random_state=seed).tolist()


def prose_of(source):
    """What the docstrings of a module say before they list parameters or show code."""
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef
    for node in ast.walk(ast.parse(source)):
        text = (ast.get_docstring(node) or "") if isinstance(node, kinds) else ""
        text = " ".join(AFTER_PROSE.split(text)[0].split())
        if PROSE[0] <= len(text) <= PROSE[1] and text.isascii():
            yield text


def passages(tokenizer, count=COUNT, seed=0):
    """(kind, pairs of texts): of each pair the second is read after the first."""
    yield "english", [("", text) for text in english(count, seed)]
    chats = general_rows()
    chats = chats[chats["question"].notna() & chats["answer"].str.len().between(*PROSE)]
    chats = chats.sample(min(count, len(chats)), random_state=seed)
    pairs = zip(chats["question"], chats["answer"], strict=True)
    yield "general", [(prompt(q, tokenizer), continuation(a, tokenizer)) for q, a in pairs]


def measure_texts(systems, trios, tokenizer, count=COUNT):
    """Perplexity of every system on the passages, and the trios' offsets, as rows of `summary`.

    The offset is KL(M+ || M-), how far M is moved by it KL(M || steered M), in nats a token. Args: systems, by name; trios, those of them, by
    their names, whose offset is measured.
    """
    records = []
    for kind, pairs in passages(tokenizer, count):
        for name, system in systems.items():
            nats, tokens = log_likelihoods(system, tokenizer, pairs, READ).T
            if not np.isfinite(nats).all():
                continue  # a filter makes some token impossible
            draws = np.exp(resampled(-nats / tokens, range(len(pairs)), tokens))
            mean = np.exp(-nats.sum() / tokens.sum())
            found = described("perplexity", mean, draws, len(pairs))
            records.append({"system": name, "set": f"text: {kind}"} | found)
        for name, trio in trios.items():
            for score, measured in (("offset", offsets), ("moved", moved)):
                kl = measured(trio, tokenizer, pairs, READ)
                found = described(score, kl.mean(), resampled(kl, range(len(kl))), len(kl))
                records.append({"system": name, "set": f"text: {kind}"} | found)
    return records
