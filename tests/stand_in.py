"""A random trio of single letters, and what the tests of the widget ask it."""

import functools

from conftest import letter_tokenizer, tiny_trio

from proxy_tuning import ProxyTunedForCausalLM
from proxy_tuning.polls import checking, reading
from proxy_tuning.polls.tables import load_facts
from proxy_tuning.records import DATA
from proxy_tuning.widget import asking

TABLES = load_facts(DATA)
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
    *_, story = asking.answer(*stand_in(), TABLES, asking.Ask(question, **settings))
    return story


def facts_of(question):
    """What is asked, and what the tables say."""
    asked = reading.read_question(question, TABLES)
    return asked, checking.look_up(asked, TABLES)
