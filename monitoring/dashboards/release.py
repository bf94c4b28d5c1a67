"""What does the release machine do, which bundle serves, since when, and how do two of them compare?"""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from clickmill import metric_names as names
from monitoring.dashboards.panels import RATE, board, lines, rows


def _door(metric: str) -> str:
    return f"sum by ({names.BUNDLE}, {names.ROLE}) (rate({metric}_total[{RATE}]))"


def dashboard() -> Dashboard:
    """The dashboard."""
    bundle, model = names.BUNDLE, names.MODEL
    created = f"max by ({bundle}) ({names.BUNDLE_CREATED})"
    serves = f"max by ({bundle}) (instance:clickmill_bundle:settled)"
    return board(
        "clickmill-release",
        "Clickmill: release",
        "The bundles that serve, side by side.",
        {
            "The release under way": [
                rows(
                    "Phase",
                    "clickmill release history says how it came there.",
                    f"max by ({names.ENDPOINT}, {names.PHASE}) ({names.RELEASE_PHASE}) == 1",
                ),
                lines(
                    "Share of live traffic",
                    "percent",
                    "By bundle.",
                    {
                        "{{endpoint}} {{bundle}}": f"max by ({names.ENDPOINT}, {bundle}) ({names.RELEASE_PERCENT})"
                    },
                    least=0,
                ),
                lines(
                    "Requests at the door",
                    "reqps",
                    "Shadow requests are copies that nobody waits for.",
                    {"{{bundle}} {{role}}": _door(names.RELEASE_REQUESTS)},
                    least=0,
                ),
                lines(
                    "Of them failed",
                    "percentunit",
                    "5xx, broken connections, timeouts.",
                    {
                        "{{bundle}} {{role}}": f"{_door(names.RELEASE_ERRORS)} / {_door(names.RELEASE_REQUESTS)}"
                    },
                    least=0,
                ),
                lines(
                    "Of them slow",
                    "percentunit",
                    "Slower than the policy's p99_ms.",
                    {"{{bundle}} {{role}}": f"{_door(names.RELEASE_SLOW)} / {_door(names.RELEASE_REQUESTS)}"},
                    least=0,
                ),
                lines(
                    "The machine itself",
                    "short",
                    "Seconds since its last step: ReleaseLoopStalled alerts after 60.",
                    {
                        "alerts with action rollback": f"max({names.RELEASE_ALERTS})",
                        "frozen": f"max({names.RELEASE_FROZEN})",
                        "seconds since its last step": f"time() - max({names.RELEASE_STEPPED})",
                    },
                    least=0,
                ),
            ],
            "In service": [
                rows(
                    "Bundle of each replica",
                    "",
                    f"max by (instance, {model}, {names.VERSION}, {names.DIGEST}) ({names.BUNDLE_INFO})",
                ),
                rows(
                    "What runs the graph",
                    "By size of the request.",
                    f"max by (instance, {names.SIZE}, {names.ENGINE}) ({names.ENGINE_INFO}) == 1",
                ),
                rows(
                    "Alerts that ask for a rollback",
                    "Empty is good.",
                    'ALERTS{alertstate="firing", action="rollback"}',
                ),
                lines(
                    "Age of the bundle in service",
                    "s",
                    "BundleStale alerts after 3 days.",
                    {"{{bundle}}": f"time() - {created} and on ({bundle}) {serves}"},
                    least=0,
                ),
                lines(
                    "Since it was swapped in",
                    "s",
                    "",
                    {"{{instance}}": f"time() - max by (instance) ({names.BUNDLE_LOADED} > 0)"},
                    least=0,
                ),
                lines(
                    "Bundles swapped in",
                    "short",
                    "Since the replica began, the first included.",
                    {"{{instance}}": f"sum by (instance) ({names.RELOADS}_total)"},
                    least=0,
                ),
                lines(
                    "Bundles refused",
                    "short",
                    "Since the replica began, by reason.",
                    {"{{instance}} {{reason}}": f"sum by (instance, {names.REASON}) ({names.REFUSED}_total)"},
                    least=0,
                ),
            ],
            "Side by side": [
                lines(
                    "Answers",
                    "reqps",
                    "Of whole minutes of the bundle's own.",
                    {"{{bundle}}": "bundle:clickmill_answers:rate2m"},
                    least=0,
                ),
                lines(
                    "Failed requests",
                    "percentunit",
                    "NaN and internal errors, from 100 requests in 2 min on. BundleFailsRequests alerts beyond 5 %.",
                    {"{{bundle}}": "bundle:clickmill_requests_failed:share2m"},
                    least=0,
                ),
                lines(
                    "Later than 10 ms",
                    "percentunit",
                    "From 100 answers in 2 min on. BundleSlow alerts beyond 5 %.",
                    {"{{bundle}}": "bundle:clickmill_answers_slow:share2m"},
                    least=0,
                ),
                lines(
                    "Predictions",
                    "percentunit",
                    "Median and 99th percentile of all candidates.",
                    {
                        "{{bundle}} median": f"histogram_quantile(0.5, sum by (le, {bundle}) (rate({names.PCTR}_bucket[{RATE}])))",
                        "{{bundle}} p99": f"histogram_quantile(0.99, sum by (le, {bundle}) (rate({names.PCTR}_bucket[{RATE}])))",
                    },
                    least=0,
                ),
                lines(
                    "NaN and infinite predictions",
                    "short",
                    "In 2 min. One is too many.",
                    {"{{bundle}}": "bundle:clickmill_not_finite:increase2m"},
                    least=0,
                ),
                lines(
                    "NE over that on test data",
                    "none",
                    "From 500 clicks on.",
                    {"{{bundle}} {{window}}": "bundle:clickmill_live_ne:relative"},
                ),
            ],
        },
    )
