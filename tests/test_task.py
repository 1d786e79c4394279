"""A reader's own rows as a task: judged by hand, and measured by the command on tiny models."""

import json
import sys

import pandas as pd
import pytest
from conftest import LINES, save_part

from proxy_tuning.__main__ import main
from proxy_tuning.evaluation import reports
from proxy_tuning.evaluation.task import Task, judge_words, own_task, token_f1, trained_part
from proxy_tuning.families import load_part
from proxy_tuning.training import finetune as ft
from proxy_tuning.training.material import read_rows, split_rows
from proxy_tuning.training.recipes import Recipe

ROWS = pd.DataFrame(
    {
        "question": ["Who bakes?", "Who bakes?", "When is it open?", None],
        "answer": ["Ann bakes.", "Bo does.", "From 7.30 to noon.", "The bakery is old."],
    }
)


def test_f1_by_hand():
    assert token_f1("From 7.30 to noon.", "from 7.30 to NOON") == 1
    assert token_f1("the the oven", "the oven is hot") == pytest.approx(
        2 * (2 / 3) * (2 / 4) / (7 / 6)
    )
    assert token_f1("", "Ann") == token_f1("Bo", "Ann") == token_f1("", "") == 0
    assert token_f1("7.30", "7.31") == 0


def test_f1_is_that_of_rouge():
    """ROUGE-1's F-measure, which splits words as here where there are no figures."""
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rouge1"])
    pairs = [
        ("Ann bakes the bread", "The bread is Ann's, and Ann bakes it."),
        ("no, no, no", "No"),
        ("rye", "Rye and wheat!"),
    ]
    for said, right in pairs:
        expected = scorer.score(right, said)["rouge1"].fmeasure
        assert token_f1(said, right.replace("'", " ")) == pytest.approx(expected)


def test_own_rows_are_asked_once_and_the_best_answer_counts():
    task = own_task(ROWS)
    rows = task.questions["test"]
    assert rows["question"].tolist() == ["Who bakes?", "When is it open?"]
    judged = judge_words(rows, ["Bo  does.", "from 7.30"])
    assert judged["exact_match"].tolist() == [True, False]
    assert judged["f1"].tolist() == pytest.approx([1, 2 / 3])
    assert (task.new, set(rows["set"])) == ("own", {"own"})


def test_rows_that_m_plus_read_are_a_set_of_their_own():
    task = own_task(ROWS, trained=ROWS.head(2))
    rows = task.questions["test"].set_index("question")
    assert rows["set"].to_dict() == {"Who bakes?": "trained", "When is it open?": "validation"}
    assert task.new == "validation"
    many = pd.DataFrame({"question": [f"{i}?" for i in range(9)], "answer": "Yes."})
    few = own_task(many, trained=many.head(6), per_set=2).questions["test"]
    assert few["set"].value_counts().to_dict() == {"trained": 2, "validation": 2}


def test_what_is_no_task_is_refused():
    with pytest.raises(ValueError, match="passages of plain text cannot be asked"):
        own_task(ROWS.tail(1))
    with pytest.raises(ValueError, match="mine, test, lack fact, read"):
        rows = ROWS.assign(set="own")
        Task("mine", {"test": rows}, judge_words, ("f1",), new="own", aims=("f1",))
    with pytest.raises(ValueError, match="aims must be among the scores"):
        Task("mine", {}, judge_words, ("f1",), new="own", aims=("exact_match",))


@pytest.fixture
def bakery(tmp_path, monkeypatch):
    """Folders of a tiny trio whose M+ learnt a file of own rows, and the file."""
    monkeypatch.setattr(ft, "WORK", tmp_path / "work")
    names = {"base": 1, "antiexpert": 2, "direct": 4}
    folders = {
        name: save_part(tmp_path / name, "gpt2", seed, LINES, positions=256)
        for name, seed in names.items()
    }
    file = tmp_path / "bakery.csv"
    rows = pd.DataFrame({"question": [f"Who bakes {i}?" for i in range(20)], "answer": "Ann."})
    rows.to_csv(file, index=False)
    folders["expert"] = str(tmp_path / "expert")
    recipe = Recipe(epochs=12, learning_rate=5e-3, batch_size=4, seed=3)
    own = read_rows(file)
    ft.finetune(recipe=recipe, output=folders["expert"], rows=own, antiexpert=folders["antiexpert"])
    return folders, file


def test_the_command_measures_own_rows(bakery, tmp_path, monkeypatch, capsys):
    folders, file = bakery
    rows, output = read_rows(file), tmp_path / "results.json"
    expert, tokenizer = load_part(folders["expert"])
    trained = trained_part(rows, folders["expert"], expert, tokenizer)
    pd.testing.assert_frame_equal(trained, split_rows(rows, seed=3)[0])
    assert trained_part(rows.head(9), folders["expert"], expert, tokenizer) is None
    assert trained_part(rows, folders["base"], expert, tokenizer) is None

    words = [f"--{part}={folder}" for part, folder in folders.items()]
    words += ["--data", str(file), "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["proxy_tuning", "evaluate", *words])
    main()
    results = json.loads(output.read_text())
    assert results["task"] == "own" and results["questions"] == {"trained": 18, "validation": 2}
    means = {(s["system"], s["set"], s["score"]): s["mean"] for s in results["scores"]}
    rows_of = {"M", "M-", "M+", "M tuned directly", "proxy-tuned M, alpha 1"}
    assert rows_of <= {system for system, _, score in means if score == "f1"}
    assert means["M+", "validation", "exact_match"] == 1  # there is one answer to learn
    assert means["M", "validation", "exact_match"] == 0
    assert means["M+", "all", "perplexity"] < 1.5 < means["M", "all", "perplexity"]
    printed = capsys.readouterr().out
    assert reports.markdown(results, "answers") in printed
    assert "validation: exact match" in printed and "leader" not in printed


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--question", "q"], "name columns of --data"),
        (["--data", "x.csv", "--tasks", "polls"], "name one"),
        (["--data", "nowhere.csv"], "nowhere.csv"),
    ],
)
def test_options_that_do_not_go_together(words, said, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["proxy_tuning", "evaluate", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2 and said in capsys.readouterr().err
