"""Is the endpoint up and in time, and where does the time go?"""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from clickmill import metric_names as names
from monitoring.dashboards.panels import RATE, board, lines, number

_UNANSWERED = "model:clickmill_requests_unanswered:rate5m"
_REQUESTS = "model:clickmill_requests:rate5m"
_SLOW = "model:clickmill_answers_slow:rate5m"
_ANSWERS = "model:clickmill_answers:rate5m"


def _share(part: str, whole: str, window: str) -> str:
    return f"avg_over_time({part}[{window}]) / avg_over_time({whole}[{window}])"


def _quantile(q: float, metric: str, by: str) -> str:
    return f"histogram_quantile({q}, sum by (le, {by}) (rate({metric}_bucket[{RATE}])))"


def dashboard() -> Dashboard:
    """The dashboard."""
    model, protocol, reason, stage = names.MODEL, names.PROTOCOL, names.REASON, names.STAGE
    return board(
        "clickmill-serving",
        "Clickmill: serving",
        "Objectives of the endpoint, its load, and where its milliseconds go.",
        {
            "Objectives: 99.99 % answered, 99 % of the answers within 10 ms": [
                number(
                    "Unanswered, 6 h",
                    "percentunit",
                    "By our fault. At most 0.01 %.",
                    _share(_UNANSWERED, _REQUESTS, "6h"),
                ),
                number("Later than 10 ms, 6 h", "percentunit", "At most 1 %.", _share(_SLOW, _ANSWERS, "6h")),
                number(
                    "Unanswered, 3 d", "percentunit", "At most 0.01 %.", _share(_UNANSWERED, _REQUESTS, "3d")
                ),
                number("Later than 10 ms, 3 d", "percentunit", "At most 1 %.", _share(_SLOW, _ANSWERS, "3d")),
                lines(
                    "Pace of the availability budget",
                    "none",
                    "1 uses up the budget of 30 days in 30 days. AvailabilityBurnFast pages at 14.4 over 1 h and 5 min.",
                    {
                        "{{model_name}} 5 min": f"{_UNANSWERED} / {_REQUESTS} / 0.0001",
                        "{{model_name}} 1 h": f"{_share(_UNANSWERED, _REQUESTS, '1h')} / 0.0001",
                    },
                    least=0,
                ),
                lines(
                    "Pace of the latency budget",
                    "none",
                    "As above; LatencyBurnFast pages at 14.4.",
                    {
                        "{{model_name}} 5 min": f"{_SLOW} / {_ANSWERS} / 0.01",
                        "{{model_name}} 1 h": f"{_share(_SLOW, _ANSWERS, '1h')} / 0.01",
                    },
                    least=0,
                ),
            ],
            "Load": [
                lines(
                    "Answers",
                    "reqps",
                    "By protocol. `ranker` is what a ranker in a process of its own asks its predictor; callers' request is in `rank`.",
                    {"{{protocol}}": f"sum by ({protocol}) (rate({names.REQUEST_SECONDS}_count[{RATE}]))"},
                    least=0,
                ),
                lines(
                    "Requests without a prediction",
                    "reqps",
                    "By reason: overload was turned away, deadline came too late, malformed is the caller's.",
                    {"{{reason}}": f"sum by ({reason}) (rate({names.REJECTED}_total[{RATE}]))"},
                    least=0,
                ),
                lines(
                    "Requests inside",
                    "short",
                    "By process. Waiting ones are the queue; beyond the limit they are turned away.",
                    {
                        "{{instance}} being answered": f"sum by (instance) ({names.IN_FLIGHT})",
                        "{{instance}} waiting": f"sum by (instance) ({names.WAITING})",
                        "{{instance}} limit": f"sum by (instance) ({names.CONCURRENCY_LIMIT})",
                    },
                    least=0,
                ),
                lines(
                    "Candidates in a request",
                    "short",
                    "",
                    {
                        "median": _quantile(0.5, names.CANDIDATES, model),
                        "p99": _quantile(0.99, names.CANDIDATES, model),
                    },
                    least=0,
                ),
                lines(
                    "Rankings without the model",
                    "reqps",
                    "Answered from what stands by, by the reason the model was not asked or had no answer.",
                    {"{{reason}}": f"sum by ({reason}) (rate({names.FALLBACKS}_total[{RATE}]))"},
                    least=0,
                ),
                lines(
                    "What stood in for the model",
                    "cps",
                    "Candidates by the source of their probability.",
                    {
                        "{{source}}": f"sum by ({names.SOURCE}) (rate({names.FALLBACK_CANDIDATES}_total[{RATE}]))"
                    },
                    least=0,
                ),
            ],
            "Time": [
                lines(
                    "Answer, p99",
                    "s",
                    "From the last byte of the request.",
                    {"{{protocol}}": _quantile(0.99, names.REQUEST_SECONDS, protocol)},
                    least=0,
                ),
                lines(
                    "Answer, median",
                    "s",
                    "From the last byte of the request.",
                    {"{{protocol}}": _quantile(0.5, names.REQUEST_SECONDS, protocol)},
                    least=0,
                ),
                lines(
                    "Stages, p99",
                    "s",
                    "",
                    {"{{stage}}": _quantile(0.99, names.STAGE_SECONDS, stage)},
                    least=0,
                ),
                lines(
                    "Wait before scoring",
                    "s",
                    "Shedding goes by it.",
                    {
                        "median": _quantile(0.5, names.WAIT_SECONDS, model),
                        "p99": _quantile(0.99, names.WAIT_SECONDS, model),
                    },
                    least=0,
                ),
            ],
            "Replicas": [
                lines(
                    "Ready",
                    "bool_yes_no",
                    "",
                    {"{{instance}}": f"min by (instance) ({names.READY})"},
                    least=0,
                ),
                lines(
                    "Predictions",
                    "cps",
                    "Rows scored.",
                    {"{{instance}}": f"sum by (instance) (rate({names.PREDICTIONS}_total[{RATE}]))"},
                    least=0,
                ),
            ],
        },
    )
