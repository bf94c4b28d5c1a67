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
    epochs: Sequence[float],
    validation: Sequence[float],
    train: Sequence[float] | None = None,
    *,
    best_epoch: float | None = None,
    title: str = "Normalized entropy by epoch",
    fmt: Format = "svg",
) -> bytes:
    """NE by passes over the train split (`epochs`, rising; 1.5 is the middle of the second); `best_epoch` is the one of them whose
    weights were kept, by default that of the lowest NE.

    Raises UsageError when there is no evaluation, the lengths differ, or best_epoch is not among the epochs.
    """
    if not validation:
        raise UsageError("a history needs at least one evaluation, got none")
    for name, values in (("epochs", epochs), ("train", train)):
        if values is not None and len(values) != len(validation):
            raise UsageError(
                f"{name} must be as long as validation ({len(validation)} evaluations), got {len(values)}"
            )
    if best_epoch is not None and best_epoch not in epochs:
        raise UsageError(
            f"best_epoch must be one of {', '.join(f'{e:g}' for e in epochs)}, got {best_epoch:g}"
        )
    best = int(np.argmin(validation)) if best_epoch is None else list(epochs).index(best_epoch)
    subtitle = f"weights of epoch {epochs[best]:g} of {epochs[-1]:g}: validation NE {validation[best]:.4f}   ·   below 1 beats the base rate"
    return draw(
        lambda figure: _paint(figure, epochs, validation, train, best),
        title=title,
        subtitle=subtitle,
        size=(7, 4.2),
        fmt=fmt,
    )


def _paint(
    figure: Figure,
    epoch: Sequence[float],
    validation: Sequence[float],
    train: Sequence[float] | None,
    best: int,
) -> None:
    from matplotlib.ticker import MaxNLocator

    axes = figure.subplots()
    if train is not None:
        axes.plot(epoch, train, color=ORANGE, linewidth=1.8, marker="s", markersize=4, label="train")
    axes.plot(epoch, validation, color=BLUE, linewidth=2, marker="o", markersize=4.5, label="validation")
    axes.plot(
        [epoch[best]],
        [validation[best]],
        "o",
        mfc="none",
        mec=VERMILION,
        mew=1.8,
        markersize=11,
        label="kept",
    )
    shown = np.r_[validation, train if train is not None else []]
    if shown.max() > 0.97:
        axes.axhline(1, color=QUIET, linewidth=1.2, linestyle=(0, (4, 3)), label="base rate")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
    axes.margins(y=0.12)
    axes.set_xlim(min(epoch[0], 1) - 0.4, epoch[-1] + 0.4)
    axes.set_xlabel("epoch")
    axes.set_ylabel("normalized entropy (lower is better)")
    axes.legend(loc="best")
    grid(axes)
