"""Lift by score and the cumulative gain curve, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clickmill.evaluation.evaluation import Evaluation
from clickmill.evaluation.plots.theme import BLUE, GREEN, INK, ORANGE, QUIET, Format, draw, grid, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def lift_curve(
    evaluation: Evaluation, *, title: str = "Lift of the best-scored impressions", fmt: Format = "svg"
) -> bytes:
    """Left: click rate and mean prediction of each tenth. Right: share of clicks caught by the best-scored share."""
    first = evaluation.lift[0]
    subtitle = (
        f"the best-scored {percent(first.share)} of impressions hold {percent(first.cumulative_gain)} of the clicks: "
        f"lift {first.cumulative_lift:.2f}   ·   click rate {percent(evaluation.click_rate)}"
    )
    return draw(
        lambda figure: _paint(figure, evaluation), title=title, subtitle=subtitle, size=(9.2, 4.4), fmt=fmt
    )


def _paint(figure: Figure, evaluation: Evaluation) -> None:
    left, right = figure.subplots(1, 2)
    table = evaluation.lift
    step = np.arange(1, len(table) + 1)
    rate = np.array([row.click_rate for row in table])
    left.bar(step, rate, width=0.72, color=BLUE, alpha=0.85, label="observed click rate")
    left.plot(
        step,
        [row.mean_pctr for row in table],
        "D",
        color=ORANGE,
        markeredgecolor=INK,
        markeredgewidth=0.6,
        markersize=5,
        label="mean predicted probability",
    )
    left.axhline(
        evaluation.click_rate, color=QUIET, linewidth=1.2, linestyle=(0, (4, 3)), label="click rate of all"
    )
    for x, row in zip(step, table, strict=True):
        # Above whichever of bar and diamond is higher, so that the two never overprint.
        left.annotate(
            f"{row.lift:.1f}×",
            (float(x), max(row.click_rate, row.mean_pctr)),
            xytext=(0, 5),
            textcoords="offset points",
            ha="center",
            fontsize=7.5,
            color=INK,
        )
    left.set_ylim(0, max(rate.max(), max(row.mean_pctr for row in table)) * 1.12)
    left.set_xticks(step)
    left.yaxis.set_major_formatter(percent)
    left.set_xlabel(
        "tenth of impressions, best-scored first" if len(table) == 10 else "step, best-scored first"
    )
    left.set_ylabel("click rate")
    left.legend(loc="upper right")
    grid(left, "y")

    share = np.r_[0.0, [row.share for row in table]]
    gain = np.r_[0.0, [row.cumulative_gain for row in table]]
    rate_all = min(max(evaluation.click_rate, 1e-9), 1.0)
    right.plot(
        [0, rate_all, 1],
        [0, 1, 1],
        color=GREEN,
        linewidth=1.2,
        linestyle=(0, (1, 1.5)),
        label="perfect ranking",
    )
    right.fill_between(share, share, gain, color=BLUE, alpha=0.12, linewidth=0)
    right.plot(share, gain, color=BLUE, linewidth=2, marker="o", markersize=3.5, label="model")
    right.plot([0, 1], [0, 1], color=QUIET, linewidth=1.2, linestyle=(0, (4, 3)), label="random order")
    right.set_xlim(0, 1)
    right.set_ylim(0, 1.02)
    for axis in (right.xaxis, right.yaxis):
        axis.set_major_formatter(percent)
    right.set_xlabel("share of impressions, best-scored first")
    right.set_ylabel("share of clicks caught")
    right.legend(loc="lower right")
    grid(right)
