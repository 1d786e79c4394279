"""The optimiser of the pocket family: Muon for weight matrices, AdamW for everything else."""

import torch


class MuonAdamW(torch.optim.Optimizer):
    """torch's Muon and AdamW as one optimiser that a Trainer can drive.

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
            torch.optim.Muon(
                matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
            ),
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
