"""Folders of a proxy-tuned model: the parts in folders of their own, or by name; the model card."""

import dataclasses
import re
from collections import Counter
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedModel

from proxy_tuning.loading import add_adapter, load_model
from proxy_tuning.logits import Line
from proxy_tuning.parts import WithoutAdapter, bare, reference, role, whole

PART_NAME = re.compile(r"base|(anti)?expert(_[1-9][0-9]*)?")
HUB = ("cache_dir", "force_download", "local_files_only", "revision", "token")
"""Keywords that say where on the Hub something is."""


def save_parts(model, folder: Path, by_reference: bool, revisions: dict[str, str], **kwargs):
    """Write every part, or where it was loaded from; returns what the config keeps of each.

    Raises:
        ValueError: by reference, a part that was not loaded from anywhere, or an adapter.
    """
    sources: dict[str, dict] = {}
    for name in model.part_names:
        part = getattr(model, name)
        if by_reference:
            sources[name] = reference(name, part, folder, revisions)
        else:
            minus = getattr(model, f"anti{name}", None)
            on_it = isinstance(minus, WithoutAdapter) and minus.expert is part
            (part if on_it else whole(part)).save_pretrained(folder / name, **kwargs)
            sources[name] = {"adapter": True} if on_it else {}
    return sources


def check_config(config) -> None:
    """Whether a saved configuration says what `load_parts` and the constructor need.

    Args:
        config: a `ProxyTunedConfig`, which anybody may have edited.

    Raises:
        ValueError: with the name of the first field that is wrong, and its value.
    """
    if not isinstance(config.vocab_size, int) or config.vocab_size < 1:
        raise ValueError(f"vocab_size needs to be a number of tokens, got {config.vocab_size!r}")
    for name in ("expert_prefix", "antiexpert_prefix"):
        prefix = getattr(config, name)
        ids = [] if prefix is None else prefix
        if not isinstance(ids, list) or not all(type(i) is int for i in ids):
            raise ValueError(f"{name} needs to be a list of token ids, got {prefix!r}")
        if any(not 0 <= i < config.vocab_size for i in ids):
            raise ValueError(
                f"{name} needs ids from 0 to {config.vocab_size - 1}, vocab_size less one, "
                f"got {prefix}"
            )
    line = {} if config.line is None else config.line
    if not isinstance(line, dict) or not line.keys() <= {f.name for f in dataclasses.fields(Line)}:
        raise ValueError(f"line needs to be an object with fields of Line, got {line!r}")
    Line(**line)
    check_sources(config.parts)


def check_sources(parts) -> None:
    """ValueError, with the field's name, for `parts` of a configuration that name no trio."""
    if not isinstance(parts, dict) or "base" not in parts:
        raise ValueError(f"parts needs to be an object with base, expert and antiexpert: {parts!r}")
    for name, source in parts.items():
        if not PART_NAME.fullmatch(name):
            raise ValueError(f"parts has {name!r}, which is no name of a part")
        if not isinstance(source, dict):
            raise ValueError(f"parts.{name} needs to be an object, got {source!r}")
        if "adapter" in source and (source["adapter"] is not True or f"anti{name}" not in parts):
            raise ValueError(
                f"parts.{name}.adapter needs to be true, and parts to have anti{name}, which the "
                f"adapter is put on; got {source['adapter']!r}"
            )
        if "name" not in source:
            continue
        if not isinstance(source["name"], str) or not source["name"].strip():
            raise ValueError(f"parts.{name}.name needs to be a name or folder: {source['name']!r}")
        if not isinstance(source.get("revision", 0), str | None):
            raise ValueError(
                f"parts.{name}.revision needs to be a revision or null, "
                f"got {source.get('revision', 'none')!r}"
            )
    count = Counter(map(role, parts))
    if not count["expert"] or count["antiexpert"] not in (1, count["expert"]):
        raise ValueError(
            f"parts needs an expert, and one antiexpert or one per expert, got {', '.join(parts)}"
        )


