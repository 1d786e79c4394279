"""lm-evaluation-harness over a steered trio, from local files, against the same sums by hand."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from conftest import letter_tokenizer, pocket, tiny_trio
from oracle import Naive

from proxy_tuning import ProxyTunedForCausalLM, load_family
from proxy_tuning.__main__ import main
from proxy_tuning.evaluation.harness import GENERATED, run_tasks
from proxy_tuning.evaluation.measures import measure, summary
from proxy_tuning.evaluation.poll_task import polls_task
from proxy_tuning.polls.tables import load_facts
from proxy_tuning.records import DATA
from proxy_tuning.training.recipes import RECIPES

lm_eval = pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")

CHOICES = [
    {"question": "Who led in Ohio?", "choices": ["Biden", "Trump", "nobody at all"], "answer": 1},
    {"question": "Who led?", "choices": ["A tie", "Harris"], "answer": 0},
    {"question": "And in July, before the debate?", "choices": ["Kennedy", "Biden"], "answer": 1},
]
TEXTS = [
    {"text": "Trump led Biden by two points in Ohio."},
    {"text": ("A long poll. " * 13).strip()},
]
TASKS = {
    "choice": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{answer}}",
        "metric_list": [{"metric": "acc"}],
    },
    "rolling": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": "word_perplexity"}],
    },
    "writing": {
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{choices[answer]}}",
        "generation_kwargs": {"until": ["z"], "max_gen_toks": 12, "do_sample": False},
        "metric_list": [{"metric": "exact_match"}],
    },
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What the harness reports, and the trio as the naive sum to check it with."""
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    folder = tmp_path_factory.mktemp("tasks")
    for name, task in TASKS.items():
        data = folder / f"{name}.jsonl"
        data.write_text("\n".join(map(json.dumps, TEXTS if name == "rolling" else CHOICES)))
        settings = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": str(data), "cache_dir": str(folder / "cache")},
            "test_split": "train",
        }
        (folder / f"{name}.yaml").write_text(json.dumps(settings | task))
    trio = tiny_trio("gpt2")
    model = ProxyTunedForCausalLM(*trio, alpha=0.7)
    results = lm_eval.simple_evaluate(
        model=HFLM(pretrained=model, tokenizer=letter_tokenizer(), batch_size=2),
        tasks=list(TASKS),
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        bootstrap_iters=0,
    )
    return results, Naive(*trio, alpha=0.7)


def log_likelihood(naive, context, text):
    """Sum of log-probabilities of the ids `text` after the ids `context`, in nats."""
    with torch.no_grad():
        logits = naive(torch.tensor([context + text[:-1]])).logits[0]
    scores = logits[-len(text) :].log_softmax(-1)
    return scores.gather(1, torch.tensor(text)[:, None]).sum().item()


def test_loglikelihood(results):
    results, naive = results
    encode = letter_tokenizer().encode
    right = 0
    for sample, doc in zip(results["samples"]["choice"], CHOICES, strict=True):
        got = [response[0][0] for response in sample["resps"]]
        expected = [
            log_likelihood(naive, encode(doc["question"]), encode(" " + choice))
            for choice in doc["choices"]
        ]
        assert got == pytest.approx(expected, abs=1e-3)
        right += max(range(len(expected)), key=expected.__getitem__) == doc["answer"]
    assert results["results"]["choice"]["acc,none"] == pytest.approx(right / 3)


def test_rolling_loglikelihood(results):
    """Also of a text longer than the context: windows of 128 tokens, each token predicted once."""
    results, naive = results
    total, words = 0.0, 0
    for sample, doc in zip(results["samples"]["rolling"], TEXTS, strict=True):
        ids = [0] + letter_tokenizer().encode(doc["text"])  # end-of-text comes first
        expected = 0.0
        for start in range(1, len(ids), 128):
            end = min(start + 128, len(ids))
            expected += log_likelihood(naive, ids[max(end - 129, 0) : start], ids[start:end])
        assert sample["resps"][0][0] == pytest.approx(expected, abs=1e-2)
        total, words = total + expected, words + len(doc["text"].split())
    perplexity = torch.tensor(-total / words).exp().item()
    assert results["results"]["rolling"]["word_perplexity,none"] == pytest.approx(
        perplexity, rel=1e-3
    )


def test_generation(results):
    results, naive = results
    tokenizer = letter_tokenizer()
    for sample, doc in zip(results["samples"]["writing"], CHOICES, strict=True):
        ids = torch.tensor([tokenizer.encode(doc["question"])])
        out = naive.generate(ids, max_new_tokens=12, do_sample=False, eos_token_id=0)
        text = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
        assert sample["resps"][0][0] == text.split("z")[0]


@pytest.fixture(scope="module")
def polls():
    """(model, tokenizer, facts, questions) of the embedded family, six of each set."""
    pocket()  # skips where there are no weights
    model, tokenizer = load_family("pocket")
    task = polls_task(load_facts(DATA), RECIPES["pocket"].states, per_set=6)
    return model, tokenizer, task, task.questions["validation"]


def test_our_question_sets_are_graded_as_evaluate_grades_them(polls):
    model, tokenizer, task, rows = polls
    found = run_tasks(model, tokenizer, ["polls"], rows)["results"]
    graded = measure(model, tokenizer, rows, task.judge).assign(system="M")
    scores = summary(graded[graded["set"] != "against"], task)
    compared = 0
    for row in scores[scores["set"] != "all"].itertuples():
        task = found[f"polls_{row.set}"]
        if row.score in GENERATED:
            assert task[f"{row.score},none"] == pytest.approx(row.mean, abs=1e-3), row
            compared += 1
        if row.score == "leader_likelier":
            assert found[f"polls_{row.set}_leader"]["acc,none"] == pytest.approx(row.mean, abs=1e-3)
            compared += 1
    assert compared >= 10


def test_the_command_runs_tasks(polls, tmp_path, monkeypatch, capsys):
    output = tmp_path / "tasks.json"
    words = [
        "evaluate",
        "--family",
        "pocket",
        "--tasks",
        "polls_unseen,polls_silent",
        "--limit",
        "2",
        "--split",
        "validation",
        "--output",
        str(output),
    ]
    monkeypatch.setattr(sys, "argv", ["proxy_tuning", *words])
    main()
    written = json.loads(output.read_text())
    assert set(written["results"]) == {"polls_unseen", "polls_silent"}
    assert written["n-samples"]["polls_unseen"]["effective"] == 2
    assert written["versions"]["lm_eval"] and written["machine"]["torch"] and written["command"]
    assert "polls_unseen" in capsys.readouterr().out


def test_an_unknown_task_is_named(polls):
    model, tokenizer, _, rows = polls
    with pytest.raises(ValueError, match="has no task polls_never"):
        run_tasks(model, tokenizer, ["polls_new", "polls_never"], rows)


def test_the_public_tasks_of_the_page_exist():
    """What docs/benchmarks.md tells to run is in the harness; their data are not fetched here."""
    page = (Path(__file__).parents[1] / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    named = {name for names in re.findall(r"--tasks ([\w,]+)", page) for name in names.split(",")}
    assert {"gsm8k", "truthfulqa_mc1", "triviaqa", "humaneval"} <= named
    tasks = Path(lm_eval.__file__).parent / "tasks"
    for name in (name for name in named if not name.startswith("polls")):
        files = tasks.glob(f"{name.split('_')[0]}/*.yaml")
        assert any(re.search(rf"^task: {name}$", f.read_text(), re.M) for f in files), name
