"""The ROC curve."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clickmill.evaluation.evaluation import Evaluation
from clickmill.evaluation.plots.theme import BLUE, QUIET, Format, draw, grid, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def roc_plot(evaluation: Evaluation, *, title: str = "ROC curve", fmt: Format = "svg") -> bytes:
    """True against false positive rate over all thresholds."""
    auc = evaluation.auc
    subtitle = f"AUC {auc.value:.4f} [{auc.low:.4f}, {auc.high:.4f}]"
    if evaluation.ceiling is not None:
        subtitle += f"   ·   ceiling {evaluation.ceiling.auc.value:.4f}"
    return draw(
        lambda figure: _paint(figure, evaluation), title=title, subtitle=subtitle, size=(5.4, 5.6), fmt=fmt
    )


def _paint(figure: Figure, evaluation: Evaluation) -> None:
    axes = figure.subplots()
    x, y = evaluation.roc.false_positive_rate, evaluation.roc.true_positive_rate
    axes.fill_between(x, y, x, color=BLUE, alpha=0.12, linewidth=0)
    axes.plot(x, y, color=BLUE, linewidth=2, label="model")
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1.2, linestyle=(0, (4, 3)), label="chance")
    axes.set_aspect("equal")
    axes.set_xlim(-0.005, 1)
    axes.set_ylim(0, 1.005)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(percent)
    axes.set_xlabel("false positive rate: non-clicks above the threshold")
    axes.set_ylabel("true positive rate: clicks above the threshold")
    axes.legend(loc="lower right")
    grid(axes)
