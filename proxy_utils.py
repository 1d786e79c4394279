"""What the notebooks import, from one place; nothing is defined here."""

from proxy_tuning import ProxyTunedForCausalLM, load_family, proxy_logits
from proxy_tuning.analysis import what_each_wanted
from proxy_tuning.app import build_app, launch
from proxy_tuning.decoding import answer_questions, greedy_answers, stream, stream_side_by_side
from proxy_tuning.evaluate import score_by_split
from proxy_tuning.families import FAMILIES, load_part, resolve_family
from proxy_tuning.finetune import DATA, RECIPES, encode, finetune, training_rows
from proxy_tuning.material import read_rows
from proxy_tuning.plots import accuracy_by_split, loss_curves
from proxy_tuning.polls import load_facts
from proxy_tuning.questions import ask, make_facts, prompt

__all__ = [
    "DATA",
    "FAMILIES",
    "RECIPES",
    "ProxyTunedForCausalLM",
    "accuracy_by_split",
    "answer_questions",
    "ask",
    "build_app",
    "encode",
    "finetune",
    "greedy_answers",
    "launch",
    "load_facts",
    "load_family",
    "load_part",
    "loss_curves",
    "make_facts",
    "prompt",
    "proxy_logits",
    "read_rows",
    "resolve_family",
    "score_by_split",
    "stream",
    "stream_side_by_side",
    "training_rows",
    "what_each_wanted",
]
