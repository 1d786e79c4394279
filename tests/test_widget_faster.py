"""ONNX Runtime takes over from torch behind a page that answers."""

import pytest
from conftest import letter_tokenizer, tiny_model
from stand_in import POLLS, QUESTION

from proxy_tuning import ProxyTunedForCausalLM
from proxy_tuning.engines.onnx_runtime import OnnxCausalLM
from proxy_tuning.widget import faster, page
from proxy_tuning.widget.desk import Desk


def new_desk():
    """A random trio of two different models, so that two are to be exported."""
    base, expert = tiny_model("gpt2", 1), tiny_model("gpt2", 2)
    model = ProxyTunedForCausalLM(base, expert, tiny_model("gpt2", 1))
    return Desk(model, letter_tokenizer(), "stand-in", POLLS)


def test_the_same_answers_before_while_and_after(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    desk = new_desk()
    model = desk.model
    sizes = [page.millions(part) for part in (model.base, model.antiexpert)]
    before = desk.ask(QUESTION, length=12)
    begun = desk.page_sweep(QUESTION, 12, False)
    next(begun)
    faster.take_over(desk)
    assert "ONNX Runtime answers from now on" in capsys.readouterr().out
    parts = [getattr(desk.model, name) for name in desk.model.part_names]
    assert all(isinstance(part, OnnxCausalLM) for part in parts)
    *_, swept = begun  # a sweep that had begun ends with torch's models
    *_, again = desk.page_sweep(QUESTION, 12, False)
    assert swept == again
    after = desk.ask(QUESTION, length=12)
    for name in ("base", "expert", "steered", "asked_as"):
        assert after[name] == before[name]
    assert [page.millions(part) for part in (parts[0], parts[2])] == sizes
    assert not any(isinstance(getattr(model, name), OnnxCausalLM) for name in model.part_names)
    faster.take_over(desk)  # there already
    assert capsys.readouterr().out == ""


def test_torch_goes_on_where_nothing_can_be_exported(monkeypatch, capsys):
    desk = new_desk()
    model = desk.model

    def full(model):
        raise OSError("no space left")

    monkeypatch.setattr(faster, "on_onnx_runtime", full)
    faster.take_over(desk)
    assert desk.model is model
    assert capsys.readouterr().out == "torch goes on answering: no space left\n"
    monkeypatch.setattr(faster, "on_onnx_runtime", lambda model: pytest.fail("nobody asked"))
    monkeypatch.setattr(faster, "LARGEST", 10_000)
    faster.take_over(desk)
    monkeypatch.undo()
    monkeypatch.setattr(faster, "on_onnx_runtime", lambda model: pytest.fail("cannot run this"))
    model.base.bfloat16()
    faster.take_over(desk)
    assert desk.model is model
