"""Tiny random models over one vocabulary of 97 tokens; seconds on one core."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import functools

import pytest
import torch
from tokenizers import Tokenizer, decoders, models
from transformers import AutoConfig, AutoModelForCausalLM, GPT2Config, PreTrainedTokenizerFast
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils import logging
from xdist.scheduler import LoadFileScheduling

from proxy_tuning import ProxyTunedForCausalLM, load_family

torch.set_num_threads(1)
logging.disable_progress_bar()
VOCAB = 97
CLOSE = {"rtol": 0, "atol": 5e-5}
"""What two orders of the same float32 arithmetic may differ by, in logits of size 10."""


def tiny_model(kind, seed, layers=2, width=32, vocab=VOCAB, positions=128, end=0, spread=0.3):
    """A random model of an architecture; weights large enough that its choices are firm.

    A wide model takes a smaller spread: layer by layer its rounding grows with spread * width**0.5.
    """
    torch.manual_seed(seed)
    shape = {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "max_position_embeddings": positions,
        "initializer_range": spread,
        "vocab_size": vocab,
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
    }
    if kind != "gpt2":
        shape |= {"intermediate_size": 2 * width, "num_key_value_heads": 2, "head_dim": width // 4}
        shape |= {"tie_word_embeddings": False}  # tied and random, it repeats the last token
    if kind in ("mistral", "gemma2"):  # shorter than the tests' texts, so that it matters
        shape |= {"sliding_window": 5}
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **shape)).eval()


def tiny_trio(kind: str):
    """(base, expert, antiexpert): a wider, deeper model against two small ones."""
    large, small = ("gpt2", "llama") if kind == "mixed" else (kind, kind)
    return tiny_model(large, 1, layers=3, width=48), tiny_model(small, 2), tiny_model(small, 3)


LETTERS = ["<end>", *map(chr, range(32, 128))]
LINES = ["\n", "<end>", *map(chr, range(32, 127))]
"""As many, with the end of a line, which questions and answers need."""


def letter_tokenizer(letters=LETTERS):
    """A tokenizer of one token per character, and <end> for end-of-text and padding."""
    vocab = {letter: i for i, letter in enumerate(letters)}
    tokenizer = Tokenizer(models.BPE(vocab, merges=[], unk_token="<end>"))
    tokenizer.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")
    tokenizer.pad_token, tokenizer.padding_side = "<end>", "left"
    return tokenizer


def save_part(folder, kind, seed, letters=LETTERS, **shape):
    """A tiny model and a tokenizer of these letters in a folder, whose name is returned."""
    letter_tokenizer(letters).save_pretrained(folder)
    tiny_model(kind, seed, end=letters.index("<end>"), **shape).save_pretrained(folder)
    return str(folder)


@functools.cache
def pocket():
    """The embedded family as (base, expert, antiexpert); a test without it is skipped."""
    try:
        model, _ = load_family("pocket")
    except (FileNotFoundError, OSError) as error:
        pytest.skip(f"no pocket weights: {error}")
    return model.base, model.expert, model.antiexpert


class ByFile(LoadFileScheduling):
    """For two workers: the tests of a file go to one, for their fixtures; each notebook for itself."""

    def _split_scope(self, nodeid):
        return nodeid if "test_notebooks" in nodeid else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config, log):
    return ByFile(config, log)


def pytest_collection_modifyitems(items):
    """Notebooks first: they take longest, and nobody should wait for them in the end."""
    items.sort(key=lambda item: item.path.stem != "test_notebooks")


# soft-capped logits in gemma2, a sliding window in gemma2 and mistral
ARCHITECTURES = ["gpt2", "llama", "qwen3", "gemma2", "mistral", "mixed"]


@pytest.fixture(params=[*ARCHITECTURES, "pocket"])
def trio(request):
    """(base, expert, antiexpert) to combine; nothing may change their weights."""
    return pocket() if request.param == "pocket" else tiny_trio(request.param)


@pytest.fixture
def model(trio):
    """The trio as one model, alpha 0.7."""
    return ProxyTunedForCausalLM(*trio, alpha=0.7)


@pytest.fixture
def prompt():
    """One prompt of seven tokens, (1, 7)."""
    return torch.randint(1, VOCAB, (1, 7), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def batch():
    """Three prompts of 3, 6 and 9 tokens, padded on the left: input_ids and attention_mask."""
    ids = torch.randint(1, VOCAB, (3, 9), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(9) >= torch.tensor([6, 3, 0])[:, None]).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


class Constant(torch.nn.Module):
    """A fake causal LM whose logits depend on the position alone: row t of `table` (N, V)."""

    device = torch.device("cpu")

    def __init__(self, table):
        super().__init__()
        self.table = torch.nn.Parameter(torch.as_tensor(table))
        positions, vocab = self.table.shape
        self.config = GPT2Config(vocab_size=vocab, n_positions=positions, n_layer=1)

    def forward(self, input_ids, position_ids, past_key_values, use_cache, logits_to_keep, **_):
        if use_cache:
            past_key_values.update(*2 * [torch.zeros(len(input_ids), 1, input_ids.shape[1], 1)], 0)
        logits = self.table[position_ids[:, -logits_to_keep:]].expand(len(input_ids), -1, -1)
        return CausalLMOutputWithPast(logits=logits)
