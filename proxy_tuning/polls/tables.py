"""The fact tables, made of raw files and kept in data/.

Three tables, each one row per fact and every share in percent with one decimal:

    monthly.csv  average support per cycle, state, month and match-up, with the number of polls
    final.csv    the last averages before election day
    results.csv  votes and winner per state
"""

import hashlib
from pathlib import Path

import pandas as pd

from proxy_tuning.polls.averages import final_facts, monthly_facts
from proxy_tuning.polls.elections import MATCHUPS
from proxy_tuning.polls.sources import (
    AVERAGE_FORMATS,
    POLL_FORMATS,
    Report,
    read_votes,
    read_with_formats,
)
from proxy_tuning.records import written_beside

RESULTS = [
    "cycle",
    "state",
    "democrat",
    "republican",
    "democrat_votes",
    "republican_votes",
    "total_votes",
    "democrat_pct",
    "republican_pct",
    "winner",
]


def election_results(paths, report):
    """Votes and winner by state, and National, from county files: the table RESULTS.

    The year comes from the file's name.
    """
    years = []
    for path in paths:
        cycle = int(Path(path).stem[-4:])
        if cycle not in MATCHUPS:
            known = f"{min(MATCHUPS)} to {max(MATCHUPS)}"
            raise ValueError(f"{path}: no election of {cycle} is known, only those of {known}")
        votes = read_votes(path, report)
        nominees = MATCHUPS[cycle][-1]
        years.append(
            votes.assign(cycle=cycle, democrat=nominees.democrat, republican=nominees.republican)
        )
    table = pd.concat(years, ignore_index=True).sort_values(["cycle", "state"])
    for party in ("democrat", "republican"):
        table[f"{party}_pct"] = 100 * table[f"{party}_votes"] / table["total_votes"]
    ahead = table["democrat_votes"] > table["republican_votes"]
    table["winner"] = table["democrat"].where(ahead, table["republican"])
    return table[RESULTS]


def build_data(raw, out):
    """Read every poll, average and result file below the folder `raw`; write the tables to `out`.

    Args:
        raw: a folder. Files that are not one of the known kinds are named and left out.
        out: a folder.

    Returns:
        A dict from file name to table.

    Raises:
        ValueError: a file of a known kind cannot be used, or one kind is missing; nothing is
            written then.
    """
    raw, out, report = Path(raw), Path(out), Report()
    polls, averages, results, used = [], [], [], []
    for path in sorted(raw.rglob("*.csv")):
        name = path.name
        if name.startswith("county_results_") and name[15:19].isdigit() and len(path.stem) == 19:
            results.append(path)
        elif "primary" in name or name.startswith("county_results_"):
            report.lines.append(f"left out: {name} (not about a general election of one year)")
            continue
        elif "avg" in name or "averages" in name:
            averages.append(read_with_formats(path, AVERAGE_FORMATS, report))
        elif "poll" in name:
            polls.append(read_with_formats(path, POLL_FORMATS, report))
        else:
            report.lines.append(f"left out: {name} (neither polls nor county results by its name)")
            continue
        used.append(path)
    if not polls or not averages or not results:
        raise ValueError(
            f"{raw}: needs at least one file each of polls (*poll*.csv), averages "
            "(*averages*.csv) and results (county_results_YEAR.csv)"
        )
    polls, averages = pd.concat(polls), pd.concat(averages)
    tables = {
        "monthly.csv": monthly_facts(polls, averages),
        "final.csv": final_facts(polls, averages),
        "results.csv": election_results(results, report),
        "sources.csv": pd.DataFrame(
            {
                "file": [path.name for path in used],
                "sha256": [hashlib.sha256(path.read_bytes()).hexdigest() for path in used],
            }
        ),
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        write_csv(table.round(1), out / name)
        report.lines.append(f"wrote: {out / name} ({len(table)} rows)")
    print("\n".join(report.lines))
    return tables


def write_csv(table, path):
    """Write a table beside its place and then rename it, so that a file is whole or not there."""
    with written_beside(path) as beside:
        table.to_csv(beside, index=False, lineterminator="\n")


def load_facts(folder):
    """Read the tables of `folder` (see `build_data`): a dict monthly, final, results.

    Raises:
        FileNotFoundError: a table is not there.
    """
    types = {"polls": "Int64", "kennedy_polls": "Int64"}
    tables = {name: Path(folder) / f"{name}.csv" for name in ("monthly", "final", "results")}
    missing = [str(path) for path in tables.values() if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{', '.join(missing)} missing: make the tables with "
            "`python -m proxy_tuning build-data --raw DIR`"
        )
    return {name: pd.read_csv(path, dtype=types) for name, path in tables.items()}
