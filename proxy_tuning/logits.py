"""The line this repository is about: base + alpha * (expert - antiexpert).

Below it are its variants, and `Line`, which says which of them is meant: a new variant is a
function and a field here, and nothing elsewhere. All are pure tensor functions, no models: they
take raw logits of shape (..., V) in any floating dtype and work in float32.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import TopPLogitsWarper

STRONGEST = 1e30
"""The highest alpha, up or down: beyond it, times a difference, no float32 is finite."""


def proxy_logits(
    base: torch.Tensor,
    expert: torch.Tensor,
    antiexpert: torch.Tensor,
    alpha: float | torch.Tensor,
) -> torch.Tensor:
    """Steer the base's logits by what fine-tuning changed in the small model.

    Equation 1 in section 2 of "Tuning Language Models by Proxy" (arXiv 2401.08565), with the
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
    return base.float() + per_row(alpha, base) * (expert.float() - antiexpert.float())


def per_row(alpha: float | torch.Tensor, like: torch.Tensor) -> float | torch.Tensor:
    """Alpha with dimensions of size 1 at its end, (B,) -> (B, 1, 1), so that it meets the rows."""
    if not isinstance(alpha, torch.Tensor):
        return alpha
    alpha = alpha.to(like.device, torch.float32)
    return alpha.reshape(alpha.shape + (1,) * (like.dim() - alpha.dim()))


def keep_plausible(logits: torch.Tensor, base: torch.Tensor, share: float) -> torch.Tensor:
    """Forbid what the base finds implausible, however much the experts want it.

    The adaptive plausibility constraint of "Contrastive Decoding" (arXiv 2210.15097, section
    3.3): a token stays where p_base >= share * max p_base.

    Args:
        logits: steered logits, (..., V).
        base: the base's own, the same shape.
        share: above 0 (all tokens stay) to 1 (the base's favourite alone stays).

    Returns:
        float32, `logits` with -inf for what is forbidden.
    """
    base = base.float()
    floor = base.amax(dim=-1, keepdim=True) + math.log(share)  # (..., 1)
    return logits.float().masked_fill(base < floor, -math.inf)


def keep_top_p(base: torch.Tensor, top_p: float) -> torch.Tensor:
    """Cut the base's logits to its nucleus before anything is added to them.

    The filter of DExperts (arXiv 2105.03023, section 3.1): experts reorder what the base would
    have sampled, and bring in nothing else.

    Args:
        base: logits, (..., V).
        top_p: the likeliest tokens that together hold this probability stay.

    Returns:
        float32, the shape of `base`, -inf outside the nucleus.
    """
    rows = base.float().reshape(-1, base.shape[-1])
    return TopPLogitsWarper(top_p)(None, rows).view(base.shape)


def mixed(base: torch.Tensor, expert: torch.Tensor, share: float) -> torch.Tensor:
    """Interpolate probabilities in place of adding logits: M- has no say.

    As kNN-LM (arXiv 1911.00172, equation 3) does with what it retrieves:
    p = share * p_expert + (1 - share) * p_base.

    Args:
        base, expert: logits, (..., V).
        share: of the expert, 0 to 1.

    Returns:
        log p, float32, (..., V).
    """
    base, expert = base.float().log_softmax(-1), expert.float().log_softmax(-1)
    return torch.logaddexp(
        expert + math.log(share) if share else torch.full_like(expert, -math.inf),
        base + math.log(1 - share) if share < 1 else torch.full_like(base, -math.inf),
    )


def product(base: torch.Tensor, expert: torch.Tensor, weight: float) -> torch.Tensor:
    """Multiply probabilities in place of adding a difference: M- has no say.

    "Training Products of Experts by Minimizing Contrastive Divergence" (Hinton 2002), as
    genlm-control's `llm1 * llm2` does at every token: p ~ p_base * p_expert ** weight.

    Args:
        base, expert: logits, (..., V).
        weight: exponent of the expert, 0 or more; 1 is the plain product.

    Returns:
        Logits in float32, (..., V), up to a constant.
    """
    return base.float() + weight * expert.float()


def contrast(base: torch.Tensor, antiexpert: torch.Tensor, strength: float) -> torch.Tensor:
    """Move the base away from the small model: there is no M+.

    "Contrastive Decoding Improves Reasoning in Large Language Models" (arXiv 2309.09117):
    (1 + strength) * base - strength * antiexpert. What the base finds implausible is to be cut by
    `keep_plausible`, as there.

    Args:
        base, antiexpert: logits, (..., V).
        strength: 0 or more; 0 is the base.

    Returns:
        Logits in float32, (..., V).
    """
    return proxy_logits(base, base, antiexpert, strength)


