"""Other ways to steer, as rows of the table."""

import torch
from conftest import LINES, letter_tokenizer, tiny_trio
from oracle import greedy

from proxy_tuning import ProxyTunedForCausalLM
from proxy_tuning.evaluation.peers import PEERS, PROMPTED, last_figures, peers_of, prompted
from proxy_tuning.polls.elections import NATIONAL
from proxy_tuning.polls.tables import load_facts
from proxy_tuning.records import DATA
from proxy_tuning.training.finetune import with_adapter

TOLD = "Trump won."


def test_a_prompt_takes_the_place_of_fine_tuning():
    """M- that was told against M- that was not, by the naive loop; a LoRA M+ has no part in it."""
    tokenizer = letter_tokenizer(LINES)
    base, small, _ = tiny_trio("llama")
    plain, tuned = tiny_trio("llama")[1], with_adapter(small, 4)
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight.data)
    model = prompted(ProxyTunedForCausalLM(base, tuned.eval()), tokenizer, TOLD, [1.5])[1.5]
    ids = tokenizer("Who won?", return_tensors="pt")["input_ids"]
    told = f"Question: {TOLD}\nAnswer: Understood.<end>"
    both = torch.cat([tokenizer(told, return_tensors="pt")["input_ids"], ids], 1)
    expected = greedy(base, plain, plain, ids, 1.5, 8, expert_ids=both)
    found = model.generate(ids, max_new_tokens=8, do_sample=False, eos_token_id=None)
    assert torch.equal(found, expected)


def test_every_peer_has_the_value_of_the_highest_quality():
    model = ProxyTunedForCausalLM(*tiny_trio("gpt2"))
    wanted = {name: values[2] for name, (_, values) in PEERS.items()}

    def quality(system):
        chosen = [getattr(system.line, field) for field, _ in PEERS.values()]
        if chosen == [None] * len(chosen):
            return system.alpha == 1.25
        return any(value in wanted.values() for value in chosen if value is not None) and all(
            value in (None, PEERS[name][1][2]) for name, value in zip(PEERS, chosen, strict=True)
        )

    def qualities(tried):
        return {name: quality(system) for name, system in tried.items()}

    found = peers_of(model, letter_tokenizer(LINES), qualities, TOLD)
    assert list(found) == [
        *(name.format(value) for name, value in wanted.items()),
        PROMPTED.format(1.25),
    ]


def test_what_is_told_are_the_last_polls_and_the_result():
    lines = last_figures(load_facts(DATA), ["Pennsylvania", NATIONAL]).split("\n")
    assert len(lines) == 4
    assert sum("before the 2024 election" in line for line in lines) == 2
    assert sum("won" in line for line in lines) == 2
