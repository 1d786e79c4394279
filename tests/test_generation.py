"""`generate` in every mode that transformers has, against the same loops over a naive sum."""

import pytest
import torch
from conftest import CLOSE, letter_tokenizer, tiny_model, tiny_trio
from oracle import Naive, greedy
from transformers import (
    LogitsProcessorList,
    pipeline,
    set_seed,
)

from proxy_tuning import ProxyTunedForCausalLM, generation

GREEDY = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None}

MODES = {
    "greedy": {},
    "sampling": {"do_sample": True, "top_k": 0},
    "filters": {"do_sample": True, "top_k": 9, "top_p": 0.9, "min_p": 0.01, "temperature": 1.4},
    "returns": {"do_sample": True, "num_return_sequences": 3},
    "beams": {"num_beams": 3},
    "beam returns": {"num_beams": 4, "num_return_sequences": 2, "length_penalty": 2.0},
    "beam sampling": {"num_beams": 3, "do_sample": True},
    "processors": {"repetition_penalty": 1.5, "no_repeat_ngram_size": 2, "bad_words_ids": [[7]]},
    "end of text": {"eos_token_id": list(range(1, 9)), "num_beams": 2},
    "chunked": {"prefill_chunk_size": 4},
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_equals_the_naive_sum(model, trio, batch, mode):
    """Same seed, same loop, whole sequences recomputed on the other side; a left-padded batch."""
    settings = GREEDY | MODES[mode] | {"pad_token_id": 0}
    set_seed(7)
    ours = model.generate(**batch, **settings)
    set_seed(7)
    theirs = Naive(*trio, 0.7).generate(
        **batch, **settings | {"use_cache": False, "prefill_chunk_size": None}
    )
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("mode", ["greedy", "sampling", "beams", "beam sampling"])
def test_alpha_zero_is_the_base_in_every_mode(trio, batch, mode):
    settings = GREEDY | MODES[mode] | {"pad_token_id": 0}
    model = ProxyTunedForCausalLM(*trio, alpha=0.0)
    set_seed(7)
    ours = model.generate(**batch, **settings)
    set_seed(7)
    assert torch.equal(ours, trio[0].generate(**batch, **settings))


def test_scores_and_raw_logits(model, trio, prompt):
    out = model.generate(
        prompt,
        **GREEDY | {"max_new_tokens": 3},
        temperature=None,
        repetition_penalty=1.2,
        return_dict_in_generate=True,
        output_scores=True,
        output_logits=True,
    )
    naive = Naive(*trio, 0.7)(out.sequences[:, :-1]).logits[:, 6:]
    torch.testing.assert_close(torch.stack(out.logits, 1), naive, **CLOSE)
    assert not torch.equal(out.scores[0], out.logits[0])
    assert out.past_key_values.get_seq_length() == 9


def test_streamer_and_custom_processor(model, prompt):
    class Collect:
        def __init__(self):
            self.tokens = []

        def put(self, tokens):
            self.tokens += tokens.flatten().tolist()

        def end(self):
            self.tokens.append("end")

    streamer = Collect()
    processors = LogitsProcessorList([lambda ids, scores: scores.masked_fill_(one_of_two, -1e9)])
    one_of_two = torch.arange(model.config.vocab_size) % 2 == 0
    out = model.generate(prompt, **GREEDY, streamer=streamer, logits_processor=processors)
    assert streamer.tokens == out[0].tolist() + ["end"]
    assert (out[0, 7:] % 2 == 1).all()


def test_stop_strings(prompt):
    model, tokenizer = ProxyTunedForCausalLM(*tiny_trio("gpt2")), letter_tokenizer()
    free = model.generate(prompt, **GREEDY)[0, 7:].tolist()
    stop = tokenizer.decode([free[3]])
    out = model.generate(prompt, **GREEDY, stop_strings=stop, tokenizer=tokenizer)
    assert out[0, 7:].tolist() == free[: free.index(free[3]) + 1]


@pytest.mark.parametrize("assistance", ["assistant", "lookup"])
@pytest.mark.parametrize("alpha", [None, 1.6])
def test_assisted_generation_changes_nothing(model, trio, prompt, assistance, alpha):
    """Draft and verify through the composite cache's crop; alpha does not reach the assistant."""
    help_ = {"assistant": {"assistant_model": trio[1]}, "lookup": {"prompt_lookup_num_tokens": 3}}
    prompt = prompt.repeat(1, 2)  # something to look up
    plain = model.generate(prompt, **GREEDY, alpha=alpha)
    assert torch.equal(model.generate(prompt, **GREEDY, alpha=alpha, **help_[assistance]), plain)
    alpha = 0.7 if alpha is None else alpha
    assert torch.equal(plain, greedy(*trio, prompt, alpha, 12))


def test_assisted_sampling_keeps_within_the_filters(model, trio, prompt):
    """Sampling with top_k=1 is greedy, whoever drafts."""
    settings = GREEDY | {"do_sample": True, "top_k": 1}
    out = model.generate(prompt, **settings, assistant_model=trio[2])
    assert torch.equal(out, model.generate(prompt, **GREEDY))


def test_as_an_assistant(model, prompt):
    large = tiny_model("gpt2", 9, vocab=model.config.vocab_size)
    large.generation_config.pad_token_id = 0
    out = large.generate(prompt, **GREEDY, assistant_model=model)
    assert torch.equal(out, large.generate(prompt, **GREEDY))


def test_continues_from_a_cache(model, batch):
    """A second turn on the first turn's cache is the same as both turns from scratch."""
    first = model.generate(**batch, **GREEDY, return_dict_in_generate=True)
    turn = torch.tensor([[5, 6], [7, 8], [9, 10]])
    ids = torch.cat([first.sequences, turn], 1)
    mask = torch.cat([batch["attention_mask"], torch.ones(3, 14, dtype=torch.long)], 1)
    both = {"input_ids": ids, "attention_mask": mask}
    continued = model.generate(**both, **GREEDY, past_key_values=first.past_key_values)
    assert torch.equal(continued, model.generate(**both, **GREEDY))


def test_alpha_per_row_through_every_expansion(model, prompt):
    """A sweep in one batch; beams and several sequences per row repeat the right alpha."""
    alphas = torch.tensor([0.0, 0.7, 2.0])
    for mode in ({}, {"num_beams": 3}, {"num_beams": 4, "num_return_sequences": 2}):
        settings = GREEDY | mode
        together = model.generate(prompt.expand(3, -1), alpha=alphas, **settings)
        alone = [model.generate(prompt, alpha=alpha, **settings) for alpha in alphas.tolist()]
        assert torch.equal(together, torch.cat(alone))
    assert torch.equal(
        model.generate(prompt, alpha=torch.tensor(0.7), **GREEDY), model.generate(prompt, **GREEDY)
    )


def test_text_generation_pipeline(prompt, capsys):
    model, tokenizer = ProxyTunedForCausalLM(*tiny_trio("gpt2")), letter_tokenizer()
    write = pipeline("text-generation", model=model, tokenizer=tokenizer)
    text = tokenizer.decode(prompt[0])
    (answer,) = write(text, max_new_tokens=5, do_sample=False, return_full_text=False)
    expected = model.generate(prompt, max_new_tokens=5, do_sample=False, pad_token_id=0)
    assert answer["generated_text"] == tokenizer.decode(expected[0, 7:])
    assert len(write([text, "short"], max_new_tokens=2, batch_size=2)) == 2


@pytest.mark.slow
def test_compiles(prompt):
    """torch.compile of the whole forward, by the backend that traces all and generates no code."""
    model = ProxyTunedForCausalLM(*(tiny_model("llama", seed, layers=1) for seed in (1, 2, 3)))
    few = GREEDY | {"max_new_tokens": 4}
    expected, tokens = model(prompt).logits, model.generate(prompt, **few)
    model.forward = torch.compile(model.forward, backend="aot_eager", dynamic=True)
    with torch.no_grad():
        torch.testing.assert_close(model(prompt).logits, expected, **CLOSE)
    assert torch.equal(model.generate(prompt, **few), tokens)


def test_texts_that_do_not_fit(model, monkeypatch):
    context, said = model.config.max_position_embeddings, []
    monkeypatch.setattr(generation.logger, "warning", said.append)
    full = torch.ones(1, context, dtype=torch.long)
    with pytest.raises(ValueError, match=f"{context} tokens leaves no room"):
        model.generate(full, max_new_tokens=1)
    assert model.generate(full[:, 5:], **GREEDY | {"max_new_tokens": 5}).shape[1] == context
    assert not said
    assert model.generate(full[:, 5:], **GREEDY | {"max_new_tokens": 6}).shape[1] == context
    assert said[0].startswith("Generation stops after 5 new tokens instead of 6")
    with pytest.raises(ValueError, match=f"{context + 1} tokens do not fit"):
        model(torch.ones(1, context + 1, dtype=torch.long))


def test_bad_input_before_any_work(model, prompt, monkeypatch):
    monkeypatch.setattr(model.base, "forward", lambda *args, **kwargs: 1 / 0)
    bad = {
        "empty": {"inputs": prompt[:, :0]},
        "finite": {"inputs": prompt, "alpha": float("nan")},
        r"\(1,\).*got \(2,\)": {"inputs": prompt, "alpha": torch.ones(2)},
        "as many alphas": {"inputs": prompt, "alpha": [1.0, 2.0]},
        "dynamic caches only": {"inputs": prompt, "cache_implementation": "static"},
        "one cache per part": {
            "inputs": prompt,
            "past_key_values": model.new_cache().caches["base"],
        },
        "inputs_embeds": {"inputs_embeds": torch.zeros(1, 3, 48)},
        "alhpa": {"inputs": prompt, "alhpa": 1.0},
    }
    for message, inputs in bad.items():
        with pytest.raises(ValueError, match=message):
            model.generate(**inputs, max_new_tokens=2)
    with pytest.raises(ValueError, match="finite"):
        model(prompt, alpha=torch.tensor([float("inf")]))
