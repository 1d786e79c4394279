"""A real browser in front of `python -m proxy_tuning demo`.

pytest tests/browser                              the browser pass alone
pytest tests/browser -k screenshots --screenshots docs/images --shown smollm    the README's pictures
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from proxy_tuning.families import FAMILIES, missing_files

ROOT = Path(__file__).parents[2]
OFFLINE = {"HF_HUB_OFFLINE": "1"}
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 120_000
"""Milliseconds until something that should appear counts as missing; busy machines are slow."""


def pytest_addoption(parser):
    parser.addoption("--screenshots", type=Path, help="folder for the pictures of the README")
    parser.addoption("--shown", default="pocket", help="the family of the widget")


@pytest.fixture(scope="session")
def chromium():
    """A running browser; tests without one are skipped."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    with sync_api.sync_playwright() as playwright:
        if found is None and not Path(playwright.chromium.executable_path).exists():
            pytest.skip("no Chromium here: apt-get install chromium, or playwright install")
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def address(request):
    """Where `python -m proxy_tuning demo` serves the family, once it says so."""
    family = request.config.getoption("--shown", "pocket")
    if missing := missing_files(FAMILIES[family].expert):
        pytest.skip(f"the {family} M+ is not complete: no {', '.join(missing)}")
    server = subprocess.Popen(
        [
            sys.executable,
            "-u",
            "-m",
            "proxy_tuning",
            "demo",
            "--family",
            family,
            "--engine",
            "torch",
        ],
        cwd=ROOT,
        env=os.environ | OFFLINE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        said = []
        for line in server.stdout:
            said.append(line)
            if found := re.search(r"http://[\d.]+:\d+", line):
                break
        else:
            pytest.fail(f"the demo ended early: {said}")
        yield found[0]
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture(scope="session")
def axe():
    """The source of axe-core."""
    bundled = pytest.importorskip("axe_playwright_python.base", reason="no axe-core installed")
    return bundled.AXE_SCRIPT


@pytest.fixture
def open_page(chromium, address):
    """A function that opens the widget: (width, dark, height, query) -> page.

    query: what follows the address. Nothing may come from elsewhere.

    Afterwards no page may have asked for anything but the server, or logged an error.
    """
    contexts, outside, errors = [], [], []

    def watch(request):
        if not request.url.startswith((address, "data:", "blob:")):
            outside.append(request.url)

    def opened(width=1280, dark=False, height=900, query=""):
        context = chromium.new_context(
            viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("request", watch)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
        page.goto(f"{address}/?__theme={'dark' if dark else 'light'}{query}")
        page.wait_for_selector("#pt-ask")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not outside, f"asked elsewhere: {outside}"
    assert not errors, f"logged: {errors}"
