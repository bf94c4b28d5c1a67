"""The report of an experiment: one page that loads nothing from elsewhere, for a reader who is no statistician."""

from __future__ import annotations

import base64
from importlib.resources import files

from clickmill.experiment import plots
from clickmill.experiment.analysis import FINDING
from clickmill.experiment.findings import Analysis, Effect, Look
from clickmill.experiment.spec import MetricSpec
from clickmill.release import Verdict

_BADGE = {
    Verdict.PASS: ("Yes", "met"),
    Verdict.FAIL: ("No", "missed"),
    Verdict.UNKNOWN: ("Not known", "plain"),
}
_BROKEN = ("Broken", "missed")


def page(analysis: Analysis, *, note: str = "") -> str:
    """The page as HTML. note: a sentence under the title, such as where the traffic came from."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("clickmill.experiment", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    spec = analysis.spec
    badge = _BADGE if analysis.sample_ratio.sound else dict.fromkeys(_BADGE, _BROKEN)
    return environment.get_template("report.html.j2").render(
        css=files("clickmill.bundle").joinpath("templates/card.css").read_text(),
        analysis=analysis,
        spec=spec,
        note=note,
        answer=badge[analysis.verdict],
        answers=[(conclusion, *badge[conclusion.verdict]) for conclusion in analysis.conclusions],
        tiles=_tiles(analysis),
        metrics=[_row(analysis, effect) for effect in analysis.effects],
        arms=[
            (arm, [_amount(spec.metric(name), arm.values.get(name)) for name in spec.judged])
            for arm in analysis.arms
        ],
        titles=[spec.metric(name).title or name for name in spec.judged],
        pictures=_pictures(analysis),
        first_look=_first_clear(analysis),
        odds=_odds,
        finding=FINDING,
    )


def _tiles(analysis: Analysis) -> list[dict[str, str]]:
    spec = analysis.spec
    treatment = analysis.best.treatment
    effect = analysis.effect(spec.primary, treatment)
    split = analysis.sample_ratio
    title = spec.metric(spec.primary).title or spec.primary
    value, detail = "–", "too few clicks"
    if not split.sound:  # the figure that everybody looks at first must not be one that means nothing
        detail = "no figure counts where the split is broken"
    elif effect:
        value, detail = _share(effect.lift), f"between {_share(effect.low)} and {_share(effect.high)}"
    return [
        {"name": f"{title}, {treatment} beside {spec.control}", "value": value, "detail": detail},
        {
            "name": "Users",
            "value": f"{sum(split.users.values()):,}",
            "detail": f"{analysis.impressions:,} impressions, {sum(arm.clicks for arm in analysis.arms):,} clicks",
        },
        {
            "name": "Split of the users",
            "value": "sound" if split.sound else "broken",
            "detail": ", ".join(f"{n:,} {arm}" for arm, n in split.users.items()),
        },
        {
            "name": "Time",
            "value": f"{(analysis.until - analysis.start).total_seconds() / 86_400:.1f} days",
            "detail": f"{analysis.start:%d %b %H:%M} to {analysis.until:%d %b %Y %H:%M} UTC",
        },
    ]


def _row(analysis: Analysis, effect: Effect) -> dict[str, str]:
    spec = analysis.spec
    metric = spec.metric(effect.metric)
    role = "decides" if effect.metric == spec.primary else "told only"
    if effect.metric in spec.guardrails:
        role = f"may lose {100 * spec.guardrails[effect.metric]:g} %"
    return {
        "title": metric.title or effect.metric,
        "treatment": effect.treatment,
        "role": role,
        "control": _amount(metric, effect.control_value),
        "value": _amount(metric, effect.treatment_value),
        "lift": _share(effect.lift),
        "span": f"{_share(effect.low)} to {_share(effect.high)}",
        "saved": f"{100 * (1 - effect.variance_kept):.0f} %" if spec.pre_days else "–",
    }


def _pictures(analysis: Analysis) -> list[dict[str, str | bool]]:
    made: list[tuple[str, str, bytes, bool]] = []
    if any(look.effects for look in analysis.looks):
        made.append(
            (
                "Timeline",
                "The band narrows as traffic comes. It may be looked at as often as one likes.",
                plots.timeline(analysis),
                True,
            )
        )
    if analysis.effects:
        made.append(("Metrics", "Left of 0 is a loss, right of it a gain.", plots.metrics(analysis), True))
    if len(analysis.days) > 1:
        words = "Does it wear off, or grow?"
        made.append(("Days", "A new thing is clicked because it is new. If the lift falls from day to day, believe the last days.",
                     plots.days(analysis.days, "Lift by day", words), False))  # fmt: skip
    if len(analysis.weekdays) > 1:
        words = "Mondays, Tuesdays, ... (UTC)"
        made.append(("Weekdays", "A lift on some weekdays only is a lift of some people only.",
                     plots.days(analysis.weekdays, "Lift by weekday", words), False))  # fmt: skip
    if analysis.slices:
        caption = (
            f"Red ones differ from the rest of their kind beyond chance (false discovery rate {FINDING:.0%})."
        )
        made.append(("Slices", caption, plots.slices(analysis, FINDING), True))
    return [
        {
            "title": title,
            "caption": caption,
            "wide": wide,
            "uri": "data:image/svg+xml;base64," + base64.b64encode(svg).decode(),
        }
        for title, caption, svg, wide in made
    ]


def _first_clear(analysis: Analysis) -> Look | None:
    """The first look at which the deciding treatment's interval was clear of 0."""
    treatment = analysis.best.treatment
    for look in analysis.looks:
        effect = look.effects.get(treatment)
        if effect is not None and (effect.low > 0 or effect.high < 0):
            return look
    return None


def _amount(metric: MetricSpec, value: float | None) -> str:
    if value is None:
        return "–"
    is_rate = metric.numerator == "clicks" and metric.denominator == "impressions" and metric.scale == 1
    return f"{100 * value:.3f} %" if is_rate else f"{value:,.4g}"


def _share(value: float) -> str:
    return f"{100 * value:+.{1 if abs(value) >= 0.01 else 2}f}\N{NO-BREAK SPACE}%"


def _odds(p: float) -> str:
    """A probability as people say it."""
    if p >= 0.1:
        return f"{100 * p:.0f} in 100"
    return f"1 in {min(1 / p if p else 1e12, 1e12):,.0f}"


__all__ = ["page"]