def nudged(base: torch.Tensor, expert: torch.Tensor, threshold: float) -> torch.Tensor:
    """Let the small model speak where the large one is unsure: M- has no say.

    "Nudging" (arXiv 2410.09300), token by token where the paper lets a whole word through: the
    expert's logits where max p_base < threshold, else the base's.

    Args:
        base, expert: logits, (..., V).
        threshold: 0 (the base alone) to 1 (the expert wherever the base is not certain).

    Returns:
        Logits in float32, (..., V).
    """
    base = base.float()
    unsure = base.softmax(-1).amax(-1, keepdim=True) < threshold  # (..., 1)
    return torch.where(unsure, expert.float(), base)


def gated(
    steered: torch.Tensor,
    base: torch.Tensor,
    expert: torch.Tensor,
    antiexpert: torch.Tensor,
    least: float,
) -> torch.Tensor:
    """Leave the base as it is where fine-tuning changed little.

    Args:
        steered, base, expert, antiexpert: logits, (..., V).
        least: nats of KL(expert || antiexpert) from which on the steered logits hold.

    Returns:
        Logits in float32, (..., V).
    """
    changed = divergence(expert.float().log_softmax(-1), antiexpert.float().log_softmax(-1))
    return torch.where(changed[..., None] < least, base.float(), steered.float())


def adaptive_alpha(
    base: torch.Tensor, expert: torch.Tensor, antiexpert: torch.Tensor, highest: float = 2.0
) -> torch.Tensor:
    """The alpha that moves the base, at each token, as far as fine-tuning moved the small model.

    "Dynamic Logits Fusion" (arXiv 2406.15480) with one expert: KL(steered || base) is to equal
    KL(expert || antiexpert). The left side grows with alpha, so that halving an interval finds
    the alpha, where the paper tries a grid of values.

    Args:
        base, expert, antiexpert: logits, (..., V).
        highest: the interval is [0, highest], taken where even that moves the base less.

    Returns:
        float32, (...), within `highest` / 2**20 of the solution.
    """
    base, expert, antiexpert = (x.float().log_softmax(-1) for x in (base, expert, antiexpert))
    distance = divergence(expert, antiexpert)  # (...)
    low, high = torch.zeros_like(distance), torch.full_like(distance, highest)
    for _ in range(20):
        middle = (low + high) / 2
        steered = proxy_logits(base, expert, antiexpert, middle).log_softmax(-1)
        short = divergence(steered, base) < distance
        low, high = torch.where(short, middle, low), torch.where(short, high, middle)
    return high


