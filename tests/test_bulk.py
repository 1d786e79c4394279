"""Bulk answers by Ray: each question once, though a worker or the driver is killed; nothing mixed."""

import contextlib
import ipaddress
import json
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from proxy_tuning.bulk import ROWS, Source, Worker, answer_file, part_of

ray = pytest.importorskip("ray")
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import tests
SAID = {"trio": "upside down"}


def write_questions(path, count, groups=50, column="question"):
    """`count` different questions in row groups of 50, the eleventh empty, the twelfth missing."""
    questions = [f"Question number {i}?" for i in range(count)]
    questions[10:12] = ["  ", None]
    pq.write_table(
        pa.table({column: questions, "other": range(count)}), path, row_group_size=groups
    )
    return questions


def backwards(log, pause=0.0):
    """A load function: answers are the questions backwards, and each call is written to a log."""

    def load():
        def answer(questions):
            with open(log, "a") as file:
                file.write(f"{os.getpid()} {len(questions)}\n")
            time.sleep(pause)
            return [question[::-1] for question in questions]

        return answer

    return load


def all_rows(output):
    parts = sorted(output.glob("part-*.parquet"))
    return pd.concat([pd.read_parquet(part) for part in parts], ignore_index=True)


def check_whole(output, questions):
    """Every question once, in its place, with its own answer."""
    rows = all_rows(output)
    assert rows["row"].tolist() == list(range(len(questions)))
    for asked, row in zip(questions, rows.itertuples(), strict=True):
        if asked is None or not asked.strip():
            assert pd.isna(row.answer)
        else:
            assert (row.question, row.answer) == (asked, asked[::-1])
    manifest = json.loads((output / "manifest.json").read_text())
    assert manifest["complete"] and manifest["rows"] == len(questions)


def test_parts_are_read_across_row_groups(tmp_path):
    questions = write_questions(tmp_path / "q.parquet", 333)
    source = Source.of(tmp_path / "q.parquet")
    read = [source.read(part) for part in range(source.parts)]
    assert sum(read, []) == questions and {len(part) for part in read[:-1]} == {ROWS}


def test_what_is_no_file_of_questions_is_said(tmp_path):
    pq.write_table(pa.table({"a": ["x"], "n": [1]}), tmp_path / "two.parquet")
    pq.write_table(pa.table({"question": pa.array([], pa.string())}), tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("Who won?\n")
    for name, column, said in (
        ("two", None, "has columns a, n: name one with --question"),
        ("two", "n", "column n of .* is int64, not text"),
        ("none", None, "has no rows"),
        ("text", None, "is no Parquet file"),
    ):
        with pytest.raises(ValueError, match=said):
            Source.of(tmp_path / f"{name}.parquet", column)


@pytest.mark.parametrize("taken", [{"workers": 0}, {"cpus": 0}, {"gpus": -1}])
def test_workers_that_cannot_be_are_refused(tmp_path, taken):
    write_questions(tmp_path / "q.parquet", 20)
    with pytest.raises(ValueError, match="workers must be 1 or more"):
        answer_file(Source.of(tmp_path / "q.parquet"), tmp_path / "out", None, SAID, **taken)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_killed_worker_and_a_second_start(tmp_path):
    """The first worker kills itself in the middle of its second part: as if nothing had been."""
    questions = write_questions(tmp_path / "q.parquet", 5 * ROWS + 7)
    log, killed = tmp_path / "log", tmp_path / "killed"

    def load():
        plain = backwards(log)()
        calls = []

        def answer(questions):
            calls.append(1)
            if len(calls) == 2 and not killed.exists():
                killed.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return plain(questions)

        return answer

    source = Source.of(tmp_path / "q.parquet")
    answer_file(source, tmp_path / "out", load, SAID, workers=1)
    assert killed.exists()
    check_whole(tmp_path / "out", questions)
    assert len({line.split()[0] for line in log.read_text().splitlines()}) == 2  # processes
    calls = log.read_text()
    again = answer_file(source, tmp_path / "out", load, SAID)
    assert again["answered"] == 0 and log.read_text() == calls
    part_of(tmp_path / "out", 3).unlink()
    assert answer_file(source, tmp_path / "out", load, SAID)["answered"] == ROWS
    check_whole(tmp_path / "out", questions)
    with pytest.raises(ValueError, match="has answers with trio 'upside down', not 'another'"):
        answer_file(source, tmp_path / "out", load, {"trio": "another"})
    write_questions(tmp_path / "q.parquet", 19)
    with pytest.raises(ValueError, match="has answers with"):
        answer_file(Source.of(tmp_path / "q.parquet"), tmp_path / "out", load, SAID)


DRIVER = """
import sys; sys.path.insert(0, {tests!r})
from test_bulk import SAID, Source, answer_file, backwards
answer_file(Source.of({source!r}), {output!r}, backwards({log!r}, 0.5), SAID, workers=1)
"""


@pytest.mark.slow
def test_a_killed_driver_goes_on_where_it_was(tmp_path):
    questions = write_questions(tmp_path / "q.parquet", 8 * ROWS)
    output, log = tmp_path / "out", tmp_path / "log"
    code = DRIVER.format(
        tests=os.path.dirname(__file__),
        source=str(tmp_path / "q.parquet"),
        output=str(output),
        log=str(log),
    )
    driver = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    deadline = time.monotonic() + 120
    while len(list(output.glob("part-*.parquet"))) < 3:
        assert driver.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    time.sleep(3)  # its workers end with it
    before = {path: path.stat().st_mtime_ns for path in output.glob("part-*.parquet")}
    assert 3 <= len(before) < 8
    rest = answer_file(Source.of(tmp_path / "q.parquet"), output, backwards(log), SAID, workers=1)
    assert rest["answered"] == (8 - len(before)) * ROWS
    check_whole(output, questions)
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())


