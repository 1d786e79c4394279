"""Three causal language models that act as one Hugging Face causal language model.

The base M is large and untouched, the antiexpert M- is small and untouched, the expert M+ is M-
after fine-tuning. A forward pass runs all three on the same tokens, each with a key-value cache
of its own, and returns `base + alpha * (expert - antiexpert)` as if one model had said it.
Several experts add several differences, each with an alpha of its own.
"""

import copy
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils import can_return_tuple

from proxy_tuning.caches import ProxyTunedCache
from proxy_tuning.config import ProxyTunedConfig
from proxy_tuning.generation import ProxyTunedGenerationMixin
from proxy_tuning.learnt import LearntAnswers
from proxy_tuning.loading import in_one_line
from proxy_tuning.logits import PLAIN, STRONGEST, Line
from proxy_tuning.parts import (
    Prompt,
    bare,
    check_devices,
    check_parts,
    check_prompt,
    named_parts,
    role,
)
from proxy_tuning.passes import PartPasses
from proxy_tuning.saving import HUB, check_config, load_parts, model_card, save_parts


class ProxyTunedForCausalLM(PreTrainedModel, PartPasses, ProxyTunedGenerationMixin):
    """A base steered by the difference of two small models.

    Args:
        base: M, one of transformers' causal language models or anything called like one.
        expert: M+; or several, each adding its own difference.
        antiexpert: M-, over the same vocabulary; with several experts one for all or one each.
            None where the expert is M- plus an adapter (a `PeftModel`): with LoRA, both then
            come from one pass through one set of weights. Base and antiexpert are frozen.
        alpha: weight of (expert - antiexpert), a finite number; 0 is the base alone, below 0
            steers away. With several experts one number for all or one each. None is the line's.
        line: which variant of the line is meant.
        expert_prefix, antiexpert_prefix: token ids that this part alone reads before every text.

    Raises:
        ValueError: vocabularies of different sizes, a part whose cache does not consist of keys
            and values, an alpha that is not finite, or not as many antiexperts or alphas as
            experts.
    """

    config_class = ProxyTunedConfig
    config: ProxyTunedConfig
    base: PreTrainedModel
    draft: str = "auto"
    """Who proposes tokens where answering.py decodes, see `speculative.speculate`."""
    sources: dict[str, str] = {}  # noqa: RUF012
    """Which name or folder each part was asked for by, where `load_family` loaded it."""
    _supports_sdpa = True

    def __init__(
        self,
        base: PreTrainedModel,
        expert: PreTrainedModel | Sequence[PreTrainedModel],
        antiexpert: PreTrainedModel | Sequence[PreTrainedModel] | None = None,
        alpha: float | Sequence[float] | None = None,
        *,
        line: Line = PLAIN,
        expert_prefix: Sequence[int] | None = None,
        antiexpert_prefix: Sequence[int] | None = None,
    ):
        parts = named_parts(base, expert, antiexpert)
        check_parts(parts)
        prefixes = {"expert": expert_prefix or [], "antiexpert": antiexpert_prefix or []}
        contexts = [
            part.config.max_position_embeddings - len(prefixes.get(role(name), []))
            for name, part in parts.items()
            if getattr(part.config, "max_position_embeddings", None)
        ]
        super().__init__(
            ProxyTunedConfig(
                line=dataclasses.asdict(line),
                expert_prefix=list(prefixes["expert"]),
                antiexpert_prefix=list(prefixes["antiexpert"]),
                vocab_size=base.config.vocab_size,
                max_position_embeddings=min(contexts, default=None),
            )
        )
        self.part_names = tuple(parts)
        self.quantised_expert: PreTrainedModel | None = None  # a draft, never one of the parts
        self.beginning: Any = None  # a `decoding.Beginning` that `speculate` need not read again
        self.learnt: LearntAnswers | None = None  # where drafts are looked up
        self.drafts_known: dict[tuple[str, int], dict] = {}  # what speculation has measured
        for name, part in parts.items():
            setattr(self, name, part if role(name) == "expert" else part.requires_grad_(False))
        self.alpha = line.alpha if alpha is None else alpha
        if getattr(base, "generation_config", None) is not None:
            self.generation_config = copy.deepcopy(base.generation_config)
        self.post_init()
        self.train(any(part.training for part in self.experts.values()))

    def init_weights(self):
        """Nothing to do: the parts come with their weights."""

    @property
    def device(self) -> torch.device:
        """Where inputs are expected and logits are combined: the base's."""
        return self.base.device

    @property
    def experts(self) -> dict[str, PreTrainedModel]:
        """By name: "expert", or "expert_1", "expert_2" and so on."""
        return {n: getattr(self, n) for n in self.part_names if role(n) == "expert"}

    @property
    def antiexperts(self) -> dict[str, PreTrainedModel]:
        """By name: "antiexpert", or "antiexpert_1" and so on where each expert has its own."""
        return {n: getattr(self, n) for n in self.part_names if role(n) == "antiexpert"}

    def train(self, mode: bool = True):
        """Only experts ever train; base and antiexperts stay in evaluation mode."""
        super().train(mode)
        for part in (self.base, *self.antiexperts.values()):
            part.eval()
        return self

    # The line: alpha, and how logits are combined

    @property
    def line(self) -> Line:
        """The line that is applied, alpha included."""
        return Line(**self.config.line or {})

    @line.setter
    def line(self, value: Line):
        self.config.line = dataclasses.asdict(value)

    @property
    def alpha(self) -> float | list[float]:
        """Weight of (expert - antiexpert); with several experts a list."""
        alpha = self.line.alpha
        return list(alpha) if isinstance(alpha, tuple) else alpha

    @alpha.setter
    def alpha(self, value: float | Sequence[float]):
        alphas = [float(a) for a in self._alphas(value)]
        alpha = tuple(alphas) if len(alphas) > 1 else alphas[0]
        self.line = dataclasses.replace(self.line, alpha=alpha)

    def _alphas(
        self, alpha: float | Sequence[float] | torch.Tensor, rows: int | None = None
    ) -> list[float | torch.Tensor]:
        """One weight per expert, each a number or (B,), from all that can be given as alpha.

        Raises:
            ValueError: not finite, or of a shape that fits neither the rows nor the experts.
        """
        count = len(self.experts)
        alphas: list[float | torch.Tensor]
        if isinstance(alpha, torch.Tensor) and alpha.dim() > 0:
            if tuple(alpha.shape) not in ((rows,), (rows, count)):
                raise ValueError(
                    f"a tensor alpha needs the shape ({rows},), one value per row, or "
                    f"({rows}, {count}), per row and expert; got {tuple(alpha.shape)}"
                )
            alphas = [alpha] * count if alpha.dim() == 1 else list(alpha.unbind(1))
            finite = bool((alpha.abs() <= STRONGEST).all())
        else:
            many = alpha if isinstance(alpha, Sequence) else [alpha] * count
            values = [float(a) for a in many]
            if len(values) != count:
                raise ValueError(f"{count} expert(s) take as many alphas, got {alpha}")
            alphas = [*values]
            finite = all(abs(value) <= STRONGEST for value in values)
        if not finite:
            raise ValueError(f"alpha needs to be finite, at most {STRONGEST}, got {alpha}")
        return alphas

    def combine(
        self,
        base: torch.Tensor,
        *small: torch.Tensor,
        alpha: float | Sequence[float] | torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Steered logits from what `part_logits` returns.

        Args:
            base, small: logits (B, K, V) or (B, V) of base, experts and antiexperts.
            alpha: None is the model's; a number or a sequence as for the constructor; a tensor
                has a value per row (B,), or per row and expert (B, N).

        Returns:
            float32, the shape of `base`.
        """
        count = len(self.experts)
        experts, antiexperts = small[:count], small[count:]
        if len(antiexperts) < count:  # one serves all
            antiexperts = antiexperts * count
        alphas = self._alphas(self.alpha if alpha is None else alpha, len(base))
        return self.line(base, experts, antiexperts, alphas)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: ProxyTunedCache | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        alpha: float | Sequence[float] | torch.Tensor | None = None,
        expert_input_ids: torch.Tensor | None = None,
        expert_attention_mask: torch.Tensor | None = None,
        antiexpert_input_ids: torch.Tensor | None = None,
        antiexpert_attention_mask: torch.Tensor | None = None,
        **kwargs,
    ) -> CausalLMOutputWithPast:
        """Steered logits, and a loss that trains the expert.

        Args:
            labels: (B, T) int64, -100 where nothing is to be predicted; token t is predicted at
                t - 1.
            alpha: as in `combine`, for this call.
            expert_input_ids, antiexpert_input_ids: what this part reads instead of `input_ids`,
                (B, any), with a mask of its own; the tokens its cache does not hold yet.
            The others are as in `part_logits`, and so are the errors.

        Returns:
            loss: with `labels`, the mean cross-entropy in nats; its gradients reach experts alone.
            logits: float32 (B, K, V).
            past_key_values: with `use_cache`, the cache to go on from.
        """
        input_ids = check_prompt(input_ids)
        if alpha is not None:
            self._alphas(alpha, len(input_ids))  # an error now, not after three passes
        own_prompts: dict[str, Prompt] = {
            reader: {"input_ids": ids, "attention_mask": mask}
            for reader, ids, mask in (
                ("expert", expert_input_ids, expert_attention_mask),
                ("antiexpert", antiexpert_input_ids, antiexpert_attention_mask),
            )
            if ids is not None
        }
        use_cache = self.config.use_cache if use_cache is None else use_cache
        if not use_cache:
            past_key_values = None
        elif past_key_values is None:
            past_key_values = self.new_cache(same_texts=not own_prompts)
        parts = self.part_logits(
            input_ids,
            attention_mask,
            position_ids,
            past_key_values,
            logits_to_keep,
            own_prompts,
            **kwargs,
        )
        logits = self.combine(*parts, alpha=alpha)  # (B, K, V)
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, vocab_size=self.config.vocab_size, **kwargs)
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=past_key_values)

    # Saving and loading: the parts in folders of their own, or by name

    def save_pretrained(  # type: ignore[override]  # its shards and dtypes are the parts' business
        self,
        save_directory: str | Path,
        by_reference: bool = False,
        revisions: dict[str, str] | None = None,
        **kwargs,
    ):
        """Write what `from_pretrained` reads: the parts or their names, a model card, and a config.

        The config comes last: a folder in which writing broke off is no model.

        Args:
            save_directory: made where it does not exist.
            by_reference: whether to write only where each part was loaded from (a name on the
                Hub, or a folder, kept relative to `save_directory`): a few hundred bytes.
            revisions: with `by_reference`, a revision per part name; where absent, the commit
                that the local cache holds as "main".
            kwargs: go on to each part's `save_pretrained`; weights are safetensors always.

        Raises:
            ValueError: by reference, a part that was not loaded from anywhere, or an adapter; else
                a part that an engine runs.
        """
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        kwargs.pop("state_dict", None)  # Trainer's, of all parts together
        if by_reference:
            save_parts(self, folder, True, revisions or {})  # what is refused is so before all else
        elif not all(list(bare(getattr(self, name)).parameters()) for name in self.part_names):
            raise ValueError('an engine holds no weights to save: load with engine="torch"')
        # no trio without its configuration: parts of an earlier one never mix with these
        (folder / "config.json").unlink(missing_ok=True)
        self.config.parts = save_parts(self, folder, by_reference, revisions or {}, **kwargs)
        self.config.architectures = [type(self).__name__]
        self.generation_config.save_pretrained(folder)
        (folder / "README.md").write_text(model_card(self), encoding="utf-8")
        self.config.save_pretrained(folder)

    @classmethod
    def from_pretrained(  # type: ignore[override]  # no arguments by position
        cls, pretrained_model_name_or_path: str | Path, *, config=None, device_map=None, **kwargs
    ) -> "ProxyTunedForCausalLM":
        """Load what `save_pretrained` wrote, from a folder or the Hub.

        Args:
            device_map: as in transformers, for every part; or a device per part name, such as
                {"base": "cuda:0", "expert": "cuda:1", "antiexpert": "cuda:1"}.
            kwargs: go on to each part's `from_pretrained`.

        Returns:
            The model, in evaluation mode.

        Raises:
            ValueError: a device that is not there or a field of the configuration that is wrong,
                before anything is loaded; files that are not whole; and as the constructor does.
        """
        check_devices(device_map)
        for key in ("_from_auto", "adapter_kwargs"):  # AutoModel's own
            kwargs.pop(key, None)
        hub = {key: kwargs.pop(key) for key in HUB if key in kwargs}
        own = {key: kwargs.pop(key) for key in ("alpha", *OPTIONS) if key in kwargs}
        if config is None:
            with in_one_line(pretrained_model_name_or_path):
                config = ProxyTunedConfig.from_pretrained(pretrained_model_name_or_path, **hub)
        with in_one_line(pretrained_model_name_or_path):
            check_config(config)
        kwargs["use_safetensors"] = True
        parts = load_parts(pretrained_model_name_or_path, config, device_map, hub, **kwargs)
        saved = {key: getattr(config, key) for key in OPTIONS}
        saved["line"] = Line(**saved["line"] or {})
        model = cls(
            parts["base"],
            [part for name, part in parts.items() if role(name) == "expert"],
            [part for name, part in parts.items() if role(name) == "antiexpert"],
            **saved | own,
        )
        with in_one_line(pretrained_model_name_or_path):
            model.generation_config = GenerationConfig.from_pretrained(
                pretrained_model_name_or_path, **hub
            )
        return model


OPTIONS = ("line", "expert_prefix", "antiexpert_prefix")


AutoModelForCausalLM.register(ProxyTunedConfig, ProxyTunedForCausalLM)
