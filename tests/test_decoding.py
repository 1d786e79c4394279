"""The readable loop against `generate`, against the naive loop, and on models without chance."""

import oracle
import pytest
import torch
from conftest import CLOSE, Constant, letter_tokenizer, tiny_trio
from transformers import set_seed

from proxy_tuning import ProxyTunedForCausalLM
from proxy_tuning.answering import answer_questions, greedy_answers
from proxy_tuning.decoding import (
    HISTORIES,
    Beginning,
    stream,
    stream_side_by_side,
)

N = 12


def ids(steps):
    """The tokens of a stream, (..., N)."""
    return torch.stack([step.next_ids for step in steps], dim=-1)


def test_greedy_is_the_naive_loop_and_generate(model, trio, prompt):
    expected = oracle.greedy(*trio, prompt, 0.7, N)[:, 7:]
    assert torch.equal(ids(stream(model, prompt, max_new_tokens=N, eos_token_id=-1)), expected)
    generated = model.generate(prompt, max_new_tokens=N, do_sample=False, eos_token_id=None)
    assert torch.equal(generated[:, 7:], expected)


def test_left_padded_batch_is_each_prompt_alone(model, batch):
    together = ids(stream(model, **batch, max_new_tokens=N, eos_token_id=-1))
    for row, mask in enumerate(batch["attention_mask"].bool()):
        alone = batch["input_ids"][row, mask][None]
        assert torch.equal(
            ids(stream(model, alone, max_new_tokens=N, eos_token_id=-1))[0], together[row]
        )


@pytest.mark.parametrize("filters", [{}, {"top_k": 5}, {"top_p": 0.8}, {"top_k": 9, "top_p": 0.5}])
def test_sampling_is_that_of_generate(model, batch, filters):
    set_seed(3)
    ours = ids(
        stream(model, **batch, max_new_tokens=N, temperature=0.9, eos_token_id=-1, **filters)
    )
    set_seed(3)
    theirs = model.generate(
        **batch,
        max_new_tokens=N,
        do_sample=True,
        temperature=0.9,
        eos_token_id=None,
        **{"top_k": 0, "top_p": 1.0} | filters,
    )
    assert torch.equal(ours, theirs[:, 9:])


@pytest.mark.parametrize("prefixes", [{}, {"expert_prefix": [3, 4], "antiexpert_prefix": [5]}])
def test_a_beginning_is_read_once(trio, batch, prefixes):
    """Prompts of different lengths behind a beginning, twice, against the same prompts unshared."""
    model = ProxyTunedForCausalLM(*trio, alpha=0.7, **prefixes)
    if any(model.new_cache().is_sliding):
        with pytest.raises(ValueError, match="window"):
            Beginning(model, [7, 8])
        return
    examples = torch.randint(1, 40, (20,), generator=torch.Generator().manual_seed(2))
    whole = [
        torch.cat([ids[mask == 0], examples, ids[mask == 1]])
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]
    mask = torch.cat([batch["attention_mask"], torch.ones(3, 20, dtype=torch.long)], dim=1)
    whole = {"input_ids": torch.stack(whole), "attention_mask": mask}
    lengths = []
    counted = model.base.register_forward_pre_hook(
        lambda *args: lengths.append(args[2]["input_ids"].shape[1]), with_kwargs=True
    )
    beginning = Beginning(model, examples.tolist())
    for _ in range(2):
        shared = model.generate(
            **beginning.inputs(**whole), max_new_tokens=N, do_sample=False, eos_token_id=None
        )
        streamed = ids(
            stream(model, **beginning.inputs(**whole), max_new_tokens=N, eos_token_id=-1)
        )
    counted.remove()
    assert lengths == [20, *4 * [9, *(N - 1) * [1]]]
    expected = ids(stream(model, **whole, max_new_tokens=N, eos_token_id=-1))
    assert torch.equal(streamed, expected) and torch.equal(shared[:, 29:], expected)


def test_prompts_that_begin_otherwise_are_refused(model, batch):
    if any(model.new_cache().is_sliding):
        pytest.skip("shares no beginning")
    own = batch["input_ids"][2:]
    beginning = Beginning(model, own[0, :2].tolist())
    with pytest.raises(ValueError, match="does not begin"):
        beginning.inputs(**batch)
    with pytest.raises(ValueError, match="ends with"):
        beginning.inputs(own[:, :2], torch.ones_like(own[:, :2]))


def test_generator_makes_sampling_repeatable(model, prompt):
    def draw(seed):
        generator = torch.Generator().manual_seed(seed)
        steps = stream(model, prompt, max_new_tokens=N, temperature=2.0, generator=generator)
        return ids(steps).tolist()

    assert draw(1) == draw(1) != draw(2)


