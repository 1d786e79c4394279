"""Speculative decoding against the naive loop, in float64, and its samples against r itself."""

import copy
import math
import random

import oracle
import pytest
import torch
from conftest import Constant, pocket, tiny_model, tiny_trio
from test_adapters import adapter
from transformers import set_seed

from proxy_tuning import ProxyTunedForCausalLM
from proxy_tuning.decoding import stream
from proxy_tuning.drafts import GAMMAS, Pace, what_followed
from proxy_tuning.learnt import LearntAnswers
from proxy_tuning.logits import Line
from proxy_tuning.speculative import generate, judge, speculate


def exact_trio(kind, alike=0.8):
    """A trio in float64 whose M+ is near M- and M, so that some proposals are kept."""
    base, expert, antiexpert = (part.double() for part in tiny_trio(kind))
    if kind in ("gpt2", "llama"):
        base = tiny_model(kind, 2, layers=2).double()
        with torch.no_grad():
            for weights, others in zip(base.parameters(), expert.parameters(), strict=True):
                weights.lerp_(others, alike)
    return base, expert, antiexpert


@pytest.fixture(params=["gpt2", "llama", "qwen3", "mixed"])
def exact(request):
    """(trio, model), float64."""
    trio = exact_trio(request.param)
    return trio, ProxyTunedForCausalLM(*trio, alpha=0.7)


def rows_of(model, *args, **kwargs):
    """What each prompt gets, as lists of tokens; the proposals kept; how many texts end with one."""
    texts, kept, ends = {}, [], 0
    for done in speculate(model, *args, **kwargs):
        assert done.ids.shape == done.logits["steered"].shape[:2]
        kept += [
            t
            for ids, n in zip(done.ids.tolist(), done.accepted.tolist(), strict=True)
            for t in ids[:n]
        ]
        ends += (done.counts <= done.accepted).sum().item()
        for row, ids, count in zip(
            done.rows.tolist(), done.ids.tolist(), done.counts.tolist(), strict=True
        ):
            texts.setdefault(row, []).extend(ids[:count])
    return [texts[row] for row in sorted(texts)], kept, ends


def plain(model, ids, mask, **kwargs):
    """The same of the readable loop, each row up to its end."""
    steps = list(stream(model, ids, mask, **kwargs))
    texts = torch.stack([step.next_ids for step in steps], dim=1).tolist()
    ends = torch.stack([step.finished for step in steps], dim=1).tolist()
    return [
        text[: end.index(True) + 1 if True in end else None]
        for text, end in zip(texts, ends, strict=True)
    ]


@pytest.mark.parametrize("draft", ["expert", "base", "auto"])
def test_an_adapter_and_its_antiexpert_keep_caches_apart(draft, batch):
    """M+ reads its proposals before M- does; in the plain loop the two are one pass."""
    expert = adapter(tiny_model("llama", 2).double()).double()
    model = ProxyTunedForCausalLM(tiny_model("llama", 1).double(), expert, alpha=0.7)
    how = {"max_new_tokens": 12, "eos_token_id": -1}
    found, *_ = rows_of(model, **batch, **how, draft=draft)
    assert found == plain(model, batch["input_ids"], batch["attention_mask"], **how)


def some_batch(chance, rows, longest, vocab=97):
    """Random prompts of several lengths, padded on the left."""
    lengths = [chance.randint(1, longest) for _ in range(rows)]
    width = max(lengths)
    mask = torch.tensor([[0] * (width - n) + [1] * n for n in lengths])
    ids = torch.tensor([[chance.randrange(1, vocab) for _ in range(width)] for _ in lengths])
    return ids * mask, mask


def half_right(texts):
    """Texts (B, T) to look up in: what was written, every seventh token another."""
    wrong = [[(t + 1) % 97 if i % 7 == 6 else t for i, t in enumerate(text)] for text in texts]
    return LearntAnswers(wrong)


