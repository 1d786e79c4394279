"""DataFrames -> figures. Each function returns the figure and leaves showing it to the caller."""

import io

import matplotlib
import matplotlib.patches
import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from proxy_tuning.evaluation.analysis import CASES, cases

COLOURS = {"M": "#5B6770", "M-": "#B8860B", "M+": "#0072B2", "proxy-tuned M": "#D55E00"}
"""One colour per model, told apart by colour-blind readers (Okabe and Ito) and in grey."""
matplotlib.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})


class Picture(Figure):
    """A figure that a notebook shows without pyplot and its global state."""

    def _repr_png_(self):
        png = io.BytesIO()
        self.savefig(png, dpi=110)
        return png.getvalue()


def loss_curves(log):
    """Training and validation loss, and the share of exact answers, over the steps of a run.

    Args: log, the Trainer's list of dicts (steps; loss in nats per token).
    """
    log = pd.DataFrame(log)
    training, held_out = (log.dropna(subset=[name]) for name in ("loss", "eval_loss"))
    figure = Picture(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(training["step"], training["loss"], color=COLOURS["M-"], label="training wordings")
    left.plot(
        held_out["step"],
        held_out["eval_loss"],
        "o-",
        color=COLOURS["M+"],
        label="held-out wordings",
    )
    left.set(xlabel="step", ylabel="loss (nats per token)", title="The loss falls", yscale="log")
    left.legend(frameon=False)
    right.plot(held_out["step"], 100 * held_out["eval_exact"], "o-", color=COLOURS["M+"])
    right.set(
        xlabel="step",
        ylabel="answers right word for word (%)",
        ylim=(0, 100),
        title="Held-out wordings are answered",
    )
    return figure


def accuracy_by_split(table):
    """Leader accuracy and exact match on 2024 facts, by the split that a wording belongs to.

    Args: table with columns split, score and mean (a share).
    """
    splits, scores = (
        ["train", "validation", "test"],
        {"leader_accuracy": "leader accuracy", "exact_match": "exact match"},
    )
    figure = Picture(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    for i, (score, label) in enumerate(scores.items()):
        means = table[table["score"] == score].set_index("split")["mean"].reindex(splits)
        bars = axes.bar(
            [x + 0.38 * i for x in range(3)],
            100 * means,
            0.36,
            label=label,
            color=(COLOURS["M+"], "#9CCBE6")[i],
        )
        axes.bar_label(bars, fmt="%.0f")
    axes.set(
        xticks=[x + 0.19 for x in range(3)],
        xticklabels=splits,
        ylim=(0, 110),
        xlabel="split of the wording",
        ylabel="answers (%)",
        title="M+ on facts of 2024: what is learnt is not the wording",
    )
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def alpha_tradeoff(swept):
    """Leader accuracy and exact match on new and on old facts, over alpha.

    Args: swept, from `evaluate.alpha_sweep`.
    """
    worlds = {
        "new": ("2024 (M+ learnt it)", COLOURS["M+"]),
        "old": ("before (M knew it)", COLOURS["M"]),
    }
    scores = {"leader_accuracy": "leader accuracy", "exact_match": "exact match"}
    figure = Picture(figsize=(9, 3.2), layout="constrained")
    for axes, (score, title) in zip(
        figure.subplots(1, 2, sharey=True), scores.items(), strict=True
    ):
        for (name, (label, colour)), mark in zip(worlds.items(), "os", strict=True):
            rows = swept[(swept["set"] == name) & swept[score].notna()]
            means = rows.groupby("alpha")[score].agg(lambda values: values.astype(float).mean())
            axes.plot(means.index, 100 * means, f"{mark}-", color=colour, label=label)
        axes.set(xlabel="alpha", ylim=(0, 102), title=title)
        axes.axvline(1, color="0.8", zorder=0)
    figure.axes[0].set_ylabel("answers (%)")
    figure.axes[0].legend(frameon=False)
    return figure


def steering_by_class(table):
    """What steering adds to the probability of the tokens it chooses, and how often M chose others.

    Args: table, from `analysis.by_class`.
    """
    figure = Picture(figsize=(9, 2.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    left.barh(table.index, table["gain"], color=COLOURS["proxy-tuned M"])
    left.axvline(0, color="0.4", linewidth=0.8)
    left.set(xlabel="mean gain in probability", title="Steered minus M")
    right.barh(table.index, 100 * table["changed"], color=COLOURS["M"])
    right.set(xlabel="tokens (%)", title="M's first choice was another")
    left.invert_yaxis()
    return figure


def changed_by_step(changed):
    """Where in the answer the tokens stand that M would not have chosen.

    Args: changed, a share per step, from `analysis.by_step`.
    """
    figure = Picture(figsize=(6, 2.8), layout="constrained")
    axes = figure.subplots()
    axes.bar(changed.index + 1, 100 * changed, color=COLOURS["proxy-tuned M"])
    axes.set(
        xlabel="token of the answer",
        ylabel="changed (%)",
        ylim=(0, 100),
        title="Where steering changes the first choice",
    )
    return figure


def coloured_text(tokens, title, width=84):
    """One steered answer, each token on the colour of what steering added to its probability.

    Args: tokens, one answer's rows from `analysis.watch`; width, letters in a line.
    """
    lines, column = [[]], 0
    for token in tokens[tokens["kind"] != "end"].itertuples():
        if column + len(token.token) > width:
            lines, column = [*lines, []], 0
        lines[-1].append((column, token))
        column += len(token.token)
    figure = Picture(figsize=(9, 0.75 + 0.3 * len(lines)), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(0, width), ylim=(len(lines), 0), xticks=[], yticks=[])
    axes.set_title(title, loc="left", fontsize=10)
    axes.spines[:].set_visible(False)
    colours = ScalarMappable(Normalize(-1, 1), "PuOr")  # as in the widget; white is no change
    for y, line in enumerate(lines):
        for x, token in line:
            gain = token.steered - token.base
            axes.add_patch(
                matplotlib.patches.Rectangle(
                    (x, y), len(token.token), 0.9, linewidth=0, facecolor=colours.to_rgba(gain)
                )
            )
            dark = abs(gain) > 0.75
            axes.text(
                x + len(token.token) / 2,
                y + 0.45,
                token.token,
                family="monospace",
                ha="center",
                va="center",
                fontsize=9,
                color="white" if dark else "black",
                weight="bold" if token.changed else "normal",
            )
    bar = figure.colorbar(colours, ax=axes, shrink=0.9, pad=0.01)
    bar.set_label("gain", fontsize=8)
    bar.set_ticks([-1, 0, 1])
    return figure


def kl_by_case(answers):
    """KL(M+ || M-) of every question, by whether M and M+ alone are right.

    Args: answers, from `analysis.watch`, of two sets at most.
    """
    named = cases(answers)
    figure = Picture(figsize=(7, 2.8), layout="constrained")
    axes = figure.subplots()
    jitter = np.random.default_rng(0)
    looks = ("o", COLOURS["M+"]), ("s", COLOURS["M"])
    for y, case in enumerate(CASES):
        for name, (mark, colour) in zip(named["set"].unique(), looks, strict=False):
            kl = named.loc[(named["case"] == case) & (named["set"] == name), "kl"]
            axes.scatter(
                kl,
                y + jitter.uniform(-0.25, 0.25, len(kl)),
                s=14,
                marker=mark,
                color=colour,
                alpha=0.7,
                label=name if y == 0 else None,
            )
    axes.set(
        xscale="log",
        xlabel="mean KL(M+ || M-) along the steered answer (nats)",
        yticks=range(len(CASES)),
        yticklabels=CASES,
        title="What fine-tuning changed, by question",
    )
    axes.invert_yaxis()
    axes.legend(frameon=False)
    return figure


def accuracy_by_shown(record):
    """How well a base behind an API is steered, by the number k of log-probabilities it shows.

    Args: record, the dict of results/api_base.json.
    """
    table = pd.DataFrame(record["table"])
    local = table[table["local"].fillna(False).astype(bool)].iloc[0]
    steered = table[table["spread"].notna()]
    shown = sorted(steered["top"].astype(int).unique())
    names = [*map(str, shown[:-1]), f"all {shown[-1]:,}"]
    figure = Picture(figsize=(9, 3.2), layout="constrained")
    for axes, score in zip(figure.subplots(1, 2), ("leader_accuracy", "exact_match"), strict=True):
        for spread, colour, label in (
            (True, "proxy-tuned M", "hidden tokens as M- has them"),
            (False, "M-", "shown tokens alone"),
        ):
            rows = steered[steered["spread"].astype(bool) == spread].sort_values("top")
            axes.plot(names, 100 * rows[score], "o-", color=COLOURS[colour], label=label)
        axes.axhline(100 * local[score], color=COLOURS["M"], ls=":", label="on this machine")
        axes.set(xlabel="log-probabilities shown per token", ylim=(-3, 103))
        axes.set(ylabel="%", title=score.replace("_", " ").capitalize())
    axes.legend(frameon=False, loc=(0.02, 0.55))
    return figure


def frontier(record):
    """New knowledge against general knowledge kept, one point per system, by how M+ was tuned.

    Args: record, the dict of results/quiet.json.
    """
    scores = {(row["system"], row["set"], row["score"]): row["mean"] for row in record["scores"]}
    systems = dict.fromkeys(row["system"] for row in record["scores"])
    kinds = {"M+": ("o", COLOURS["M+"]), "proxy-tuned": ("D", COLOURS["proxy-tuned M"])}
    kinds["M tuned directly"] = ("s", COLOURS["M"])
    figure = Picture(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    for kind, (marker, colour) in kinds.items():
        named = [name for name in systems if name.startswith(f"{kind},")]
        points = [
            (100 * scores[name, "typed", "right"], 100 * scores[name, "general", "kept of M"])
            for name in named
        ]
        axes.scatter(*zip(*points, strict=True), s=60, marker=marker, color=colour, label=kind)
        for name, point in zip(named, points, strict=True):
            axes.annotate(
                name.partition(", ")[2],
                point,
                (4, 5),
                textcoords="offset points",
                fontsize=8,
                rotation=20,
            )
    axes.set(xlabel="questions on the polls right (%)", ylabel="of M's general answers kept (%)")
    axes.set(
        ylim=(-5, 105), xlim=(30, 75), title="One place learnt, by what fine-tuning was held to"
    )
    axes.legend(frameon=False, loc="upper right")
    return figure


def peers(record):
    """New knowledge against general knowledge kept, one point per way of answering.

    Args: record, the dict of a results file of `evaluate --sets`.
    """
    scores = {(row["system"], row["set"], row["score"]): row["mean"] for row in record["scores"]}
    figure = Picture(figsize=(9, 4.6), layout="constrained")
    axes = figure.subplots()
    labels = {}  # of points that lie together
    for name in dict.fromkeys(row["system"] for row in record["scores"]):
        if (name, "general", "right") not in scores:
            continue
        kept = scores.get((name, "general", "kept of M"), 1.0)  # M keeps what it knows
        point = (100 * scores[name, "typed", "right"], 100 * kept)
        steered = name.startswith("proxy-tuned M")
        colour = COLOURS.get("proxy-tuned M" if steered else name, "0.55")
        axes.scatter(*point, s=60, color=colour, zorder=3 if steered else 2)
        near = next(
            (at for at in labels if max(abs(at[0] - point[0]), abs(at[1] - point[1])) < 5), point
        )
        labels.setdefault(near, []).append(name)
    for point, names in labels.items():
        text = "\n".join(names)
        axes.annotate(text, point, (8, 0), textcoords="offset points", fontsize=8, va="center")
    axes.set_xlim(0, 85)
    axes.set(xlabel="questions on the polls right (%)", ylabel="of M's general answers kept (%)")
    axes.set(ylim=(-5, 108), title="One trio, steered in different ways")
    return figure


def search_ranks(record):
    """Recipes tried on a share of the facts against the same recipes on all facts.

    Args: record, the dict that `search.search` returns.
    """
    points = [
        tuple(trial[kind]["quality"] for kind in ("proxy", "full")) for trial in record["trials"]
    ]
    figure = Picture(figsize=(5.5, 3.4), layout="constrained")
    axes = figure.subplots()
    colours = [COLOURS["proxy-tuned M"]] + [COLOURS["M+"]] * (len(points) - 1)
    axes.scatter(*zip(*points, strict=True), s=50, color=colours)
    axes.annotate(
        "the recipe as it is", points[0], (6, -12), textcoords="offset points", fontsize=8
    )
    axes.set(
        xlabel=f"quality with {record['share']:.0%} of the facts",
        ylabel="quality with all facts",
        title=f"{len(points)} recipes, Spearman {record['spearman']:.2f}",
    )
    return figure


def speed(record):
    """Tokens per second of processor time on a family's own questions, by way and topic.

    Args: record, a dict of benchmarks/speed.py whose cells have topics.
    """
    cells = {cell["topic"]: cell for cell in record["cells"]}
    ways = [row["way"] for row in next(iter(cells.values()))["rows"] if "n-grams" not in row["way"]]
    ways = sorted(
        (way for way in ways if not way.endswith("assists (c)")),
        key=lambda way: ("torch", "onnx", "onnx-int8").index(way.partition(":")[0]),
    )
    figure = Picture(figsize=(9, 1 + 0.22 * len(ways)), layout="constrained")
    panels = figure.subplots(1, len(cells), sharey=True)
    for axes, (topic, cell) in zip(panels, cells.items(), strict=True):
        rows = {row["way"]: row for row in cell["rows"]}
        rates = [1000 / rows[way]["cpu_ms_per_token"][0] for way in ways]
        colours = [COLOURS["M" if "alone" in way else "proxy-tuned M"] for way in ways]
        bars = axes.barh(ways, rates, color=colours)
        axes.bar_label(bars, fmt="%.1f", padding=3)
        axes.set(title=topic, xlabel="tokens per second and core", xlim=(0, 1.15 * max(rates)))
    axes.invert_yaxis()
    return figure
