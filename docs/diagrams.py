"""The figures of docs/: `python -m docs.diagrams [FOLDER]` writes them as SVG.

Those drawn here show how things are put together, with made-up numbers where they need any; what was
measured is plotted by evaluation/plots.py.
"""

import json
import sys
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from proxy_tuning.evaluation.plots import COLOURS, frontier, peers, speed
from proxy_tuning.records import RESULTS

IMAGES = Path(__file__).parents[1] / "docs" / "images"
matplotlib.rcParams["svg.hashsalt"] = "proxy-tuning"  # the same file from every run

WORDS = ["Biden", "Clinton", "Harris", "Trump"]
LOGITS = {
    "M": np.array([3.0, 1.2, 0.4, 2.1]),
    "M-": np.array([2.6, 1.0, 0.2, 2.0]),
    "M+": np.array([1.2, 0.2, 4.0, 2.3]),
}
"""Made up, for `one_step`: what each model might say after "In Ohio in May 2024, ..."."""


def box(axes, x, y, text, colour):
    """A rounded box with its centre at (x, y)."""
    axes.text(
        x,
        y,
        text,
        ha="center",
        va="center",
        fontsize=11,
        linespacing=1.4,
        bbox={"boxstyle": "round,pad=0.5", "facecolor": "white", "edgecolor": colour, "lw": 2},
    )


def arrow(axes, start, end, dashed=False):
    """An arrow from one point to another."""
    axes.annotate(
        "",
        end,
        start,
        arrowprops={
            "arrowstyle": "-|>",
            "color": "#444444",
            "lw": 1.4,
            "linestyle": "--" if dashed else "-",
            "shrinkA": 2,
            "shrinkB": 2,
        },
    )


def method():
    """M, M-, M+ and alpha: who is trained, what is added to what, where the token comes from."""
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(0, 12.4), ylim=(0, 6))
    axes.axis("off")
    box(axes, 1.0, 3.0, "text\nso far", "#444444")
    box(axes, 4.2, 5.1, "M  (base)\nlarge, untouched", COLOURS["M"])
    box(axes, 4.2, 3.0, "M+  (expert)\nsmall, fine-tuned", COLOURS["M+"])
    box(axes, 4.2, 0.9, "M-  (antiexpert)\nsmall, untouched", COLOURS["M-"])
    for y in (5.0, 3.0, 1.0):
        arrow(axes, (1.7, 3.0), (2.75, y))
    arrow(axes, (4.2, 1.5), (4.2, 2.4), dashed=True)
    axes.text(4.35, 1.95, "fine-tuning, once", fontsize=10, color="#444444", va="center")
    box(axes, 7.9, 2.0, "M+ minus M-\nwhat tuning changed", COLOURS["proxy-tuned M"])
    arrow(axes, (5.35, 2.9), (6.35, 2.3))
    arrow(axes, (5.35, 1.0), (6.35, 1.7))
    box(axes, 9.7, 4.7, "the sum:\nsteered logits", COLOURS["proxy-tuned M"])
    arrow(axes, (5.35, 5.0), (8.55, 4.75))
    arrow(axes, (8.1, 2.6), (9.5, 4.1))
    axes.text(9.0, 3.2, "times alpha", fontsize=10, color="#444444")
    box(axes, 11.5, 1.3, "softmax,\nnext token", "#444444")
    arrow(axes, (10.1, 4.1), (11.3, 1.95))
    return figure


def one_step(alpha=1.0):
    """One step in made-up numbers: logits of the three models, their difference, and the sum."""
    difference = LOGITS["M+"] - LOGITS["M-"]
    panels = {
        "M": (LOGITS["M"], COLOURS["M"]),
        "M+ minus M-": (difference, COLOURS["M+"]),
        f"M + {alpha:g} (M+ minus M-)": (
            LOGITS["M"] + alpha * difference,
            COLOURS["proxy-tuned M"],
        ),
    }
    figure = Figure(figsize=(9, 2.6), layout="constrained")
    for axes, (title, (values, colour)) in zip(
        figure.subplots(1, 3, sharey=True), panels.items(), strict=True
    ):
        axes.barh(WORDS, values, color=colour)
        axes.axvline(0, color="#444444", lw=0.8)
        axes.set(title=title, xlabel="logit", xlim=(-2.5, 5.5))
        axes.text(values.max() + 0.15, int(values.argmax()), "highest", va="center", fontsize=9)
    axes.invert_yaxis()
    return figure


def measured_frontier():
    """New knowledge against general knowledge kept, from results/quiet.json."""
    return frontier(json.loads((RESULTS / "quiet.json").read_text(encoding="utf-8")))


def measured_peers():
    """Ways of steering one trio, from results/smollm.json."""
    return peers(json.loads((RESULTS / "smollm.json").read_text(encoding="utf-8")))


def measured_speed():
    """How fast the real trio is, from results/benchmark_smollm.json."""
    return speed(json.loads((RESULTS / "benchmark_smollm.json").read_text(encoding="utf-8")))


FIGURES = {
    "method": method,
    "one_step": one_step,
    "frontier": measured_frontier,
    "peers": measured_peers,
    "speed": measured_speed,
}


def write(folder=IMAGES):
    """Write every figure into a folder as SVG, without a date, so that a new run changes nothing."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in FIGURES.items():
        figure().savefig(folder / f"{name}.svg", metadata={"Date": None})
        print(folder / f"{name}.svg")


if __name__ == "__main__":
    write(*sys.argv[1:2])