@pytest.mark.parametrize("draft", ["expert", "base", "ngram", "learnt", "model"])
@pytest.mark.parametrize("gamma", [0, 1, 3, 7, None])
def test_greedy_is_the_naive_loop(exact, prompt, draft, gamma):
    trio, model = exact
    expected = oracle.greedy(*trio, prompt, 0.7, 20)
    model.learnt = half_right(expected.tolist())
    draft = copy.deepcopy(trio[1]).float() if draft == "model" else draft  # a coarser M+
    ours = generate(model, prompt, max_new_tokens=20, draft=draft, gamma=gamma, eos_token_id=-1)
    assert torch.equal(ours, expected)


@pytest.mark.parametrize(
    "variant",
    [
        {"mixture": 0.5},
        {"product": 1.0},
        {"contrast": 0.5, "plausibility": 0.1},
        {"nudging": 0.5},
        {"gate": 0.5},
    ],
)
@pytest.mark.parametrize("draft", ["expert", "base", "ngram"])
def test_peers_are_the_plain_loop(prompt, draft, variant):
    model = ProxyTunedForCausalLM(*exact_trio("gpt2"), line=Line(**variant))
    expected = plain(model, prompt, None, max_new_tokens=20, eos_token_id=-1)
    ours, _, _ = rows_of(model, prompt, max_new_tokens=20, draft=draft, gamma=3, eos_token_id=-1)
    assert ours == expected


@pytest.mark.parametrize("kind", ["gpt2", "llama", "mixed"])
def test_greedy_over_many_random_batches(kind):
    """80 batches of 1 to 5 prompts: lengths, gammas, drafts, alphas and ends of text at random.

    End-of-text is now a token that the model wrote, now one that was proposed and kept, so that
    texts end everywhere, inside of drafts too.
    """
    chance = random.Random(7)
    trio = exact_trio(kind)
    kept = ends_in_drafts = 0
    for _ in range(80):
        model = ProxyTunedForCausalLM(*trio, alpha=chance.choice([0.0, 0.3, 1.0, 2.0, 25.0, -1.0]))
        ids, mask = some_batch(chance, chance.randint(1, 5), chance.randint(1, 12))
        model.learnt = half_right(plain(model, ids, mask, max_new_tokens=24, eos_token_id=-1))
        how = {
            "max_new_tokens": chance.randint(1, 24),
            "gamma": chance.choice([0, 1, 2, 3, 5, 8, None]),
            "draft": chance.choice(["auto", "expert", "base", "ngram", "learnt", trio[1], trio[0]]),
        }
        free, proposals, _ = rows_of(model, ids, mask, eos_token_id=-1, **how)
        written, proposed = chance.choice(chance.choice(free)), chance.choice(proposals or free[0])
        eos = chance.choice([-1, written, proposed, proposed])
        ours, _, ends = rows_of(model, ids, mask, eos_token_id=eos, **how)
        long = how["max_new_tokens"]
        assert ours == plain(model, ids, mask, eos_token_id=eos, max_new_tokens=long)
        kept += len(proposals)
        ends_in_drafts += ends
    assert kept > 100, "too few proposals are kept for this to test anything"
    assert ends_in_drafts > 3, "too few texts end with a proposal for this to test their ends"


def test_rows_accept_different_numbers():
    """Both ends in one batch: a row that keeps all and a row that keeps none; ends inside drafts."""
    steered = torch.eye(6)[[1, 2, 3, 4, 5, 1, 2, 3, 4, 5]] * 9.0
    zero = torch.zeros_like(steered)
    model = ProxyTunedForCausalLM(Constant(zero), Constant(steered), Constant(zero), alpha=1.0)
    ids, mask = torch.tensor([[0, 0, 4], [4, 4, 4]]), torch.tensor([[0, 0, 1], [1, 1, 1]])
    done = list(speculate(model, ids, mask, max_new_tokens=6, gamma=3, eos_token_id=5))
    assert [(d.ids.tolist(), d.counts.tolist()) for d in done] == [
        ([[1], [3]], [1, 1]),
        ([[2, 3, 4, 5], [4, 5, 1, 2]], [4, 2]),
    ]
    assert done[-1].finished.all() and done[-1].accepted.tolist() == [3, 3]
    worst = ProxyTunedForCausalLM(Constant(zero), Constant(-steered), Constant(zero), alpha=-1.0)
    done = list(speculate(worst, ids, mask, max_new_tokens=4, gamma=3, eos_token_id=-1))
    assert all(d.accepted.sum() == 0 and d.counts.tolist() == [1, 1] for d in done)


