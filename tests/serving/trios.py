"""The trios that are served in the tests, and what this package's own loops say of them.

vLLM's attention on a CPU needs heads of a multiple of 32; base and small models differ in it.
"""

import copy
import functools

import torch
from conftest import VOCAB, letter_tokenizer, tiny_model
from oracle import steered_logits

from proxy_tuning import Line, ProxyTunedForCausalLM, load_family
from proxy_tuning.prompts import prompt

TOKENS = 16
QUESTIONS = [
    f"{who} in {where} in {when}?"
    for who in ("Who led the polls", "What did the polls say")
    for where in ("Ohio", "Texas", "Florida")
    for when in ("May 2024", "October 2020", "July 2016")
]


@functools.cache
def trio(kind: str) -> tuple:
    """(base, expert, antiexpert): 64-wide heads against 32-wide ones; llama has grouped queries."""
    large, small = ("llama", "gpt2") if kind == "mixed" else (kind, kind)
    return (
        tiny_model(large, 1, layers=3, width=256, spread=0.1),
        tiny_model(small, 2, width=128, spread=0.15),
        tiny_model(small, 3, width=128, spread=0.15),
    )


def model_of(kind: str, alpha=0.7, more_experts=(), **line) -> ProxyTunedForCausalLM:
    base, expert, antiexpert = trio(kind)
    experts = [expert, *more_experts] if more_experts else expert
    return ProxyTunedForCausalLM(base, experts, antiexpert, alpha=alpha, line=Line(**line))


def prompts(*lengths: int) -> list[list[int]]:
    """Random prompts of these lengths."""
    generator = torch.Generator().manual_seed(len(lengths))
    return [torch.randint(1, VOCAB, (n,), generator=generator).tolist() for n in lengths]


def saved(model: ProxyTunedForCausalLM, folder, **options) -> str:
    """A folder as a user would write it: the model and a tokenizer."""
    model.save_pretrained(folder, **options)
    letter_tokenizer().save_pretrained(folder)
    return str(folder)


def greedy(model, prompts: list[list[int]], alphas=None, tokens: int = TOKENS) -> list[list[int]]:
    """What our own loop says, one prompt after the other; it never stops early."""
    answers = []
    for ids, alpha in zip(prompts, alphas or [None] * len(prompts), strict=True):
        out = model.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            do_sample=False,
            max_new_tokens=tokens,
            eos_token_id=model.config.vocab_size + 1,
            pad_token_id=0,
            alpha=alpha,
        )
        answers.append(out[0, len(ids) :].tolist())
    return answers


@functools.cache
def exact_trio(kind: str) -> tuple:
    """`trio` in float64: what rounding in float32 is measured against."""
    return tuple(copy.deepcopy(part).double() for part in trio(kind))


@torch.no_grad()
def log_probabilities(kind: str, ids: list[int], alpha: float) -> torch.Tensor:
    """After one prompt, by three whole passes in float64, (V,)."""
    return steered_logits(*exact_trio(kind), torch.tensor([ids]), alpha).log_softmax(-1)[0]


@functools.cache
def pocket() -> tuple:
    """(model, tokenizer, prompts) of the embedded family."""
    model, tokenizer = load_family("pocket")
    return model, tokenizer, [tokenizer(prompt(each, tokenizer))["input_ids"] for each in QUESTIONS]
