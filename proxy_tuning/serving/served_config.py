"""The config of a saved proxy-tuned model as vLLM needs it: with the configs of its parts."""

import copy
from dataclasses import dataclass
from pathlib import Path

from transformers import AutoConfig, PreTrainedConfig

from proxy_tuning.config import ProxyTunedConfig
from proxy_tuning.logits import Line
from proxy_tuning.parts import role

EXPORT = "write a folder for vLLM with: python -m proxy_tuning export --to vllm"


@dataclass(frozen=True)
class Place:
    """Where a part's config and weights are."""

    model: str
    """A folder, or a name on the Hub."""
    revision: str | None = None
    subfolder: str | None = None


class ServedConfig(ProxyTunedConfig):
    """A `ProxyTunedConfig` that has read its parts' configs where it was loaded from somewhere.

    It then has `places` by part name, a `NAME_config` for every part, and `text_config`, from
    which vLLM takes heads, layers and context: the base's, with the common vocabulary and the
    shortest context.
    """

    @classmethod
    def from_dict(cls, config_dict, **kwargs):
        """As in transformers, which names the folder or the Hub's name in `name_or_path`.

        Raises:
            ValueError: what vLLM cannot do with this model, and what to do instead.
        """
        made = super().from_dict(config_dict, **kwargs)
        config = made[0] if isinstance(made, tuple) else made
        if kwargs.get("name_or_path") and config.parts and not hasattr(config, "places"):
            config.read_parts(str(kwargs["name_or_path"]), getattr(config, "_commit_hash", None))
        return made

    def read_parts(self, path: str, revision: str | None = None) -> None:
        """Find the parts of the model at `path` and read their configs; errors as `from_dict`."""
        check_prefixes(self)
        check_adapters(self)
        self.places = {
            name: vars(place(path, revision, name, source))
            for name, source in (self.parts or {}).items()
        }
        for name, where in self.places.items():
            part = AutoConfig.from_pretrained(
                where["model"],
                revision=where["revision"],
                **{"subfolder": where["subfolder"]} if where["subfolder"] else {},
            )
            check_part(name, part, self.vocab_size)
            setattr(self, f"{name}_config", part)
        self.text_config = copy.deepcopy(self.part_config("base").get_text_config())
        self.text_config.vocab_size = self.vocab_size
        self.text_config.max_position_embeddings = self.max_position_embeddings

    @property
    def part_names(self) -> list[str]:
        """The parts' names, base first, each expert in its order."""
        return sorted(self.parts or {}, key=lambda name: (len(name), name))

    def part_config(self, name: str) -> PreTrainedConfig:
        return getattr(self, f"{name}_config")

    @property
    def experts(self) -> int:
        """How many experts there are."""
        return sum(role(name) == "expert" for name in self.part_names)

    def alphas(self) -> list[float]:
        """The weight of each expert where a request names none."""
        alpha = Line(**self.line or {}).alpha
        return list(alpha) if isinstance(alpha, tuple) else [alpha] * self.experts


def place(path: str, revision: str | None, name: str, source: dict) -> Place:
    """Where the part is that config.json of the model at `path` says this of."""
    if "name" not in source:
        return Place(path, revision, name)
    beside = Path(path, source["name"])
    if beside.is_dir():
        return Place(str(beside.resolve()))
    return Place(source["name"], source["revision"])


def check_prefixes(config: ProxyTunedConfig) -> None:
    """ValueError for a model whose parts do not read the same tokens."""
    for reader in ("expert", "antiexpert"):
        if getattr(config, f"{reader}_prefix"):
            raise ValueError(
                f"this model's {reader} reads a prefix of its own, and vLLM gives all parts the "
                "same tokens: save the model without it"
            )


def check_adapters(config: ProxyTunedConfig) -> None:
    """ValueError for a saved model with a part that is an adapter on another."""
    for name, source in (config.parts or {}).items():
        if "adapter" in source:
            raise ValueError(f"{name} is an adapter, which vLLM needs merged: {EXPORT}")


def check_part(name: str, part: PreTrainedConfig, vocab_size: int | None) -> None:
    """ValueError for a part that vLLM cannot run beside the others."""
    text = part.get_text_config()
    if vocab_size is None or text.vocab_size < vocab_size:
        raise ValueError(f"{name} has {text.vocab_size} token ids, the model {vocab_size}")
    kinds = set(getattr(text, "layer_types", None) or []) - {"full_attention"}
    window = getattr(text, "sliding_window", None)
    if kinds or (window and getattr(text, "layer_types", None) is None):
        what = ", ".join(sorted(kinds)) or f"a sliding window of {window} tokens"
        raise ValueError(f"{name} has {what}: only full attention is served")
    if getattr(part, "quantization_config", None):
        raise ValueError(f"{name} is quantised, and only whole weights are served: {EXPORT}")