def test_steps_carry_what_each_model_wanted(model, trio, prompt):
    for step in stream(model, prompt, max_new_tokens=4, alpha=1.5, eos_token_id=-1):
        for name, part in zip(("base", "expert", "antiexpert"), trio, strict=True):
            torch.testing.assert_close(getattr(step, name), part(prompt).logits[:, -1], **CLOSE)
        assert torch.equal(step.steered, step.base + 1.5 * (step.expert - step.antiexpert))
        prompt = torch.cat([prompt, step.next_ids[:, None]], 1)


def test_several_alphas_read_a_prompt_once(model, batch, monkeypatch):
    read, part_logits = [], model.part_logits

    def count(new_ids, *args, **kwargs):
        read.append(tuple(new_ids.shape))
        return part_logits(new_ids, *args, **kwargs)

    monkeypatch.setattr(model, "part_logits", count)
    rows, length = batch["input_ids"].shape
    alphas = torch.tensor([0.0, 0.7, 1.3, 2.0])
    how = {"max_new_tokens": N, "eos_token_id": -1}
    together = ids(stream(model, **batch, alpha=alphas.expand(rows, -1), **how))
    assert read == [(rows, length)] + [(rows * 4, 1)] * (N - 1)
    for place, alpha in enumerate(alphas.tolist()):
        assert torch.equal(together[place::4], ids(stream(model, **batch, alpha=alpha, **how)))


def test_alpha_per_row(model, prompt):
    alphas = torch.tensor([0.0, 0.7, 2.0])
    together = ids(
        stream(model, prompt.expand(3, -1), max_new_tokens=N, alpha=alphas, eos_token_id=-1)
    )
    for alpha, row in zip(alphas.tolist(), together, strict=True):
        alone = stream(model, prompt, max_new_tokens=N, alpha=alpha, eos_token_id=-1)
        assert torch.equal(ids(alone)[0], row)


def one_hot(*tokens):
    """Logits (N, 5) that choose these tokens at positions 0, 1, ..."""
    return 9.0 * torch.eye(5)[list(tokens)]


def constants():
    """M ends its text (token 0) at its second token, M+ at its fourth, the steered M at its third.

    The prompt has one token, so position 0 chooses the first new one.
    """
    base = one_hot(1, 0, 1, 1, 1, 1)
    expert = one_hot(2, 2, 2, 0, 2, 2)
    steered = one_hot(3, 3, 0, 3, 3, 3)
    return ProxyTunedForCausalLM(
        Constant(base), Constant(expert), Constant(expert + base - steered)
    )


def test_stops_at_end_of_text():
    model = constants()
    steps = list(stream(model, torch.tensor([[4]]), max_new_tokens=5, eos_token_id=0))
    assert ids(steps).tolist() == [[3, 3, 0]]
    assert [step.finished.item() for step in steps] == [False, False, True]
    model.generation_config.eos_token_id = [3, 0]
    assert ids(stream(model, torch.tensor([[4]]), max_new_tokens=5)).tolist() == [[3]]


@pytest.mark.parametrize("ends", [[4, 0], [4, 2, 0], [0, 4]], ids=str)
def test_each_of_several_ends_of_text_stops(ends):
    """Not the first alone; what has ended then goes on with the first."""
    model = constants()
    model.generation_config.eos_token_id = ends
    alone = list(stream(model, torch.tensor([[4]]), max_new_tokens=5))
    assert ids(alone).tolist() == [[3, 3, 0]]
    assert [step.finished.item() for step in alone] == [False, False, True]
    ids_, mask = torch.tensor([[4, 4], [4, 4]]), torch.tensor([[0, 1], [1, 1]])
    assert ids(stream(model, ids_, mask, max_new_tokens=5)).tolist() == [[3, 3, 0], [3, 0, ends[0]]]
    model.generation_config.eos_token_id = [4, 0]
    steps = list(stream_side_by_side(model, torch.tensor([[4]]), max_new_tokens=5))
    assert ids(steps)[:, 0].tolist() == [[1, 0, 4, 4], [2, 2, 2, 0], [3, 3, 0, 4]]


def test_without_an_end_of_text_no_token_ends_it():
    same = Constant(one_hot(0, 0, 0, 0, 0))
    model = ProxyTunedForCausalLM(Constant(one_hot(1, 0, 3, 2, 4)), same, same)
    model.generation_config.eos_token_id = None
    steps = stream(model, torch.tensor([[4]]), max_new_tokens=4)
    assert ids(steps).tolist() == [[1, 0, 3, 2]]


