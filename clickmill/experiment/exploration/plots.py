"""Regret of policies over time, averaged over markets, with the intervals of the mean."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np

from clickmill.evaluation.plots import Format, theme

_COLOURS = (theme.INK, theme.VERMILION, theme.BLUE, theme.GREEN, theme.ORANGE)


def regret_plot(
    panels: Mapping[str, Mapping[str, np.ndarray]], *, subtitle: str, fmt: Format = "svg"
) -> bytes:
    """One panel per name in `panels`, holding for each policy (markets, days) regret of the day as a share of the whole run's best worth."""

    def paint(figure: Any) -> None:
        for axes, (title, policies) in zip(
            np.atleast_1d(figure.subplots(1, len(panels), sharey=True)), panels.items(), strict=True
        ):
            for colour, (name, regret) in zip(_COLOURS, policies.items(), strict=False):
                total = np.cumsum(regret, axis=1)
                day = np.arange(1, total.shape[1] + 1)
                mean = total.mean(axis=0)
                error = 1.96 * total.std(axis=0, ddof=1) / np.sqrt(len(total))
                axes.plot(day, mean, color=colour, lw=1.8, label=name)
                axes.fill_between(day, mean - error, mean + error, color=colour, alpha=0.15, lw=0)
            axes.set_title(textwrap.fill(title, 64 // len(panels) + 6), fontsize=9.5, loc="left")
            axes.set_xlabel("day")
            axes.set_ylim(bottom=0)
            axes.yaxis.set_major_formatter(theme.percent)
            theme.grid(axes)
        figure.axes[0].set_ylabel("regret so far, share of the best worth of all days")
        figure.axes[0].legend(loc="upper left")

    return theme.draw(paint, title="Regret for new ads", subtitle=subtitle, size=(9.6, 4.4), fmt=fmt)
