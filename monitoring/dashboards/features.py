"""Do features and logs arrive, whole and fresh?"""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from clickmill import metric_names as names
from monitoring.dashboards.panels import RATE, board, lines, rows


def dashboard() -> Dashboard:
    """The dashboard."""
    field, outcome, reason = names.FIELD, names.OUTCOME, names.REASON
    ages = f"sum by (le, {field}) (rate({names.FEATURE_AGE}_bucket[{RATE}]))"
    reads = f"sum by (le) (rate({names.FEATURE_READ_SECONDS}_bucket[{RATE}]))"
    return board(
        "clickmill-features",
        "Clickmill: features and logs",
        "The online feature store as the endpoint sees it, and the logs that labels come from.",
        {
            "Feature store": [
                lines(
                    "Reads",
                    "reqps",
                    "By outcome.",
                    {"{{outcome}}": f"sum by ({outcome}) (rate({names.FEATURE_READS}_total[{RATE}]))"},
                    least=0,
                ),
                lines(
                    "Time of a read",
                    "s",
                    "How long requests waited for the store.",
                    {
                        "median": f"histogram_quantile(0.5, {reads})",
                        "p99": f"histogram_quantile(0.99, {reads})",
                    },
                    least=0,
                ),
                lines(
                    "Defaults by reason",
                    "cps",
                    "Values that the contract's default stood in for.",
                    {"{{reason}}": f"sum by ({reason}) (rate({names.FEATURES_DEFAULTED}_total[{RATE}]))"},
                    least=0,
                ),
                lines(
                    "Defaults by a fault",
                    "percentunit",
                    "Share of the values of a field, over 10 min. FeatureValuesFaulty alerts beyond 5 %.",
                    {"{{field}}": "field:clickmill_feature_values_faulty:share10m"},
                    least=0,
                ),
                lines(
                    "Unknown ids and values",
                    "percentunit",
                    "Share of the values of a field, over 10 min. FeatureValuesMissing alerts 20 points above the day before.",
                    {"{{field}}": "field:clickmill_feature_values_missing:share10m"},
                    least=0,
                ),
                lines(
                    "Age of the values found",
                    "s",
                    "",
                    {
                        "{{field}} median": f"histogram_quantile(0.5, {ages})",
                        "{{field}} p90": f"histogram_quantile(0.9, {ages})",
                    },
                    least=0,
                ),
                lines(
                    "Age of the aggregates",
                    "s",
                    "Of the publication in service.",
                    {"{{instance}}": f"time() - max by (instance) ({names.FEATURES_AS_OF} > 0)"},
                    least=0,
                ),
                rows(
                    "Publication in service",
                    "",
                    f"max by (instance, {names.VERSION}) ({names.FEATURES_PUBLICATION})",
                ),
            ],
            "Prediction log": [
                lines(
                    "Rows",
                    "cps",
                    "Written, dropped for lack of room, lost to a bug.",
                    {"{{outcome}}": f"sum by ({outcome}) (rate({names.LOG_ROWS}_total[{RATE}]))"},
                    least=0,
                ),
                lines(
                    "Rows that wait",
                    "short",
                    "",
                    {"{{instance}}": f"sum by (instance) ({names.LOG_PENDING})"},
                    least=0,
                ),
                lines(
                    "Events to the broker",
                    "cps",
                    "With --log-events.",
                    {"{{outcome}}": f"sum by ({outcome}) (rate({names.LOG_EVENTS}_total[{RATE}]))"},
                    least=0,
                ),
                lines(
                    "Files and events tried again",
                    "cps",
                    "",
                    {
                        "files": f"sum(rate({names.LOG_WRITE_ERRORS}_total[{RATE}]))",
                        "events": f"sum(rate({names.LOG_EVENT_RETRIES}_total[{RATE}]))",
                    },
                    least=0,
                ),
            ],
            "What the joiner reads": [
                lines(
                    "Rows",
                    "cps",
                    "By what they were.",
                    {"{{outcome}}": f"sum by ({outcome}) (rate({names.LIVE_ROWS}_total[{RATE}]))"},
                    least=0,
                ),
                lines(
                    "Unreadable files, and seconds since the last look",
                    "short",
                    "",
                    {
                        "files": f"max({names.LIVE_UNREADABLE})",
                        "seconds": f"time() - max({names.LIVE_LOOKED})",
                    },
                    least=0,
                ),
            ],
        },
    )
