"""The folder that vLLM serves: whole parts in folders of their own, and the base's tokenizer."""

import copy
from pathlib import Path

from proxy_tuning.model import ProxyTunedForCausalLM
from proxy_tuning.parts import role, whole
from proxy_tuning.records import replaced_folder
from proxy_tuning.serving.hub import check_empty
from proxy_tuning.serving.served_config import check_part, check_prefixes


def export_for_vllm(model: ProxyTunedForCausalLM, tokenizer, folder: str | Path) -> None:
    """Write a trio for `vllm serve FOLDER`; adapters are merged into copies of their models.

    Raises:
        ValueError: the folder is not empty, or vLLM could not serve the model; before any work.
    """
    check_empty(folder)
    check_prefixes(model.config)
    for name in model.part_names:
        check_part(name, getattr(model, name).config, model.base.config.vocab_size)
    parts = {name: whole(getattr(model, name)) for name in model.part_names}
    merged = ProxyTunedForCausalLM(
        parts["base"],
        [part for name, part in parts.items() if role(name) == "expert"],
        [part for name, part in parts.items() if role(name) == "antiexpert"],
        line=model.line,
    )
    merged.generation_config = copy.deepcopy(model.generation_config)
    with replaced_folder(folder) as new:
        merged.save_pretrained(new)
        tokenizer.save_pretrained(new)
