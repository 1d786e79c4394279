"""Writes licences.md: `python -m docs.licences`, over the packages that requirements.lock names."""

import json
import re
import subprocess
import sys
from pathlib import Path

from proxy_tuning.records import ROOT, written_beside

PAGE = Path(__file__).with_name("licences.md")
HEAD = """# Licences of what is installed

What the packages of [requirements.lock](../requirements.lock) say of themselves, those for other systems left out; by
`make licences`. This repository is under the MIT licence; of the models and data,
[model_card.md](model_card.md) and [data_sheet.md](data_sheet.md) say where they come from.

| licence | packages |
|---|---|
"""


def locked() -> dict[str, str]:
    """Name -> version of what requirements.lock has; of several versions the first."""
    found: dict[str, str] = {}
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines():
        if match := re.match(r"([\w.-]+)(?:\[.*?\])?==(\S+)", line):
            found.setdefault(normal(match[1]), match[2])
    return found


def normal(name: str) -> str:
    """A package's name as the index writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def page() -> str:
    """The page as it should be, from what is installed beside this Python."""
    tool = Path(sys.executable).with_name("pip-licenses")
    said = subprocess.run([tool, "--format=json"], check=True, capture_output=True, text=True)
    names, by_licence = locked(), {}
    for package in json.loads(said.stdout):
        if normal(package["Name"]) in names:
            licence = " ".join(package["License"].split()).partition(" Copyright")[0]
            by_licence.setdefault(licence, []).append(package["Name"])
    rows = [
        f"| {licence} | {', '.join(sorted(by_licence[licence], key=str.lower))} |\n"
        for licence in sorted(by_licence, key=lambda name: (-len(by_licence[name]), name))
    ]
    return HEAD + "".join(rows)


if __name__ == "__main__":
    with written_beside(PAGE) as beside:
        beside.write_text(page(), encoding="utf-8")
