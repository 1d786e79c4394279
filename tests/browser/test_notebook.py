"""demo.ipynb in a real JupyterLab: run all cells, then use the widget inside the notebook."""

import os
import shutil
import socket
import subprocess
import sys
import time

import httpx
import pytest
from browser.conftest import OFFLINE, PATIENCE, ROOT

NOTEBOOK = ROOT / "demo.ipynb"


@pytest.fixture
def jupyterlab(tmp_path):
    """The address of a JupyterLab on a folder that holds a copy of the notebook."""
    pytest.importorskip("jupyterlab", reason="JupyterLab is not installed")
    if not NOTEBOOK.exists():
        pytest.skip("no demo.ipynb")
    shutil.copy(NOTEBOOK, tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "jupyterlab",
            "--no-browser",
            "--expose-app-in-browser",
            "--allow-root",
            "--ip=127.0.0.1",
            f"--port={port}",
            "--IdentityProvider.token=",
            f"--ServerApp.root_dir={tmp_path}",
        ],
        env=os.environ | OFFLINE | {"PYTHONPATH": str(ROOT), "FAMILY": "pocket"},
    )
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(PATIENCE // 1000):
            try:
                httpx.get(f"{address}/lab")
                break
            except httpx.TransportError:
                time.sleep(1)
        yield address
    finally:
        server.terminate()
        server.wait(30)


@pytest.mark.slow
def test_the_widget_inside_the_notebook(chromium, jupyterlab):
    context = chromium.new_context(viewport={"width": 1280, "height": 1400})
    page = context.new_page()
    page.set_default_timeout(4 * PATIENCE)
    page.goto(f"{jupyterlab}/lab/tree/{NOTEBOOK.name}")
    page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    page.wait_for_function(
        "window.jupyterapp.shell.currentWidget?.context?.sessionContext?.isReady"
    )
    page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
    widget = page.frame_locator("iframe[src^='http://127.0.0.1']")
    widget.locator("#pt-question textarea").fill("Who won Ohio in 2020?")
    widget.locator("#pt-ask").click()
    widget.locator("#pt-status >> text=Three answers in").wait_for()
    assert "Votes, 2020" in widget.locator("#pt-facts").inner_text()
    assert widget.locator("#pt-why [data-token]").count() > 0
    context.close()
