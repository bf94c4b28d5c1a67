"""Have live rows moved away from those the bundle was calibrated on?"""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from clickmill import metric_names as names
from monitoring.dashboards.panels import board, lines, number, rows

_WHERE = f"{names.BUNDLE}, {names.FIELD}"
_WINDOW = f'{names.FIELD}=""'


def _verdict(metric: str, value: str) -> str:
    return f'{metric}{{{names.FIELD}!="",{names.VERDICT}="{value}"}} == 1'


def _measure(measure: str) -> str:
    return f'max by ({_WHERE}) ({names.DRIFT_MEASURE}{{{names.MEASURE}="{measure}"}})'


def dashboard() -> Dashboard:
    """The dashboard."""
    whole = f"max by ({names.BUNDLE}, {names.VERDICT}) ({names.DRIFT_VERDICT}{{{_WINDOW}}}) == 1"
    quality = f"max by ({names.BUNDLE}, {names.VERDICT}) ({names.DRIFT_QUALITY}{{{_WINDOW}}}) == 1"
    of_field = "{{bundle}} {{field}}"
    return board(
        "clickmill-drift",
        "Clickmill: drift",
        "The window of each bundle that answered, held against its own reference. Thresholds are those of clickmill monitor drift; its report of each window shows the values themselves.",
        {
            "Verdicts": [
                number("Drift", "none", "Of the window as a whole.", whole, "{{bundle}} {{verdict}}"),
                number(
                    "Values",
                    "none",
                    "Whether they still are what they were.",
                    quality,
                    "{{bundle}} {{verdict}}",
                ),
                number(
                    "Rows in the window",
                    "short",
                    "Behind the verdict.",
                    f"max by ({names.BUNDLE}) ({names.DRIFT_ROWS})",
                    "{{bundle}}",
                ),
                number(
                    "Since the last look",
                    "s",
                    "DriftNotLooking alerts at three hours.",
                    f"time() - max({names.DRIFT_LOOKED})",
                    "age",
                ),
                lines(
                    "Fields by verdict",
                    "short",
                    "Three in ten drifted ones make the window drifted.",
                    {
                        "{{bundle}} {{verdict}}": f'sum by ({names.BUNDLE}, {names.VERDICT}) ({names.DRIFT_VERDICT}{{{names.FIELD}!=""}})'
                    },
                    least=0,
                ),
                rows(
                    "Drifted fields",
                    "Now.",
                    f"max by ({_WHERE}) ({_verdict(names.DRIFT_VERDICT, 'drifted')})",
                ),
            ],
            "Distances": [
                lines(
                    "Numbers: Wasserstein",
                    "none",
                    "In standard deviations of the reference, on the scale the model sees. Drift from 0.1 on.",
                    {of_field: _measure("wasserstein")},
                    least=0,
                ),
                lines(
                    "Numbers and categories: PSI",
                    "none",
                    "Judges numbers, from 0.2 on.",
                    {of_field: _measure("psi")},
                    least=0,
                ),
                lines(
                    "Categories: Jensen-Shannon",
                    "none",
                    "Drift from 0.1 on.",
                    {of_field: _measure("jensen_shannon")},
                    least=0,
                ),
                lines(
                    "Numbers: Kolmogorov-Smirnov",
                    "none",
                    "Shown, judges nothing.",
                    {of_field: _measure("ks")},
                    least=0,
                ),
                lines(
                    "The prediction",
                    "none",
                    "Distances of pCTR in log-odds.",
                    {
                        "{{bundle}} {{measure}}": f'max by ({names.BUNDLE}, {names.MEASURE}) ({names.DRIFT_MEASURE}{{{names.FIELD}="pctr",{names.MEASURE}=~"psi|wasserstein|ks"}})'
                    },
                    least=0,
                ),
                lines(
                    "New values, above those expected",
                    "percentunit",
                    "Of categories and ids; what a second sample of the reference would have is taken off (Good-Turing).",
                    {of_field: f"{_measure('new')} - {_measure('new_expected')}"},
                ),
            ],
            "Trainings that drift asked for": [
                lines(
                    "By how they went",
                    "short",
                    "Lines of the record.",
                    {"{{outcome}}": f"max by ({names.OUTCOME}) ({names.DRIFT_RETRAININGS}_total)"},
                    least=0,
                ),
                number("Since the last one began", "s", "", f"time() - max({names.DRIFT_RETRAINED})", "age"),
            ],
        },
    )
