"""Where things are kept, how a file is written whole or not at all, and what a figure was made on."""

import contextlib
import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
import transformers

ROOT = Path(__file__).parents[1]
DATA = ROOT / "data"
"""The fact tables."""
TUNED = ROOT / "fine_tuned_model"
"""Where fine-tuning leaves M+, one folder per family."""
RESULTS = ROOT / "results"
WORK = ROOT / ".work"
"""Checkpoints and other by-products, ignored by git."""


@contextlib.contextmanager
def written_beside(path: str | os.PathLike) -> Iterator[Path]:
    """A place beside `path` to write to, renamed to it when all went well: whole or not there.

    The folder of `path` is made where it does not exist.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.part")
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


@contextlib.contextmanager
def replaced_folder(folder: str | os.PathLike) -> Iterator[Path]:
    """An empty folder beside `folder`, put in its place when all went well; never half of it."""
    folder = Path(folder)
    beside, old = (folder.with_name(f"{folder.name}.{end}") for end in ("part", "old"))
    for leftover in (beside, old):
        shutil.rmtree(leftover, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        yield beside
        if folder.exists():
            os.replace(folder, old)
        os.replace(beside, folder)
    finally:
        for leftover in (beside, old):
            shutil.rmtree(leftover, ignore_errors=True)


def write_json(path: str | os.PathLike, content) -> None:
    """Write a JSON file as those in results/, whole or not at all."""
    with written_beside(path) as beside:
        beside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def fingerprint(*things) -> str:
    """SHA-256 over JSON-able things: which data, which templates, which recipe."""
    return hashlib.sha256(json.dumps(things, sort_keys=True, default=str).encode()).hexdigest()


def machine() -> dict[str, str | int | None]:
    """What a published figure was measured on and with."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "platform": platform.machine(),
        "cpus": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