def load_parts(path: str | Path, config, device_map=None, hub=None, **kwargs) -> dict:
    """The parts that `save_parts` wrote, by name, base first, in evaluation mode.

    Args:
        path: the folder, or its name on the Hub.
        config: with `parts` and `vocab_size`, as `check_config` lets through.
        device_map: as in transformers, for every part, or a device per part name.
        hub: keywords of `HUB`.
        kwargs: go on to each part's `from_pretrained`.

    Raises:
        OSError: files that are not there or cannot be read.
        ValueError: files that are not what they should be, see `load_model`, or of another
            vocabulary than `vocab_size`.
    """
    hub = hub or {}
    names = sorted(config.parts, key=lambda name: (len(name), name))  # base first, 9 before 10
    parts: dict[str, PreTrainedModel] = {}
    padded = {}  # with rows that no token has, which were trimmed before
    for name in sorted(names, key=lambda name: "adapter" in config.parts[name]):
        source = config.parts[name]
        if "adapter" in source:
            parts[name] = add_adapter(parts[f"anti{name}"], path, subfolder=name, **hub)
            continue
        where, place = {"subfolder": name} | hub, path
        if "name" in source:
            beside = Path(path, source["name"])
            place = beside if beside.is_dir() else source["name"]
            where = hub | {"revision": source["revision"]}
        per_part = isinstance(device_map, dict) and name in device_map
        where["device_map"] = device_map[name] if per_part else device_map
        parts[name] = load_model(place, **where, **kwargs)
        if "name" not in source or parts[name].config.vocab_size <= config.vocab_size:
            check_vocabulary(name, parts[name].config.vocab_size, config.vocab_size)
        else:
            padded[name] = place, hub | {"revision": source["revision"]}
    for name, (place, revision) in padded.items():
        if len(padded) == len(names):  # else another part confirms the vocabulary
            ids = AutoTokenizer.from_pretrained(place, **revision).get_vocab().values()
            check_vocabulary(name, max(ids) + 1, config.vocab_size)
        parts[name].resize_token_embeddings(config.vocab_size)
    return {name: parts[name] for name in names}


def check_vocabulary(name: str, size: int, stated: int) -> None:
    """ValueError for a part of another vocabulary than the configuration states."""
    if size != stated:
        raise ValueError(f"vocab_size is {stated} in config.json, but {name} has {size} tokens")


def model_card(model) -> str:
    """The README.md of a saved model, in Markdown."""
    rows = [
        f"| {name} | {type(bare(getattr(model, name))).__name__} | "
        f"{sum(p.numel() for p in bare(getattr(model, name)).parameters()):,} | "
        f"{source.get('name', f'folder {name}')} | {source.get('revision') or ''} |"
        for name, source in model.config.parts.items()
    ]
    return "\n".join(
        [
            "---",
            "library_name: transformers",
            "pipeline_tag: text-generation",
            "tags: [proxy-tuning]",
            "---",
            "# A proxy-tuned causal language model",
            "",
            "At every token the logits are `base + alpha * (expert - antiexpert)`, with alpha",
            f"{model.alpha}: a large model, steered by what fine-tuning changed in a small one",
            "(Liu et al. 2024, [Tuning Language Models by Proxy](https://arxiv.org/abs/2401.08565)).",
            "The base has not been trained further; no weights have been merged.",
            "",
            "| part | class | parameters | weights | revision |",
            "|---|---|---|---|---|",
            *rows,
            "",
            "```python",
            "import proxy_tuning.model",
            "from transformers import AutoModelForCausalLM",
            "",
            'model = AutoModelForCausalLM.from_pretrained("this folder")',
            "```",
            "",
            "The tokenizer is the base's. What holds for the parts (data, licences, limits) holds",
            "for what they do together.",
            "",
        ]
    )
