"""The page of a window: verdicts first, then each field with its distances and its cells side by side."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from monitoring.drift.examine import WindowDrift
from monitoring.drift.measures import Measure
from monitoring.drift.settings import DriftSettings
from monitoring.drift.verdict import Drift, FieldDrift, Quality

if TYPE_CHECKING:
    from jinja2 import Template

_TEMPLATE = Path(__file__).parent / "templates" / "report.html.j2"
_ORDER = {Drift.DRIFTED: 0, Drift.UNKNOWN: 1, Drift.SAME: 2}
_DISTANCES = {
    Measure.WASSERSTEIN: "Wasserstein",
    Measure.JENSEN_SHANNON: "Jensen-Shannon",
    Measure.PSI: "PSI",
    Measure.KS: "KS",
    Measure.KS_PVALUE: "KS p",
}
_SHARES = {
    Measure.MISSING: "missing",
    Measure.NEW: "new",
    Measure.ILLEGAL: "illegal",
}
_WORDS = {
    Drift.DRIFTED: "live rows have drifted",
    Drift.SAME: "no drift",
    Drift.UNKNOWN: "drift can't be told",
}
_LOOKS = {
    Drift.DRIFTED: "missed", Drift.SAME: "met", Drift.UNKNOWN: "plain",
    Quality.BROKEN: "missed", Quality.SOUND: "met", Quality.UNKNOWN: "plain",
}  # fmt: skip
"""Classes of the style sheet that all pages share."""


def page(found: WindowDrift, settings: DriftSettings, *, sampled: int) -> str:
    """HTML that needs no network. sampled: rows in Evidently's report beside it; 0: there is none."""
    from markupsafe import Markup

    def worst_first(field: FieldDrift) -> tuple[bool, int]:
        return field.quality is not Quality.BROKEN, _ORDER[field.drift]

    def judges(field: FieldDrift, measure: Measure) -> bool:
        judging = settings.numbers_by if field.kind == "number" else settings.categories_by
        return measure in judging

    def over(field: FieldDrift, measure: Measure) -> bool:
        return judges(field, measure) and field.measures.get(measure, 0.0) >= settings.threshold(measure)

    def figure(field: FieldDrift, measure: Measure) -> str:
        value = field.measures.get(measure)
        if value is None:
            return "–"
        if measure in _SHARES:
            return f"{100 * value:.1f} %"
        return "< 0.001" if measure is Measure.KS_PVALUE and value < 0.001 else f"{value:.3f}"

    return _template().render(
        css=Markup(files("clickmill.bundle").joinpath("templates/card.css").read_text()),
        found=found,
        fields=sorted(found.fields, key=worst_first),
        settings=settings,
        sampled=sampled,
        columns=_DISTANCES | _SHARES,
        over=over,
        figure=figure,
        words=_WORDS,
        looks=_LOOKS,
    )


@cache
def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATE.parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(_TEMPLATE.name)


__all__ = ["page"]
