"""How good are the predictions that clicks have judged?"""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from clickmill import metric_names as names
from monitoring.dashboards.panels import board, lines

_ALL = f'{{{names.FIELD}=""}}'
_SLICES = f'{{{names.FIELD}!=""}}'
_BY = f"{names.BUNDLE}, {names.WINDOW}"
_OF = "{{bundle}} {{window}}"


def _live(metric: str) -> str:
    return f"max by ({_BY}) ({metric}{_ALL})"


def dashboard() -> Dashboard:
    """The dashboard."""
    return board(
        "clickmill-quality",
        "Clickmill: model quality",
        "Predictions joined with their clicks, by bundle and window. An impression is judged when its attribution window is over.",
        {
            "Quality": [
                lines(
                    "NE",
                    "none",
                    "Log loss over the entropy of the click rate: 1 knows only the rate. Its own on test data beside it. From 20 clicks on.",
                    {
                        _OF: _live(names.LIVE_NE),
                        "{{bundle}} on test": f"max by ({names.BUNDLE}) ({names.BUNDLE_NE})",
                    },
                ),
                lines(
                    "NE over that on test data",
                    "none",
                    "From 500 clicks on. Beyond 1.05 it is NormalizedEntropyHigh, or NormalizedEntropyDrifted if it was good before.",
                    {_OF: "bundle:clickmill_live_ne:relative"},
                ),
                lines(
                    "Calibration: predicted over real clicks",
                    "none",
                    "With its 95 % interval. Outside 0.9 to 1.1 by the whole interval is an alert.",
                    {
                        _OF: _live(names.LIVE_CALIBRATION),
                        f"{_OF} low": _live(names.LIVE_CALIBRATION_LOW),
                        f"{_OF} high": _live(names.LIVE_CALIBRATION_HIGH),
                    },
                ),
                lines("AUC", "none", "", {_OF: _live(names.LIVE_AUC)}),
                lines(
                    "Click rate and prediction",
                    "percentunit",
                    "Which of the two moved?",
                    {
                        f"{_OF} clicks": _live(names.LIVE_CLICK_RATE),
                        f"{_OF} predicted": _live(names.LIVE_PCTR),
                        "{{bundle}} predicted on test": f"max by ({names.BUNDLE}) ({names.BUNDLE_PCTR})",
                    },
                ),
                lines(
                    "Mean of all predictions, 30 min",
                    "percentunit",
                    "Needs no click. Candidates that nobody saw count as well.",
                    {"{{bundle}}": f"{names.BUNDLE}:{names.PCTR}:mean30m"},
                ),
            ],
            "Data behind it": [
                lines(
                    "Judged impressions",
                    "short",
                    "In the window.",
                    {_OF: _live(names.LIVE_IMPRESSIONS)},
                    least=0,
                ),
                lines("Clicks on them", "short", "", {_OF: _live(names.LIVE_CLICKS)}, least=0),
                lines(
                    "Click delay",
                    "s",
                    "From a prediction to its click.",
                    {
                        f"{_OF} q{{{{quantile}}}}": f"max by ({_BY}, {names.QUANTILE}) ({names.LIVE_LABEL_DELAY})",
                    },
                    least=0,
                ),
                lines(
                    "Age of the newest row",
                    "s",
                    "A log that stalls rises here.",
                    {"{{outcome}}": f"time() - max by ({names.OUTCOME}) ({names.LIVE_NEWEST})"},
                    least=0,
                ),
            ],
            "Slices": [
                lines(
                    "NE by slice",
                    "none",
                    "The most frequent values of the fields in live.slices.",
                    {
                        "{{bundle}} {{field}}={{value}} {{window}}": f"max by ({_BY}, {names.FIELD}, {names.VALUE}) ({names.LIVE_NE}{_SLICES})"
                    },
                ),
                lines(
                    "Calibration by slice",
                    "none",
                    "",
                    {
                        "{{bundle}} {{field}}={{value}} {{window}}": f"max by ({_BY}, {names.FIELD}, {names.VALUE}) ({names.LIVE_CALIBRATION}{_SLICES})"
                    },
                ),
            ],
        },
    )
