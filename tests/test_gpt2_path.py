"""The way of FAMILY=gpt2 through the notebooks, at the real shapes, with random weights.

GPT-2's weights are on the Hugging Face Hub alone; what is here has its names, shapes and layout in
the Hub's cache, so that all code runs which a reader with the weights runs.
"""

import re

import nbformat
import pytest
import torch
from test_notebooks import checkout  # noqa: F401
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from proxy_tuning import notebooks
from proxy_tuning.families import FAMILIES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
COMMIT = "0" * 40
LAYERS = {"base": 12, "antiexpert": 6}  # of GPT-2 and distilGPT-2, whose shapes agree otherwise
FEW = """recipe = dataclasses.replace(recipe, states=("Pennsylvania",), max_facts=2, natural=0,
                             endings=0, epochs=1, quiet_texts=1)
"""


def gpt2_tokenizer():
    """Bytes as tokens, filled up to GPT-2's 50,257 with words that no text has."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    vocabulary |= {f"\u0001{i}": i for i in range(len(letters), 50256)}
    vocabulary["<|endoftext|>"] = 50256
    whole = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    whole.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    whole.decoder = decoders.ByteLevel()
    ends = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
    return PreTrainedTokenizerFast(tokenizer_object=whole, **ends)


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A cache of the Hub with both models as `from_pretrained` looks for them."""
    cache = tmp_path_factory.mktemp("hub")
    for part, layers in LAYERS.items():
        repository = cache / f"models--{getattr(FAMILIES['gpt2'], part).replace('/', '--')}"
        snapshot = repository / "snapshots" / COMMIT
        torch.manual_seed(layers)
        GPT2LMHeadModel(GPT2Config(n_layer=layers)).save_pretrained(snapshot)
        gpt2_tokenizer().save_pretrained(snapshot)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(COMMIT)
    return cache


def test_both_notebooks_run_at_the_shapes_of_gpt2(checkout, hub, monkeypatch):  # noqa: F811
    monkeypatch.setenv("FAMILY", "gpt2")
    monkeypatch.setenv("HF_HUB_CACHE", str(hub))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    path = checkout / "fine_tuning.ipynb"
    notebook = nbformat.read(path, 4)
    chooses = next(cell for cell in notebook.cells if cell.source.startswith("family ="))
    chooses.source = re.sub(r"(?m)^pd\.Series", FEW + "pd.Series", chooses.source)
    asks = next(cell for cell in notebook.cells if "per_set=120" in cell.source)
    asks.source = asks.source.replace("per_set=120", "per_set=2")
    nbformat.write(notebook, path)
    for name in ("fine_tuning.ipynb", "demo.ipynb"):
        done = notebooks.run(checkout / name)
        outputs = [output for cell in done.cells for output in cell.get("outputs", [])]
        assert outputs and not any(output.output_type == "error" for output in outputs)
    made = checkout / "fine_tuned_model" / "gpt2"
    assert (made / "training.json").is_file()
