"""Plots of an experiment: the answer as it formed, the metrics beside each other, days, weekdays, slices; and of its design."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from clickmill.errors import UsageError
from clickmill.evaluation.plots.theme import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    QUIET,
    VERMILION,
    Format,
    draw,
    grid,
    percent,
)
from clickmill.experiment import design
from clickmill.experiment.design import Baseline, Plan
from clickmill.experiment.findings import Analysis, DayEffect

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = (BLUE, ORANGE, GREEN, VERMILION)
_CUT = 1.0
"""Lifts beyond +-100 % are cut off: the first looks know nothing, and would press the rest of the plot flat."""


def timeline(analysis: Analysis, *, fmt: Format = "svg") -> bytes:
    """The primary metric's lift after each look with the interval that may be looked at any time. Raises UsageError without a look that had clicks."""
    looks = [look for look in analysis.looks if look.effects]
    if not looks:
        raise UsageError("a timeline needs a look with enough clicks")
    spec = analysis.spec

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for treatment, colour in zip(spec.treatments, _COLOURS, strict=False):
            own = [look for look in looks if treatment in look.effects]
            at: list[Any] = [look.at for look in own]
            found = [look.effects[treatment] for look in own]
            low, high = (np.clip([getattr(e, end) for e in found], -_CUT, _CUT) for end in ("low", "high"))
            axes.fill_between(at, low, high, color=colour, alpha=0.16, linewidth=0)
            axes.plot(
                at,
                np.clip([e.lift for e in found], -_CUT, _CUT),
                "o-",
                color=colour,
                linewidth=1.8,
                markersize=4,
                label=treatment,
            )
        axes.axhline(0, color=INK, linewidth=1)
        axes.axhline(
            _gain(analysis), color=QUIET, linewidth=1, linestyle=(0, (4, 3)), label="least that matters"
        )
        axes.yaxis.set_major_formatter(percent)
        axes.set_ylabel(f"lift over {spec.control}")
        axes.legend(loc="best")
        axes.tick_params(axis="x", rotation=25)
        grid(axes, "y")

    title = f"{spec.metric(spec.primary).title or spec.primary}: the answer as it formed"
    words = "Band: where the truth is at all times at once. Clear of 0 it is an answer, whenever one looks."
    return draw(paint, title=title, subtitle=words, size=(8.2, 3.6), fmt=fmt)


def metrics(analysis: Analysis, *, fmt: Format = "svg") -> bytes:
    """All metrics of all treatments as lifts with intervals. Raises UsageError without an effect."""
    if not analysis.effects:
        raise UsageError("a plot of metrics needs at least one effect")
    spec, effects = analysis.spec, analysis.effects

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        several = len(spec.treatments) > 1
        for y, effect in enumerate(effects):
            _bar(axes, y, effect.lift, effect.low, effect.high)
            axes.plot(
                [effect.once_low, effect.once_high],
                [y, y],
                color=QUIET,
                linewidth=5,
                alpha=0.35,
                solid_capstyle="butt",
                zorder=0,
            )
            harm = spec.guardrails.get(effect.metric)
            if harm is not None:
                axes.plot([-harm], [y], "|", color=VERMILION, markersize=14, markeredgewidth=2)
        axes.axvline(0, color=INK, linewidth=1)
        names = [
            (spec.metric(e.metric).title or e.metric) + (f", {e.treatment}" if several else "")
            for e in effects
        ]
        axes.set_yticks(range(len(effects)), names)
        axes.set_ylim(len(effects) - 0.4, -0.6)
        axes.xaxis.set_major_formatter(percent)
        axes.set_xlabel(
            f"lift over {spec.control} (grey: interval for one look; red mark: harm that a guardrail tolerates)"
        )
        grid(axes, "x")

    return draw(
        paint,
        title="All metrics",
        subtitle="Lift and always-valid interval",
        size=(8.2, 1.6 + 0.42 * len(effects)),
        fmt=fmt,
    )


