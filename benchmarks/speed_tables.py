"""What benchmarks/speed.py measured, as Markdown: all figures of its files, and the ratios in one table.

python benchmarks/speed_tables.py results/benchmark*.json > results/speed.md
"""

import argparse
import json
from pathlib import Path


def name_of(cell) -> str:
    """The shape of a cell, with what it was asked about."""
    return cell["shape"] + (f", {cell['topic']}" if cell.get("topic") else "")


def table(path) -> str:
    """The cells as Markdown."""
    result = json.loads(Path(path).read_text(encoding="utf-8"))
    lines = []
    for cell in result["cells"]:
        lines += [
            f"**{name_of(cell)}**, prompt {cell['prompt']}, {cell['new']} new tokens, batch "
            f"{cell['batch']}, {cell['repeats']} turns; to read all float32 weights once takes "
            f"{cell['floor_ms_per_token']} ms a token",
            "",
            "| way | CPU ms a token (range) | times (a) | times (b) | floor / time | same tokens "
            "| kept |",
            "|---|---|---|---|---|---|---|",
        ]
        for row in cell["rows"]:
            median, low, high = row["cpu_ms_per_token"]
            whole = "alone" not in row["way"] and "int8:" not in row["way"]
            columns = [
                row["way"],
                f"{median} ({low}-{high})",
                row["times_a"],
                row["times_b"],
                f"{cell['floor_ms_per_token'] / median:.0%}" if whole else "",
                f"{row['same_tokens']:.1%}" if "same_tokens" in row else "",
                row.get("share_kept", ""),
            ]
            lines.append("| " + " | ".join(map(str, columns)) + " |")
        lines.append("")
    return "\n".join(lines)


def summary(paths) -> str:
    """Times (a) / times (b) of every way in all cells of some results, as Markdown."""
    cells = [c for path in paths for c in json.loads(Path(path).read_text("utf-8"))["cells"]]
    names = [
        f"{name_of(c)} {c['prompt']}/{c['new']}"
        + (f", batch {c['batch']}" if c["batch"] > 1 else "")
        for c in cells
    ]
    found = {
        (row["way"], name): f"{row['times_a']:.2f} / {row['times_b']:.2f}"
        for name, cell in zip(names, cells, strict=True)
        for row in cell["rows"]
    }
    lines = [f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for way in dict.fromkeys(way for way, _ in found):
        lines.append(f"| {way} | {' | '.join(found.get((way, n), '') for n in names)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="+", metavar="FILE")
    files = parser.parse_args().files
    print("# Speed\n\nTimes (a) / times (b); what these are: [docs/speed.md](../docs/speed.md).\n")
    print(summary(files))
    for file in files:
        print(f"\n## {Path(file).name}\n\n{table(file)}")
