"""The optimiser of the pocket family: Muon for weight matrices, AdamW for everything else."""

import torch


def computes_in_bf16():
    """Whether the GPU, or without one the processor, multiplies in bfloat16: faster, as good."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def orthogonal(matrix, steps=5, coefficients=(3.4445, -4.7750, 2.0315)):
    """A matrix with the singular vectors of `matrix` and singular values near 1, in its own dtype.

    Newton-Schulz iteration, with the coefficients of Jordan et al. 2024.
    """
    a, b, c = coefficients
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    wide = wide / wide.norm().clamp(min=1e-7)
    for _ in range(steps):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return wide.T if matrix.shape[0] > matrix.shape[1] else wide


class Muon(torch.optim.Muon):
    """torch's Muon, but in float32 where the processor does not multiply in bfloat16.

    torch's own always computes in bfloat16; where that is emulated, a step of pocket's M- took 6.9 s
    in place of 0.2. Steps have the size of AdamW's ("match_rms_adamw").
    """

    @torch.no_grad()
    def step(self, closure=None):
        """One step; gradients must be there."""
        dtype = torch.bfloat16 if computes_in_bf16() else torch.float32
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            for weight in group["params"]:
                state = self.state[weight]
                mean = state.setdefault("momentum_buffer", torch.zeros_like(weight))
                mean.lerp_(weight.grad, 1 - momentum)
                update = orthogonal(weight.grad.lerp(mean, momentum).to(dtype))
                weight.mul_(1 - lr * group["weight_decay"])
                weight.add_(update, alpha=-0.2 * lr * max(weight.shape) ** 0.5)


class MuonAdamW(torch.optim.Optimizer):
    """Muon and AdamW as one optimiser that a Trainer can drive.

    Muon (Jordan et al. 2024) makes each step of a weight matrix orthogonal, so that rare
    directions, such as the digits of one fact, are learnt as fast as common ones. Embeddings, the
    output head, biases and norms take AdamW.

    Args:
        model: a transformers model; those of its parameters that require gradients are trained.
        lr: of the matrices, scaled to the size of AdamW's steps.
        embedding_lr: of everything else.
    """

    def __init__(self, model, lr, embedding_lr=2e-3, weight_decay=0.01):
        apart = [m for m in model.modules() if isinstance(m, torch.nn.Embedding)]
        apart.append(model.get_output_embeddings())
        apart = {id(part.weight) for part in apart if part is not None}
        trained = [p for p in model.parameters() if p.requires_grad]
        matrix = [p.ndim == 2 and id(p) not in apart for p in trained]
        matrices = [p for p, inside in zip(trained, matrix, strict=True) if inside]
        others = [p for p, inside in zip(trained, matrix, strict=True) if not inside]
        self.parts = [
            Muon(matrices, lr=lr, weight_decay=weight_decay),
            torch.optim.AdamW(
                others, lr=embedding_lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True
            ),
        ]
        super().__init__(self._groups(), {})

    def _groups(self):
        return [group for part in self.parts for group in part.param_groups]

    @torch.no_grad()
    def step(self, closure=None):
        """One step of both; gradients must be there."""
        for part in self.parts:
            part.step()

    def state_dict(self):
        """The states of both parts."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict):
        """Take up both parts where `state_dict` left them."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = self._groups()