@pytest.mark.parametrize("rows", [1, 3])
def test_full_context(exact, rows):
    """The last token fits exactly; no pass reads beyond the context."""
    trio, model = exact
    ids, mask = some_batch(random.Random(3), rows, 9)
    ids = torch.cat([ids, torch.randint(1, 97, (rows, 110))], dim=1)
    mask = torch.cat([mask, torch.ones(rows, 110, dtype=torch.long)], dim=1)
    expected = plain(model, ids, mask, max_new_tokens=50, eos_token_id=-1)
    ours, *_ = rows_of(model, ids, mask, max_new_tokens=50, gamma=5, eos_token_id=-1)
    assert ours == expected and len(ours[0]) == 128 - ids.shape[1]
    with pytest.raises(ValueError, match="shorten the prompt"):
        next(speculate(model, torch.ones(1, 128, dtype=torch.long), max_new_tokens=1))


def test_alpha_per_row_and_prefixes(prompt):
    """Rows leave the batch at different times and keep their own alpha; M+ reads more than M."""
    trio = exact_trio("gpt2")
    model = ProxyTunedForCausalLM(*trio, expert_prefix=[5, 6, 7], antiexpert_prefix=[8])
    ids, mask = some_batch(random.Random(5), 4, 9)
    alphas = torch.tensor([0.0, 0.5, 1.0, 3.0])
    free = plain(model, ids, mask, alpha=alphas, max_new_tokens=20, eos_token_id=-1)
    for eos in (-1, free[0][6], free[2][11]):
        expected = plain(model, ids, mask, alpha=alphas, max_new_tokens=20, eos_token_id=eos)
        ours, *_ = rows_of(
            model, ids, mask, alpha=alphas, max_new_tokens=20, eos_token_id=eos, gamma=4
        )
        assert ours == expected


def test_steered_logits_of_each_token(exact, prompt):
    trio, model = exact
    for done in speculate(model, prompt, max_new_tokens=8, gamma=2, eos_token_id=-1):
        for i in range(done.counts.item()):
            expected = oracle.steered_logits(*trio, prompt, 0.7)
            torch.testing.assert_close(done.logits["steered"][:, i], expected, rtol=0, atol=1e-5)
            prompt = torch.cat([prompt, done.ids[:, i : i + 1]], dim=1)


def test_greedy_in_float32_but_for_ties():
    """On the embedded family: a text may differ only where the plain loop's top two are 1e-4 close."""
    model = ProxyTunedForCausalLM(*pocket(), alpha=1.0)
    ids, mask = some_batch(random.Random(9), 6, 20, vocab=model.config.vocab_size)
    steps = list(stream(model, ids, mask, max_new_tokens=40, eos_token_id=-1))
    expected = torch.stack([step.next_ids for step in steps], dim=1)
    margins = torch.stack([step.steered.topk(2).values.diff().abs()[:, 0] for step in steps], dim=1)
    ours = generate(model, ids, mask, max_new_tokens=40, eos_token_id=-1)[:, ids.shape[1] :]
    for our, their, margin in zip(ours, expected, margins, strict=True):
        differs = (our != their).nonzero()
        assert not len(differs) or margin[differs[0]] < 1e-4


def g_statistic(counts, probabilities):
    """The G statistic and its degrees of freedom; cells of fewer than 5 expected go together."""
    expected = probabilities * counts.sum()
    rare = expected < 5
    cells = [
        (o, e)
        for o, e, r in zip(counts.tolist(), expected.tolist(), rare.tolist(), strict=True)
        if not r
    ]
    if rare.any():
        cells.append((counts[rare].sum().item(), expected[rare].sum().item()))
    g = 2 * sum(o * math.log(o / e) for o, e in cells if o)
    return g, len(cells) - 1


def critical(df, z=4.75):
    """Chi-square's upper 1e-6 point (Wilson-Hilferty)."""
    return df * (1 - 2 / (9 * df) + z * math.sqrt(2 / (9 * df))) ** 3


