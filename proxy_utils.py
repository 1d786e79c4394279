"""What the notebooks import, from one place; nothing is defined here."""

from proxy_tuning import ProxyTunedForCausalLM, load_family, proxy_logits
from proxy_tuning.answering import answer_questions, greedy_answers
from proxy_tuning.decoding import stream, stream_side_by_side
from proxy_tuning.evaluation.analysis import (
    answer_both_worlds,
    both_worlds,
    by_case,
    by_class,
    by_step,
    cases,
    kl_tells,
    watch,
    what_each_wanted,
    word_classes,
)
from proxy_tuning.evaluation.evaluate import alpha_sweep, score_by_split
from proxy_tuning.evaluation.plots import (
    accuracy_by_shown,
    accuracy_by_split,
    alpha_tradeoff,
    changed_by_step,
    coloured_text,
    frontier,
    kl_by_case,
    loss_curves,
    peers,
    search_ranks,
    steering_by_class,
)
from proxy_tuning.evaluation.poll_task import all_facts, polls_task
from proxy_tuning.evaluation.reports import markdown
from proxy_tuning.families import FAMILIES, load_part, resolve_family
from proxy_tuning.logits import PLAIN
from proxy_tuning.parts import bare
from proxy_tuning.polls.facts import make_facts
from proxy_tuning.polls.questions import ask
from proxy_tuning.polls.tables import load_facts
from proxy_tuning.prompts import prompt
from proxy_tuning.records import DATA, ROOT
from proxy_tuning.training.endings import load_expert, place_for
from proxy_tuning.training.finetune import finetune
from proxy_tuning.training.material import read_rows
from proxy_tuning.training.mixture import training_rows
from proxy_tuning.training.packing import encode
from proxy_tuning.training.recipes import BRIEF, RECIPES, choose_recipe
from proxy_tuning.widget.page import build_app, launch

__all__ = [
    "BRIEF",
    "DATA",
    "FAMILIES",
    "PLAIN",
    "RECIPES",
    "ROOT",
    "ProxyTunedForCausalLM",
    "accuracy_by_shown",
    "accuracy_by_split",
    "all_facts",
    "alpha_sweep",
    "alpha_tradeoff",
    "answer_both_worlds",
    "answer_questions",
    "ask",
    "bare",
    "both_worlds",
    "build_app",
    "by_case",
    "by_class",
    "by_step",
    "cases",
    "changed_by_step",
    "choose_recipe",
    "coloured_text",
    "encode",
    "finetune",
    "frontier",
    "greedy_answers",
    "kl_by_case",
    "kl_tells",
    "launch",
    "load_expert",
    "load_facts",
    "load_family",
    "load_part",
    "loss_curves",
    "make_facts",
    "markdown",
    "peers",
    "prompt",
    "place_for",
    "polls_task",
    "proxy_logits",
    "read_rows",
    "resolve_family",
    "search_ranks",
    "score_by_split",
    "steering_by_class",
    "stream",
    "stream_side_by_side",
    "training_rows",
    "watch",
    "what_each_wanted",
    "word_classes",
]
