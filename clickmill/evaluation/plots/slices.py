"""Forest plot: one metric over all slices with intervals, beside the value over all rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clickmill.errors import UsageError
from clickmill.evaluation.estimate import Estimate
from clickmill.evaluation.evaluation import Evaluation
from clickmill.evaluation.metric import METRICS, Direction, metric_named
from clickmill.evaluation.plots.theme import BLUE, INK, QUIET, VERMILION, Format, counted, draw, grid
from clickmill.evaluation.slices import SliceScore

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_ROWS = 45
"""More do not fit on a page; the slices with the most impressions are shown."""
_LONGEST = 26
_PAPER = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}


def slice_forest(
    evaluation: Evaluation,
    *,
    metric: str = "calibration_ratio",
    title: str | None = None,
    fmt: Format = "svg",
) -> bytes:
    """Slices whose interval excludes the reference stand out. Reference: 1 for the calibration ratio, else all rows.

    Raises UsageError when the evaluation has no slices or the metric is not in their estimates.
    """
    chosen = metric_named(metric)
    if not evaluation.slices:
        raise UsageError("a forest plot needs slices, got an evaluation without any")
    if not any(metric in s.metrics for s in evaluation.slices) and any(s.metrics for s in evaluation.slices):
        known = next(list(s.metrics) for s in evaluation.slices if s.metrics)
        raise UsageError(f"metric must be one of {', '.join(known)} for these slices, got {metric!r}")
    rows = _shown(evaluation.slices)
    overall: Estimate = getattr(evaluation, metric)
    reference = chosen.best if chosen.direction is Direction.ONE else overall.value
    off = sum(_apart(s.metrics.get(metric), reference) for s in rows)
    unknown = sum(not s.metrics for s in rows)
    subtitle = f"all rows {overall.value:.4f} [{overall.low:.4f}, {overall.high:.4f}]   ·   {off} of {len(rows)} slices apart from {reference:.4g}"
    if unknown:
        subtitle += f", {unknown} with too few clicks"
    if len(rows) < len(evaluation.slices):
        subtitle += f"   ·   the largest {len(rows)} of {len(evaluation.slices)} shown"
    label = chosen.label[:1].upper() + chosen.label[1:]
    columns = len({s.column for s in rows})
    height = 1.35 + 0.235 * (len(rows) + 0.9 * columns)
    return draw(
        lambda figure: _paint(figure, rows, metric, overall, reference, 100 * evaluation.level),
        title=title or f"{label} by slice",
        subtitle=subtitle,
        size=(8.2, height),
        fmt=fmt,
    )


def _shown(slices: tuple[SliceScore, ...]) -> list[SliceScore]:
    """The largest, in their original order (column by column)."""
    largest = sorted(range(len(slices)), key=lambda i: -slices[i].n)[:MOST_ROWS]
    return [slices[i] for i in sorted(largest)]


def _short(value: str) -> str:
    """Both ends of a long value: ids often differ in the last characters only."""
    half = _LONGEST // 2
    return value if len(value) <= _LONGEST else f"{value[: half - 1]}…{value[-half:]}"


def _apart(found: Estimate | None, reference: float) -> bool:
    return found is not None and not found.low <= reference <= found.high


def _paint(
    figure: Figure, rows: list[SliceScore], metric: str, overall: Estimate, reference: float, level: float
) -> None:
    axes = figure.subplots()
    axes.axvspan(overall.low, overall.high, color=BLUE, alpha=0.10, linewidth=0)
    axes.axvline(reference, color=QUIET, linewidth=1.2, linestyle=(0, (4, 3)))
    y, ticks, labels, column = 0.0, [], [], None
    for s in rows:
        if s.column != column:
            y += 0.9 if column is not None else 0.0
            _text(axes, 0.0, y, s.column, ha="left", color=INK, fontweight="bold", x_offset=-150)
            column, y = s.column, y + 0.9
        found = s.metrics.get(metric)
        if found is None:
            _text(axes, 0.99, y, s.reason, ha="right", color=QUIET, fontstyle="italic", bbox=_PAPER)
        else:
            colour = VERMILION if _apart(found, reference) else BLUE
            axes.plot([found.low, found.high], [y, y], color=colour, linewidth=1.6, solid_capstyle="butt")
            axes.plot([found.value], [y], "D" if colour is VERMILION else "o", color=colour, markersize=4.5)
        _text(axes, 1.01, y, f"{counted(s.n)}", ha="right", color=QUIET, x_offset=62)
        _text(axes, 1.01, y, f"{counted(s.clicks)}", ha="right", color=QUIET, x_offset=112)
        ticks.append(y)
        labels.append(_short(s.value))
        y += 1
    _text(axes, 1.01, -1.0, "impressions", ha="right", color=QUIET, x_offset=62)
    _text(axes, 1.01, -1.0, "clicks", ha="right", color=QUIET, x_offset=112)
    axes.set_yticks(ticks, labels)
    axes.set_ylim(y - 0.3, -1.4)
    axes.set_xlabel(f"{METRICS[metric].label} ({level:.0f} % interval; band: all rows)")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    grid(axes, "x")
    axes.tick_params(axis="y", length=0)


def _text(axes: Axes, x: float, y: float, words: str, *, x_offset: float = 0, **style: Any) -> None:
    """Words at a share `x` of the width and the data height `y`, moved by points."""
    axes.annotate(
        words,
        (x, y),
        xycoords=axes.get_yaxis_transform(),
        xytext=(x_offset, 0),
        textcoords="offset points",
        va="center",
        fontsize=8.5,
        annotation_clip=False,
        **style,
    )
