"""The rules and routes of `monitoring/alerts` with shortened waiting times: the same expressions, an hour made into half a minute.

A drill must end in two minutes, and attribution windows, `for` and the age at which a log counts as stalled all shrink with it, by one
factor, so that what came first still comes first (a stalled click log is seen before the impressions it spoils are judged). Windows
of rates stay as they are: a rate needs its samples, and they come once a second either way. What looks at hours of history
(PredictionMeanShift, LabelDelayHigh, burn rates of days) has no say in a drill.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ALERTS = Path(__file__).resolve().parent.parent / "alerts"
FACTOR = 120.0
"""By how much waiting times are shortened."""
ATTRIBUTION_SECONDS, LATENESS_SECONDS = 10.0, 2.0
"""Of live quality in a drill: half an hour and 5 minutes by default, shortened as the rules are, less what scrapes and looks of a second add."""
WINDOW_SECONDS = 30.0
"""Over which live quality is measured: half an hour by default; a fifteenth of a minute would hold too few clicks."""

PROMISE_SECONDS = 0.025
"""Of the endpoint, instead of 10 ms: callers, router, servers, joins and Prometheus share the cores of one machine here."""
CANDIDATE_P99_MS = 250.0
"""A candidate's promise to the release machine. Faulty bundles have no twin and run on TensorFlow, slower than the good one: no drill of a
candidate is about that, and the one about slowness is found by BundleSlow."""
START_SECONDS = 20
"""Least `for` of alerts that wait for a process: one that imports TensorFlow starts no quicker because a drill shortens waiting times."""
STARTING = ("EndpointMetricsAbsent", "EndpointNotReady", "LiveQualityAbsent", "BundleReferenceAbsent")

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_FOR = re.compile(r"^(?P<indent> +for:) (?P<n>\d+)(?P<unit>[smhd])$", re.M)
_NAME = re.compile(r"^ +- (?:alert|record): (\w+)", re.M)
_SETTLED = "loaded_timestamp_seconds >= 120)"
_PROMISE = 'le="0.01"'
_STALLED = "> 900"
_RECENT = "< 900"


def files() -> list[Path]:
    """The rules, without their tests and the routes."""
    return sorted(
        path
        for path in ALERTS.glob("*.yaml")
        if not path.name.endswith(".test.yaml") and "groups" in yaml.safe_load(path.read_text())
    )


def shortened(text: str, factor: float = FACTOR) -> str:
    """A file of rules with its waiting times over `factor`, none below a second.

    >>> shortened("        for: 10m", 120)
    '        for: 5s'
    >>> shortened("        for: 1m", 120)
    '        for: 1s'
    """

    def shorter(found: re.Match[str]) -> str:
        seconds = int(found["n"]) * _UNITS[found["unit"]] / factor
        if not seconds:
            return found[0]
        names = _NAME.findall(found.string[: found.start()])
        least = START_SECONDS if names and names[-1] in STARTING else 1
        return f"{found['indent']} {max(round(seconds), least)}s"

    stalled = f"{900 / factor:g}"
    text = _FOR.sub(shorter, text)
    text = text.replace(_SETTLED, f"loaded_timestamp_seconds >= {max(120 / factor, 1):g})")
    text = text.replace(_PROMISE, f'le="{PROMISE_SECONDS:g}"').replace(
        " 10 ms", f" {1e3 * PROMISE_SECONDS:g} ms"
    )
    return text.replace(_STALLED, f"> {stalled}").replace(_RECENT, f"< {stalled}")


def write_rules(folder: Path, factor: float = FACTOR) -> Path:
    """All rules, shortened, into `folder`; returns it."""
    folder.mkdir(parents=True)
    for path in files():
        (folder / path.name).write_text(shortened(path.read_text(), factor))
    return folder


def prometheus_config(
    rules: Path, jobs: dict[str, int], discovered: dict[str, str], alertmanager: int
) -> dict[str, Any]:
    """Scraped and evaluated every second. jobs: name to port on loopback. discovered: name to the URL that lists targets."""
    scrapes: list[dict[str, Any]] = [
        {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
        for job, port in jobs.items()
    ]
    scrapes += [
        {"job_name": job, "http_sd_configs": [{"url": url, "refresh_interval": "1s"}]}
        for job, url in discovered.items()
    ]
    return {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [f"{rules}/*.yaml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager}"]}]}]},
        "scrape_configs": scrapes,
    }


def routes(receiver: str, people: str, dead_man: str, token: Path) -> dict[str, Any]:
    """The committed routes and inhibitions, with addresses put in, and people and the dead man's switch called within seconds."""
    config: dict[str, Any] = yaml.safe_load((ALERTS / "alertmanager.yml").read_text())
    config["route"] |= {"group_wait": "1s", "group_interval": "2s"}
    for route in config["route"]["routes"]:
        if route["receiver"] == "dead-man":
            route |= {"group_interval": "1s", "repeat_interval": "2s"}
        if route["receiver"] == "release-machine":
            route |= {"group_interval": "1s", "repeat_interval": "5s"}
    hooks = {"people": people, "dead-man": dead_man}
    for each in config["receivers"]:
        if each["name"] in hooks:
            each["webhook_configs"] = [{"url": hooks[each["name"]], "send_resolved": True}]
        if each["name"] == "release-machine":
            each["webhook_configs"][0]["url"] = receiver
            each["webhook_configs"][0]["http_config"]["authorization"]["credentials_file"] = str(token)
    return config


__all__ = [
    "ATTRIBUTION_SECONDS",
    "CANDIDATE_P99_MS",
    "FACTOR",
    "LATENESS_SECONDS",
    "PROMISE_SECONDS",
    "WINDOW_SECONDS",
    "files",
    "prometheus_config",
    "routes",
    "shortened",
    "write_rules",
]