@pytest.mark.parametrize("filters", [{}, {"top_k": 12, "top_p": 0.8}], ids=str)
@pytest.mark.parametrize("draft", ["expert", "base", "ngram", "learnt", "model"])
def test_samples_are_distributed_as_r(draft, filters):
    """Pairs of second and third tokens, which proposals decide; false alarms: one in 10^6 a case.

    r comes from logits of the plain oracle, and from transformers' own filters.
    """
    torch.manual_seed(11)
    model = ProxyTunedForCausalLM(*exact_trio("gpt2", alike=0.95), alpha=0.7)
    draft = tiny_model("gpt2", 3).double() if draft == "model" else draft
    n, vocab = 6_000, 97
    prompt = torch.randint(1, vocab, (1, 6))
    model.learnt = half_right(generate(model, prompt, max_new_tokens=9, eos_token_id=-1).tolist())
    how = {"temperature": 1.2} | filters
    generator = torch.Generator().manual_seed(12)
    ids = generate(
        model,
        prompt.expand(n, -1),
        max_new_tokens=3,
        draft=draft,
        gamma=2,
        eos_token_id=-1,
        generator=generator,
        **how,
    )[:, 6:]
    set_seed(13)
    theirs = model.generate(
        prompt,
        max_new_tokens=1,
        do_sample=True,
        eos_token_id=None,
        output_logits=True,
        return_dict_in_generate=True,
        output_scores=True,
        **{"top_k": 0, "top_p": 1.0} | how,
    )
    first = theirs.scores[0][0].softmax(-1)  # what transformers draws the first token from
    counts = torch.bincount(ids[:, 0], minlength=vocab).double()
    g, df = g_statistic(counts, first)
    assert g < critical(df)
    for place in (1, 2):  # given the commonest beginning
        beginnings, number = ids[:, :place].unique(dim=0, return_counts=True)
        begun = beginnings[number.argmax()]
        after = ids[(ids[:, :place] == begun).all(1), place]
        logits = model.generate(
            torch.cat([prompt, begun[None]], dim=1),
            max_new_tokens=1,
            do_sample=True,
            eos_token_id=None,
            return_dict_in_generate=True,
            output_scores=True,
            **{"top_k": 0, "top_p": 1.0} | how,
        )
        counts = torch.bincount(after, minlength=vocab).double()
        g, df = g_statistic(counts, logits.scores[0][0].softmax(-1))
        assert len(after) > 100 and df and g < critical(df), (place, len(after))


def test_judge_draws_from_r():
    """One proposal from q, then judged: a G test on r itself, 10^6 draws, one false alarm in 10^6."""
    r = torch.tensor([0.5, 0.3, 0.2, 0.0])
    q = torch.tensor([0.1, 0.3, 0.0, 0.6])
    generator = torch.Generator().manual_seed(1)
    n = 1_000_000
    drafted = torch.multinomial(q, n, replacement=True, generator=generator)[:, None]
    next_r = torch.tensor([0.25, 0.25, 0.25, 0.25])
    accepted, tokens = judge(
        torch.stack([r, next_r]).expand(n, -1, -1), q.expand(n, 1, -1), drafted, generator
    )
    first = torch.where(accepted == 1, drafted[:, 0], tokens)
    g, df = g_statistic(torch.bincount(first, minlength=4).double()[:3], r[:3])
    assert (first == 3).sum() == 0 and g < critical(df)
    assert accepted.float().mean().item() == pytest.approx(0.1 + 0.3, abs=0.003)  # sum min(r, q)
    after = torch.bincount(tokens[accepted == 1], minlength=4).double()
    g, df = g_statistic(after, next_r)
    assert g < critical(df)


def test_a_fixed_gamma_is_repeatable(exact, prompt):
    _, model = exact

    def draw(seed):
        generator = torch.Generator().manual_seed(seed)
        how = {"temperature": 1.0, "generator": generator, "gamma": 3, "eos_token_id": -1}
        return generate(model, prompt, max_new_tokens=12, **how).tolist()

    assert draw(1) == draw(1) != draw(2)


