"""Three causal language models that act as one Hugging Face causal language model.

The base M is large and untouched, the antiexpert M- is small and untouched, the expert M+ is M-
after fine-tuning. A forward pass runs all three on the same tokens, each with a key-value cache
of its own, and returns `base + alpha * (expert - antiexpert)` as if one model had said it.
Several experts add several differences, each with an alpha of its own.
"""

import copy
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    Cache,
    DynamicCache,
    GenerationConfig,
    GenerationMixin,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils import can_return_tuple, logging

from proxy_tuning.logits import adaptive_alpha, keep_plausible, keep_top_p, per_row, proxy_logits
from proxy_tuning.parts import (
    WithoutAdapter,
    add_adapter,
    bare,
    check_devices,
    check_parts,
    is_adapted,
    named_parts,
    reference,
    role,
)

logger = logging.get_logger(__name__)


class ProxyTunedConfig(PreTrainedConfig):
    """What the composite model adds to its parts, and what callers ask of any config."""

    model_type = "proxy_tuned"

    alpha: float | list[float] = 1.0
    """Weight of (expert - antiexpert), finite; with several experts one number each."""
    base_top_p: float | None = None
    """Only the base's nucleus of this probability can be chosen, see `keep_top_p`."""
    plausibility: float | None = None
    """Only tokens with this share of the base's highest probability, see `keep_plausible`."""
    adaptive: bool = False
    """Whether alpha is multiplied by `adaptive_alpha`, token by token."""
    expert_prefix: list[int] | None = None
    """Token ids that experts read before every text."""
    antiexpert_prefix: list[int] | None = None
    """Token ids that antiexperts read before every text."""
    parts: dict[str, dict] | None = None
    """Where each part is, by its name; written by `save_pretrained`."""
    vocab_size: int | None = None
    """V, the same in all parts."""
    max_position_embeddings: int | None = None
    """The shortest context of the parts, less its prefix, in tokens; None where none is stated."""
    use_cache: bool = True


class ProxyTunedCache(Cache):
    """One cache per part, by its name; `layers` is all their layers, for what acts on each."""

    def __init__(self, caches: dict[str, Cache]):
        self.caches = caches
        super().__init__(layers=[layer for cache in caches.values() for layer in cache.layers])

    def reorder_cache(self, beam_idx: torch.LongTensor):
        for cache in self.caches.values():
            cache.reorder_cache(beam_idx)

    def batch_select_indices(self, indices: torch.Tensor):
        for cache in self.caches.values():
            cache.batch_select_indices(indices)


class TwinCache(DynamicCache):
    """The cache of a doubled batch: all rows of the expert, then the same of its antiexpert."""

    def reorder_cache(self, beam_idx: torch.LongTensor):
        super().reorder_cache(self._both(beam_idx))

    def batch_select_indices(self, indices: torch.Tensor):
        super().batch_select_indices(self._both(indices))

    def _both(self, rows: torch.Tensor) -> torch.Tensor:
        """Row numbers in one half (R,) -> the same rows in both halves (2R,)."""
        half = self.layers[0].keys.shape[0] // 2
        return torch.cat([rows, rows + half])


