"""Reports of results by hand, and the pages made from the results that are kept."""

import json
import re

from proxy_tuning.evaluation import poll_task, reports
from proxy_tuning.polls.tables import load_facts
from proxy_tuning.records import DATA, ROOT, machine, write_json


def test_a_table_by_hand():
    score = {"system": "M", "set": "new", "score": "leader_accuracy", "mean": 0.5}
    results = {
        "scores": [
            score | {"interval": [0.25, 0.751]},
            score | {"score": "absolute_error", "mean": 1.25, "interval": [1.0, 2.5]},
            score | {"system": "M-", "set": "old", "interval": [0.25, 0.751]},
        ],
        "seeds": [],
        "task": "polls",
    }
    head, _, row, _ = reports.markdown(results).splitlines()
    cells = dict(zip(*(line.removesuffix(" |").split(" | ") for line in (head, row)), strict=True))
    assert cells["2024: leader accuracy"] == "50.0% (25-75)"
    assert cells["2024: mean absolute error (points)"] == "1.25 (1-2.5)"
    assert cells["before: leader accuracy"] == "-"
    assert "before: exact match" not in head
    assert reports.markdown(results, "gap") == ""


def test_a_task_without_reports_of_its_own_shows_all_scores():
    score = {"system": "M", "set": "sums", "mean": 0.5, "interval": [0.25, 0.75]}
    scores = [score | {"score": "right"}, score | {"set": "all", "score": "seconds"}]
    results = {"task": "arithmetic", "scores": scores, "seeds": []}
    assert list(reports.reports_of(results)) == ["answers"]
    head, _, row = reports.markdown(results).splitlines()
    assert head == "| | sums: right | all: seconds |"
    assert row == "| M | 50.0% (25-75) | 0.5 (0.25-0.75) |"


def test_counts_offsets_and_drafts_by_hand():
    score = {"system": "M+", "set": "general", "interval": [0.5, 1.0]}
    results = {
        "task": "polls",
        "alpha": 1.0,
        "scores": [
            score | {"score": "kept of M", "mean": 0.75},
            score | {"score": "lost of M", "mean": 3, "interval": None},
            score | {"score": "offset", "mean": 0.031, "interval": [0.01, 0.05]},
        ],
        "seeds": [],
        "drafts": [
            {"draft": "none", "set": "typed", "acceptance_rate": None},
            {
                "draft": "expert",
                "set": "typed",
                "questions": 12,
                "gamma": 3,
                "acceptance_rate": 0.5,
                "tokens_per_round": 2.25,
            },
        ],
    }
    assert reports.markdown(results, "kept").splitlines()[-1] == "| M+ | 75.0% (50-100) | 3 |"
    assert reports.markdown(results, "offset").splitlines()[-1] == "| M+ | 0.031 (0.01-0.05) |"
    assert reports.headline(results).splitlines()[-1] == "| M+ | - | - | 75.0% (50-100) | - |"
    last = reports.drafts_table(results).splitlines()[-1]
    assert last == "| expert, 3 proposals | 12 typed | 50.0% | 2.25 |"
    assert reports.drafts_table({}) == ""


def test_the_headline_by_hand():
    score = {"set": "new", "score": "exact_match", "mean": 0.5, "interval": [0.25, 0.751]}
    names = [
        "always the leading party",
        "M",
        "M-",
        "M+",
        "M tuned directly",
        "proxy-tuned M, alpha 1",
        "proxy-tuned M, adaptive alpha",
        "M+ seed1",
        "proxy-tuned M by seed1",
        "proxy-tuned M, 3 experts",
    ]
    scores = [score | {"system": name} for name in names]
    scores.append(score | {"system": "M+", "set": "old", "score": "leader_accuracy kept"})
    results = {"alpha": 1.0, "scores": scores, "seeds": []}
    lines = [line.strip("| ").split(" | ") for line in reports.headline(results).splitlines()]
    assert [line[0] for line in lines[2:]] == [*names[1:6], names[9]]
    assert len(lines[2]) == 5
    assert lines[4] == ["M+", "50.0% (25-75)", "-", "-", "50.0% (25-75)"]


def test_the_page_has_every_results_file(tmp_path):
    score = {
        "system": "M",
        "set": "new",
        "score": "leader_accuracy",
        "mean": 0.5,
        "interval": [0, 1],
    }
    results = {
        "command": "python -m proxy_tuning evaluate",
        "task": "polls",
        "split": "test",
        "alpha": 1.0,
        "chosen_alpha": 0.75,
        "machine": machine(),
        "scores": [score],
        "seeds": [],
        "recipes": {
            "M+": {"seed": 0, "rehearsal": 0.3, "epochs": 1},
            "M+ bare": {"seed": 0, "epochs": 1},
            "M+ other": None,
        },
    }
    (tmp_path / "pocket.json").write_text(json.dumps(results))
    (tmp_path / "speed.json").write_text(json.dumps({"command": "another"}))
    page = reports.page(tmp_path)
    assert "- M+: rehearsal 0.3\n- M+ bare: rehearsal None\n\n" in page
    assert page.count("\n## ") == 1 and "0.75" in page and results["command"] in page
    assert all(reports.markdown(results, report) in page for report in reports.REPORTS["polls"])


def test_the_page_is_in_step_with_the_files():
    assert (ROOT / "results" / "README.md").read_text(encoding="utf-8") == reports.page()


def test_all_rows_of_a_table_have_its_columns():
    """Names of systems may hold a bar, which Markdown takes for the end of a cell."""
    lines = reports.page().splitlines()
    columns = [len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0 for line in lines]
    odd = [
        line
        for line, before, here in zip(lines[1:], columns, columns[1:], strict=False)
        if before and here and before != here
    ]
    assert max(columns) > 3 and not odd


def test_results_are_whole_json(tmp_path):
    path = tmp_path / "deep" / "table.json"
    write_json(path, {"a": 1, "machine": machine()})
    assert json.loads(path.read_text())["a"] == 1
    assert [p.name for p in path.parent.iterdir()] == ["table.json"]


def test_the_readme_says_what_the_results_file_says():
    results = json.loads((ROOT / "results" / "pocket.json").read_text())
    assert reports.headline(results) in (ROOT / "README.md").read_text()
    assert results["data"] == poll_task.polls_task(load_facts(DATA), per_set=1).data
