"""Several M+ that went on from one, as one: the mean of their adapters (model soups, arXiv 2203.05482).

    python -m proxy_tuning.training.average FOLDER FOLDER ... --output DIR

Two cores train two M+ in the time of one, with different seeds and so on different questions; what
each learnt by chance is less in their mean.
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file

from proxy_tuning.families import load_part, resolve_family
from proxy_tuning.loading import ADAPTER_WEIGHTS, in_one_line
from proxy_tuning.records import WORK
from proxy_tuning.training.endings import load_expert
from proxy_tuning.training.finetune import (
    check_place,
    longest,
    make_trainer,
    material,
    save,
)
from proxy_tuning.training.recipes import Recipe, record_of


def mean_of(folders):
    """The mean of the adapters in these folders: {name: tensor}, float32.

    Raises FileNotFoundError for a folder without one, ValueError for adapters of other shapes.
    """
    weights = []
    for folder in folders:
        with in_one_line(folder):
            weights.append(load_file(Path(folder, ADAPTER_WEIGHTS)))
    shapes = [{name: weight.shape for name, weight in each.items()} for each in weights]
    if any(other != shapes[0] for other in shapes):
        raise ValueError("the adapters have other shapes: average those of one recipe")
    return {name: torch.stack([w[name].float() for w in weights]).mean(0) for name in weights[0]}


def average(folders, output):
    """Put the mean of several M+ of the polls into `output`, and print what each does on held-out rows.

    Args: folders of adapters of one M- and one recipe, but for the seed; output, replaced when all
    is done.
    Returns the scores on the held-out rows of the first: {"mean" or folder: {"loss", "exact"}}.
    Raises ValueError where they were not made alike, FileNotFoundError for a folder without an
    adapter or a training.json.
    """
    from peft import set_peft_model_state_dict  # only where it is used: it is slow to import

    records = [record_of(folder) for folder in folders]
    if len(records) < 2 or not all("templates" in record for record in records):
        raise ValueError("name two or more M+ of the polls, each with its training.json")
    alike = [{**r["recipe"], "seed": 0} | {"of": r["antiexpert"]} for r in records]
    if any(other != alike[0] for other in alike):
        raise ValueError("they were made by other recipes or from other M-: average those alike")
    check_place(Path(output))
    mean = mean_of(folders)
    recipe = Recipe(**records[0]["recipe"])
    antiexpert = resolve_family(records[0]["family"], need_expert=False).antiexpert
    model, tokenizer = load_part(antiexpert)
    training, validation, question, source = material(None, recipe, tokenizer, longest(model))
    scores = {}
    for folder in (*folders, None):
        model = load_expert(folder or folders[0], antiexpert)
        if folder is None:
            set_peft_model_state_dict(model, mean)
        trainer = make_trainer(
            model, tokenizer, training.head(1), validation, None, recipe, WORK / "average"
        )
        found = trainer.evaluate()
        scores[str(folder or "mean")] = found
        print(
            f"{folder or 'their mean'}: loss {found['eval_loss']:.4f}, "
            f"{found['eval_exact']:.1%} right word for word",
            flush=True,
        )
    made_from = {name: value for name, value in records[0].items() if name not in KEPT}
    made_from |= source | {"mean_of": records}
    evaluation = scores["mean"] | {"step": records[0]["validation"]["step"]}
    save(Path(output), model, tokenizer, made_from, [], evaluation, training["answer"])
    return scores


KEPT = ("validation", "versions", "log")
"""What a record says of one training alone."""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", help="M+ of one recipe, seeds apart")
    parser.add_argument("--output", required=True, help="folder for their mean")
    options = parser.parse_args()
    average(options.folders, options.output)


if __name__ == "__main__":
    main()
