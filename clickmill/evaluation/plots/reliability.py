"""Reliability diagram: observed against predicted click rate on log axes, and the spread of the predictions below."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clickmill.evaluation.evaluation import Evaluation
from clickmill.evaluation.plots.theme import BLUE, QUIET, Format, counted, draw, grid, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def reliability_diagram(
    evaluation: Evaluation, *, title: str = "Reliability of predicted click probability", fmt: Format = "svg"
) -> bytes:
    """Points on the diagonal are calibrated; above it the model predicts too few clicks. Bars: Wilson intervals."""
    ratio, ece = evaluation.calibration_ratio, evaluation.ece_equal_mass
    subtitle = (
        f"calibration ratio {ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]   ·   "
        f"ECE {ece.value:.4f} [{ece.low:.4f}, {ece.high:.4f}]   ·   "
        f"{counted(evaluation.n)} impressions, {counted(evaluation.clicks)} clicks"
    )
    return draw(
        lambda figure: _paint(figure, evaluation), title=title, subtitle=subtitle, size=(7.7, 7.2), fmt=fmt
    )


def _paint(figure: Figure, evaluation: Evaluation) -> None:
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[4.2, 1])
    bins = evaluation.reliability
    x = np.array([b.mean_pctr for b in bins])
    rate = np.array([b.click_rate for b in bins])
    low = np.array([b.click_rate_low for b in bins])
    high = np.array([b.click_rate_high for b in bins])
    edges, counts = np.array(evaluation.pctr_histogram.edges), np.array(evaluation.pctr_histogram.counts)

    floor, ceiling = _window(x, rate, high, edges, counts)
    line = np.array([floor, ceiling])
    top.plot(
        line, line, color=QUIET, linewidth=1.2, linestyle=(0, (4, 3)), label="perfect calibration", zorder=1
    )
    shown = rate > 0
    top.errorbar(
        x[shown],
        rate[shown],
        yerr=[(rate - np.maximum(low, floor))[shown].clip(0), (high - rate)[shown]],
        fmt="o",
        color=BLUE,
        markersize=5.5,
        elinewidth=1.4,
        capsize=2.5,
        label=f"{len(bins)} bins of equal mass, {100 * evaluation.level:.0f} % interval",
        zorder=3,
    )
    empty = ~shown
    if empty.any():
        top.plot(
            x[empty], high[empty], "v", color=BLUE, mfc="white", markersize=6, label="no clicks: upper bound"
        )
    for axes in (top, bottom):
        axes.set_xscale("log")
        axes.set_xlim(floor, ceiling)
        grid(axes)
    top.set_yscale("log")
    top.set_ylim(floor, ceiling)
    _percent_ticks(top, "y")
    top.set_ylabel("observed click rate")
    # Outside: with few clicks the intervals fill the whole square.
    top.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=3, borderaxespad=0.3, columnspacing=1.4)

    bottom.stairs(counts, edges, fill=True, color=BLUE, alpha=0.35, linewidth=0)
    bottom.set_ylim(bottom=0)
    bottom.set_ylabel("impressions")
    bottom.yaxis.set_major_locator(_few())
    bottom.yaxis.set_major_formatter(lambda v, _: counted(v))
    bottom.grid(False, axis="x")
    bottom.set_xlabel("predicted click probability (log scale)")
    _percent_ticks(bottom, "x")
    figure.align_ylabels([top, bottom])


def _window(
    x: np.ndarray, rate: np.ndarray, high: np.ndarray, edges: np.ndarray, counts: np.ndarray
) -> tuple[float, float]:
    """Where the data is, on both axes alike so that the diagonal is one; all but the outer 0.5 % of predictions."""
    below = np.cumsum(counts) / counts.sum()
    first, last = edges[np.searchsorted(below, 0.005)], edges[np.searchsorted(below, 0.995) + 1]
    low = max(float(np.r_[x[x > 0], rate[rate > 0], first].min()), 1e-6) / 1.2
    return low, min(max(float(np.r_[x, high, last].max()) * 1.2, low * 10), 1.0)


def _percent_ticks(axes: Axes, which: str) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0), numticks=20))
    axis.set_major_formatter(percent)
    axis.set_minor_formatter(NullFormatter())


def _few():  # type: ignore[no-untyped-def]
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(3)
