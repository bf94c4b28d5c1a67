"""Rules in a hurry: the same rules, with the same order of what comes first."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from monitoring.drills import shortened_rules
from tests.monitoring.promql import seconds
from tests.monitoring.series import FILES


def rules(text):
    return {
        rule.get("alert", rule.get("record")): rule
        for group in yaml.safe_load(text)["groups"]
        for rule in group["rules"]
    }


def test_every_file_of_rules_is_taken_and_no_other():
    assert shortened_rules.files() == FILES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_hurried_rule_differs_in_waiting_times_and_the_promise_only(path):
    before, after = rules(path.read_text()), rules(shortened_rules.shortened(path.read_text()))
    assert before.keys() == after.keys()
    for name, rule in before.items():
        least = shortened_rules.START_SECONDS if name in shortened_rules.STARTING else 1
        if "for" in rule:
            short = (
                max(round(seconds(rule["for"]) / shortened_rules.FACTOR), least)
                if seconds(rule["for"])
                else 0
            )
            assert seconds(after[name]["for"]) == short, name
        slower = rule["expr"].replace('le="0.01"', f'le="{shortened_rules.PROMISE_SECONDS:g}"')
        slower = slower.replace(">= 120)", ">= 1)").replace("> 900", "> 7.5").replace("< 900", "< 7.5")
        assert after[name]["expr"] == slower, name
        assert after[name].get("labels") == rule.get("labels")


def test_a_stalled_click_log_is_seen_before_the_impressions_it_spoils_are_judged():
    text = shortened_rules.shortened((shortened_rules.ALERTS / "labels.yaml").read_text())
    rule = rules(text)["ClickLogStalled"]
    age = float(re.search(r"click\"\}\) > ([\d.]+)", rule["expr"])[1])
    assert age + seconds(rule["for"]) < shortened_rules.ATTRIBUTION_SECONDS + shortened_rules.LATENESS_SECONDS


def test_promtool_takes_them(tmp_path):
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed here: the shortened rules were not read by it")
    folder = shortened_rules.write_rules(tmp_path / "rules")
    done = subprocess.run(
        ["promtool", "check", "rules", *map(str, folder.iterdir())], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_amtool_takes_the_routes_and_they_are_those_of_the_repository_but_for_times_and_addresses(tmp_path):
    routed = shortened_rules.routes(
        "http://127.0.0.1:1/alerts",
        "http://127.0.0.1:2/people",
        "http://127.0.0.1:2/dead-man",
        tmp_path / "token",
    )
    committed = yaml.safe_load((shortened_rules.ALERTS / "alertmanager.yml").read_text())
    assert routed["inhibit_rules"] == committed["inhibit_rules"]
    assert [route.get("matchers") for route in routed["route"]["routes"]] == [
        route.get("matchers") for route in committed["route"]["routes"]
    ]
    hooks = {each["name"]: each["webhook_configs"][0]["url"] for each in routed["receivers"]}
    assert hooks == {
        "people": "http://127.0.0.1:2/people",
        "dead-man": "http://127.0.0.1:2/dead-man",
        "release-machine": "http://127.0.0.1:1/alerts",
    }
    if shutil.which("amtool") is None:
        pytest.skip("amtool is not installed here: the routes were not read by it")
    path = Path(tmp_path / "alertmanager.yml")
    (tmp_path / "token").write_text("t")
    path.write_text(yaml.safe_dump(routed))
    done = subprocess.run(["amtool", "check-config", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