def test_finished_rows_stay_at_end_of_text():
    model = constants()
    ids_, mask = torch.tensor([[4, 4], [4, 4]]), torch.tensor([[0, 1], [1, 1]])
    rows = ids(stream(model, ids_, mask, max_new_tokens=4, eos_token_id=0))
    assert rows.tolist() == [[3, 3, 0], [3, 0, 0]]


def test_histories_stop_at_their_own_end():
    steps = list(
        stream_side_by_side(constants(), torch.tensor([[4]]), max_new_tokens=5, eos_token_id=0)
    )
    assert ids(steps)[:, 0].tolist() == [[1, 0, 0, 0], [2, 2, 2, 0], [3, 3, 0, 0]]
    assert steps[1].finished[:, 0].tolist() == [True, False, False]


def test_side_by_side_is_three_separate_texts(model, batch):
    steps = list(stream_side_by_side(model, **batch, max_new_tokens=N, eos_token_id=-1))
    assert not any(step.steered.requires_grad for step in steps)
    three = dict(zip(HISTORIES, ids(steps), strict=True))
    for name, part in {"base": model.base, "expert": model.expert, "steered": model}.items():
        alone = part.generate(**batch, max_new_tokens=N, do_sample=False, eos_token_id=None)
        assert torch.equal(three[name], alone[:, 9:]), name
    for ours, theirs in zip(
        steps, stream(model, **batch, max_new_tokens=N, eos_token_id=-1), strict=True
    ):
        for name in ("base", "expert", "antiexpert", "steered"):
            torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), **CLOSE)


def test_side_by_side_computes_nothing_twice(model, prompt):
    """Tokens through each model: the prompt once, then 2 rows of M, 2 of M+ and 1 of M-."""
    sizes = {"base": 0, "expert": 0, "antiexpert": 0}

    def count(name):
        def hook(module, args, kwargs):
            sizes[name] += kwargs["input_ids"].numel()

        return hook

    hooks = [
        getattr(model, name).register_forward_pre_hook(count(name), with_kwargs=True)
        for name in sizes
    ]
    list(stream_side_by_side(model, prompt, max_new_tokens=4, eos_token_id=-1))
    for hook in hooks:
        hook.remove()
    assert sizes == {"base": 7 + 3 * 2, "expert": 7 + 3 * 2, "antiexpert": 7 + 3}


def test_side_by_side_samples_from_all_tokens_where_nothing_else_is_said(model, prompt):
    how = {"max_new_tokens": 4, "temperature": 0.9, "eos_token_id": -1}
    texts = [
        ids(stream_side_by_side(model, prompt, **how, **filters, generator=torch.manual_seed(1)))
        for filters in ({}, {"top_k": 0, "top_p": 1.0})
    ]
    assert torch.equal(*texts)


def test_context(prompt, model):
    context = model.config.max_position_embeddings
    with pytest.raises(ValueError, match="shorten the prompt"):
        next(stream(model, torch.ones(1, context, dtype=torch.long), max_new_tokens=1))
    steps = stream(
        model, torch.ones(1, context - 2, dtype=torch.long), max_new_tokens=9, eos_token_id=-1
    )
    assert len(list(steps)) == 2


def test_answers_do_not_depend_on_the_batch(capsys):
    model = ProxyTunedForCausalLM(*tiny_trio("gpt2"))
    questions = ["Who led in Ohio?", "Who won?", "By how much did they lead in June?"]
    one_by_one = answer_questions(
        model, letter_tokenizer(), questions, max_new_tokens=8, batch_size=1
    )
    together = answer_questions(
        model, letter_tokenizer(), questions, max_new_tokens=8, batch_size=2, progress=True
    )
    assert one_by_one == together
    assert [answer["question"] for answer in together] == questions
    assert list(together[0]) == ["question", "base", "expert", "steered"]
    assert together[0]["base"] == together[0]["base"].strip() != ""
    assert "answering" in capsys.readouterr().err
    assert answer_questions(model, letter_tokenizer(), []) == []


def test_greedy_answers_of_one_model():
    model = ProxyTunedForCausalLM(*tiny_trio("gpt2"))
    questions = ["Who led in Ohio?", "Who won?", "By how much did they lead in June?"]
    three = answer_questions(model, letter_tokenizer(), questions, max_new_tokens=8)
    for name, one in {"base": model.base, "expert": model.expert, "steered": model}.items():
        answers = greedy_answers(one, letter_tokenizer(), questions, max_new_tokens=8, batch_size=2)
        assert answers == [answer[name] for answer in three]


def test_several_experts_are_not_shown(trio, prompt):
    base, expert, antiexpert = trio
    model = ProxyTunedForCausalLM(base, [expert, expert], antiexpert)
    for loop in (stream, stream_side_by_side):
        with pytest.raises(ValueError, match="2 experts: these loops show one"):
            next(loop(model, prompt, max_new_tokens=1))
