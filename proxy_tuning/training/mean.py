"""The mean of several M+, by weight: `python -m proxy_tuning.training.mean OUTPUT SHARE:FOLDER ...`.

Trainings that went on from one M+ by different seeds or recipes end near each other, and the mean of
their weights is often better than each (model soups, Wortsman et al. 2022, arXiv 2203.05482); a mean
with the M+ that they started from takes back a part of what they changed.
"""

import argparse
import json
import math
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from proxy_tuning.families import load_tokenizer
from proxy_tuning.prompts import prompt
from proxy_tuning.records import replaced_folder
from proxy_tuning.training.finetune import beginning, card, check_place

WEIGHTS = ("adapter_model.safetensors", "model.safetensors")


def mean_of(output, shares):
    """Write the mean of several M+ of one M-; tokenizer, recipe and drafts are those of the first.

    Args:
        output: the folder that is replaced when all is done.
        shares: {folder: share}, 1 together; each an M+ of the same kind and shapes.
    Its training.json has under `mean_of` what each was made from, without the logs, and its share.
    Raises ValueError for shares that are not 1 together, or M+ that differ in kind, M- or shapes;
    FileNotFoundError for a folder without weights in one file.
    """
    output = Path(output)
    check_place(output)
    if not math.isclose(sum(shares.values()), 1):
        raise ValueError(f"shares need to be 1 together, not {sum(shares.values()):g}")
    first, *others = shares
    record = beginning(first)
    file = weights_of(first)
    mean = {name: shares[first] * weight.float() for name, weight in load_file(file).items()}
    for folder in others:
        other = weights_of(folder)
        weights = load_file(other) if other.name == file.name else {}
        shapes, theirs = ({n: w.shape for n, w in some.items()} for some in (mean, weights))
        if shapes != theirs or beginning(folder)["antiexpert"] != record["antiexpert"]:
            raise ValueError(f"{folder} is not of the kind, shapes and M- that {first} is of")
        for name, weight in weights.items():
            mean[name] += shares[folder] * weight.float()
    record["mean_of"] = [{"share": share} | beginning(each) for each, share in shares.items()]
    with replaced_folder(output) as beside:
        shutil.copytree(first, beside, dirs_exist_ok=True)
        halves = {name: weight.to(torch.float16) for name, weight in mean.items()}
        save_file(halves, beside / file.name, metadata={"format": "pt"})
        asked = prompt("QUESTION", load_tokenizer(first))
        (beside / "README.md").write_text(card(record, None, asked), encoding="utf-8")
        (beside / "training.json").write_text(json.dumps(record, indent=1) + "\n")


def weights_of(folder):
    """The one file that holds an M+'s weights; FileNotFoundError where there is none."""
    for name in WEIGHTS:
        if Path(folder, name).is_file():
            return Path(folder, name)
    raise FileNotFoundError(
        f"{folder} has neither {' nor '.join(WEIGHTS)}: name the folder of an M+"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output")
    parser.add_argument("parts", nargs="+", metavar="SHARE:FOLDER")
    options = parser.parse_args()
    split = [part.partition(":") for part in options.parts]
    mean_of(options.output, {folder: float(share) for share, _, folder in split})


if __name__ == "__main__":
    main()
