"""Run a notebook top to bottom: `python -m proxy_tuning.notebooks NOTEBOOK [--save]`.

Prints each cell's first line as it starts. With --save the outputs are written back into the
notebook, without widget state and with a screenshot where the widget's frame would be dead.
"""

import argparse
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from proxy_tuning.records import written_beside

SCREENSHOT = "docs/images/widget-wide.png"


def run(path, timeout=3600):
    """Execute a notebook in its own folder; returns it with outputs. A failing cell raises."""
    path = Path(path)
    notebook = nbformat.read(path, as_version=4)
    codes = [i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    start = time.perf_counter()

    def say(cell, cell_index):
        if cell_index in codes:
            first = next(iter(cell.source.splitlines()), "")
            seconds = time.perf_counter() - start
            print(
                f"{path.name} [{codes.index(cell_index) + 1}/{len(codes)}] {seconds:4.0f} s  "
                f"{first}",
                flush=True,
            )

    NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent.resolve())}},
        on_cell_start=say,
    ).execute()
    print(f"{path.name} ran in {time.perf_counter() - start:.0f} s", flush=True)
    return notebook


def tidy(notebook):
    """Drop what a committed notebook should not keep: widget state, dead frames, bars."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
            if "<iframe" in output.get("data", {}).get("text/html", ""):
                output.data = {
                    "text/html": f'<img src="{SCREENSHOT}" alt="The widget: a question, the answers '
                    'of M, M+ and the proxy-tuned M, and the figures of the fact table" width="900">'
                }
        if "outputs" in cell:
            cell.outputs = [
                o
                for o in cell.outputs
                if o.output_type != "display_data" or o.get("data")
                if o.get("name") != "stderr"
            ]
    return notebook


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--save", action="store_true", help="write the outputs back")
    options = parser.parse_args()
    done = run(options.notebook)
    if options.save:
        with written_beside(options.notebook) as beside:
            nbformat.write(tidy(done), beside)
