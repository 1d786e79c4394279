"""Bulk answers by vLLM in Ray's workers are those of the trio on one machine."""

import os
import subprocess
import sys

import pandas as pd
import pytest
from serving.environment import ROOT, run, vllm_python

from proxy_tuning import load_family
from proxy_tuning.answering import greedy_answers

pytestmark = [pytest.mark.vllm, pytest.mark.slow]
QUESTIONS = [
    "Who led the polls in Pennsylvania in October 2024?",
    "What did Trump poll at in Georgia in August 2024?",
    "Who led the polls in Ohio in May 2016?",
]


def test_workers_with_vllm_answer_as_the_trio_does(tmp_path):
    python = vllm_python()
    run([python, "-m", "pip", "install", "-q", "ray[data]==2.60.0"])
    model, tokenizer = load_family("pocket")
    served = tmp_path / "served"
    command = [sys.executable, "-m", "proxy_tuning", "export", served, "--to", "vllm"]
    subprocess.run([*command, "--family", "pocket"], cwd=ROOT, check=True)
    pd.DataFrame({"question": QUESTIONS}).to_parquet(tmp_path / "q.parquet")
    command = [python, "-m", "proxy_tuning", "answer", "--base", served, "--engine", "vllm"]
    command += ["--file", tmp_path / "q.parquet", "--output", tmp_path / "out"]
    quiet = {"VLLM_CPU_KVCACHE_SPACE": "1", "TORCHDYNAMO_DISABLE": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env=os.environ | quiet
    )
    assert done.returncode == 0, done.stderr
    answers = pd.read_parquet(tmp_path / "out" / "part-000000.parquet")["answer"]
    assert answers.tolist() == greedy_answers(model, tokenizer, QUESTIONS)
    other = subprocess.run([*command, "--alpha", "2"], cwd=tmp_path, capture_output=True, text=True)
    assert other.returncode == 2 and "was exported with alpha 1.0, not 2.0" in other.stderr
