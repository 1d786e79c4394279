"""The answers that M+ was trained on, kept beside it to be looked up as drafts.

A text that M+ steers mostly says what M+ has learnt, so what follows its last words in a learnt
answer is a guess that costs no pass: retrieval-based speculative decoding (REST, He et al. 2024,
arXiv 2311.08252). Guesses are verified like those of any draft, and change no output.
"""

import json
import os
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import torch

from proxy_tuning.loading import in_one_line
from proxy_tuning.prompts import continuation, prompt

FILE = "learnt.jsonl"
"""In the folder of an M+: a JSON string per answer. Without it there is one draft less."""
MOST = 10_000
"""Answers that are kept."""
LONGEST = 32
"""Tokens of a text that are compared."""
BEFORE = 3
"""Tokens of the prompt that stand before every answer, so that its beginning is found as well."""


class LearntAnswers:
    """Texts to look up in.

    Args:
        answers: the token ids of each, with what stands before it.
    """

    def __init__(self, answers: list[list[int]]):
        lengths = torch.tensor([len(ids) for ids in answers])
        self.ids = torch.tensor(list(chain(*answers)))  # (S,) int64: one after the other
        self.answer = torch.arange(len(answers)).repeat_interleave(lengths)  # (S,): whose
        self.before = torch.cat([torch.arange(n) for n in lengths.tolist()])  # (S,): tokens
        self.after = lengths[self.answer] - 1 - self.before
        self.holder, self.held = torch.stack([self.answer, self.ids]).unique(dim=1)  # (P,) each
        holders = self.held.bincount()  # by token
        self.rarity = (len(answers) / holders[self.held]).log()  # (P,) float32
        self.weight = self.summed(self.rarity)  # by answer

    def summed(self, values: torch.Tensor) -> torch.Tensor:
        """Values of the (answer, token) pairs (P,), added up by answer."""
        return torch.zeros(int(self.holder[-1]) + 1).index_add(0, self.holder, values)

    def following(self, text: torch.Tensor, count: int) -> torch.Tensor:
        """At most `count` tokens that follow the longest suffix of a text (T,) in an answer.

        Of several answers it is the one of which most stands in the whole text, a token counting
        the logarithm of how rare it is among the answers. All int64, on the CPU.
        """
        places = ((self.ids == text[-1]) & (self.after > 0)).nonzero()[:, 0]
        for back in range(1, min(LONGEST, len(text))):
            longer = places[self.before[places] >= back]
            longer = longer[self.ids[longer - back] == text[-1 - back]]
            if not len(longer):
                break
            places = longer
        if not len(places):
            return text[:0]
        said = torch.zeros(int(torch.cat([self.held, text]).max()) + 1)  # by token
        said[text] = 1.0
        shared = self.summed(self.rarity * said[self.held]) / self.weight.clamp(min=1e-6)
        place = places[shared[self.answer[places]].argmax()] + 1
        return self.ids[place:][: min(count, int(self.after[place - 1]))]


def write_learnt(folder: str | os.PathLike, answers: Iterable[str]) -> None:
    """Keep the first `MOST` different answers in the folder of an M+."""
    lines = [json.dumps(answer) + "\n" for answer in dict.fromkeys(answers)]
    Path(folder, FILE).write_text("".join(lines[:MOST]), encoding="utf-8")


def read_learnt(folder: str | os.PathLike, tokenizer) -> LearntAnswers | None:
    """What `write_learnt` kept, as tokens; None where there is nothing.

    Raises:
        ValueError: the file has a line that is no JSON string.
    """
    path = Path(folder, FILE)
    if not path.is_file():
        return None
    with in_one_line(path):
        answers = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if not all(isinstance(answer, str) for answer in answers):
            raise ValueError("every line must be an answer, a JSON string")
    if not answers:
        return None
    start = tokenizer(prompt("?", tokenizer))["input_ids"][-BEFORE:]
    texts = [continuation(answer, tokenizer) for answer in answers]
    said = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return LearntAnswers([start + ids + [tokenizer.eos_token_id] for ids in said])
