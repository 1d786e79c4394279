"""What a pair needs of memory, reckoned from shapes: `python -m docs.pairs` prints a table.

Models are built without weights (torch's meta device) from the shapes that their configs publish,
so nothing is downloaded.
"""

import torch
from transformers import AutoConfig, AutoModelForCausalLM

TOKENS = 2048  # of text, in the reckoning of key-value caches
BYTES = 2  # of a number in bfloat16
GIB = 2**30


def llama(width, layers, heads, kv_heads, inner, vocab, kind="llama", tied=False, head_dim=None):
    """A config of Llama's kind (Qwen and Mistral too): (kind, its numbers)."""
    return kind, {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": inner,
        "vocab_size": vocab,
        "tie_word_embeddings": tied,
        "head_dim": head_dim or width // heads,
    }


def gpt2(width, layers, heads):
    """A config of GPT-2: (kind, its numbers)."""
    return "gpt2", {"n_embd": width, "n_layer": layers, "n_head": heads}


SHAPES = {
    "distilgpt2": gpt2(768, 6, 12),
    "gpt2": gpt2(768, 12, 12),
    "gpt2-large": gpt2(1280, 36, 20),
    "gpt2-xl": gpt2(1600, 48, 25),
    "Qwen3-0.6B-Base": llama(1024, 28, 16, 8, 3072, 151936, "qwen3", True, 128),
    "Qwen3-1.7B-Base": llama(2048, 28, 16, 8, 6144, 151936, "qwen3", True, 128),
    "Qwen3-8B-Base": llama(4096, 36, 32, 8, 12288, 151936, "qwen3", False, 128),
    "Qwen3-14B-Base": llama(5120, 40, 40, 8, 17408, 151936, "qwen3", False, 128),
    "Llama-3.2-1B": llama(2048, 16, 32, 8, 8192, 128256, tied=True),
    "Llama-3.1-8B": llama(4096, 32, 32, 8, 14336, 128256),
    "Llama-3.1-70B": llama(8192, 80, 64, 8, 28672, 128256),
    "Llama-2-7b": llama(4096, 32, 32, 32, 11008, 32000),
    "Llama-2-13b": llama(5120, 40, 40, 40, 13824, 32000),
    "Llama-2-70b": llama(8192, 80, 64, 8, 28672, 32000),
    "Mistral-7B-v0.3": llama(4096, 32, 32, 8, 14336, 32768, "mistral"),
    "Mistral-Small-2409": llama(6144, 56, 48, 8, 16384, 32768, "mistral", False, 128),
}
PAIRS = [
    ("gpt2", "distilgpt2"),
    ("gpt2-large", "distilgpt2"),
    ("gpt2-xl", "distilgpt2"),
    ("Qwen3-8B-Base", "Qwen3-0.6B-Base"),
    ("Qwen3-14B-Base", "Qwen3-1.7B-Base"),
    ("Llama-3.1-8B", "Llama-3.2-1B"),
    ("Llama-3.1-70B", "Llama-3.1-8B"),
    ("Llama-2-13b", "Llama-2-7b"),
    ("Llama-2-70b", "Llama-2-7b"),
    ("Mistral-Small-2409", "Mistral-7B-v0.3"),
]


def parameters(name):
    """How many parameters a model of SHAPES has."""
    kind, numbers = SHAPES[name]
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **numbers))
    return model.num_parameters()


def cache_bytes(name, tokens=TOKENS):
    """The key-value cache of one text: keys and values of every layer, in bytes."""
    kind, numbers = SHAPES[name]
    if kind == "gpt2":
        return 2 * numbers["n_layer"] * numbers["n_embd"] * tokens * BYTES
    heads = numbers["num_key_value_heads"] * numbers["head_dim"]
    return 2 * numbers["num_hidden_layers"] * heads * tokens * BYTES


def memory(base, small):
    """GiB of (three models, base and one small model for LoRA, the three caches)."""
    large_size, small_size = (BYTES * parameters(name) for name in (base, small))
    caches = cache_bytes(base) + 2 * cache_bytes(small)
    return tuple(x / GIB for x in (large_size + 2 * small_size, large_size + small_size, caches))


def table():
    """The table of docs/pairs.md, in Markdown."""
    lines = [
        "| M | M- and M+ | parameters of M, M- | weights, GiB | with a LoRA M+, GiB | caches, GiB |",
        "|---|---|---|---|---|---|",
    ]
    for base, small in PAIRS:
        sizes = ", ".join(f"{parameters(name) / 1e9:.2f}" for name in (base, small))
        numbers = " | ".join(f"{x:.2f}" if x < 10 else f"{x:.0f}" for x in memory(base, small))
        lines.append(f"| {base} | {small} | {sizes} billion | {numbers} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
