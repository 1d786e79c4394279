"""Prompts and ends of chat models that are not of this repository."""

import json
from pathlib import Path

import pytest
from conftest import letter_tokenizer, save_part
from tokenizers.processors import TemplateProcessing

from proxy_tuning.answering import answer_questions
from proxy_tuning.families import load_family
from proxy_tuning.prompts import prompt


@pytest.mark.parametrize("template_writes", [True, False])
@pytest.mark.parametrize("tokenizer_writes", [True, False])
def test_one_beginning_of_text(template_writes, tokenizer_writes):
    """As transformers tokenizes a chat, whoever writes the beginning of a text."""
    tokenizer = letter_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    if tokenizer_writes:
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
        )
    begun = "{{ bos_token }}" if template_writes else ""
    tokenizer.chat_template = begun + "{{ messages[0]['content'] }}?"
    chat = [{"role": "user", "content": "who led"}]
    ids = tokenizer(prompt("who led", tokenizer))["input_ids"]
    beginnings = 1 if template_writes or tokenizer_writes else 0
    assert ids.count(tokenizer.bos_token_id) == beginnings
    if template_writes:
        assert ids == tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]


def test_an_answer_ends_where_a_turn_does(tmp_path):
    """M's own list of ends counts beside the tokenizer's end of a text."""
    parts = [save_part(tmp_path / name, "llama", seed) for seed, name in enumerate("abc")]
    model, tokenizer = load_family(base=parts[0], antiexpert=parts[1], expert=parts[2])
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    free = answer_questions(model, tokenizer, ["who led"], max_new_tokens=12)[0]["steered"]
    turn = tokenizer(free)["input_ids"][4]
    settings = Path(parts[0], "generation_config.json")
    given = json.loads(settings.read_text()) | {"eos_token_id": [turn]}
    settings.write_text(json.dumps(given))
    model, tokenizer = load_family(base=parts[0], antiexpert=parts[1], expert=parts[2])
    assert set(model.generation_config.eos_token_id) == {turn, tokenizer.eos_token_id}
    ended = answer_questions(model, tokenizer, ["who led"], max_new_tokens=12)[0]["steered"]
    assert ended == free[: free.index(tokenizer.decode([turn])) + 1].strip()
