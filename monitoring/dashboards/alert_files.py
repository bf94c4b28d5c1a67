"""The alerting rules of `monitoring/alerts` as files for Grafana's own alerting (its file provisioning, Grafana 9.4 and later).

One file per subject, made from the rule file of that name. A rule is three queries: A asks Prometheus at this instant, B says of each
series that came that it is there (a rule of Prometheus fires for every series its expression gives, whatever the value), C is B > 0. What the
rules record stays with Prometheus, which must load `monitoring/alerts` all the same.

Grafana has no inhibition: there is no contact point for the release machine in these files. Rollbacks are asked for by Alertmanager, where a
stalled click log holds them back; Grafana shows, and calls people.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ALERTS = Path(__file__).resolve().parent.parent / "alerts"
FOLDER = Path(__file__).parent / "alerting"
DATASOURCE = "prometheus"
"""uid of the Prometheus that is asked; give yours that uid in its provisioning file, or replace it here and in the files."""
UID_MOST = 40
"""Characters that Grafana takes in a uid."""
_VALUE = "$values.A.Value"


def subjects() -> list[str]:
    """Names of the rule files that hold alerts."""
    found = (path for path in sorted(ALERTS.glob("*.yaml")) if not path.name.endswith(".test.yaml"))
    return [path.stem for path in found if any("alert" in rule for rule in _rules(path))]


def text_of(subject: str) -> str:
    """The provisioning file; equal rules give equal text."""
    alerts = [rule for rule in _rules(ALERTS / f"{subject}.yaml") if "alert" in rule]
    group = {
        "orgId": 1,
        "name": subject,
        "folder": "Clickmill",
        "interval": "1m",
        "rules": [_rule(alert) for alert in alerts],
    }
    head = f"# Made from monitoring/alerts/{subject}.yaml by `make gen`; change it there.\n"
    return head + yaml.safe_dump(
        {"apiVersion": 1, "groups": [group]}, sort_keys=False, width=120, allow_unicode=True
    )


def write(folder: Path = FOLDER) -> None:
    """Write all into `folder`."""
    folder.mkdir(exist_ok=True)
    for subject in subjects():
        (folder / f"{subject}.yaml").write_text(text_of(subject))


def _rules(path: Path) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


def _rule(alert: dict[str, Any]) -> dict[str, Any]:
    return {
        "uid": f"clickmill-{alert['alert']}"[:UID_MOST],
        "title": alert["alert"],
        "condition": "C",
        "data": [
            _query("A", DATASOURCE, {"expr": alert["expr"].strip(), "instant": True, "range": False}),
            _query(
                "B", "__expr__", {"type": "math", "expression": "is_number($A) || is_nan($A) || is_inf($A)"}
            ),
            _query(
                "C",
                "__expr__",
                {
                    "type": "threshold",
                    "expression": "B",
                    "conditions": [{"evaluator": {"type": "gt", "params": [0]}}],
                },
            ),
        ],
        "for": alert.get("for", "0s"),
        "noDataState": "OK",  # an expression that gives no series is a rule that does not fire
        "execErrState": "Error",
        "labels": {name: str(value) for name, value in alert["labels"].items()},
        "annotations": {name: _told(words) for name, words in alert["annotations"].items()},
        "isPaused": False,
    }


def _query(name: str, source: str, model: dict[str, Any]) -> dict[str, Any]:
    span = {"from": 600, "to": 0} if source == DATASOURCE else {"from": 0, "to": 0}
    return {
        "refId": name,
        "relativeTimeRange": span,
        "datasourceUid": source,
        "model": {"refId": name, **model},
    }


def _told(words: str) -> str:
    """In Grafana `$value` is a text of all queries; the number is that of A."""
    return words.replace("$value", _VALUE)


__all__ = ["FOLDER", "subjects", "text_of", "write"]
