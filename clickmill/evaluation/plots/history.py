"""Normalized entropy by epoch: is the model still learning, and where did it stop?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from clickmill.errors import UsageError
from clickmill.evaluation.plots.theme import BLUE, ORANGE, QUIET, VERMILION, Format, draw, grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def entropy_history(
    validation: Sequence[float],
    train: Sequence[float] | None = None,
    *,
    best_epoch: int | None = None,
    title: str = "Normalized entropy by epoch",
    fmt: Format = "svg",
) -> bytes:
    """NE after each epoch, 1-based; `best_epoch` (1-based) is the one whose weights were kept.

    Raises UsageError when there is no epoch, the lengths differ, or best_epoch is not among them.
    """
    epochs = len(validation)
    if epochs < 1:
        raise UsageError("a history needs at least one epoch, got none")
    if train is not None and len(train) != epochs:
        raise UsageError(f"train must be as long as validation ({epochs} epochs), got {len(train)}")
    if best_epoch is not None and not 1 <= best_epoch <= epochs:
        raise UsageError(f"best_epoch must be between 1 and {epochs}, got {best_epoch}")
    best = best_epoch or int(np.argmin(validation)) + 1
    subtitle = f"weights of epoch {best} of {epochs}: validation NE {validation[best - 1]:.4f}   ·   below 1 beats the base rate"
    return draw(
        lambda figure: _paint(figure, validation, train, best),
        title=title,
        subtitle=subtitle,
        size=(7, 4.2),
        fmt=fmt,
    )


def _paint(figure: Figure, validation: Sequence[float], train: Sequence[float] | None, best: int) -> None:
    from matplotlib.ticker import MaxNLocator

    axes = figure.subplots()
    epoch = np.arange(1, len(validation) + 1)
    if train is not None:
        axes.plot(epoch, train, color=ORANGE, linewidth=1.8, marker="s", markersize=4, label="train")
    axes.plot(epoch, validation, color=BLUE, linewidth=2, marker="o", markersize=4.5, label="validation")
    axes.plot(
        [best], [validation[best - 1]], "o", mfc="none", mec=VERMILION, mew=1.8, markersize=11, label="kept"
    )
    shown = np.r_[validation, train if train is not None else []]
    if shown.max() > 0.97:
        axes.axhline(1, color=QUIET, linewidth=1.2, linestyle=(0, (4, 3)), label="base rate")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
    axes.margins(y=0.12)
    axes.set_xlim(0.6, len(validation) + 0.4)
    axes.set_xlabel("epoch")
    axes.set_ylabel("normalized entropy (lower is better)")
    axes.legend(loc="best")
    grid(axes)
