"""The page of a window: verdicts first, then each field with its distances and its cells side by side."""

from __future__ import annotations

from functools import cache
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
SHOWN = {
    Measure.WASSERSTEIN: "Wasserstein",
    Measure.JENSEN_SHANNON: "JS",
    Measure.PSI: "PSI",
    Measure.KS: "KS",
    Measure.KS_PVALUE: "KS p",
}
SHARES = {
    Measure.MISSING: "missing",
    Measure.NEW: "new",
    Measure.ILLEGAL: "illegal",
}


def page(found: WindowDrift, settings: DriftSettings, *, sampled: int) -> str:
    """HTML that needs no network. sampled: rows in Evidently's report beside it; 0: there is none."""

    def worst_first(field: FieldDrift) -> tuple[bool, int]:
        return field.quality is not Quality.BROKEN, _ORDER[field.drift]

    def judges(field: FieldDrift, measure: Measure) -> bool:
        judging = settings.numbers_by if field.kind == "number" else settings.categories_by
        return measure in judging

    def over(field: FieldDrift, measure: Measure) -> bool:
        return judges(field, measure) and field.measures.get(measure, 0.0) >= settings.threshold(measure)

    return _template().render(
        found=found,
        fields=sorted(found.fields, key=worst_first),
        settings=settings,
        sampled=sampled,
        shown=SHOWN,
        shares=SHARES,
        over=over,
    )


@cache
def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATE.parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(_TEMPLATE.name)


__all__ = ["page"]
