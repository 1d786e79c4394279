"""Exports to ONNX that are killed, run twice at once, or meet a full disk."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import tiny_model
from safetensors import SafetensorError
from test_moments import killed_at

from proxy_tuning.engines.onnx_runtime import find_export, make_export


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Where exports are kept, a folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "proxy_tuning" / "engines"


@pytest.fixture
def quick(tmp_path, monkeypatch):
    """An exporter that takes no time; a file with a line per graph that it made."""
    made = tmp_path / "made"
    made.touch()

    def run(command, **kwargs):
        with made.open("a") as file:
            file.write(f"{command[3]}\n")
        time.sleep(0.2)
        for name in (command[-1], f"{command[-1]}.data"):
            Path(name).write_text("a graph")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    return made


def names(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def wait_for(condition, seconds=60):
    """What a condition gives as soon as it gives something."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
    return found


def children_of(process):
    return Path(f"/proc/{process}/task/{process}/children").read_text().split()


def is_alive(process):
    """Whether a process runs; a zombie, which nobody has asked after, does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks for processes in /proc")
def test_a_killed_export_leaves_nothing_that_stays(cache, monkeypatch, quick):
    """Its child ends with it, and the next export removes what lies about."""
    model = tiny_model("gpt2", 1)
    stub = subprocess.run
    monkeypatch.undo()  # the real exporter
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache.parents[1]))
    parent = os.fork()
    if parent == 0:
        make_export(model)
        os._exit(0)
    (exporter,) = wait_for(lambda: children_of(parent))
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    assert is_alive(exporter), "killed while it exports"
    assert [name for name in names(cache) if name.startswith("unfinished-")]
    wait_for(lambda: not is_alive(exporter))
    assert not list(cache.glob("unfinished-*/model.onnx")), "it went on to its end"
    assert find_export(model) is None
    monkeypatch.setattr(subprocess, "run", stub)
    graph = make_export(model)
    assert names(cache) == [graph.parent.name] and find_export(model) == graph


def test_kills_at_every_write_leave_an_export_or_none(cache, quick, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    model = tiny_model("gpt2", 1)
    number, status, halves = 0, None, 0
    while status != 0:
        number += 1
        status = killed_at(number, cache, lambda: make_export(model))
        assert status in (0, -signal.SIGKILL)
        halves += any(name.startswith("unfinished-") for name in names(cache))
        assert (find_export(model) is not None) or status != 0
        graph = make_export(model)
        assert names(cache) == [graph.parent.name] and find_export(model) == graph
        (graph.parent / "export.json").unlink()
    assert halves > 5


def test_two_at_once_export_once(cache, quick):
    model = tiny_model("gpt2", 1)
    first = os.fork()
    if first == 0:
        make_export(model)
        os._exit(0)
    wait_for(lambda: quick.read_text())
    make_export(model)
    assert os.waitpid(first, 0)[1] == 0
    assert quick.read_text() == "float32\n" and len(names(cache)) == 1


def test_a_manifest_of_brackets_is_not_trusted(cache, quick):
    model = tiny_model("gpt2", 1)
    graph = make_export(model)
    (graph.parent / "export.json").write_text("[" * 100_000)
    assert find_export(model) is None
    assert make_export(model) == find_export(model) == graph


def test_a_full_disk(cache, quick, monkeypatch):
    model = tiny_model("gpt2", 1)

    def full(*args, **kwargs):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr(type(model), "save_pretrained", full)
        with pytest.raises(OSError, match="cannot be written: I/O error: No space left"):
            make_export(model)
    assert names(cache) == [] and find_export(model) is None


def test_an_exporter_that_fails_is_one_line(cache, monkeypatch):
    said = (
        "Traceback (most recent call last):\n  ...\nOSError: [Errno 28] No space left on device\n"
    )
    monkeypatch.setattr(
        subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1, "", said)
    )
    with pytest.raises(OSError, match="export to ONNX failed: OSError: .* No space left") as raised:
        make_export(tiny_model("gpt2", 1))
    assert "\n" not in str(raised.value) and names(cache) == []


def test_a_lock_that_cannot_be_had_is_no_obstacle(cache, quick, capsys):
    """A cache that cannot be written: the export is kept for this process alone."""
    cache.parent.parent.mkdir(exist_ok=True)
    cache.parent.write_text("a file where the folder should be")
    graph = make_export(tiny_model("gpt2", 1))
    assert graph.is_file() and "cannot be kept" in capsys.readouterr().out
