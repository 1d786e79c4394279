"""Where things are kept, how a file is written whole or not at all, and what a figure was made on."""

import contextlib
import hashlib
import json
import os
import platform
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
import transformers
from filelock import FileLock, Timeout
from safetensors import SafetensorError

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
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


@contextlib.contextmanager
def claimed(folder: str | os.PathLike, wait: bool = False) -> Iterator[None]:
    """Hold a folder, there or not, against all other processes; ends with this one at the latest.

    The folder's own folder is made where it does not exist.

    Args:
        folder: may be claimed again by the thread that holds it.
        wait: whether to wait until another process has let go of it.

    Raises:
        OSError: another process holds it, or nothing can be written beside it.
    """
    place = Path(folder).absolute()
    place.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{place}.lock", is_singleton=True)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        raise OSError(
            f"{folder} is being written by another process: wait for it, or name another folder"
        ) from None
    try:
        yield
    finally:
        if lock.lock_counter == 1:  # who waits for the file that goes sees it, and makes a new one
            with contextlib.suppress(OSError):
                os.unlink(lock.lock_file)
        lock.release()


@contextlib.contextmanager
def replaced_folder(folder: str | os.PathLike) -> Iterator[Path]:
    """An empty folder beside `folder`, put in its place when all went well; never half of it.

    Waits while another process replaces the same folder. What was killed between taking the old
    one away and putting the new one there is made good by `settle`.

    Raises:
        OSError: it cannot be written.
    """
    with claimed(folder, wait=True):
        settle(folder)
        folder, beside, old = places(folder)
        for leftover in (beside, old):
            shutil.rmtree(leftover, ignore_errors=True)
        beside.mkdir(parents=True)
        try:
            yield beside
            if folder.exists():
                os.replace(folder, old)
            os.replace(beside, folder)
        except SafetensorError as error:
            raise OSError(f"{folder} cannot be written: {error}") from error
        finally:
            if old.exists() and not folder.exists():
                os.replace(old, folder)
            for leftover in (beside, old):
                shutil.rmtree(leftover, ignore_errors=True)


def settle(folder: str | os.PathLike) -> None:
    """Put a folder in its place where `replaced_folder` was killed when none was there.

    The new one is whole by then, and takes it; nothing is done while a process replaces it.
    """
    folder, beside, old = places(folder)
    if folder.exists() or not old.exists():
        return
    with contextlib.suppress(OSError), claimed(folder):
        if not folder.exists() and old.exists():
            os.replace(beside if beside.exists() else old, folder)


def places(folder: str | os.PathLike) -> tuple[Path, Path, Path]:
    """A folder, where its successor is written, and where its predecessor waits for that."""
    place = Path(folder).absolute()  # "." has no name
    return Path(folder), Path(f"{place}.part"), Path(f"{place}.old")


def write_json(path: str | os.PathLike, content) -> None:
    """Write a JSON file as those in results/, whole or not at all."""
    with written_beside(path) as beside:
        beside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def fingerprint(*things) -> str:
    """SHA-256 over JSON-able things: which data, which templates, which recipe."""
    return hashlib.sha256(json.dumps(things, sort_keys=True, default=str).encode()).hexdigest()


def file_hash(path: str | os.PathLike) -> str:
    """SHA-256 of a file's content, read now."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def read_csv(path):
    """A CSV file with a line of column names: a DataFrame of text, so that 007 stays 007.

    Cells that a row lacks at its end are empty.
    Raises ValueError, in one line with the path, where it is not UTF-8 text, not CSV, or has rows of
    more cells than there are names.
    """
    import pandas as pd  # only where it is used: it is slow to import

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header
            frame = pd.read_csv(
                path, dtype=str, keep_default_na=False, index_col=False, encoding="utf-8-sig"
            )
    except UnicodeDecodeError as error:
        raise not_utf8(path, error) from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        said = " ".join(str(error).split())
        raise ValueError(f"{path} cannot be read as CSV: {said}") from None
    except pd.errors.ParserWarning:
        raise ValueError(f"{path} has rows of more cells than its first line names") from None
    return frame.fillna("")


def not_utf8(path, error):
    """What to say of a file in another encoding, or of one that is no text at all."""
    return ValueError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8 first")