def days(found: Sequence[DayEffect], title: str, words: str, *, fmt: Format = "svg") -> bytes:
    """Lift by day or weekday, 95 % intervals for one look. Raises UsageError without a day."""
    if not found:
        raise UsageError("a plot of days needs at least one day")
    labels = list(dict.fromkeys(day.label for day in found))
    treatments = list(dict.fromkeys(day.treatment for day in found))

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for k, (treatment, colour) in enumerate(zip(treatments, _COLOURS, strict=False)):
            own = [day for day in found if day.treatment == treatment]
            x = np.array([labels.index(day.label) for day in own]) + 0.16 * (k - (len(treatments) - 1) / 2)
            lift = np.array([day.lift for day in own])
            radius = np.array([day.high - day.lift for day in own])
            axes.errorbar(
                x, lift, radius, fmt="o", color=colour, linewidth=1.6, markersize=4.5, label=treatment
            )
        axes.axhline(0, color=INK, linewidth=1)
        axes.set_xticks(range(len(labels)), labels, rotation=35 if len(labels) > 8 else 0)
        axes.yaxis.set_major_formatter(percent)
        if len(treatments) > 1:
            axes.legend(loc="best")
        grid(axes, "y")

    return draw(paint, title=title, subtitle=words, size=(5.4, 3.2), fmt=fmt)


def slices(analysis: Analysis, finding: float, *, fmt: Format = "svg") -> bytes:
    """The primary metric by slice; those that differ from their rest stand out. Raises UsageError without a slice."""
    if not analysis.slices:
        raise UsageError("a plot of slices needs at least one that can be judged")
    rows = analysis.slices

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        several = len(analysis.spec.treatments) > 1
        for y, row in enumerate(rows):
            _bar(
                axes,
                y,
                max(min(row.lift, _CUT), -_CUT),
                max(row.low, -_CUT),
                min(row.high, _CUT),
                off=row.q <= finding,
            )
        axes.axvline(0, color=INK, linewidth=1)
        for k, treatment in enumerate(analysis.spec.treatments):
            whole = analysis.effect(analysis.spec.primary, treatment)
            if whole is not None:
                axes.axvline(whole.lift, color=_COLOURS[k % 4], linewidth=1, linestyle=(0, (4, 3)))
        axes.set_yticks(
            range(len(rows)),
            [f"{r.column} = {r.value[:24]}" + (f", {r.treatment}" if several else "") for r in rows],
        )
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.xaxis.set_major_formatter(percent)
        axes.set_xlabel(f"lift over {analysis.spec.control} (dashed: all)")
        grid(axes, "x")

    off = sum(row.q <= finding for row in rows)
    words = f"{off} of {len(rows)} differ from their rest, of which one in {1 / finding:.0f} may be chance"
    return draw(paint, title="Who gains?", subtitle=words, size=(8.2, 1.6 + 0.26 * len(rows)), fmt=fmt)


def detectable(
    baseline: Baseline, plan: Plan, per_day: float, most_days: int, *, fmt: Format = "svg"
) -> bytes:
    """The least lift that can be found, by the days that an experiment runs. per_day: impressions of both arms."""
    at = np.arange(1, most_days + 1)
    kinds = (("one look at the end", False, BLUE), ("looked at any time", True, ORANGE))

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for label, any_time, colour in kinds:
            one = Plan(plan.alpha, plan.power, plan.comparisons, plan.treatment_share, any_time, plan.planned)
            found = [
                design.minimal_effect(baseline, one, max(round(per_day * day), 1)) for day in at.tolist()
            ]
            axes.plot(at, found, color=colour, linewidth=2, label=label)
        for week in range(7, most_days + 1, 7):
            axes.axvline(week, color=QUIET, linewidth=0.8, linestyle=":")
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(percent)
        axes.yaxis.set_minor_formatter(lambda value, _: "")
        axes.set_xlabel("days (dotted: whole weeks)")
        axes.set_ylabel("least lift found")
        axes.legend(loc="upper right")
        grid(axes)

    words = f"{per_day:,.0f} impressions a day in both arms, power {plan.power:.0%}, alpha {plan.alpha:g} over {plan.comparisons} comparison(s)"
    return draw(paint, title="What can be found, and when", subtitle=words, size=(7.4, 3.8), fmt=fmt)


def _bar(axes: Any, y: float, value: float, low: float, high: float, *, off: bool = False) -> None:
    colour = VERMILION if off else BLUE
    axes.plot([low, high], [y, y], color=colour, linewidth=1.8, solid_capstyle="butt")
    axes.plot([value], [y], "D" if off else "o", color=colour, markersize=5)


def _gain(analysis: Analysis) -> float:
    up = analysis.spec.metric(analysis.spec.primary).goal == "up"
    return analysis.spec.minimal_effect if up else -analysis.spec.minimal_effect


__all__ = ["days", "detectable", "metrics", "slices", "timeline"]
