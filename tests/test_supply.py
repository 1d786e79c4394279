"""What is installed: the lock has every pin of requirements.txt, with hashes; licences are listed."""

import importlib.metadata
import re
import sys
from pathlib import Path

from docs.licences import PAGE, locked, normal

ROOT = Path(__file__).parents[1]


def test_the_lock_has_what_requirements_txt_pins_and_hashes_for_all():
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    pins = re.findall(r"^([\w.-]+)(?:\[\w+\])?==(\S+)", text, re.MULTILINE)
    assert len(pins) > 20
    assert {(normal(name), version) for name, version in pins} <= set(locked().items())
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    entries = re.split(r"\n(?=[\w.-]+(?:\[[\w,]+\])?==)", lock)[1:]
    assert len(entries) > 200
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", entry) for entry in entries)


def test_what_this_package_needs_is_locked():
    needs = importlib.metadata.requires("proxy-tuning")
    names = {normal(re.match(r"[\w.-]+", need)[0]) for need in needs if "extra ==" not in need}
    assert len(names) > 10 and names <= set(locked())


def test_every_locked_package_that_is_installed_has_its_licence_on_the_page():
    listed = {
        normal(name)
        for row in PAGE.read_text(encoding="utf-8").splitlines()
        if row.startswith("| ")
        for name in row.split(" | ")[-1].strip(" |").split(", ")
    }
    here = {normal(each.metadata["Name"]) for each in importlib.metadata.distributions()}
    own = {"pip", "setuptools", "pip-licenses", "prettytable", "wcwidth"}  # of the tool itself
    missing = (set(locked()) & here) - listed - own
    assert sys.platform != "linux" or not missing