def divergence(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """KL(p || q) in nats, (...), of log-probabilities (..., V); what p excludes counts nothing."""
    return (p.exp() * (p - q).masked_fill(p == -math.inf, 0)).sum(-1)


def as_number(name: str, value) -> float:
    """A value as a float; ValueError with its name where it is no number."""
    try:
        if isinstance(value, (str, bool)):
            raise TypeError
        return float(value)
    except (TypeError, OverflowError):
        raise ValueError(f"{name} needs to be a number, got {value!r}") from None


INSTEAD = ("mixture", "product", "contrast", "nudging")
"""Variants that stand in place of the line; one at a time."""


@dataclass(frozen=True)
class Line:
    """Which line is meant: alpha and the variants of it; checked when made."""

    alpha: float | tuple[float, ...] = 1.0
    """Weight of (expert - antiexpert), finite; with several experts one number for each."""
    base_top_p: float | None = None
    """Only the base's nucleus of this probability can be chosen, see `keep_top_p`."""
    plausibility: float | None = None
    """Only tokens with this share of the base's highest probability, see `keep_plausible`."""
    adaptive: bool = False
    """Whether alpha is multiplied by `adaptive_alpha`, token by token."""
    mixture: float | None = None
    """In place of the line: the probability that one expert has in a mixture, see `mixed`."""
    product: float | None = None
    """In place of the line: the exponent of one expert in a product, see `product`."""
    contrast: float | None = None
    """In place of the line: how far the base moves from one antiexpert, see `contrast`."""
    nudging: float | None = None
    """In place of the line: one expert speaks where the base is less sure, see `nudged`."""
    gate: float | None = None
    """Only where fine-tuning changed one expert by so many nats is the base steered, see `gated`."""

    def __post_init__(self):
        if isinstance(self.alpha, str) or self.alpha == ():
            raise ValueError(f"alpha needs to be a number or several, got {self.alpha!r}")
        if not isinstance(self.adaptive, bool):
            raise ValueError(f"adaptive needs to be True or False, got {self.adaptive!r}")
        if isinstance(self.alpha, Sequence):
            alphas = tuple(as_number("alpha", alpha) for alpha in self.alpha)
            object.__setattr__(self, "alpha", alphas)
        alphas = self.alpha if isinstance(self.alpha, tuple) else (self.alpha,)
        if not all(abs(as_number("alpha", alpha)) <= STRONGEST for alpha in alphas):
            raise ValueError(f"alpha needs to be finite, at most {STRONGEST}, got {self.alpha}")
        for name in ("base_top_p", "plausibility"):
            share = getattr(self, name)
            if share is not None and not 0 < as_number(name, share) <= 1:
                raise ValueError(f"{name} needs to be above 0 and at most 1, got {share}")
        for name in ("mixture", "nudging"):
            share = getattr(self, name)
            if share is not None and not 0 <= as_number(name, share) <= 1:
                raise ValueError(f"{name} needs to be in [0, 1], got {share}")
        for name in ("product", "contrast", "gate"):
            weight = getattr(self, name)
            if weight is not None and not 0 <= as_number(name, weight) <= STRONGEST:
                raise ValueError(f"{name} needs to be 0 or more and finite, got {weight}")
        if len(named := [name for name in INSTEAD if getattr(self, name) is not None]) > 1:
            raise ValueError(f"{' and '.join(named)} both stand in place of the line: name one")

    @classmethod
    def of(cls, text: str) -> "Line":
        """From words as a command line has them: "plausibility=0.1,adaptive", "" is the plain one.

        They name the variants; alpha has an option of its own.

        Raises:
            ValueError: an unknown word, or a value that is none or out of range.
        """
        known = {field.name: field for field in dataclasses.fields(cls) if field.name != "alpha"}
        values: dict = {}
        for word in filter(None, map(str.strip, text.split(","))):
            name, _, value = word.partition("=")
            if name not in known:
                raise ValueError(f"the line has no variant {name!r}; there are {', '.join(known)}")
            if name in values:
                raise ValueError(f"{name} is named twice")
            if isinstance(known[name].default, bool):
                if value:
                    raise ValueError(f"{name} takes no value, got {value!r}")
                values[name] = True
                continue
            try:
                values[name] = float(value)
            except ValueError:
                raise ValueError(f"{name} needs a number, as {name}=0.5, got {value!r}") from None
        return cls(**values)

    def __call__(
        self,
        base: torch.Tensor,
        experts: Sequence[torch.Tensor],
        antiexperts: Sequence[torch.Tensor],
        alphas: Sequence[float | torch.Tensor],
    ) -> torch.Tensor:
        """Steered logits, float32, of the base's shape.

        Args:
            base: logits (B, K, V) or (B, V).
            experts, antiexperts: as many of each, the base's shape.
            alphas: a weight for each, a number or (B,), in place of the line's own.

        Raises:
            ValueError: a variant that is of one expert, with several.
        """
        for name in (*INSTEAD, "gate"):
            if getattr(self, name) is not None and len(experts) != 1:
                raise ValueError(f"a {name} is of one expert and the base, not {len(experts)}")
        if self.mixture is not None:
            logits = mixed(base, experts[0], self.mixture)
        elif self.product is not None:
            logits = product(base, experts[0], self.product)
        elif self.contrast is not None:
            logits = contrast(base, antiexperts[0], self.contrast)
        elif self.nudging is not None:
            logits = nudged(base, experts[0], self.nudging)
        else:
            logits = self.steered(base, experts, antiexperts, alphas)
        if self.gate is not None:
            own = keep_top_p(base, self.base_top_p) if self.base_top_p else base
            logits = gated(logits, own, experts[0], antiexperts[0], self.gate)
        return keep_plausible(logits, base, self.plausibility) if self.plausibility else logits

    def steered(
        self,
        base: torch.Tensor,
        experts: Sequence[torch.Tensor],
        antiexperts: Sequence[torch.Tensor],
        alphas: Sequence[float | torch.Tensor],
    ) -> torch.Tensor:
        """The line itself, its filter and its adaptive alpha; arguments as in `__call__`."""
        logits = keep_top_p(base, self.base_top_p) if self.base_top_p else base
        for weight, expert, antiexpert in zip(alphas, experts, antiexperts, strict=True):
            if self.adaptive:
                per_token = adaptive_alpha(base, expert, antiexpert)  # (B, K) or (B,)
                weight = per_row(weight, per_token) * per_token
            logits = proxy_logits(logits, expert, antiexpert, weight)
        return logits


PLAIN = Line()
"""The paper's line, at alpha 1."""