class ProxyTunedForCausalLM(PreTrainedModel, GenerationMixin):
    """A base steered by the difference of two small models.

    Args:
        base: M, one of transformers' causal language models or anything called like one.
        expert: M+; or several, each adding its own difference.
        antiexpert: M-, over the same vocabulary; with several experts one for all or one each.
            None where the expert is M- plus an adapter (a `PeftModel`): with LoRA, both then
            come from one pass through one set of weights. Base and antiexpert are frozen.
        alpha: weight of (expert - antiexpert), a finite number; 0 is the base alone, below 0
            steers away. With several experts one number for all or one each.
        expert_prefix, antiexpert_prefix: token ids that this part alone reads before every text.
        base_top_p, plausibility, adaptive: variants of the line, see `ProxyTunedConfig`.

    Raises:
        ValueError: vocabularies of different sizes, a part whose cache does not consist of keys
            and values, an alpha that is not finite, a variant out of range, or not as many
            antiexperts or alphas as experts.
    """

    config_class = ProxyTunedConfig
    _supports_sdpa = True

    def __init__(
        self,
        base: PreTrainedModel,
        expert: PreTrainedModel | Sequence[PreTrainedModel],
        antiexpert: PreTrainedModel | Sequence[PreTrainedModel] | None = None,
        alpha: float | Sequence[float] = 1.0,
        *,
        expert_prefix: Sequence[int] | None = None,
        antiexpert_prefix: Sequence[int] | None = None,
        base_top_p: float | None = None,
        plausibility: float | None = None,
        adaptive: bool = False,
    ):
        parts = named_parts(base, expert, antiexpert)
        check_parts(parts)
        for name, share in {"base_top_p": base_top_p, "plausibility": plausibility}.items():
            if share is not None and not 0 < share <= 1:
                raise ValueError(f"{name} needs to be above 0 and at most 1, got {share}")
        prefixes = {"expert": expert_prefix or [], "antiexpert": antiexpert_prefix or []}
        contexts = [
            part.config.max_position_embeddings - len(prefixes.get(role(name), []))
            for name, part in parts.items()
            if getattr(part.config, "max_position_embeddings", None)
        ]
        super().__init__(
            ProxyTunedConfig(
                base_top_p=base_top_p,
                plausibility=plausibility,
                adaptive=adaptive,
                expert_prefix=list(prefixes["expert"]),
                antiexpert_prefix=list(prefixes["antiexpert"]),
                vocab_size=base.config.vocab_size,
                max_position_embeddings=min(contexts, default=None),
            )
        )
        self.part_names = tuple(parts)
        for name, part in parts.items():
            setattr(self, name, part if role(name) == "expert" else part.requires_grad_(False))
        self.alpha = alpha
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
    def alpha(self) -> float | list[float]:
        """Weight of (expert - antiexpert); with several experts a list."""
        return self.config.alpha

    @alpha.setter
    def alpha(self, value: float | Sequence[float]):
        alphas = self._alphas(value)
        self.config.alpha = alphas if len(alphas) > 1 else alphas[0]

    def _alphas(
        self, alpha: float | Sequence[float] | torch.Tensor, rows: int | None = None
    ) -> list[float | torch.Tensor]:
        """One weight per expert, each a number or (B,), from all that can be given as alpha.

        Raises:
            ValueError: not finite, or of a shape that fits neither the rows nor the experts.
        """
        count = len(self.experts)
        if isinstance(alpha, torch.Tensor) and alpha.dim() > 0:
            if tuple(alpha.shape) not in ((rows,), (rows, count)):
                raise ValueError(
                    f"a tensor alpha needs the shape ({rows},), one value per row, or "
                    f"({rows}, {count}), per row and expert; got {tuple(alpha.shape)}"
                )
            alphas = [alpha] * count if alpha.dim() == 1 else list(alpha.unbind(1))
            finite = bool(alpha.isfinite().all())
        else:
            many = isinstance(alpha, Sequence)
            alphas = [float(a) for a in alpha] if many else [float(alpha)] * count
            if len(alphas) != count:
                raise ValueError(f"{count} expert(s) take as many alphas, got {alpha}")
            finite = all(map(math.isfinite, alphas))
        if not finite:
            raise ValueError(f"alpha needs to be finite, got {alpha}")
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
        logits = keep_top_p(base, self.config.base_top_p) if self.config.base_top_p else base
        for weight, expert, antiexpert in zip(alphas, experts, antiexperts):
            if self.config.adaptive:
                per_token = adaptive_alpha(base, expert, antiexpert)  # (B, K) or (B,)
                weight = per_row(weight, per_token) * per_token
            logits = proxy_logits(logits, expert, antiexpert, weight)
        if self.config.plausibility:
            logits = keep_plausible(logits, base, self.config.plausibility)
        return logits

    # The pass: each part on its own tokens, positions, device and cache

    def new_cache(self, same_texts: bool = True) -> ProxyTunedCache:
        """Empty caches for all parts.

        Where a LoRA expert and its antiexpert read the same texts, the two share one and are run
        as one doubled batch.
        """
        twins = self._twins(same_texts)
        caches = {
            name: (TwinCache if name in twins else DynamicCache)(config=getattr(self, name).config)
            for name in self.part_names
            if name not in twins.values()
        }
        return ProxyTunedCache(caches)

    def _twins(self, same_texts: bool) -> dict[str, str]:
        """Experts that can share a doubled batch with their antiexpert: name -> name.

        peft takes adapters row by row in inference alone, and not with DoRA.
        """
        twins = {}
        for name, part in self.antiexperts.items():
            twin = name.removeprefix("anti")
            if not isinstance(part, WithoutAdapter) or twin not in self.part_names:
                continue  # no adapter, or one antiexpert for several experts
            adapter = part.expert.peft_config[part.expert.active_adapter]
            if part.expert.training:
                say_two_passes("this is training")
            elif adapter.peft_type != "LORA" or adapter.use_dora:
                say_two_passes("the adapter is not plain LoRA")
            elif not same_texts or self.config.expert_prefix != self.config.antiexpert_prefix:
                say_two_passes("they read different texts")
            else:
                twins[twin] = name
        return twins

    def run(
        self,
        name: str,
        input_ids: torch.LongTensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        cache: Cache | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        twin: bool = False,
        **kwargs,
    ) -> torch.Tensor:
        """Logits of the part of that name alone.

        Arguments as in `part_logits`; `twin` runs a LoRA expert and its antiexpert as one batch
        of twice the rows.

        Returns:
            (B, K, V) in the part's own dtype, on the base's device; (2B, K, V) for twins.
        """
        part = getattr(self, name)
        rows, length = input_ids.shape
        past = cache.get_seq_length() if cache is not None else 0
        prefix = getattr(self.config, f"{role(name)}_prefix", [])
        if position_ids is None:
            position_ids = positions(input_ids, attention_mask, max(past - len(prefix), 0))
        inputs = {"input_ids": input_ids, "position_ids": position_ids.expand(rows, -1)}
        if attention_mask is not None:
            inputs["attention_mask"] = attention_mask
        if prefix:
            inputs = with_prefix(prefix, inputs, first=past == 0)
        if twin:
            inputs = {key: torch.cat([value, value]) for key, value in inputs.items()}
            kwargs["adapter_names"] = [part.active_adapter] * rows + ["__base__"] * rows
        out = part(
            **{key: value.to(part.device) for key, value in inputs.items()},
            past_key_values=cache,
            use_cache=cache is not None,
            logits_to_keep=from_the_end(logits_to_keep, length),
            **kwargs,
        )
        return out.logits.to(self.device)

    def part_logits(
        self,
        input_ids: torch.LongTensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: ProxyTunedCache | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        own_prompts: dict[str, dict[str, torch.Tensor]] | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, ...]:
        """Logits of base, expert and antiexpert, before they are combined.

        Args:
            input_ids: the tokens that the caches do not hold yet, (B, T).
            attention_mask: 1 for tokens and 0 for padding, over cached and new tokens, (B, S).
            position_ids: (B, T); counted from `attention_mask` where absent, so that a
                left-padded row gives what its prompt gives alone.
            past_key_values: extended in place; None computes without caches.
            logits_to_keep: how many last positions to project, K; a tensor (K,) says which; 0
                is all T.
            own_prompts: what "expert" or "antiexpert" reads instead, as `input_ids` and
                `attention_mask`. Logits are matched from the end, where the texts are the same.

        Returns:
            Tensors (B, K, V) in the parts' own dtypes, on the base's device: base, experts,
            antiexperts.

        Raises:
            ValueError: no tokens, more than fit the context, a cache that is not `new_cache`'s,
                or an own prompt of other rows, or shorter than the logits asked for.
        """
        own_prompts = own_prompts or {}
        caches = self._caches(past_key_values, own_prompts)
        check_prompt(input_ids)
        context = self.config.max_position_embeddings or math.inf
        total = input_ids.shape[1] + (past_key_values.get_seq_length() if caches else 0)
        if total > context:
            raise ValueError(
                f"{total} tokens do not fit the shortest context of the parts, {context} tokens"
            )
        keep = from_the_end(logits_to_keep, input_ids.shape[1])
        for reader, prompt in own_prompts.items():
            ids = prompt["input_ids"]
            if len(ids) != len(input_ids) or isinstance(keep, int) and ids.shape[1] < keep:
                raise ValueError(
                    f"{reader}_input_ids of shape {tuple(ids.shape)} do not give {keep} logits "
                    f"for each of {len(input_ids)} rows; logits_to_keep asks for fewer"
                )
        shared = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "position_ids": position_ids,
        }
        if caches:
            twins = {n: f"anti{n}" for n, cache in caches.items() if isinstance(cache, TwinCache)}
        else:
            twins = self._twins(same_texts=not own_prompts)
        logits = {}
        for name in self.part_names:
            if name in twins.values():
                continue
            out = self.run(
                name,
                **own_prompts.get(role(name), shared),
                cache=caches.get(name),
                logits_to_keep=keep,
                twin=name in twins,
                **kwargs,
            )
            if name in twins:
                logits[name], logits[twins[name]] = out.chunk(2)
            else:
                logits[name] = out
        return tuple(logits[name] for name in self.part_names)

    def _caches(self, cache: ProxyTunedCache | None, own_prompts) -> dict[str, Cache]:
        """The caches by part, {} for none; ValueError where they do not fit this model or call."""
        if cache is None:
            return {}
        if not isinstance(cache, ProxyTunedCache):
            raise ValueError(
                "past_key_values needs one cache per part, which new_cache() makes; got a "
                f"{type(cache).__name__}"
            )
        if own_prompts and any(isinstance(part, TwinCache) for part in cache.caches.values()):
            raise ValueError("own prompts need a cache per part: new_cache(same_texts=False)")
        return cache.caches

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: ProxyTunedCache | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        alpha: float | Sequence[float] | torch.Tensor | None = None,
        expert_input_ids: torch.LongTensor | None = None,
        expert_attention_mask: torch.Tensor | None = None,
        antiexpert_input_ids: torch.LongTensor | None = None,
        antiexpert_attention_mask: torch.Tensor | None = None,
        **kwargs,
    ) -> CausalLMOutputWithPast:
        """Steered logits, and a loss that trains the expert.

        Args:
            labels: (B, T), -100 where nothing is to be predicted; token t is predicted at t - 1.
            alpha: as in `combine`, for this call.
            expert_input_ids, antiexpert_input_ids: what this part reads instead of `input_ids`,
                (B, any), with a mask of its own; the tokens its cache does not hold yet.
            The others are as in `part_logits`, and so are the errors.

        Returns:
            loss: with `labels`, the mean cross-entropy in nats; its gradients reach experts alone.
            logits: float32 (B, K, V).
            past_key_values: with `use_cache`, the cache to go on from.
        """
        check_prompt(input_ids)
        if alpha is not None:
            self._alphas(alpha, len(input_ids))  # an error now, not after three passes
        own_prompts = {
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

    # Generation: transformers' own loops, given what they need to know about three models

    def generate(self, inputs: torch.LongTensor | None = None, *args, **kwargs):
        """`generate` of transformers, in all its modes.

        It takes `alpha` too, as `forward` does, and `expert_input_ids`, `antiexpert_input_ids`
        and their attention masks: whole prompts of their own (a chat template, say), padded on
        the left, after which all parts go on with the same tokens.

        Raises:
            ValueError: before any work, where the prompt is empty or fills the context of a part,
                or alpha is not finite or has a wrong shape.
        """
        prompt = kwargs.get("input_ids") if inputs is None else inputs
        if prompt is not None:
            check_prompt(prompt)
            if kwargs.get("alpha") is not None:
                self._alphas(kwargs["alpha"], len(prompt))
        kwargs["prompt_length"] = 1 if prompt is None else prompt.shape[1]
        return super().generate(inputs, *args, **kwargs)

    def fit(self, prompt_length: int, max_new_tokens: int) -> int:
        """How many of `max_new_tokens` fit into the shortest context after the prompt.

        Raises:
            ValueError: none, because the prompt fills it.
        """
        context = self.config.max_position_embeddings or math.inf
        if prompt_length >= context:
            raise ValueError(
                f"a prompt of {prompt_length} tokens leaves no room in the shortest context of "
                f"the parts, {context} tokens: shorten the prompt"
            )
        if prompt_length + max_new_tokens > context:
            logger.warning(
                f"Generation stops after {context - prompt_length} new tokens instead of "
                f"{max_new_tokens}: the shortest context of the parts holds {context}."
            )
        return min(max_new_tokens, context - prompt_length)

    def _prepare_cache_for_generation(self, generation_config, model_kwargs, *args):
        """Where `generate` would make one cache, make one per part; cut what cannot fit."""
        own = [model_kwargs[key] for key in OWN_IDS if model_kwargs.get(key) is not None]
        self._caches(model_kwargs.get("past_key_values"), own)
        texts = [model_kwargs["position_ids"], *own]  # (., T): each as long as what is read
        prompt_length = model_kwargs["prompt_length"]
        room = self.fit(
            max(text.shape[1] for text in texts), generation_config.max_length - prompt_length
        )
        generation_config.max_length = prompt_length + room
        if generation_config.cache_implementation not in (None, "dynamic"):
            raise ValueError(
                f"cache_implementation={generation_config.cache_implementation!r}: a proxy-tuned "
                "model has dynamic caches only"
            )
        if model_kwargs.get("past_key_values") is None and generation_config.use_cache:
            model_kwargs["past_key_values"] = self.new_cache(same_texts=not own)
            if generation_config.is_assistant:
                model_kwargs["past_key_values"].activate_past_recording()

    def prepare_inputs_for_generation(
        self, input_ids, past_key_values=None, prompt_length=None, **kwargs
    ):
        """Inputs of the next pass; a part with its own prompt gets that and what was generated."""
        own = {}
        for reader in ("expert", "antiexpert"):
            prompt = kwargs.pop(f"{reader}_input_ids", None)
            mask = kwargs.pop(f"{reader}_attention_mask", None)
            if prompt is None:
                continue
            new = input_ids[:, prompt_length:]
            mask = torch.ones_like(prompt) if mask is None else mask
            cached = 0
            if past_key_values is not None:
                name = next(name for name in self.part_names if role(name) == reader)
                cached = past_key_values.caches[name].get_seq_length()
                cached -= len(getattr(self.config, f"{reader}_prefix")) if cached else 0
            own[f"{reader}_input_ids"] = torch.cat([prompt, new], dim=1)[:, cached:]
            own[f"{reader}_attention_mask"] = torch.cat([mask, torch.ones_like(new)], dim=1)
        inputs = super().prepare_inputs_for_generation(
            input_ids, past_key_values=past_key_values, **kwargs
        )
        return inputs | own

    def _get_candidate_generator(self, *, model_kwargs, **kwargs):
        """An assistant gets every keyword of `generate` but those that only this class knows."""
        ours = {"alpha", "prompt_length", *OWN_IDS, *OWN_MASKS}
        theirs = {key: value for key, value in model_kwargs.items() if key not in ours}
        return super()._get_candidate_generator(model_kwargs=theirs, **kwargs)

    # Saving and loading: the parts in folders of their own, or by name

    def save_pretrained(
        self,
        save_directory: str | Path,
        by_reference: bool = False,
        revisions: dict[str, str] | None = None,
        **kwargs,
    ):
        """Write what `from_pretrained` reads: a config, a model card, and the parts or their names.

        Args:
            save_directory: made where it does not exist.
            by_reference: whether to write only where each part was loaded from (a name on the
                Hub, or a folder, kept relative to `save_directory`): a few hundred bytes.
            revisions: with `by_reference`, a revision per part name; where absent, the commit
                that the local cache holds as "main".
            kwargs: go on to each part's `save_pretrained`; weights are safetensors always.

        Raises:
            ValueError: by reference, a part that was not loaded from anywhere, or an adapter.
        """
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        kwargs.pop("state_dict", None)  # Trainer's, of all parts together
        self.config.parts = {}
        for name in self.part_names:
            part = getattr(self, name)
            if by_reference:
                self.config.parts[name] = reference(name, part, folder, revisions or {})
            else:
                part.save_pretrained(folder / name, **kwargs)
                self.config.parts[name] = {"adapter": True} if is_adapted(part) else {}
        self.config.architectures = [type(self).__name__]
        self.config.save_pretrained(folder)
        self.generation_config.save_pretrained(folder)
        (folder / "README.md").write_text(model_card(self), encoding="utf-8")

    @classmethod
    def from_pretrained(
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
            ValueError: a device that is not there, before anything is loaded; and as the
                constructor does.
        """
        check_devices(device_map)
        for key in ("_from_auto", "adapter_kwargs"):  # AutoModel's own
            kwargs.pop(key, None)
        hub_keys = ("cache_dir", "force_download", "local_files_only", "revision", "token")
        hub = {key: kwargs.pop(key) for key in hub_keys if key in kwargs}
        own = {key: kwargs.pop(key) for key in ("alpha", *OPTIONS) if key in kwargs}
        if config is None:
            config = ProxyTunedConfig.from_pretrained(pretrained_model_name_or_path, **hub, **own)
        kwargs["use_safetensors"] = True
        names = sorted(config.parts, key=lambda name: (len(name), name))  # base first, 9 before 10
        parts = {}
        for name in sorted(names, key=lambda name: "adapter" in config.parts[name]):
            source = config.parts[name]
            if "adapter" in source:
                parts[name] = add_adapter(
                    parts[f"anti{name}"], pretrained_model_name_or_path, subfolder=name, **hub
                )
                continue
            where = {"subfolder": name} | hub
            path = pretrained_model_name_or_path
            if "name" in source:
                beside = Path(path, source["name"])
                path = beside if beside.is_dir() else source["name"]
                where = hub | {"revision": source["revision"]}
            per_part = isinstance(device_map, dict) and name in device_map
            where["device_map"] = device_map[name] if per_part else device_map
            part = AutoModelForCausalLM.from_pretrained(path, **where, **kwargs)
            if part.config.vocab_size > config.vocab_size:  # rows of padding, trimmed before
                part.resize_token_embeddings(config.vocab_size)
            parts[name] = part.eval()
        model = cls(
            parts["base"],
            [parts[name] for name in names if role(name) == "expert"],
            [parts[name] for name in names if role(name) == "antiexpert"],
            config.alpha,
            **{key: getattr(config, key) for key in OPTIONS},
        )
        model.generation_config = GenerationConfig.from_pretrained(
            pretrained_model_name_or_path, **hub
        )
        return model


OPTIONS = ("expert_prefix", "antiexpert_prefix", "base_top_p", "plausibility", "adaptive")
OWN_IDS = ("expert_input_ids", "antiexpert_input_ids")
OWN_MASKS = ("expert_attention_mask", "antiexpert_attention_mask")


def check_prompt(input_ids: torch.LongTensor | None) -> None:
    """ValueError for a prompt without tokens."""
    if input_ids is None or input_ids.numel() == 0:
        raise ValueError("input_ids is empty: a prompt needs at least one token")


def say_two_passes(reason: str) -> None:
    logger.warning_once(f"The LoRA expert and its antiexpert take two passes: {reason}.")


def from_the_end(logits_to_keep: int | torch.Tensor, length: int) -> int | torch.Tensor:
    """Which of `length` positions to project, counted from the end, where all texts agree."""
    if isinstance(logits_to_keep, torch.Tensor):
        return logits_to_keep % length - length
    return logits_to_keep or length


def positions(
    input_ids: torch.LongTensor, attention_mask: torch.Tensor | None, past: int
) -> torch.LongTensor:
    """Position of each new token in its own row, (B, T) or (1, T); padding counts for nothing.

    `past` is the number of cached tokens, padding included.
    """
    length = input_ids.shape[1]
    if attention_mask is None:
        return torch.arange(past, past + length, device=input_ids.device)[None]
    return (attention_mask.long().cumsum(-1) - 1).clamp(min=0)[:, -length:]


def with_prefix(
    prefix: list[int], inputs: dict[str, torch.Tensor], first: bool
) -> dict[str, torch.Tensor]:
    """Put the same tokens before every row, between its padding and its text.

    Args:
        inputs: input_ids and position_ids (B, T), and attention_mask (B, S) where there is one.
        first: whether nothing is cached; later the prefix is, and only counts.
    """
    ids = inputs["input_ids"]
    before = {
        "input_ids": torch.tensor(prefix, device=ids.device).expand(len(ids), -1),  # (B, P)
        "position_ids": torch.arange(len(prefix), device=ids.device).expand(len(ids), -1),
        "attention_mask": ids.new_ones(len(ids), len(prefix)),
    }
    inputs = inputs | {"position_ids": inputs["position_ids"] + len(prefix)}
    grow = inputs.keys() if first else inputs.keys() & {"attention_mask"}
    grown = {key: torch.cat([before[key], inputs[key]], dim=1) for key in grow}
    if "attention_mask" in inputs:
        # the padding of 0 0 t t stays on the left of prefix p p: 0 0 p p t t
        started = torch.cat([before["attention_mask"], inputs["attention_mask"].cumsum(1) > 0], 1)
        order = started.argsort(dim=1, stable=True)  # (B, P + S)
        grown = {key: value.gather(1, order) for key, value in grown.items()}
    return inputs | grown


def model_card(model: ProxyTunedForCausalLM) -> str:
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


AutoConfig.register(ProxyTunedConfig.model_type, ProxyTunedConfig)
AutoModelForCausalLM.register(ProxyTunedConfig, ProxyTunedForCausalLM)
