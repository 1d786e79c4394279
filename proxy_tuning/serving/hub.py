"""The folder for the Hub by which transformers steers without this package being installed."""

from pathlib import Path

import proxy_tuning.logits
import proxy_tuning.serving.custom_generate
from proxy_tuning.records import replaced_folder

OURS, THEIRS = "from proxy_tuning.logits import", "from .line import"

CARD = """---
library_name: transformers
tags: [custom_generate, proxy-tuning]
license: mit
---
# Proxy-tuning, as a generation recipe

At every token the logits are `base + alpha * (expert - antiexpert)`: a large model, steered by what
fine-tuning changed in a small one (Liu et al. 2024,
[Tuning Language Models by Proxy](https://arxiv.org/abs/2401.08565)). The three models share one
vocabulary.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(M)
base, expert, antiexpert = map(AutoModelForCausalLM.from_pretrained, (M, M_PLUS, M_MINUS))
inputs = tokenizer("Question: ...", return_tensors="pt")
ids = base.generate(
    **inputs, custom_generate=THIS_REPOSITORY, trust_remote_code=True,
    expert=expert, antiexpert=antiexpert, alpha=1.0, max_new_tokens=64,
)
```

| argument | meaning |
|---|---|
| `expert` | M+, the small model after fine-tuning; a list for several |
| `antiexpert` | M-, the small model before; one for all experts or a list |
| `alpha` | strength, default 1; with several experts a list |
| `line` | variants: `{"plausibility": 0.1}`, `{"base_top_p": 0.9}`, `{"adaptive": True}` |

Greedy decoding, sampling, beams and assisted decoding work. `repetition_penalty` and
`guidance_scale` are refused, because transformers applies them to the base alone. Batches are
padded on the left.
"""


def write_custom_generate(folder: str | Path) -> None:
    """Write the recipe: custom_generate/generate.py with what it needs, and a model card.

    Raises:
        ValueError: the folder exists and is not empty.
    """
    check_empty(folder)
    recipe = source_of(proxy_tuning.serving.custom_generate)
    if OURS not in recipe:
        raise RuntimeError(f"the recipe no longer has the line {OURS!r}")
    with replaced_folder(folder) as new:
        (new / "custom_generate").mkdir()
        files = {
            "README.md": CARD,
            "custom_generate/generate.py": recipe.replace(OURS, THEIRS),
            "custom_generate/line.py": source_of(proxy_tuning.logits),
            "custom_generate/requirements.txt": "transformers>=5.19\n",
        }
        for name, text in files.items():
            (new / name).write_text(text, encoding="utf-8")


def source_of(module) -> str:
    return Path(module.__file__).read_text(encoding="utf-8")


def check_empty(folder: str | Path) -> None:
    """ValueError for a folder with something in it, which would be replaced."""
    if Path(folder).exists() and any(Path(folder).iterdir()):
        raise ValueError(f"{folder} is not empty: name another folder, or remove it")
