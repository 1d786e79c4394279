"""Other ways to steer M with the same three models, each with its strength chosen as alpha is."""

import dataclasses

from proxy_tuning.logits import INSTEAD
from proxy_tuning.model import ProxyTunedForCausalLM
from proxy_tuning.parts import whole
from proxy_tuning.polls.facts import make_facts
from proxy_tuning.prompts import continuation, prompt

ALPHAS = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
"""From these the alpha of the reports is chosen, on validation wordings."""
PEERS = {
    "interpolation, {:g} of M+": ("mixture", (0.1, 0.25, 0.5, 0.75, 0.9, 0.95)),
    "product of experts, weight {:g}": ("product", (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)),
    "contrast of M and M-, strength {:g}": ("contrast", (0.1, 0.25, 0.5, 1.0, 1.5, 2.0)),
    "nudging where M is under {:g}": ("nudging", (0.3, 0.5, 0.7, 0.8, 0.9, 0.99)),
    "DExperts' filter, top-p {:g}": ("base_top_p", (0.5, 0.8, 0.9, 0.95, 0.99, 0.999)),
    "gate where M+ moved {:g} nats": ("gate", (1.0, 0.5, 0.3, 0.1, 0.03, 0.01)),
}
"""By how their rows are called: the field of `Line`, and as many values to choose from as alpha has.

Those nearest to M come first, and win a tie.
"""
PROMPTED = "prompted proxies, alpha {:g}"
"""The row of `prompted`."""


def variant_of(model, experts=None, alpha=None, **variant):
    """Another `ProxyTunedForCausalLM` of the same weights: other experts, alpha or variant."""
    if any(name in INSTEAD for name in variant):
        variant = dict.fromkeys(INSTEAD) | variant
    other = ProxyTunedForCausalLM(
        model.base,
        model.expert if experts is None else experts,
        model.antiexpert,
        model.alpha if alpha is None else alpha,
        line=dataclasses.replace(model.line, **variant),
    )
    other.generation_config, other.draft = model.generation_config, model.draft
    return other


def prompted(model, tokenizer, told, alphas):
    """A trio for each alpha whose M+ is M- to which `told` was said before every text: no training.

    "An Emulator for Fine-Tuning Large Language Models" (arXiv 2310.12962) has the line; that a
    prompt may take the place of fine-tuning is model arithmetic's (arXiv 2311.14479). All share one
    copy of M-.
    """
    small = whole(model.antiexpert).eval()
    turn = prompt(told, tokenizer) + continuation("Understood.", tokenizer)
    prefix = [*tokenizer(turn)["input_ids"], tokenizer.eos_token_id]
    return {
        alpha: ProxyTunedForCausalLM(model.base, small, small, alpha, expert_prefix=prefix)
        for alpha in alphas
    }


def last_figures(tables, states):
    """The sentences on the last polls and the result of 2024, few enough to be read each time."""
    facts = make_facts(tables, [2024], states)
    return "\n".join(facts.loc[facts["kind"].isin(("final", "result")), "answer"])


def peers_of(model, tokenizer, qualities, told):
    """The peers by the names of their rows, each at the value of the highest quality.

    Args: qualities, from {name: system} to {name: a number}; told, the text of `prompted`.
    """
    tried = {
        (row, value): variant_of(model, **{field: value})
        for row, (field, values) in PEERS.items()
        for value in values
    }
    prompts = prompted(model, tokenizer, told, ALPHAS)
    tried |= {(PROMPTED, alpha): system for alpha, system in prompts.items()}
    found = qualities(tried)
    best = {
        row: max((v for r, v in tried if r == row), key=lambda v: found[row, v]) for row, _ in tried
    }
    return {row.format(value): tried[row, value] for row, value in best.items()}
