"""One look for all plots: colour-blind-safe, quiet grid, title and a line of numbers on top, same bytes for same input.

Colours: Okabe & Ito, "Color Universal Design", 2008. Figures are made without pyplot, so nothing global is left behind.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from clickmill.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Format = Literal["svg", "png"]

BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
INK, QUIET, GRID = "#222222", "#6B6B6B", "#E4E4E4"

_RC = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.edgecolor": "#9A9A9A",
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "svg.hashsalt": "clickmill",
    "figure.facecolor": "white",
}


def draw(
    paint: Callable[[Figure], None], *, title: str, subtitle: str, size: tuple[float, float], fmt: Format
) -> bytes:
    """A figure of `size` (width, height) inches painted by `paint`, as SVG or PNG (160 dpi) bytes."""
    if fmt not in ("svg", "png"):
        raise UsageError(f"fmt must be svg or png, got {fmt!r}")
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with matplotlib.rc_context(_RC):
        head = 0.62 / size[1]
        layout = ConstrainedLayoutEngine(rect=(0.01, 0.01, 0.98, 0.98 - head), h_pad=0.05, w_pad=0.05)
        figure = Figure(figsize=size, layout=layout)
        FigureCanvasAgg(figure)
        left = 0.16 / size[0]
        figure.text(left, 1 - 0.14 / size[1], title, fontsize=12.5, fontweight="bold", color=INK, va="top")
        figure.text(left, 1 - 0.40 / size[1], subtitle, fontsize=9, color=QUIET, va="top")
        paint(figure)
        out = io.BytesIO()
        # No date and no version in the file: the same input gives the same bytes, so a bundle's digest is reproducible.
        metadata = {"Date": None, "Creator": "clickmill"} if fmt == "svg" else {"Software": None}
        figure.savefig(out, format=fmt, dpi=160, metadata=metadata)
    return out.getvalue()


def grid(axes: Axes, axis: Literal["both", "x", "y"] = "both") -> None:
    """Quiet lines behind the data."""
    axes.grid(True, axis=axis)
    axes.tick_params(length=3)


def percent(value: float, _position: float = 0) -> str:
    """0.034 as 3.4 %, with as many digits as it takes.

    >>> percent(0.034), percent(0.2), percent(0.00012)
    ('3.4 %', '20 %', '0.012 %')
    """
    return f"{100 * value:.3g} %"


def counted(n: float) -> str:
    """Thousands with commas.

    >>> counted(1234567)
    '1,234,567'
    """
    return f"{n:,.0f}"
