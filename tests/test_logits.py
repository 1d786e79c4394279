"""The line itself, on numbers that can be checked by hand."""

import pytest
import torch

from proxy_tuning import proxy_logits


def test_the_line():
    base, expert, antiexpert = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 7.0]])
    torch.testing.assert_close(
        proxy_logits(base, expert, antiexpert, 0.5), torch.tensor([0.0, 0.5])
    )


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
