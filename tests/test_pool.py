"""Systems measured side by side by Ray's actors: what one after the other gives."""

import sys

import pytest
from conftest import LINES, letter_tokenizer, tiny_trio

from proxy_tuning import ProxyTunedForCausalLM
from proxy_tuning.answering import greedy_answers
from proxy_tuning.evaluation.peers import variant_of
from proxy_tuning.evaluation.pool import each

ray = pytest.importorskip("ray")
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import tests


def test_two_workers_say_what_one_says():
    model, tokenizer = ProxyTunedForCausalLM(*tiny_trio("llama")), letter_tokenizer(LINES)
    systems = {"M": model.base, "M+": model.expert, "steered": model}
    systems["interpolation"] = variant_of(model, mixture=0.5)

    def work(name, system):
        return name, greedy_answers(system, tokenizer, LINES, max_new_tokens=8)

    alone = dict(each(work, systems))
    assert dict(each(work, systems, workers=2)) == alone
    assert list(alone) == list(systems) and all(found[0] == name for name, found in alone.items())
    assert len({str(answers) for _, answers in alone.values()}) == len(systems)


def test_no_worker_is_refused():
    with pytest.raises(ValueError, match="workers must be 1 or more, not 0"):
        list(each(None, {"M": None}, workers=0))