def test_what_followed():
    text = torch.tensor([1, 2, 3, 9, 1, 2, 3, 4, 5, 1, 2, 3])
    assert what_followed(text, 3).tolist() == [4, 5, 1]
    assert what_followed(text[:-1], 2).tolist() == [3, 4]
    assert what_followed(torch.tensor([1, 2, 3]), 2).tolist() == [3, 3]
    assert what_followed(torch.tensor([7]), 2).tolist() == [7, 7]
    assert what_followed(torch.tensor([4, 7, 4]), 4).tolist() == [7, 4, 4, 4]


def run_pace(share, seconds, rounds=400):
    """Simulated time per token of a pace, where proposals are kept with this probability."""
    chance = random.Random(1)
    pace, time, tokens = Pace(), 0.0, 0
    for _ in range(rounds):
        gamma = pace.gamma()
        kept = 0
        while kept < gamma and chance.random() < share:
            kept += 1
        took = seconds(gamma) * chance.uniform(0.9, 1.2)
        pace.learn(gamma, torch.tensor([kept]), took)
        time, tokens = time + took, tokens + kept + 1
    return time / tokens / seconds(0) / 1.05


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.8, 0.95, 1.0])
@pytest.mark.parametrize("verify, propose", [(0.1, 0.3), (0.5, 0.3), (1.0, 0.5), (0.0, 0.0)])
def test_pace_is_near_the_best_fixed_gamma_and_never_below_plain(share, verify, propose):
    def seconds(gamma):
        return 1.0 + gamma * (verify + propose)

    best = min(seconds(g) / sum(share**i for i in range(g + 1)) for g in GAMMAS)
    ours = run_pace(share, seconds)
    assert ours < 1.05 * max(best, 0.0) + 0.06
    assert ours < 1 / 0.95


def test_what_cannot_be(prompt):
    model = ProxyTunedForCausalLM(*tiny_trio("gpt2"))
    with pytest.raises(ValueError, match="'oracle'; there are auto, none, ngram, learnt, expert"):
        next(speculate(model, prompt, max_new_tokens=1, draft="oracle"))
    with pytest.raises(ValueError, match="a draft with 98 tokens for a vocabulary of 97"):
        next(speculate(model, prompt, max_new_tokens=1, draft=tiny_model("gpt2", 1, vocab=98)))
    short = tiny_model("gpt2", 1, positions=64)
    with pytest.raises(ValueError, match="a context of 64 tokens for a model with 128"):
        next(speculate(model, prompt, max_new_tokens=1, draft=short))
    with pytest.raises(ValueError, match="gamma needs to be 0 or more, got -1"):
        next(speculate(model, prompt, max_new_tokens=1, gamma=-1))
    with pytest.raises(ValueError, match="no writer is named 'me'"):
        next(speculate(model, prompt, max_new_tokens=1, writer="me"))
    with pytest.raises(ValueError, match="no answers that it learnt"):
        next(speculate(model, prompt, max_new_tokens=1, draft="learnt"))
    with pytest.raises(ValueError, match="draft for the steered M alone"):
        next(speculate(model, prompt, max_new_tokens=1, writer="base", draft="expert"))
    with pytest.raises(ValueError, match="empty"):
        next(speculate(model, prompt[:, :0], max_new_tokens=1))
    windowed = ProxyTunedForCausalLM(*tiny_trio("mistral"))
    with pytest.raises(ValueError, match="base sees a window"):
        next(speculate(windowed, prompt, max_new_tokens=1, draft="ngram"))


def test_passes(exact, prompt, monkeypatch):
    """A round is one pass of M and of M-, and gamma + 1 of M+, each of one token."""
    _, model = exact
    widths = {name: [] for name in model.part_names}
    run = ProxyTunedForCausalLM.run

    def count(self, name, input_ids, *args, **kwargs):
        widths[name].append(input_ids.shape[1])
        return run(self, name, input_ids, *args, **kwargs)

    monkeypatch.setattr(ProxyTunedForCausalLM, "run", count)
    rounds = list(
        speculate(model, prompt, max_new_tokens=9, draft="expert", gamma=2, eos_token_id=-1)
    )
    later = [done.ids.shape[1] for done in rounds[1:]]
    assert widths["base"] == widths["antiexpert"] == [7, *later]
    assert widths["expert"] == [7] + [1] * sum(later)
    assert sum(done.counts.item() for done in rounds) == 9
