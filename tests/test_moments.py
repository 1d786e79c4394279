"""Nothing is lost at any moment: kills at every write, two runs at once, a full or read-only disk."""

import dataclasses
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch
from conftest import LINES, letter_tokenizer, save_part, tiny_model
from safetensors import SafetensorError
from safetensors.torch import load_file
from test_finetune import QUICK, family, tokenizer  # noqa: F401  fixtures
from transformers import Trainer

from proxy_tuning import ProxyTunedForCausalLM
from proxy_tuning.families import load_part, missing_files
from proxy_tuning.records import claimed, replaced_folder, settle
from proxy_tuning.training import finetune as ft

MADE_FROM = {"antiexpert": "M-", "questions": 1, "recipe": {"lora": None}}
WRITES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "os.truncate"}
"""Python's audit events that change a file system, with "open" for writing."""


def content(folder):
    """{relative path: bytes} of all files below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }


def in_a_child(act):
    """Run a function in a forked process; its exit status, negative for the signal that ended it."""
    child = os.fork()
    if child == 0:
        try:
            act()
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_at(number, below, act):
    """Run a function in a child that kills itself before its `number`th write below a folder."""
    seen = 0

    def kill(event, args):
        nonlocal seen
        writes = event in WRITES or event == "open" and isinstance(args[2], int) and args[2] & 3
        if writes and str(args[0]).startswith(str(below)):
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

    def watched():
        sys.addaudithook(kill)
        act()

    return in_a_child(watched)


def m_plus(seed):
    """What saves a tiny M+ as fine-tuning does, into a folder."""
    entry = {"step": 1, "eval_loss": 1.0, "eval_exact": 0.5}

    def save(folder):
        made = tiny_model("gpt2", seed), letter_tokenizer(), MADE_FROM, [seed], entry
        ft.save(folder, *made, [f"Answer {seed}."])

    return save


@pytest.mark.parametrize("earlier", [True, False])
def test_kills_at_every_write_leave_a_whole_m_plus(tmp_path, earlier):
    """The old one or the new one to the byte, or nothing where nothing was; never half."""
    m_plus(1)(tmp_path / "one")
    m_plus(2)(tmp_path / "two")
    whole = {name: content(tmp_path / name) for name in ("one", "two")}
    assert whole["one"] != whole["two"]
    found, number = [], 0
    while not found or found[-1] != "ended":
        number += 1
        room = tmp_path / f"kill {number}"
        folder = room / "expert"
        if earlier:
            m_plus(1)(folder)
        status = killed_at(number, room, lambda folder=folder: m_plus(2)(folder))
        assert status in (0, -signal.SIGKILL)
        missing = missing_files(folder)  # as every command looks, first of all
        left = content(folder) if folder.exists() else {}
        state = next((name for name, files in whole.items() if left == files), "nothing")
        assert state != "nothing" or not earlier and left == {}, (number, sorted(left))
        assert bool(missing) == (state == "nothing")
        if not missing:
            load_part(folder)
        found.append("ended" if status == 0 else state)
        m_plus(2)(folder)  # and what is left keeps nobody from the next one
        assert content(folder) == whole["two"] and os.listdir(room) == ["expert"]
    states = found[:-1]
    assert states == sorted(states, key=["nothing", "one", "two"].index) and len(states) > 10
    assert states[0] == ("one" if earlier else "nothing") and states[-1] == "two"


def test_between_the_two_renames_the_new_one_takes_its_place(tmp_path):
    """Old and new are both whole then, and neither is where it belongs."""
    folder = tmp_path / "expert"
    for ending, text in ((".old", "old"), (".part", "new")):
        (tmp_path / f"expert{ending}").mkdir()
        (tmp_path / f"expert{ending}" / "file").write_text(text)
    settle(folder)
    assert (folder / "file").read_text() == "new"
    with replaced_folder(folder) as beside:
        (beside / "file").write_text("newer")
    assert (folder / "file").read_text() == "newer" and os.listdir(tmp_path) == ["expert"]


def test_an_old_one_alone_is_put_back(tmp_path):
    (tmp_path / "expert.old").mkdir()
    settle(tmp_path / "expert")
    assert os.listdir(tmp_path) == ["expert"]


def test_a_second_rename_that_fails_puts_the_old_one_back(tmp_path, monkeypatch):
    folder = tmp_path / "expert"
    m_plus(1)(folder)
    before, replace = content(folder), os.replace

    def fail(source, target):
        if str(source).endswith(".part"):
            raise OSError("no space left")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        m_plus(2)(folder)
    assert content(folder) == before and os.listdir(tmp_path) == ["expert"]


def test_nothing_is_settled_while_somebody_writes(tmp_path):
    """A reader that looks between the renames of a writer who lives leaves both to him."""
    folder = tmp_path / "expert"
    for ending in (".old", ".part"):
        (tmp_path / f"expert{ending}").mkdir()
    with claimed(folder):
        assert in_a_child(lambda: settle(folder)) == 0
        assert not folder.exists()
    settle(folder)
    assert folder.exists()


def test_a_full_disk_while_weights_are_written(tmp_path):
    folder = tmp_path / "expert"
    m_plus(1)(folder)
    before = content(folder)
    with pytest.raises(OSError, match="expert cannot be written: I/O error: no space") as raised:
        with replaced_folder(folder):
            raise SafetensorError("I/O error: no space left on device")
    assert "\n" not in str(raised.value) and content(folder) == before


def test_two_hold_a_folder_one_after_the_other(tmp_path):
    with claimed(tmp_path / "folder"), claimed(tmp_path / "folder"):  # the same thread, again
        assert in_a_child(lambda: claimed(tmp_path / "folder").__enter__()) == 1
        assert in_a_child(lambda: claimed(tmp_path / "other").__enter__()) == 0
    assert in_a_child(lambda: claimed(tmp_path / "folder").__enter__()) == 0


@pytest.fixture
def lives():
    """Holds a folder in another process, which dies when the test ends or it is killed."""
    children = []

    def hold(folder):
        reads, writes = os.pipe()
        children.append(os.fork())
        if children[-1] == 0:
            with claimed(folder):
                os.write(writes, b"!")
                time.sleep(300)
            os._exit(0)
        os.read(reads, 1)
        return children[-1]

    yield hold
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def no_training(*args, **kwargs):
    raise AssertionError("this must be known before a model is loaded")


def test_a_second_training_into_one_folder_is_refused(family, tmp_path, lives, monkeypatch):  # noqa: F811
    lives(family.expert)
    with monkeypatch.context() as patch:
        patch.setattr(ft, "load_part", no_training)
        with pytest.raises(OSError, match="tiny is being written by another process"):
            ft.finetune("tiny", QUICK)


def test_a_second_training_of_one_recipe_is_refused(family, tmp_path, lives, monkeypatch):  # noqa: F811
    """Into another folder; its checkpoints would be the first one's."""
    works = []

    def keep(*args):
        works.append(args[6])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ft, "make_trainer", keep)
        with pytest.raises(KeyboardInterrupt):
            ft.finetune("tiny", QUICK)
    lives(works[0])
    with pytest.raises(OSError, match="finetune-.* is being written by another process"):
        ft.finetune("tiny", QUICK, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_training_that_was_killed_holds_nothing(family, lives):  # noqa: F811
    os.kill(lives(family.expert), signal.SIGKILL)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            with claimed(family.expert):
                return
        except OSError:
            time.sleep(0.05)
    pytest.fail("the dead still hold the folder")


@pytest.mark.parametrize("what", ["file", "other things", "last"])
def test_an_output_that_cannot_be_is_refused_before_training(family, tmp_path, what, monkeypatch):  # noqa: F811
    monkeypatch.setattr(ft, "load_part", no_training)
    place = tmp_path / "mine"
    if what == "file":
        place.write_text("a letter")
    else:
        place = tmp_path / "mine-last" if what == "last" else place
        place.mkdir()
        (place / "letter").write_text("a letter")
    with pytest.raises(ValueError, match="is a file" if what == "file" else "would be lost"):
        ft.finetune("tiny", QUICK, tmp_path / "mine")
    assert (place if what == "file" else place / "letter").read_text() == "a letter"


NOBODY = 65534


@pytest.fixture
def open_room():
    """A folder that everybody may write to, as /tmp is; with what is in it."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        yield Path(folder)


def as_nobody(act):
    """Run a function in a child that is not root."""

    def run():
        if os.getuid() == 0:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        act()

    return in_a_child(run)


def test_a_read_only_place_is_known_before_training(open_room, monkeypatch, capfd):
    save_part(open_room / "antiexpert", "gpt2", 0, LINES, positions=320)
    (open_room / "locked").mkdir()
    (open_room / "locked").chmod(0o555)
    monkeypatch.setattr(ft, "load_part", no_training)
    own = {"antiexpert": str(open_room / "antiexpert")}
    tune = dataclasses.replace(QUICK, max_facts=4)
    status = as_nobody(lambda: ft.finetune("tiny", tune, open_room / "locked" / "mine", **own))
    said = capfd.readouterr().err
    assert status == 1 and said.startswith("PermissionError") and "locked" in said
    assert os.listdir(open_room / "locked") == []


def test_models_are_read_from_read_only_folders(open_room):
    folder = Path(save_part(open_room / "model", "gpt2", 0))
    (folder / "training.json").write_text("{}")
    for file in folder.iterdir():
        file.chmod(0o444)
    folder.chmod(0o555)
    open_room.chmod(0o555)

    def read():
        assert missing_files(folder) == []
        load_part(folder)

    assert as_nobody(read) == 0
    open_room.chmod(0o777)


def test_a_record_of_brackets_is_no_record(tmp_path):
    save_part(tmp_path / "expert", "gpt2", 0)
    (tmp_path / "expert" / "training.json").write_text("[" * 100_000)
    assert missing_files(tmp_path / "expert") == ["training.json"]


def test_kills_at_every_write_leave_no_mixed_trio(tmp_path, prompt):
    """A trio written over another one: the old, the new, or none that can be loaded."""
    trios = {
        name: ProxyTunedForCausalLM(*(tiny_model("gpt2", seed + i) for i in range(3)))
        for name, seed in {"one": 1, "two": 4}.items()
    }
    logits = {name: trio(prompt).logits for name, trio in trios.items()}
    found, number = [], 0
    while not found or found[-1] != "ended":
        number += 1
        folder = tmp_path / f"trio {number}"
        trios["one"].save_pretrained(folder)
        status = killed_at(
            number, folder, lambda folder=folder: trios["two"].save_pretrained(folder)
        )
        try:
            loaded = ProxyTunedForCausalLM.from_pretrained(folder)(prompt).logits
            state = next(name for name, known in logits.items() if torch.equal(known, loaded))
        except (OSError, ValueError):
            state = "none"
        found.append("ended" if status == 0 else state)
    assert {"one", "none"} <= set(found) and found[0] == "one"
    assert found[:-1] == sorted(found[:-1], key=["one", "none", "two"].index)


@pytest.mark.parametrize("room", [0, 100, 1_000, 10_000, 50_000])
def test_no_room_for_a_file_of_m_plus(tmp_path, capfd, room):
    """Files can have so many bytes: configuration, weights, tokenizer or record do not fit."""
    folder = tmp_path / "expert"
    m_plus(1)(folder)
    before = content(folder)
    assert max(map(len, before.values())) > 50_000

    def save():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        try:
            m_plus(2)(folder)
        except OSError as error:
            assert "\n" not in str(error)
            os._exit(7)

    assert in_a_child(save) == 7, capfd.readouterr().err
    assert content(folder) == before and os.listdir(tmp_path) == ["expert"]


def test_a_checkpoint_that_broke_off_is_not_gone_on_from(family, monkeypatch, capsys):  # noqa: F811
    """The one before it is; and what comes out is what a run without a break gives."""
    step = Trainer.training_step

    def interrupted(self, *args, **kwargs):
        if self.state.global_step >= 9:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    longer = dataclasses.replace(QUICK, epochs=2)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "training_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ft.finetune("tiny", longer)
    (work,) = (path for path in ft.WORK.iterdir() if path.is_dir())
    older, newer = sorted(work.glob("checkpoint-*"), key=lambda path: int(path.name[11:]))
    files = sorted(newer.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert files[-1].name == "trainer_state.json", "written last: who has it is whole"
    files[-1].write_text(files[-1].read_text()[:100])
    capsys.readouterr()
    ft.finetune("tiny", longer)
    assert f"Going on from {older.name} of" in capsys.readouterr().out
    broken = load_file(f"{family.expert}/model.safetensors")
    shutil.rmtree(family.expert)
    ft.finetune("tiny", longer)
    for name, weight in load_file(f"{family.expert}/model.safetensors").items():
        torch.testing.assert_close(broken[name], weight, rtol=0, atol=1e-3)


def test_the_newest_whole_checkpoint(tmp_path):
    assert ft.last_whole_checkpoint(tmp_path / "nowhere") is None
    states = {3: "{}", 20: '{"step": 20}', 100: '{"step"', 101: None}
    for step, state in states.items():
        (tmp_path / f"checkpoint-{step}").mkdir()
        if state is not None:
            (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    assert ft.last_whole_checkpoint(tmp_path) == str(tmp_path / "checkpoint-20")
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-20", "checkpoint-3"]
