"""lm-evaluation-harness over a steered trio, from local files, against the same sums by hand."""

import json

import pytest
import torch
from conftest import letter_tokenizer, tiny_trio
from oracle import Naive

from proxy_tuning import ProxyTunedForCausalLM

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
    for sample, doc in zip(results["samples"]["choice"], CHOICES):
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
    for sample, doc in zip(results["samples"]["rolling"], TEXTS):
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
    for sample, doc in zip(results["samples"]["writing"], CHOICES):
        ids = torch.tensor([tokenizer.encode(doc["question"])])
        out = naive.generate(ids, max_new_tokens=12, do_sample=False, eos_token_id=0)
        text = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
        assert sample["resps"][0][0] == text.split("z")[0]
