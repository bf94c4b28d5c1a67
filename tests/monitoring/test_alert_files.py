"""Grafana's alert files: what the code gives, and the same rules as Prometheus has."""

import functools
import re

import pytest
import yaml

from monitoring.dashboards import alert_files
from tests.monitoring.series import RULES

ALERTS = [(subject, rule) for subject, rule in RULES if "alert" in rule]


@functools.cache
def provisioned(subject):
    [group] = yaml.safe_load(alert_files.text_of(subject))["groups"]
    return {rule["title"]: rule for rule in group["rules"]}


@pytest.mark.parametrize("subject", alert_files.subjects())
def test_the_committed_file_is_what_the_code_gives(subject):
    path = alert_files.FOLDER / f"{subject}.yaml"
    assert path.read_text() == alert_files.text_of(subject), "run `make gen` and commit"


def test_no_file_is_left_behind_and_no_alert_left_out():
    assert {path.stem for path in alert_files.FOLDER.iterdir()} == {subject for subject, _ in ALERTS}
    uids = [rule["uid"] for subject in alert_files.subjects() for rule in provisioned(subject).values()]
    assert len(uids) == len(ALERTS)
    assert len(set(uids)) == len(uids)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,40}", uid) for uid in uids)


@pytest.mark.parametrize(("subject", "alert"), ALERTS, ids=[rule["alert"] for _, rule in ALERTS])
def test_a_rule_asks_what_prometheus_asks_and_says_what_it_says(subject, alert):
    rule = provisioned(subject)[alert["alert"]]
    asked, there, fires = rule["data"]
    assert asked["model"]["expr"] == alert["expr"].strip()
    assert asked["model"]["instant"] is True
    assert "$A" in there["model"]["expression"]
    assert (fires["refId"], fires["model"]["expression"]) == (rule["condition"], there["refId"])
    assert rule["for"] == alert.get("for", "0s")
    assert rule["labels"] == alert["labels"]
    assert rule["noDataState"] == "OK"
    for name, words in alert["annotations"].items():
        assert "$value " not in rule["annotations"][name]
        assert rule["annotations"][name].replace("$values.A.Value", "$value") == words
