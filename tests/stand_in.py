"""A random trio of single letters, and what the tests of the widget ask it."""

import functools

from conftest import letter_tokenizer, tiny_trio

from proxy_tuning import ProxyTunedForCausalLM
from proxy_tuning.polls.tables import load_facts
from proxy_tuning.records import DATA
from proxy_tuning.widget import asking, stories, topics

TABLES = load_facts(DATA)
POLLS = topics.Polls(TABLES)
QUESTION = "Who led in Ohio in May 2020?"
OCTOBER = "Who led the polls in Pennsylvania in October 2024?"
LENGTH = 12


@functools.cache
def stand_in():
    """A random trio that reads and writes single letters, and its tokenizer."""
    return ProxyTunedForCausalLM(*tiny_trio("gpt2")), letter_tokenizer()


def ask(question=QUESTION, **settings):
    """The finished story of one question."""
    settings = {"length": LENGTH} | settings
    *_, story = stories.answer(*stand_in(), POLLS, asking.Ask(question, **settings))
    return story
