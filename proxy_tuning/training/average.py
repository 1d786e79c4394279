"""Several M+ that went on from one, as one: the mean of their adapters.

    python -m proxy_tuning.training.average FOLDER FOLDER ... --output DIR

Two cores train two M+ in the time of one, with different seeds and so on different questions; what
each learnt by chance is less in their mean (model soups, arXiv 2203.05482). A folder that is named
twice counts twice: with the M+ that they went on from among them, less of what it knew is lost
(robust fine-tuning by means of weights, arXiv 2109.01903).
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file

from proxy_tuning.families import load_part, resolve_family
from proxy_tuning.loading import ADAPTER_WEIGHTS, in_one_line
from proxy_tuning.records import WORK
from proxy_tuning.training.endings import load_expert
from proxy_tuning.training.finetune import check_place, longest, make_trainer, material, save
from proxy_tuning.training.recipes import Recipe, record_of

OF_ONE = ("validation", "versions", "log")
"""What a record says of one training alone."""


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
        raise ValueError("the adapters have other shapes: average those of one M- and one rank")
    return {name: torch.stack([w[name].float() for w in weights]).mean(0) for name in weights[0]}


def average(folders, output):
    """Put the mean of several M+ of the polls into `output`, and print what each does on held-out rows.

    Args: folders of adapters on one M-; the rows are those of the last one's recipe. output, a
    folder that is replaced when all is done.
    Returns the scores by folder, and of "the mean": {"eval_loss", "eval_exact", ...}.
    Raises ValueError where they are not of the polls and one M-, FileNotFoundError for a folder
    without an adapter.
    """
    from peft import set_peft_model_state_dict  # only where it is used: it is slow to import

    records = [record_of(folder) for folder in folders]
    if len(records) < 2 or not all("templates" in record for record in records):
        raise ValueError("name two or more M+ of the polls, each with its training.json")
    if len({(record["family"], record["antiexpert"]) for record in records}) > 1:
        raise ValueError("their training.json name several M-: average M+ of one")
    check_place(Path(output))
    mean = mean_of(folders)
    recipe = Recipe(**records[-1]["recipe"])
    antiexpert = resolve_family(records[0]["family"], need_expert=False).antiexpert
    model, tokenizer = load_part(antiexpert)
    training, validation, *_ = material(None, recipe, tokenizer, longest(model))
    scores = {}
    for folder in (*dict.fromkeys(map(str, folders)), "the mean"):
        model = load_expert(folders[0] if folder == "the mean" else folder, antiexpert)
        if folder == "the mean":
            set_peft_model_state_dict(model, mean)
        scores[folder] = found = make_trainer(
            model, tokenizer, training.head(1), validation, None, recipe, WORK / "average"
        ).evaluate()
        print(
            f"{folder}: loss {found['eval_loss']:.4f}, {found['eval_exact']:.1%} right word for word",
            flush=True,
        )
    made_from = {name: value for name, value in records[-1].items() if name not in OF_ONE}
    made_from["mean_of"] = records
    evaluation = scores["the mean"] | {"step": records[-1]["validation"]["step"]}
    save(Path(output), model, tokenizer, made_from, [], evaluation, training["answer"])
    return scores


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", help="M+ of one M-; one named twice counts twice")
    parser.add_argument("--output", required=True, help="folder for their mean")
    options = parser.parse_args()
    average(options.folders, options.output)


if __name__ == "__main__":
    main()
