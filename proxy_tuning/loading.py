"""Models from folders and from the Hub: whole and finite, or one line that says what is wrong."""

import contextlib
import json
import logging
import math
import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import cast

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

SHOWN = 3
"""Names of tensors in a message."""
LONGEST = 300
"""Characters of what a library said."""
ADAPTER_WEIGHTS = "adapter_model.safetensors"


@contextlib.contextmanager
def in_one_line(place: str | os.PathLike) -> Iterator[None]:
    """Whatever a broken file makes the libraries raise, as an error of one line with the place.

    What does not come from the file (no memory, a package not installed) is raised as it is.

    Raises:
        OSError: it was one.
        ValueError: it was any other.
    """
    try:
        yield
    except (ImportError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, (OSError, ValueError)) and str(place) in said and said == str(error):
            raise
        if len(said) > LONGEST:
            said = f"{said[:LONGEST]} ..."
        kind = OSError if isinstance(error, OSError) else ValueError
        raise kind(f"{place} cannot be loaded: {said}") from error


def load_model(place: str | os.PathLike, **kwargs) -> PreTrainedModel:
    """A causal language model in evaluation mode, its weights safetensors.

    Args:
        place: a name on the Hub or a folder.
        kwargs: go on to `AutoModelForCausalLM.from_pretrained`.

    Raises:
        OSError: files that are not there or cannot be read.
        ValueError: tensors missing, unexpected, of other shapes than the configuration says, or
            not finite; a folder that is itself a trio; other files that are not what they should be.
    """
    with in_one_line(place):
        check_configuration(Path(place, kwargs.get("subfolder", "")))
        options = {"use_safetensors": True} | kwargs
        with without_reports():
            loaded = AutoModelForCausalLM.from_pretrained(
                place, output_loading_info=True, ignore_mismatched_sizes=True, **options
            )
        model, found = cast(tuple[PreTrainedModel, dict], loaded)
        other_shapes = (
            f"{name} {tuple(stored)} for {tuple(wanted)}"
            for name, stored, wanted in sorted(found["mismatched_keys"])
        )
        refuse("lacks tensors", sorted(found["missing_keys"]), place)
        refuse("has tensors of another shape", other_shapes, place)
        refuse(
            "has tensors that its configuration knows nothing of", found["unexpected_keys"], place
        )
        refuse_not_finite(model, place)
        check_ends(model, place)
    return model.eval()


def add_adapter(
    antiexpert: PreTrainedModel,
    name_or_dir: str | os.PathLike,
    is_trainable: bool = False,
    **kwargs,
):
    """M+ from M- and a saved adapter, on M-'s own weights; in evaluation mode.

    Args:
        antiexpert: M-, which then has the adapter in it.
        name_or_dir: of the adapter, on the Hub or a folder.
        is_trainable: whether the adapter's weights are to be trained further.
        kwargs: go on to `PeftModel.from_pretrained`.

    Raises:
        OSError, ValueError: as `load_model` does.
    """
    from peft import PeftModel, get_peft_model_state_dict  # only here: it takes a second to import
    from peft.utils import load_peft_weights

    with in_one_line(name_or_dir):
        folder = Path(name_or_dir, kwargs.get("subfolder", ""))
        if folder.is_dir() and not (folder / ADAPTER_WEIGHTS).is_file():
            raise FileNotFoundError(f"{folder} lacks {ADAPTER_WEIGHTS}")
        with warnings.catch_warnings():  # of tensors that are missing, which are refused below
            warnings.simplefilter("ignore")
            expert = PeftModel.from_pretrained(
                antiexpert, name_or_dir, is_trainable=is_trainable, **kwargs
            ).eval()
        stored = load_peft_weights(str(name_or_dir), device="cpu", **kwargs).keys()
        wanted = get_peft_model_state_dict(expert, save_embedding_layers=False).keys()
        refuse("lacks tensors", sorted(wanted - stored), name_or_dir)
        strange = [name for name in sorted(stored - wanted) if "lora_" in name]
        refuse("has tensors that its configuration knows nothing of", strange, name_or_dir)
        refuse_not_finite(expert, name_or_dir)
    return expert


def refuse(what: str, names: Iterable[str], place: str | os.PathLike) -> None:
    """ValueError that says what is wrong with the tensors of these names, if there are any."""
    names = list(names)
    if names:
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        raise ValueError(f"{place} {what}: {', '.join(names[:SHOWN])}{more}")


def refuse_not_finite(model: torch.nn.Module, place: str | os.PathLike) -> None:
    """ValueError for weights with NaN or infinities in them."""
    wrong = [name for name, weight in model.named_parameters() if not is_finite(weight.detach())]
    refuse("has numbers that are not finite in", wrong, place)


def is_finite(weight: torch.Tensor) -> bool:
    """Whether all numbers of a tensor are finite; True for what cannot hold others, or is elsewhere.

    NaN goes through minimum and maximum, so that no mask of the tensor's size is needed.
    """
    if weight.is_meta or not weight.is_floating_point() or weight.element_size() < 2:
        return True
    return weight.numel() == 0 or all(bool(end.isfinite()) for end in torch.aminmax(weight))


def check_configuration(folder: Path) -> None:
    """ValueError for a config.json that has NaN or infinities in it, or is a trio's."""
    config = folder / "config.json"
    if not config.is_file():
        return
    content = json.loads(config.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{config} needs to be a JSON object")
    if content.get("model_type") == "proxy_tuned":
        raise ValueError(f"{folder} is a proxy-tuned trio itself, which cannot be a part of one")
    for name, value in content.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{config}: {name} needs to be finite, got {value}")


def check_ends(model: PreTrainedModel, place: str | os.PathLike) -> None:
    """ValueError for ends of text that are no token ids."""
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        value = getattr(model.generation_config, name, None)
        ids = value if isinstance(value, list) else [value]
        if value == [] or not all(id is None or type(id) is int for id in ids):
            raise ValueError(f"{place}: {name} needs to be a token id, got {value!r}")


@contextlib.contextmanager
def without_reports() -> Iterator[None]:
    """Without transformers' tables of what was wrong with weights, which here is one line.

    By a filter: a level of its own would let transformers report layers that are not sharded.
    """
    logger = logging.getLogger("transformers.modeling_utils")
    logger.addFilter(is_error)
    try:
        yield
    finally:
        logger.removeFilter(is_error)


def is_error(record: logging.LogRecord) -> bool:
    """Whether a record is as bad as an error."""
    return record.levelno >= logging.ERROR
