"""DataFrames -> figures. Each function returns the figure and leaves showing it to the caller."""

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

COLOURS = {"M": "#5B6770", "M-": "#B8860B", "M+": "#0072B2", "proxy-tuned M": "#D55E00"}
"""One colour per model, told apart by colour-blind readers (Okabe and Ito) and in grey."""
matplotlib.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})


def loss_curves(log):
    """Training and validation loss, and the share of exact answers, over the steps of a run.

    Args: log, the Trainer's list of dicts (steps; loss in nats per token).
    """
    log = pd.DataFrame(log)
    training, held_out = (log.dropna(subset=[name]) for name in ("loss", "eval_loss"))
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(training["step"], training["loss"], color=COLOURS["M-"], label="training wordings")
    left.plot(held_out["step"], held_out["eval_loss"], "o-", color=COLOURS["M+"],
              label="held-out wordings")  # fmt: skip
    left.set(xlabel="step", ylabel="loss (nats per token)", title="The loss falls", yscale="log")
    left.legend(frameon=False)
    right.plot(held_out["step"], 100 * held_out["eval_exact"], "o-", color=COLOURS["M+"])
    right.set(xlabel="step", ylabel="answers right word for word (%)", ylim=(0, 100),
              title="Held-out wordings are answered")  # fmt: skip
    return figure


def accuracy_by_split(table):
    """Right leaders and right numbers on 2024 facts, by the split that a wording belongs to.

    Args: table with columns split, score and mean (a share).
    """
    splits, scores = ["train", "validation", "test"], {"leader_right": "right leader",
                                                       "numbers_right": "all numbers right"}  # fmt: skip
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axes = figure.subplots()
    for i, (score, label) in enumerate(scores.items()):
        means = table[table["score"] == score].set_index("split")["mean"].reindex(splits)
        bars = axes.bar([x + 0.38 * i for x in range(3)], 100 * means, 0.36, label=label,
                        color=(COLOURS["M+"], "#9CCBE6")[i])  # fmt: skip
        axes.bar_label(bars, fmt="%.0f")
    axes.set(xticks=[x + 0.19 for x in range(3)], xticklabels=splits, ylim=(0, 110),
             xlabel="split of the wording", ylabel="answers (%)",
             title="M+ on facts of 2024: what is learnt is not the wording")  # fmt: skip
    axes.legend(frameon=False, loc="lower right")
    return figure
