"""The naive way: no caches, no shared work, nothing to get wrong. What all else must equal."""

import torch
from transformers import GenerationMixin, GPT2Config, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast


def steered_logits(base, expert, antiexpert, input_ids, alpha, expert_ids=None):
    """Next-token logits after one unpadded prompt (1, T), from three whole passes; (1, V).

    The expert may read other tokens, `expert_ids` (1, any).
    """
    expert_ids = input_ids if expert_ids is None else expert_ids
    b, e, a = (
        part(ids).logits[:, -1].float()
        for part, ids in ((base, input_ids), (expert, expert_ids), (antiexpert, input_ids))
    )
    return b + alpha * (e - a)


@torch.no_grad()
def greedy(base, expert, antiexpert, input_ids, alpha, max_new_tokens, expert_ids=None):
    """Token ids (1, T + max_new_tokens); every step computes the whole sequence again."""
    for _ in range(max_new_tokens):
        logits = steered_logits(base, expert, antiexpert, input_ids, alpha, expert_ids)
        next_id = logits.argmax(-1, keepdim=True)
        input_ids = torch.cat([input_ids, next_id], dim=1)
        expert_ids = expert_ids if expert_ids is None else torch.cat([expert_ids, next_id], dim=1)
    return input_ids


class Naive(PreTrainedModel, GenerationMixin):
    """The sum of three models as a causal LM without caches, for transformers' own loops."""

    config_class = GPT2Config

    def __init__(self, base, expert, antiexpert, alpha):
        super().__init__(GPT2Config(vocab_size=base.config.vocab_size))
        self.trio, self.alpha = torch.nn.ModuleList([base, expert, antiexpert]), alpha
        self.generation_config.pad_token_id = 0
        self.generation_config.use_cache = False

    def forward(self, input_ids, attention_mask=None, position_ids=None, use_cache=False, **_):
        assert not use_cache
        b, e, a = (
            part(
                input_ids,
                attention_mask=attention_mask,
                position_ids=position_ids,
                use_cache=False,
            ).logits.float()
            for part in self.trio
        )
        return CausalLMOutputWithPast(logits=b + self.alpha * (e - a))
