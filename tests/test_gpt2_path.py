"""The way of FAMILY=gpt2 through the notebooks, at the real shapes, with random weights.

GPT-2's weights are on the Hugging Face Hub alone; what is here has its names, shapes and layout in
the Hub's cache, so that all code runs which a reader with the weights runs.
"""

import re

import nbformat
import pytest
import torch
from test_notebooks import checkout  # noqa: F401
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from proxy_tuning import notebooks
from proxy_tuning.families import FAMILIES
from proxy_tuning.polls.natural import natural_rows
from proxy_tuning.polls.tables import load_facts
from proxy_tuning.records import DATA

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
COMMIT = "0" * 40
LAYERS = {"base": 12, "antiexpert": 6}  # of GPT-2 and distilGPT-2, whose shapes agree otherwise
FEW = """recipe = dataclasses.replace(recipe, states=("Pennsylvania",), max_facts=20, natural=0,
                             endings=0, epochs=1, batch_size=16, quiet_texts=1)
"""


def byte_level_tokenizer():
    """Of GPT-2's kind, learnt from the text here; it has fewer of the 50,257 tokens."""
    whole = Tokenizer(models.BPE())
    whole.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    whole.decoder = decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=4000, initial_alphabet=letters, special_tokens=["<|endoftext|>"]
    )
    rows = natural_rows(load_facts(DATA), None, "train", 1, 0)
    whole.train_from_iterator([*rows["question"], *rows["answer"]], trainer)
    ends = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
    return PreTrainedTokenizerFast(tokenizer_object=whole, **ends)


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A cache of the Hub with both models as `from_pretrained` looks for them."""
    cache, tokenizer = tmp_path_factory.mktemp("hub"), byte_level_tokenizer()
    end = tokenizer.eos_token_id
    for part, layers in LAYERS.items():
        repository = cache / f"models--{getattr(FAMILIES['gpt2'], part).replace('/', '--')}"
        snapshot = repository / "snapshots" / COMMIT
        torch.manual_seed(layers)
        shape = GPT2Config(n_layer=layers, bos_token_id=end, eos_token_id=end)
        GPT2LMHeadModel(shape).save_pretrained(snapshot)
        tokenizer.save_pretrained(snapshot)
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
