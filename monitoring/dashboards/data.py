"""Does what a training needs arrive: logs, labels, features, sound values, and a new bundle from them?"""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from clickmill import metric_names as names
from monitoring.dashboards.panels import RATE, board, lines, number, rows

_DAMAGE = 'subject=~"labels|features|drift|pipeline"'


def _measure(measure: str) -> str:
    return f'max by ({names.FIELD}) ({names.DRIFT_MEASURE}{{{names.MEASURE}="{measure}"}})'


def dashboard() -> Dashboard:
    """The dashboard."""
    outcome = names.OUTCOME
    broken = f'{names.DRIFT_QUALITY}{{{names.FIELD}!="",{names.VERDICT}="broken"}} == 1'
    return board(
        "clickmill-data",
        "Clickmill: data pipeline",
        "From requests to the next bundle: what was answered and logged, what clicks came, whether the values are sound, and when a bundle was last made of them.",
        {
            "Logs": [
                number(
                    "Age of the newest prediction",
                    "s",
                    "PredictionLogStalled and ClickLogStalled alert on a stop.",
                    f'time() - max({names.LIVE_NEWEST}{{{outcome}="prediction"}})',
                    "age",
                ),
                number(
                    "Age of the newest click",
                    "s",
                    "",
                    f'time() - max({names.LIVE_NEWEST}{{{outcome}="click"}})',
                    "age",
                ),
                number(
                    "Unreadable files", "short", "Of either log.", f"max({names.LIVE_UNREADABLE})", "files"
                ),
                number(
                    "Age of the feature aggregates",
                    "s",
                    "FeaturesStale alerts at 26 hours.",
                    f"time() - min({names.FEATURES_AS_OF} > 0)",
                    "age",
                ),
                lines(
                    "Rows written by endpoints",
                    "cps",
                    "By outcome; what is not `written` is lost.",
                    {"{{outcome}}": f"sum by ({outcome}) (rate({names.LOG_ROWS}_total[{RATE}]))"},
                    least=0,
                ),
                lines(
                    "Rows read, by what they were",
                    "cps",
                    "Impressions, predictions nobody saw, clicks, clicks without id or time.",
                    {"{{outcome}}": f"sum by ({outcome}) (rate({names.LIVE_ROWS}_total[{RATE}]))"},
                    least=0,
                ),
            ],
            "Labels": [
                lines(
                    "Clicks per judged impression",
                    "percentunit",
                    "A join that breaks falls to zero.",
                    {
                        "{{bundle}} {{window}}": f'max by ({names.BUNDLE}, {names.WINDOW}) ({names.LIVE_CLICK_RATE}{{{names.FIELD}=""}})'
                    },
                    least=0,
                ),
                lines(
                    "From a prediction to its click",
                    "s",
                    "Beyond the attribution window clicks are lost to training.",
                    {
                        "q{{quantile}} {{window}}": f"max by ({names.QUANTILE}, {names.WINDOW}) ({names.LIVE_LABEL_DELAY})"
                    },
                    least=0,
                ),
            ],
            "Values": [
                lines(
                    "Missing values",
                    "percentunit",
                    "In the window of drift, by field.",
                    {"{{field}}": _measure("missing")},
                    least=0,
                ),
                lines(
                    "Missing values, against the reference",
                    "percentunit",
                    "Ten points more are DriftDataBroken.",
                    {"{{field}}": f"{_measure('missing')} - {_measure('missing_reference')}"},
                ),
                lines(
                    "Values the reference does not know",
                    "percentunit",
                    "Of categories and ids.",
                    {"{{field}}": _measure("new")},
                    least=0,
                ),
                lines(
                    "Illegal values",
                    "percentunit",
                    "That the contract's range or allowed values forbid, and not finite numbers.",
                    {"{{field}}": _measure("illegal"), "{{field}} not finite": _measure("not_finite")},
                    least=0,
                ),
                rows("Broken fields", "Now.", f"max by ({names.BUNDLE}, {names.FIELD}) ({broken})"),
                rows("Alerts about data", "Firing and pending.", f"ALERTS{{{_DAMAGE}}}"),
            ],
            "Bundles": [
                lines(
                    "Age of each bundle",
                    "s",
                    "BundleStale alerts at three days, for the one in service.",
                    {"{{bundle}}": f"time() - max by ({names.BUNDLE}) ({names.BUNDLE_CREATED})"},
                    least=0,
                ),
                lines(
                    "Trainings that drift asked for",
                    "short",
                    "",
                    {"{{outcome}}": f"max by ({outcome}) ({names.DRIFT_RETRAININGS}_total)"},
                    least=0,
                ),
            ],
        },
    )
