"""The bridge to lm-evaluation-harness: any of its tasks on the steered model, and ours as its tasks.

Needs the extra `eval` (pip install -e .[eval]). Our question sets become one task per set and way of
asking, `polls_new` (free text) and `polls_new_leader` (which candidate is likelier), and so on;
`polls` stands for all of them.
"""

import json
import tempfile
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from proxy_tuning.evaluation.measures import READ, continued
from proxy_tuning.evaluation.poll_task import mark
from proxy_tuning.prompts import prompt
from proxy_tuning.records import machine

POLLS = "polls"
GENERATED = ("leader_accuracy", "exact_match", "absolute_error", "abstained", "spoke")
"""What `grade_one` gives for free text, where it applies to a question."""


def evaluate_tasks(model, tokenizer, family, tasks, polls, split="test", limit=None, seed=0):
    """Run tasks of lm-evaluation-harness; returns what `records.write_json` keeps of the run.

    Args: tasks, names of the harness's or of ours, see `write_tasks`; polls, the `Task` whose
    questions ours are; limit, at most so many documents of each.
    """
    ours = any(task.startswith(POLLS) for task in tasks)
    return {
        "family": family,
        "alpha": model.alpha,
        "split": split,
        "seed": seed,
        "data": polls.data,
        "machine": machine(),
        **run_tasks(model, tokenizer, tasks, polls.questions[split] if ours else None, limit, seed),
    }


def run_tasks(model, tokenizer, tasks, rows=None, limit=None, seed=0, batch_size=READ):
    """Run tasks of the harness by name on any causal language model.

    Args:
        tasks: the harness's own names, and those of `write_tasks` where `rows` are given.
        rows: questions for our tasks, as `poll_task.question_sets` returns them.
        limit: at most so many documents of a task.
        seed: of the harness's own draws, such as few-shot examples.
    Returns {"results": {task: {"metric,filter": value}}, "n-samples": ..., "versions": ...}.
    Raises ValueError where the harness is not installed or does not know a task.
    """
    try:
        from lm_eval import simple_evaluate
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise ValueError("--tasks needs lm-evaluation-harness: pip install -e .[eval]") from error

    with tempfile.TemporaryDirectory() as folder:
        if rows is not None:
            write_tasks(rows, folder, tokenizer)
        others = any(not task.startswith(POLLS) for task in tasks)
        manager = TaskManager(include_path=folder, include_defaults=others)
        if unknown := sorted(name for name in tasks if not manager.match_tasks([name])):
            raise ValueError(f"lm-evaluation-harness has no task {', '.join(unknown)}")
        found = simple_evaluate(
            model=HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size),
            tasks=list(tasks),
            task_manager=manager,
            limit=limit,
            random_seed=seed,
            numpy_random_seed=seed,
            torch_random_seed=seed,
            fewshot_random_seed=seed,
            log_samples=False,
        )
    numbers = {
        task: {name: value for name, value in scores.items() if isinstance(value, int | float)}
        for task, scores in found["results"].items()
    }
    return {
        "results": numbers,
        "n-samples": found["n-samples"],
        "versions": found["versions"] | {"lm_eval": version("lm_eval")},
    }


def write_tasks(rows, folder, tokenizer=None):
    """Our question sets as tasks of the harness: a .jsonl with questions and a .yaml each."""
    folder = Path(folder)
    (folder / "grading.py").write_text("from proxy_tuning.evaluation.harness import grade_one\n")
    for name, of_set in rows.groupby("set"):
        asked = [
            {
                "prompt": prompt(row.question, tokenizer),
                "question": row.question,
                "answer": row.answer,
                "leader": row.leader if isinstance(row.leader, str) else None,
            }
            for row in of_set.itertuples()
        ]
        write_task(
            folder,
            f"{POLLS}_{name}",
            asked,
            {
                "output_type": "generate_until",
                "doc_to_text": "{{prompt}}",
                "doc_to_target": "{{answer}}",
                "generation_kwargs": {
                    "until": ["\nQuestion:"],
                    "max_gen_toks": 64,
                    "do_sample": False,
                },
                "metric_list": [
                    {
                        "metric": score,
                        "aggregation": "mean",
                        "higher_is_better": score != "absolute_error",
                    }
                    for score in GENERATED
                ],
            },
        )
        led = of_set[of_set["likely"].notna()]
        pairs = zip(
            *(continued(led, column, tokenizer) for column in ("likely", "unlikely")), strict=True
        )
        choices = [
            {"given": given, "choices": [right.strip(), wrong.strip()]}
            for (given, right), (_, wrong) in pairs
        ]
        if choices:
            write_task(
                folder,
                f"{POLLS}_{name}_leader",
                choices,
                {
                    "output_type": "multiple_choice",
                    "doc_to_text": "{{given}}",
                    "doc_to_choice": "{{choices}}",
                    "doc_to_target": 0,
                    "metric_list": [{"metric": "acc"}],
                },
            )


def write_task(folder, name, docs, settings):
    """One task: its documents, and its settings as YAML (of which JSON is a part)."""
    data = folder / f"{name}.jsonl"
    data.write_text("".join(json.dumps(doc) + "\n" for doc in docs), encoding="utf-8")
    source = {"data_files": str(data), "cache_dir": str(folder / "cache")}
    settings |= {
        "task": name,
        "tag": POLLS,
        "dataset_path": "json",
        "dataset_kwargs": source,
        "test_split": "train",
    }
    lines = [f"{key}: {json.dumps(value)}" for key, value in settings.items()]
    if settings["output_type"] == "generate_until":
        lines.append("process_results: !function grading.grade_one")
    (folder / f"{name}.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def grade_one(doc, results):
    """The scores of one free answer that apply to its question, by `poll_task.mark`."""
    rows = pd.DataFrame([{"answer": doc["answer"], "leader": doc["leader"]}])
    scores = mark(rows, [results[0].strip()], forms=set()).iloc[0]
    return {name: float(scores[name]) for name in GENERATED if pd.notna(scores[name])}
