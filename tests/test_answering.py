"""One way for every answer: with drafts as without, and both as the naive loop."""

import oracle
import pytest
import torch
from conftest import LINES, letter_tokenizer, pocket, tiny_model, tiny_trio

from proxy_tuning import ProxyTunedForCausalLM
from proxy_tuning.answering import (
    answer_questions,
    greedy_answers,
    read_template,
    resolve_draft,
    write,
    write_side_by_side,
)
from proxy_tuning.decoding import HISTORIES

DRAFTS = ["none", "ngram", "expert", "base", "auto"]
QUESTIONS = ["Who?", "What is it?", "No", "Why is the sky blue at noon, tell me?"]


@pytest.fixture(params=["gpt2", "llama", "mixed"])
def exact(request):
    """(trio, model) in float64, M+ near M-, so that the three texts part at different places."""
    base, expert, antiexpert = (part.double() for part in tiny_trio(request.param))
    with torch.no_grad():
        for weights, others in zip(expert.parameters(), antiexpert.parameters(), strict=True):
            weights.lerp_(others, 0.9)
    return (base, expert, antiexpert), ProxyTunedForCausalLM(base, expert, antiexpert, alpha=0.7)


def collected(model, inputs, **options):
    """The three texts of each prompt, and for each steered token its logits by writer."""
    texts = {name: [[] for _ in inputs["input_ids"]] for name in HISTORIES}
    logits = {}
    for new in write_side_by_side(model, **inputs, **options):
        for place, (row, ids) in enumerate(new.ids.items()):
            texts[new.writer][row] += ids
            for i in range(len(ids)):
                if new.logits is not None:
                    of_token = {who: each[place, i] for who, each in new.logits.items()}
                    logits.setdefault(row, []).append(of_token)
    return texts, logits


@pytest.mark.parametrize("draft", DRAFTS)
def test_three_texts_are_three_naive_loops(exact, batch, draft):
    (base, expert, antiexpert), model = exact
    texts, logits = collected(model, batch, max_new_tokens=9, draft=draft, eos_token_id=-1)
    for row, (ids, mask) in enumerate(zip(*batch.values(), strict=True)):
        alone = ids[mask.bool()][None]
        for name, alpha in (("base", 0.0), ("steered", 0.7)):
            expected = oracle.greedy(base, expert, antiexpert, alone, alpha, 9)
            assert texts[name][row] == expected[0, alone.shape[1] :].tolist()
        expected = oracle.greedy(expert, expert, expert, alone, 0.0, 9)
        assert texts["expert"][row] == expected[0, alone.shape[1] :].tolist()
        # the story is complete: every steered token has the logits of all four
        text = alone
        for token, told in zip(texts["steered"][row], logits[row], strict=True):
            for who, part in (("base", base), ("expert", expert), ("antiexpert", antiexpert)):
                wanted = part(text).logits[0, -1].float()
                torch.testing.assert_close(told[who], wanted, rtol=0, atol=1e-5)
            assert told["steered"].argmax() == token
            text = torch.cat([text, torch.tensor([[token]])], dim=1)


@pytest.mark.parametrize("draft", DRAFTS)
def test_texts_end_where_they_end(exact, batch, draft):
    """With an end-of-text that comes up early in some texts, each is cut after it."""
    (base, expert, antiexpert), model = exact
    plain, _ = collected(model, batch, max_new_tokens=12, draft="none", eos_token_id=-1)
    eos = plain["steered"][0][3]
    texts, _ = collected(model, batch, max_new_tokens=12, draft=draft, eos_token_id=eos)
    for name, rows in plain.items():
        for row, ids in enumerate(rows):
            end = ids.index(eos) + 1 if eos in ids else len(ids)
            assert texts[name][row] == ids[:end]


def test_a_full_context_cuts_no_text_short(exact):
    """Prompts that leave little room, texts that part at different places: each as if alone."""
    _, model = exact
    ids = torch.randint(1, 97, (3, 118), generator=torch.Generator().manual_seed(2))
    mask = (torch.arange(118) >= torch.tensor([90, 40, 0])[:, None]).long()
    inputs = {"input_ids": ids * mask, "attention_mask": mask}
    options = {"max_new_tokens": 50, "eos_token_id": -1}
    texts, _ = collected(model, inputs, draft="auto", **options)
    plain, _ = collected(model, inputs, draft="none", **options)
    assert texts == plain
    assert {len(text) for rows in texts.values() for text in rows} == {10}


@pytest.mark.parametrize("draft", DRAFTS)
def test_write_at_several_alphas(exact, batch, draft):
    trio, model = exact
    alphas = torch.tensor([0.0, 0.7, 1.5]).expand(3, -1)
    found = write(model, **batch, max_new_tokens=6, draft=draft, alpha=alphas, eos_token_id=-1)
    rows = [ids[mask.bool()][None] for ids, mask in zip(*batch.values(), strict=True)]
    expected = [
        oracle.greedy(*trio, row, alpha, 6)[0, row.shape[1] :].tolist()
        for row in rows
        for alpha in (0.0, 0.7, 1.5)
    ]
    assert found == expected