def listening(pid):
    """The addresses on which a process and those that it started listen."""
    found = set()
    with contextlib.suppress(psutil.Error):
        for process in (it := psutil.Process(pid), *it.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                found |= {
                    socket.laddr.ip.removeprefix("::ffff:")
                    for socket in process.net_connections()
                    if socket.status == psutil.CONN_LISTEN
                }
    return found


def test_the_command_answers_as_one_machine_does(tmp_path):
    """Two workers with pocket: the texts of `answer` without workers."""
    from conftest import pocket

    from proxy_tuning import load_family
    from proxy_tuning.answering import greedy_answers

    pocket()
    questions = [
        "Who led the polls in Pennsylvania in October 2024?",
        "What did Trump poll at in Georgia in August 2024?",
        "Who led the polls in Ohio in May 2016?",
    ]
    pd.DataFrame({"question": questions}).to_parquet(tmp_path / "q.parquet")
    command = [sys.executable, "-m", "proxy_tuning", "answer", "--family", "pocket", "--file"]
    command += [tmp_path / "q.parquet", "--output", tmp_path / "out", "--workers", "2"]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    heard = set()
    while running.poll() is None:
        heard |= listening(running.pid)
        time.sleep(0.2)
    assert running.returncode == 0, running.stderr.read()
    assert heard and all(ipaddress.ip_address(address).is_loopback for address in heard), heard
    model, tokenizer = load_family("pocket")
    assert all_rows(tmp_path / "out")["answer"].tolist() == greedy_answers(
        model, tokenizer, questions
    )
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["family"] == "pocket" and manifest["complete"]
    refused = subprocess.run([*command, "--alpha", "0.5"], capture_output=True, text=True)
    assert refused.returncode == 2 and "has answers with alpha 1.0, not 0.5" in refused.stderr


def test_a_question_that_is_refused_has_no_answer_and_spoils_no_other(tmp_path):
    path = tmp_path / "questions.parquet"
    questions = write_questions(path, 20)

    def load():
        def answer(batch):
            if any("number 7" in question for question in batch):
                raise ValueError("a prompt of 2000 tokens leaves no room")
            return [question[::-1] for question in batch]

        return answer

    worker = Worker(Source.of(path, "question"), str(tmp_path / "out"), load)
    assert worker.write(0) == 20
    answers = all_rows(tmp_path / "out")["answer"]
    assert answers.isna().tolist() == [i in (7, 10, 11) for i in range(20)]
    assert answers[6] == questions[6][::-1]
