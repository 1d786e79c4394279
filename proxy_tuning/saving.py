"""Folders of a proxy-tuned model: the parts in folders of their own, or by name; the model card."""

from pathlib import Path

from transformers import AutoModelForCausalLM, PreTrainedModel

from proxy_tuning.parts import add_adapter, bare, is_adapted, reference

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
            part.save_pretrained(folder / name, **kwargs)
            sources[name] = {"adapter": True} if is_adapted(part) else {}
    return sources


def load_parts(path: str | Path, config, device_map=None, hub=None, **kwargs) -> dict:
    """The parts that `save_parts` wrote, by name, base first, in evaluation mode.

    Args:
        path: the folder, or its name on the Hub.
        config: with `parts` and `vocab_size`.
        device_map: as in transformers, for every part, or a device per part name.
        hub: keywords of `HUB`.
        kwargs: go on to each part's `from_pretrained`.
    """
    hub = hub or {}
    names = sorted(config.parts, key=lambda name: (len(name), name))  # base first, 9 before 10
    parts: dict[str, PreTrainedModel] = {}
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
        part = AutoModelForCausalLM.from_pretrained(place, **where, **kwargs)
        if part.config.vocab_size > config.vocab_size:  # rows of padding, trimmed before
            part.resize_token_embeddings(config.vocab_size)
        parts[name] = part.eval()
    return {name: parts[name] for name in names}


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
