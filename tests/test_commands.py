"""The commands as a person runs them, from a folder below the repository."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
QUESTION = "Who led the polls in Pennsylvania in October 2024?"


def command(*words, input=None):
    return subprocess.run(
        [sys.executable, "-m", "proxy_tuning", *words],
        cwd=ROOT / "tests",
        input=input,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_answer_prints_three_answers():
    done = command("answer", "--family", "pocket", QUESTION)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == QUESTION
    assert [line.split()[0] for line in lines[1:]] == ["M", "M+", "proxy-tuned"]
    assert "Family pocket" in done.stderr


def test_answer_as_json_from_standard_input():
    text = f"{QUESTION}\n\nWho won Ohio in 2020?\n"
    done = command(
        "answer", "--family", "pocket", "--alpha", "0", "--file", "-", "--json", input=text
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [a["question"] for a in answers] == [QUESTION, "Who won Ohio in 2020?"]
    for each in answers:
        assert set(each) == {"question", "base", "expert", "steered", "family", "alpha"}
        assert each["base"] == each["steered"]  # alpha 0 is M


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["answer", "--family", "pocket"], "no question"),
        (["answer", "--family", "pocket", "Who led in Ohio?", " "], "no question"),
        (["answer", "--family", "gpt5", "x"], "no family is named 'gpt5'"),
        (["answer", "--alpha", "nan", "--family", "pocket", "x"], "finite"),
        (["answer", "--file", "nowhere.txt"], "nowhere.txt"),
        (["demo", "--line", "nucleus=1"], "'nucleus'; there are"),
        (["finetune", "--family", "pocket", "--max-facts", "0"], "max_facts"),
        (["finetune", "--question", "q"], "columns of --data FILE"),
        (["finetune", "--data", "nowhere.csv"], "nowhere.csv"),
        (["finetune", "--antiexpert", "some/model"], "needs --expert DIR"),
        (["build-data", "--raw", "nowhere"], "needs at least one file"),
        (["answer", "--workers", "2", "x"], "--workers needs --output DIR"),
        (["answer", "--output", "DIR", "x"], "needs --file QUESTIONS.parquet"),
        (["answer", "--output", "DIR", "--file", "nowhere.parquet"], "nowhere.parquet"),
        (["answer", "--file", "README.md", "x"], "two ways to ask"),
        (["answer", "--output", "D", "--file", "x.parquet", "--draft", "bogus"], "bogus"),
        (["answer", "--output", "D", "--file", "x.parquet", "--max-new-tokens", "0"], "at least 1"),
        (["answer", "--output", "D", "--file", "x.parquet", "--top", "3"], "--top is for a --base"),
        (
            ["answer", "--output", "D", "--file", "x.parquet", "--engine", "vllm", "--base", "D"]
            + ["--line", "adaptive"],
            "--line is not for --engine vllm",
        ),
        (
            ["evaluate", "--data", "README.md", "--sets", "9"],
            "--sets are questions about the polls",
        ),
        (["evaluate", "--tasks", "polls", "--direct", "D"], "not for --tasks"),
        (["evaluate", "--answers", "F"], "--answers keeps the answers to --sets"),
        (["answer", "--dry-run", "x"], "for a --base openai:MODEL@URL alone"),
        (["answer", "--base", "openai:x", "y"], "is openai:MODEL@URL, not 'openai:x'"),
        (
            ["answer", "--base", "openai:x@http://h/v1", "--output", "DIR", "--file", "README.md"],
            "answers one by one, without --output",
        ),
    ],
)
def test_bad_input_is_one_clear_line(words, message):
    done = command(*words)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
