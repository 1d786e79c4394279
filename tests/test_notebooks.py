"""Every notebook of the repository runs top to bottom, and is committed in a clean state."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from test_smollm import packaged

from proxy_tuning import notebooks

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((path.name for path in ROOT.glob("*.ipynb")), reverse=True)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_committed_state(name):
    notebook = json.loads((ROOT / name).read_text())
    codes = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in codes] == list(range(1, len(codes) + 1))
    assert not notebook["metadata"].get("widgets")
    text = json.dumps([cell["outputs"] for cell in codes])
    assert "<iframe" not in text and '"error"' not in text
    for cell in codes:
        assert len("".join(cell["source"]).splitlines()) <= 25


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the tracked files, so that running a notebook changes nothing here."""
    copy = tmp_path_factory.mktemp("checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    for name in listed.stdout.decode().split("\0")[:-1]:
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.mark.parametrize(
    ("name", "family"),
    [
        *((name, "pocket") for name in NOTEBOOKS),
        pytest.param("demo.ipynb", "smollm", marks=packaged),
    ],
)
def test_runs_top_to_bottom(name, family, checkout, monkeypatch):
    monkeypatch.setenv("FAMILY", family)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = notebooks.run(checkout / name)
    outputs = [output for cell in done.cells for output in cell.get("outputs", [])]
    assert outputs and not any(output.output_type == "error" for output in outputs)
    for data in (output.get("data", {}) for output in outputs):
        assert "image/png" in data or " Axes>" not in data.get("text/plain", "")  # figures are seen
