"""The naive way: no caches, no batches, no positions to get wrong. What all else must equal."""

import torch


def steered_logits(base, expert, antiexpert, input_ids, alpha):
    """Next-token logits after one unpadded prompt (1, T), from three whole passes; (1, V)."""
    b, e, a = (m(input_ids).logits[:, -1].float() for m in (base, expert, antiexpert))
    return b + alpha * (e - a)


@torch.no_grad()
def greedy(base, expert, antiexpert, input_ids, alpha, max_new_tokens):
    """Token ids (1, T + max_new_tokens); every step computes the whole sequence again."""
    for _ in range(max_new_tokens):
        logits = steered_logits(base, expert, antiexpert, input_ids, alpha)
        input_ids = torch.cat([input_ids, logits.argmax(-1, keepdim=True)], dim=1)
    return input_ids
