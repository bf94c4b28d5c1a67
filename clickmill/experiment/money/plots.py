"""The cost of a wrong pCTR as a picture: what seller, advertisers and a buyer lose, by kind and size of the error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clickmill.evaluation.plots import Format, theme
from clickmill.experiment.money.miscalibration import Cost, ErrorKind

_COLOURS = {ErrorKind.COMMON: theme.BLUE, ErrorKind.BY_AD: theme.VERMILION, ErrorKind.SLOPE: theme.GREEN}
NAMES = {
    ErrorKind.COMMON: "common factor",
    ErrorKind.BY_AD: "own factor per ad",
    ErrorKind.SLOPE: "slope of the log-odds",
}
_PANELS = (
    ("buyer_profit", "a buyer's profit lost\n(pays per impression)"),
    ("value", "advertisers' value lost\n(pays per click, eCPM ranking)"),
    ("revenue", "seller's revenue lost\n(below 0: a gain)"),
)


def cost_plot(costs: Mapping[ErrorKind, Sequence[Cost]], *, subtitle: str, fmt: Format = "svg") -> bytes:
    """Three panels side by side with intervals as bands; `costs` by kind, each in ascending order of the error."""

    def paint(figure: Any) -> None:
        for axes, (name, label) in zip(figure.subplots(1, 3), _PANELS, strict=True):
            for kind, found in costs.items():
                x = [cost.error for cost in found]
                lost = [getattr(cost, name) for cost in found]
                axes.plot(x, [one.value for one in lost], color=_COLOURS[kind], lw=1.8, label=NAMES[kind])
                axes.fill_between(
                    x,
                    [one.low for one in lost],
                    [one.high for one in lost],
                    color=_COLOURS[kind],
                    alpha=0.18,
                    lw=0,
                )
            axes.axhline(0, color=theme.QUIET, lw=0.8)
            for edge in (-0.1, 0.1):
                axes.axvline(edge, color=theme.QUIET, lw=0.8, ls=":")
            axes.xaxis.set_major_formatter(theme.percent)
            axes.yaxis.set_major_formatter(theme.percent)
            axes.set_xlabel("error of pCTR")
            axes.set_title(label, fontsize=9.5, loc="left")
            theme.grid(axes)
        figure.axes[0].legend(loc="upper center")

    return theme.draw(
        paint, title="What a wrong click probability costs", subtitle=subtitle, size=(11.0, 4.4), fmt=fmt
    )
