"""The line itself, on numbers that can be checked by hand."""

import math

import pytest
import torch

from proxy_tuning import proxy_logits
from proxy_tuning.logits import Line, adaptive_alpha, divergence, keep_plausible, keep_top_p


def test_the_line():
    base, expert, antiexpert = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 7.0]])
    torch.testing.assert_close(
        proxy_logits(base, expert, antiexpert, 0.5), torch.tensor([0.0, 0.5])
    )


def test_a_line_without_arguments_is_equation_1():
    models = torch.tensor([1.0, 2.0]), [torch.tensor([3.0, 4.0])], [torch.tensor([5.0, 7.0])]
    line = Line()
    assert line.alpha == 1.0
    assert line(*models, [line.alpha]).tolist() == [-1.0, -1.0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_combined_in_float32(dtype):
    """Half precision in, float32 arithmetic: the small difference must survive the large base."""
    base, expert, antiexpert = (torch.tensor([[x]], dtype=dtype) for x in (256.0, 1.5, 1.25))
    steered = proxy_logits(base, expert, antiexpert, 0.1)
    assert steered.dtype == torch.float32
    assert steered.item() == pytest.approx(256.025, abs=1e-4)


def test_alpha_per_row_and_per_position():
    base, expert, antiexpert = torch.randn(3, 2, 4, 5)  # each (B=2, T=4, V=5)
    rows = torch.tensor([0.0, 2.0])
    steered = proxy_logits(base, expert, antiexpert, rows)
    for i, alpha in enumerate(rows.tolist()):
        assert torch.equal(steered[i], proxy_logits(base[i], expert[i], antiexpert[i], alpha))
    per_position = torch.rand(2, 4)
    steered = proxy_logits(base, expert, antiexpert, per_position)
    expected = base[1, 3] + per_position[1, 3] * (expert[1, 3] - antiexpert[1, 3])
    torch.testing.assert_close(steered[1, 3], expected)


def test_constants_change_no_probability():
    """Identity 4: logits are only defined up to a constant per position, in each model."""
    logits = torch.randn(3, 2, 4, 50)
    shifted = logits + 10 * torch.randn(3, 2, 4, 1)
    torch.testing.assert_close(
        proxy_logits(*shifted, 1.3).softmax(-1), proxy_logits(*logits, 1.3).softmax(-1)
    )


def test_shapes_must_match():
    with pytest.raises(ValueError, match=r"\(2, 5\), \(2, 5\) and \(1, 5\)"):
        proxy_logits(torch.zeros(2, 5), torch.zeros(2, 5), torch.zeros(1, 5), 1.0)


def test_keep_plausible():
    base = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    logits = torch.tensor([1.0, 2.0, 3.0, 4.0])
    kept = keep_plausible(logits, base, 0.25)  # at least an eighth
    assert kept.tolist() == [1.0, 2.0, 3.0, float("-inf")]
    assert keep_plausible(logits, base, 1.0).isfinite().tolist() == [True, False, False, False]


def test_keep_top_p():
    base = torch.tensor([[[0.15, 0.5, 0.05, 0.3]]]).log() + 3.0
    assert keep_top_p(base, 0.7).isfinite().tolist() == [[[False, True, False, True]]]
    kept = keep_top_p(base.half(), 0.9)
    assert kept.dtype == torch.float32
    assert torch.equal(kept[kept.isfinite()], base.half().float()[0, 0, [0, 1, 3]])


def test_a_line_in_words():
    assert Line.of("") == Line()
    assert Line.of("plausibility=0.1, adaptive") == Line(plausibility=0.1, adaptive=True)
    for words, said in {
        "beta=1": "no variant 'beta'; there are base_top_p, plausibility, adaptive",
        "alpha=2": "no variant 'alpha'",
        "plausibility": "plausibility needs a number",
        "plausibility=2": "above 0 and at most 1, got 2.0",
        "adaptive=yes": "takes no value",
        "adaptive,adaptive": "named twice",
    }.items():
        with pytest.raises(ValueError, match=said):
            Line.of(words)


@pytest.mark.parametrize("alpha", [math.inf, math.nan, (1.0, math.inf), (), "12"])
def test_an_alpha_that_is_none(alpha):
    with pytest.raises(ValueError, match="alpha needs to be"):
        Line(alpha)


def test_adaptive_alpha_moves_the_base_as_far():
    torch.manual_seed(0)
    base, expert, antiexpert = torch.randn(3, 2, 4, 50)
    alpha = adaptive_alpha(base, expert, antiexpert)
    assert alpha.shape == (2, 4) and (alpha < 2).all()
    steered = proxy_logits(base, expert, antiexpert, alpha)
    moved = divergence(steered.log_softmax(-1), base.log_softmax(-1))
    wanted = divergence(expert.log_softmax(-1), antiexpert.log_softmax(-1))
    torch.testing.assert_close(moved, wanted, rtol=1e-4, atol=1e-5)


def test_adaptive_alpha_where_the_answer_is_known():
    torch.manual_seed(0)
    small, tuned = torch.randn(2, 7, 50)
    torch.testing.assert_close(adaptive_alpha(small, tuned, small), torch.ones(7))
    assert (adaptive_alpha(small, tuned, tuned) < 1e-5).all()
    certain = torch.tensor([[100.0, 0.0]])  # nothing moves this base as far as that
    far, near = torch.tensor([[0.0, 9.0]]), torch.tensor([[9.0, 0.0]])
    assert adaptive_alpha(certain, far, near).item() == 2.0


def naive(variant, value, base, expert, antiexpert):
    """Probabilities of one position, token by token, as each variant's source states it."""
    p, q, r = ([math.exp(x) for x in logits.tolist()] for logits in (base, expert, antiexpert))
    total = [sum(weights) for weights in (p, q, r)]
    p, q, r = ([w / t for w in ws] for ws, t in zip((p, q, r), total, strict=True))
    if variant == "mixture":
        weights = [value * b + (1 - value) * a for a, b in zip(p, q, strict=True)]
    elif variant == "product":
        weights = [a * b**value for a, b in zip(p, q, strict=True)]
    elif variant == "contrast":
        weights = [a ** (1 + value) / c**value for a, c in zip(p, r, strict=True)]
    elif variant == "nudging":
        weights = q if max(p) < value else p
    else:
        nats = sum(b * math.log(b / c) for b, c in zip(q, r, strict=True))
        weights = p if nats < value else [a * b / c for a, b, c in zip(p, q, r, strict=True)]
    return torch.tensor([w / sum(weights) for w in weights])


PEERS = {"mixture": 0.3, "product": 0.7, "contrast": 0.5, "nudging": 0.35, "gate": 0.9}


@pytest.mark.parametrize("variant", PEERS)
def test_peers_equal_their_naive_forms(variant):
    logits = torch.randn(3, 2, 6, 9, generator=torch.manual_seed(3))
    base, expert, antiexpert = logits
    found = Line(**{variant: PEERS[variant]})(base, [expert], [antiexpert], [1.0]).softmax(-1)
    plain = 0
    for i, j in torch.cartesian_prod(torch.arange(2), torch.arange(6)).tolist():
        three = base[i, j], expert[i, j], antiexpert[i, j]
        torch.testing.assert_close(found[i, j], naive(variant, PEERS[variant], *three))
        plain += torch.allclose(found[i, j], base[i, j].softmax(-1))
    if variant in ("nudging", "gate"):
        assert 0 < plain < 12, "both sides of the threshold need to be seen"


def test_peers_at_their_ends():
    base, expert, antiexpert = torch.randn(3, 4, 9, generator=torch.manual_seed(4))
    models = base, [expert], [antiexpert], [1.0]
    for variant in PEERS:
        if variant != "gate":
            torch.testing.assert_close(
                Line(**{variant: 0.0})(*models).softmax(-1), base.softmax(-1)
            )
    assert torch.equal(Line(nudging=1.0)(*models), expert)
    half = torch.zeros(2), [torch.tensor([3.0, 1.0])], [torch.ones(2)], [1.0]
    assert torch.equal(Line(nudging=0.5)(*half), half[0]), "as sure as the threshold is sure"
    assert torch.equal(Line(gate=0.0)(*models), Line()(*models))
    assert torch.equal(Line(gate=1e9)(*models), base)
    apart = base[:1, :1], [expert[:1, :1]], [antiexpert[:1, :1]], [1.0]
    changed = divergence(*(m[0].log_softmax(-1) for m in apart[1:3])).item()
    assert torch.equal(Line(gate=changed)(*apart), Line()(*apart)), "at the gate it is open"
    kept = Line(contrast=0.5, plausibility=0.2)(*models).isfinite()
    assert torch.equal(kept, base.softmax(-1) >= 0.2 * base.softmax(-1).amax(-1, keepdim=True))


def test_peers_that_are_none():
    with pytest.raises(ValueError, match="mixture and nudging both stand in place"):
        Line(mixture=0.5, nudging=0.5)
    for variant, value in {
        "nudging": 1.5,
        "product": -1.0,
        "contrast": math.inf,
        "gate": -0.1,
    }.items():
        with pytest.raises(ValueError, match=f"{variant} needs to be"):
            Line(**{variant: value})
    logits = torch.zeros(1, 3)
    for variant in PEERS:
        with pytest.raises(ValueError, match="of one expert and the base, not 2"):
            Line(**{variant: 0.5})(logits, [logits] * 2, [logits] * 2, [0.5, 0.5])


def test_what_is_excluded_counts_nothing_in_a_divergence():
    """By hand: 0.5 and 0.5 against 0.25 and 0.75; a third token has -inf in both."""
    p, q = (torch.tensor([a, b, 0.0]).log() for a, b in ((0.5, 0.5), (0.25, 0.75)))
    by_hand = 0.5 * math.log(2) + 0.5 * math.log(0.5 / 0.75)
    assert divergence(p, q).item() == pytest.approx(by_hand)


def test_a_closed_gate_lets_through_the_nucleus_alone():
    base = torch.tensor([[0.6, 0.3, 0.1]]).log()
    models = base, [torch.zeros(1, 3)], [torch.zeros(1, 3)], [1.0]
    assert Line(gate=1.0, base_top_p=0.8)(*models).isfinite().tolist() == [[True, True, False]]