def test_answers_are_the_same_with_every_draft(exact):
    _, model = exact
    told = [
        answer_questions(model, letter_tokenizer(), QUESTIONS, max_new_tokens=8, draft=draft)
        for draft in DRAFTS
    ]
    assert all(each == told[0] for each in told)
    for draft in DRAFTS:
        model.draft = draft
        steered = greedy_answers(model, letter_tokenizer(), QUESTIONS, max_new_tokens=8)
        assert steered == [each["steered"] for each in told[0]]


def test_what_auto_means(exact):
    _, model = exact
    assert resolve_draft(model) == "auto"
    assert resolve_draft(model, temperature=0.5) == "none"
    assert resolve_draft(model, "expert", temperature=0.5) == "expert"
    assert resolve_draft(ProxyTunedForCausalLM(*tiny_trio("mistral"))) == "none"


@torch.no_grad()
def test_what_is_refused(exact, batch):
    _, model = exact
    for draft in DRAFTS:
        with pytest.raises(ValueError, match="max_new_tokens needs to be at least 1, got 0"):
            write(model, **batch, max_new_tokens=0, draft=draft)
    with pytest.raises(ValueError, match="no draft is named 'bogus'"):
        list(write_side_by_side(model, **batch, max_new_tokens=1, draft="bogus", temperature=1.0))
    for rows in (2, 4):  # of three
        with pytest.raises(ValueError, match="one value per row"):
            write(model, **batch, max_new_tokens=2, draft="expert", alpha=torch.ones(rows))
    base, expert, antiexpert = tiny_trio("gpt2")
    several = ProxyTunedForCausalLM(base, [expert, expert], antiexpert)
    with pytest.raises(ValueError, match="no sweep over alphas"):
        greedy_answers(several, letter_tokenizer(), QUESTIONS, alphas=[0.0, 1.0])


def test_several_experts_answer_as_the_naive_sum():
    base, expert, antiexpert = tiny_trio("gpt2")
    second = tiny_model("gpt2", 4)
    model = ProxyTunedForCausalLM(base, [expert, second], antiexpert)
    tokenizer = letter_tokenizer()
    text = tokenizer("Question: Who?\nAnswer:", return_tensors="pt")["input_ids"]
    length = text.shape[1]
    for _ in range(6):
        b, e, s, a = (part(text).logits[:, -1] for part in (base, expert, second, antiexpert))
        text = torch.cat([text, (b + (e - a) + (s - a)).argmax(-1, keepdim=True)], dim=1)
    found = greedy_answers(model, tokenizer, ["Who?"], max_new_tokens=6)
    assert found == [tokenizer.decode(text[0, length:], skip_special_tokens=True).strip()]


def test_pocket_with_drafts_but_for_ties():
    """On the embedded family, in float32: no tie comes up in these two."""
    from proxy_tuning import load_family

    pocket()
    model, tokenizer = load_family("pocket")
    questions = ["Who led the polls in Ohio in May 2024?", "Who won Georgia in 2020?"]
    plain = answer_questions(model, tokenizer, questions, draft="none")
    assert answer_questions(model, tokenizer, questions, draft="auto") == plain


def test_a_template_is_read_once():
    """A chat template begins every prompt alike; the same answers, and what is alike not read again."""
    tokenizer = letter_tokenizer(LINES)
    tokenizer.chat_template = "A system says.\n{{ messages[0]['content'] }}"
    trio = [tiny_model("gpt2", seed, end=LINES.index("<end>")).double() for seed in range(3)]
    model = ProxyTunedForCausalLM(*trio, alpha=0.7)
    before = [greedy_answers(model, tokenizer, [q], draft="expert") for q in QUESTIONS]
    read_template(model, tokenizer)
    assert tokenizer.decode(model.beginning.ids[0]) == "A system says.\n"
    lengths = []
    hook = model.base.register_forward_pre_hook(
        lambda *args: lengths.append(args[2]["input_ids"].shape[1]), with_kwargs=True
    )
    after = [greedy_answers(model, tokenizer, [q], draft="expert") for q in QUESTIONS]
    hook.remove()
    assert after == before
    assert lengths[0] == len(QUESTIONS[0])


@pytest.mark.parametrize("template", [None, "Q: {{ messages[0]['content'] }}\n"])
def test_three_tokens_in_common_are_not_worth_a_cache(template):
    """Without a template it is "Question: ", ten letters."""
    tokenizer = letter_tokenizer(LINES)
    tokenizer.chat_template = template
    model = ProxyTunedForCausalLM(*(tiny_model("gpt2", seed) for seed in range(3)))
    read_template(model, tokenizer)
    assert (model.beginning is None) == (template is not None)


@pytest.mark.parametrize("answered", [answer_questions, greedy_answers])
def test_a_long_question_cuts_no_other_answer_short(exact, answered):
    model, tokenizer = exact[1], letter_tokenizer(LINES)
    context = model.config.max_position_embeddings
    questions = ["Who?", "w" * (context - 30), "Why?"]
    options = {"max_new_tokens": 16, "draft": "none"}
    together = answered(model, tokenizer, questions, **options)
    assert together == [answered(model, tokenizer, [each], **options)[0] for each in questions]
