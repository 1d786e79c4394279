"""The line this repository is about: base + alpha * (expert - antiexpert).

Pure tensor functions, no models. Every function takes raw logits of shape (..., V), in any
floating dtype, and works in float32.
"""

import torch


def proxy_logits(
    base: torch.Tensor,
    expert: torch.Tensor,
    antiexpert: torch.Tensor,
    alpha: float | torch.Tensor,
) -> torch.Tensor:
    """Steer the base's logits by what fine-tuning changed in the small model.

    Equation of section 3.1 of "Tuning Language Models by Proxy" (arXiv 2401.08565), with the
    weight alpha of DExperts (arXiv 2105.03023) before the difference.

    Args:
        base: logits of M, (B, T, V) or (B, V), any floating dtype.
        expert: logits of M+, the same shape.
        antiexpert: logits of M-, the same shape.
        alpha: one number, or a tensor with a value per row (B,) or per position (B, T).

    Returns:
        Steered logits in float32, the shape of `base`.

    Raises:
        ValueError: the three shapes differ.
    """
    if not base.shape == expert.shape == antiexpert.shape:
        raise ValueError(
            "base, expert and antiexpert logits need one shape, got "
            f"{tuple(base.shape)}, {tuple(expert.shape)} and {tuple(antiexpert.shape)}"
        )
    if isinstance(alpha, torch.Tensor):  # (B,) -> (B, 1, 1), so that it meets the rows
        alpha = alpha.to(base.device, torch.float32)
        alpha = alpha.reshape(alpha.shape + (1,) * (base.dim() - alpha.dim()))
    return base.float() + alpha * (expert.float() - antiexpert.float())
