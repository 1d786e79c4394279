"""Files as other scorers read them, with texts that `generate` gives."""

import json
import sys

import pandas as pd
import pytest
import torch
from conftest import LINES, letter_tokenizer, tiny_trio

from proxy_tuning import ProxyTunedForCausalLM, commands
from proxy_tuning import __main__ as command_line
from proxy_tuning.evaluation.completions import FORMS, complete, cut, export, read_prompts

PROMPTS = ["def add(a, b):", "def f():\n", "x = 1"]


@pytest.fixture(scope="module")
def steered():
    model = ProxyTunedForCausalLM(*tiny_trio("gpt2"), alpha=0.7)
    model.generation_config.eos_token_id = model.generation_config.pad_token_id = 1
    return model, letter_tokenizer(LINES)


def alone(steered, prompt, count):
    """The greedy continuation of one prompt."""
    model, tokenizer = steered
    ids = torch.tensor([tokenizer.encode(prompt)])
    out = model.generate(ids, max_new_tokens=count, do_sample=False)[0, ids.shape[1] :]
    return tokenizer.decode(out, skip_special_tokens=True)


def test_completions_are_those_of_each_prompt_alone(steered):
    found = complete(*steered, PROMPTS, max_new_tokens=12, batch_size=2)
    assert found == [alone(steered, prompt, 12) for prompt in PROMPTS]


def test_what_all_prompts_begin_with_is_read_once(steered, monkeypatch):
    model = steered[0]
    prompts = [f"Q: one\nA: 1\nQ: {question}\nA:" for question in ("two", "twenty", "nine")]
    lengths = []
    counted = model.expert.register_forward_pre_hook(
        lambda *args: lengths.append(args[2]["input_ids"].shape[1]), with_kwargs=True
    )
    monkeypatch.setattr(model, "draft", "none")
    found = complete(*steered, prompts, max_new_tokens=3, batch_size=2)
    counted.remove()
    assert lengths == [15, 9, 1, 1, 7, 1, 1]  # the 15 letters up to the second question, once
    assert found == [alone(steered, prompt, 3) for prompt in prompts]


def test_samples_follow_their_prompt_and_the_seed(steered):
    options = {"max_new_tokens": 12, "samples": 3, "temperature": 1.5, "batch_size": 2}
    found = complete(*steered, PROMPTS, **options)
    assert found == complete(*steered, PROMPTS, **options)
    assert found != complete(*steered, PROMPTS, **options, seed=1)
    assert len(found) == 9 and len(set(found)) > 3


def test_a_text_is_cut_at_the_first_stop():
    assert cut("a = 1\nclass B\ndef c", ["\ndef", "\nclass"]) == "a = 1"
    assert cut("a = 1", ["\ndef"]) == "a = 1"
    assert cut("a = 1", []) == "a = 1"


ROWS = {
    "humaneval": {"task_id": "HumanEval/0", "prompt": "def f():", "test": "x"},
    "ds1000": {"prompt": "import numpy", "metadata": {"problem_id": 0}, "code_context": "x"},
    "alpaca_eval": {"instruction": "Say hi.", "dataset": "x"},
    "toxigen": {"text": "they are", "target_groups": ["women"], "label": "x"},
    "truthfulqa": {"Question": "Is it?", "Best Answer": "No."},
}
WRITTEN = {
    "humaneval": {"task_id", "completion"},
    "ds1000": {"metadata", "code"},
    "alpaca_eval": {"instruction", "output", "generator"},
    "toxigen": {"text", "target_groups", "prediction"},
    "truthfulqa": {"Question", "Best Answer", "proxy-tuned"},
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_has_the_columns_its_scorer_reads(form, steered, tmp_path):
    read, written = {"truthfulqa": ("csv", "csv"), "alpaca_eval": ("json", "json")}.get(
        form, ("jsonl", "jsonl")
    )
    source, output = tmp_path / f"in.{read}", tmp_path / "out" / f"done.{written}"
    row = ROWS[form]
    if read == "csv":
        pd.DataFrame([row] * 2).to_csv(source, index=False)
    else:
        source.write_text(json.dumps([row] * 2) if read == "json" else f"{json.dumps(row)}\n" * 2)
    export(*steered, source, output, form, max_new_tokens=8)
    done = read_prompts(output)
    assert len(done) == 2 and set(done.columns) == WRITTEN[form]
    prompt = row[FORMS[form]["prompt"]]
    prompt = f"{prompt}\n\nAnswer:" if form == "truthfulqa" else prompt
    expected = alone(steered, prompt, 8)
    if form in ("alpaca_eval", "truthfulqa"):
        expected = expected.strip()
    assert done[FORMS[form]["output"]].tolist() == [expected] * 2
    for column in WRITTEN[form] & set(row):
        assert done[column].tolist() == [row[column]] * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"form": "mmlu"}, "form must be one of humaneval"),
        ({"samples": 2}, "2 samples need a temperature"),
        ({"output": "done.txt"}, "not done.txt"),
        ({"source": "rows.txt"}, "not rows.txt"),
        ({"form": "alpaca_eval"}, "has no instruction"),
    ],
)
def test_bad_input_is_refused_before_any_work(change, message, tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps(ROWS["humaneval"]))
    options = {"source": source, "output": "done.jsonl", "form": "humaneval"} | change
    with pytest.raises(ValueError, match=message):
        export(None, None, **options)


def test_the_command(steered, tmp_path, monkeypatch):
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(
        "".join(json.dumps(ROWS["humaneval"] | {"prompt": p}) + "\n" for p in PROMPTS)
    )
    monkeypatch.setattr(commands, "load", lambda options: ("tiny", *steered))
    words = ["complete", "--prompts", source, "--form", "humaneval", "--output", output]
    words += ["--max-new-tokens", "10", "--stop", "#"]
    monkeypatch.setattr(sys, "argv", ["proxy_tuning", *map(str, words)])
    command_line.main()
    done = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["completion"] for row in done] == [
        alone(steered, prompt, 10).split("#")[0] for prompt in PROMPTS
    ]
