"""The picture of a drill: who answered, what went wrong with the answers, how well clicks were predicted; events as lines across."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from clickmill.evaluation.plots.theme import BLUE, GREEN, INK, ORANGE, QUIET, VERMILION, draw, grid
from monitoring.drills.run import Drilled
from monitoring.drills.timeline import Answer, Event, Kind

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {Kind.FAULT: VERMILION, Kind.ALERT: ORANGE, Kind.DECISION: GREEN}
BEFORE_SECONDS = 10.0
"""Of the time before the fault that is shown."""
SMOOTH_SECONDS = 3
"""Over which predicted over true clicks is averaged: a second holds some 500 impressions."""


def picture(drilled: Drilled) -> bytes:
    """SVG."""
    words = "as expected" if drilled.outcome.as_expected else "NOT as expected"
    return draw(
        lambda figure: _paint(figure, drilled),
        title=f"{drilled.drill.name}: {words}",
        subtitle="seconds since the fault was put in; lines: fault (red), alert (orange), decision of the release machine (green)",
        size=(10.5, 7.6),
        fmt="svg",
    )


def _paint(figure: Figure, drilled: Drilled) -> None:
    zero = drilled.started_at
    answers = [a for a in drilled.timeline.answers if a.done >= zero - BEFORE_SECONDS]
    last = max((a.done for a in answers), default=zero) - zero
    edges = np.arange(-BEFORE_SECONDS, np.ceil(last) + 1)
    axes = figure.subplots(3, 1, sharex=True, height_ratios=[1, 0.8, 1.3])
    _split(axes[0], answers, edges, drilled, zero)
    _failures(axes[1], answers, edges, zero)
    _calibration(axes[2], answers, edges, drilled, zero)
    lines = _lines(drilled)
    for axis in axes:
        grid(axis)
        axis.set_xlim(edges[0], edges[-1])
        for event in lines:
            axis.axvline(event.at - zero, color=COLOURS[event.kind], linewidth=1.1, zorder=3)
    axes[2].set_xlabel("seconds since the fault")


def _lines(drilled: Drilled) -> list[Event]:
    """The fault, the first alert that counted and the decisions: more would hide what they mark."""
    start = drilled.started_at
    timeline = drilled.timeline
    alerts = [
        e
        for e in timeline.of(Kind.ALERT, since=start)
        if e.name in drilled.drill.because or e.action == "rollback"
    ]
    faults = timeline.of(Kind.FAULT, since=start)
    return [*faults, *alerts[:1], *timeline.of(Kind.DECISION, since=start)]


def _split(axis: Axes, answers: Sequence[Answer], edges: np.ndarray, drilled: Drilled, zero: float) -> None:
    at = np.array([a.done - zero for a in answers])
    answered = np.array([a.bundle != "" for a in answers])
    good = np.array([a.bundle == drilled.good for a in answers])
    all_, _ = np.histogram(at[answered], edges)
    of_good, _ = np.histogram(at[good], edges)
    with np.errstate(invalid="ignore"):
        share = 100 * of_good / all_
    axis.stackplot(
        edges[:-1] + 0.5,
        share,
        100 - share,
        colors=[BLUE, VERMILION],
        alpha=0.75,
        labels=["good bundle", "other bundle"],
        step="mid",
    )
    axis.set_ylim(0, 100)
    axis.set_ylabel("answers, %")
    axis.legend(loc="center right", ncols=1, frameon=True, framealpha=0.85, edgecolor="none")


def _failures(axis: Axes, answers: Sequence[Answer], edges: np.ndarray, zero: float) -> None:
    at = np.array([a.due - zero for a in answers])
    all_, _ = np.histogram(at, edges)
    for words, colour, hit in (
        ("lost", VERMILION, [a.status != 200 for a in answers]),
        (
            "answered at a second try of the caller",
            ORANGE,
            [a.status == 200 and a.tries > 1 for a in answers],
        ),
    ):
        count, _ = np.histogram(at[np.array(hit, bool)], edges)
        with np.errstate(invalid="ignore"):
            axis.step(
                edges[:-1], 100 * count / all_, where="post", color=colour, label=f"{words}: {sum(hit):,}"
            )
    axis.set_ylim(0, max(5.0, axis.get_ylim()[1]))
    axis.set_ylabel("requests, %")
    late = axis.twinx()
    slow = [
        np.percentile(
            [1e3 * (a.done - a.due) for a in answers if low <= a.due - zero < low + 1] or [np.nan], 95
        )
        for low in edges[:-1]
    ]
    late.step(edges[:-1], slow, where="post", color=QUIET, linewidth=0.9)
    late.set_ylabel("p95, ms", color=QUIET)
    late.set_yscale("log")
    axis.legend(loc="upper left")


def _calibration(
    axis: Axes, answers: Sequence[Answer], edges: np.ndarray, drilled: Drilled, zero: float
) -> None:
    at = np.array([a.done - zero for a in answers])
    predicted, _ = np.histogram(at, edges, weights=[a.predicted for a in answers])
    truth, _ = np.histogram(at, edges, weights=[a.truth if a.status == 200 else 0.0 for a in answers])
    kernel = np.ones(SMOOTH_SECONDS)
    with np.errstate(invalid="ignore", divide="ignore"):
        served = np.convolve(predicted, kernel, "same") / np.convolve(truth, kernel, "same")
    axis.axhspan(0.9, 1.1, color=GREEN, alpha=0.12, linewidth=0)
    axis.plot(edges[:-1] + 0.5, served, color=INK, linewidth=1.4, label="served: predicted over true clicks")
    for bundle in dict.fromkeys(figure.bundle for figure in drilled.timeline.figures):
        seen = [f for f in drilled.timeline.figures if f.bundle == bundle and f.at >= zero - BEFORE_SECONDS]
        if not seen:
            continue
        own = drilled.good.startswith(bundle)
        when = [f.at - zero for f in seen]
        colour = BLUE if own else VERMILION
        axis.fill_between(
            when, [f.low for f in seen], [f.high for f in seen], color=colour, alpha=0.18, linewidth=0
        )
        axis.plot(
            when,
            [f.calibration for f in seen],
            color=colour,
            linewidth=1.2,
            linestyle="--",
            label=f"live quality of the {'good' if own else 'other'} bundle, 95 %",
        )
    axis.set_yscale("log")
    axis.set_yticks([0.5, 0.7, 0.9, 1.1, 1.5, 2, 3], labels=["0.5", "0.7", "0.9", "1.1", "1.5", "2", "3"])
    axis.minorticks_off()
    low, high = axis.get_ylim()
    axis.set_ylim(max(min(low, 0.7), 0.2), min(max(high, 1.5), 6))
    axis.set_ylabel("calibration ratio")
    axis.legend(loc="upper left")


__all__ = ["picture"]
