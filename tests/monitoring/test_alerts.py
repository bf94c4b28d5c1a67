"""Every alert is three files of one name that agree with each other, with the metrics there are, and with the docs."""

import functools
import re
import shutil
import subprocess

import pytest
import yaml

from clickmill import metric_names as names
from serving import refusals
from serving.features import Reason
from tests.monitoring import promql
from tests.monitoring.series import ALERTS, FILES, LABELS, RECORDED, RULES, exposed

MONITORING = ALERTS.parent
ALERTING = [pytest.param(stem, rule, id=rule["alert"]) for stem, rule in RULES if "alert" in rule]
ROLLING_BACK = [param for param in ALERTING if param.values[1]["labels"]["action"] == "rollback"]
ACTIONS = {"rollback", "retrain", "page-data", "none"}


def tool(name):
    found = shutil.which(name)
    if found is None:
        pytest.skip(
            f"{name} is not installed here: the rules are NOT tested (Debian: prometheus, prometheus-alertmanager)"
        )
    return found


@functools.cache
def unit_tests():
    return [(path.name, yaml.safe_load(path.read_text())["tests"]) for path in ALERTS.glob("*.test.yaml")]


@functools.cache
def checks():
    """By alert: the files that test it, and (name of the test, second) of its checks, by whether it is silent or fires."""
    found = {}
    for file, tests in unit_tests():
        for test in tests:
            for check in test.get("alert_rule_test", []):
                one = found.setdefault(check["alertname"], {"files": set(), "silent": [], "firing": []})
                one["files"].add(file.removesuffix(".test.yaml"))
                fires = check.get("exp_alerts") or []
                one["firing" if fires else "silent"].append(
                    (test["name"], promql.seconds(check["eval_time"]))
                )
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_rules_and_their_tests_pass_promtool(path):
    promtool = tool("promtool")
    for command in (["check", "rules", path.name], ["test", "rules", f"{path.stem}.test.yaml"]):
        found = subprocess.run([promtool, *command], cwd=ALERTS, capture_output=True, text=True)
        assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize(("stem", "rule"), ALERTING)
def test_an_alert_has_its_labels_words_and_runbook(stem, rule):
    labels, annotations = rule["labels"], rule["annotations"]
    assert labels["subject"] == stem
    assert labels["severity"] in {"critical", "warning", "none"}
    assert labels["action"] in ACTIONS
    assert set(annotations) == {"summary", "description", "runbook_url"}
    assert annotations["runbook_url"] == f"monitoring/runbooks/{rule['alert']}.md"
    runbook = (MONITORING / "runbooks" / f"{rule['alert']}.md").read_text()
    assert runbook.startswith(f"# {rule['alert']}\n")
    assert re.findall(r"^## (.*)$", runbook, re.M) == ["Meaning", "Impact", "Diagnosis", "Mitigation"]


@pytest.mark.parametrize(("stem", "rule"), ALERTING)
def test_an_alert_is_shown_silent_before_its_time_firing_and_silent_in_the_nearest_case(stem, rule):
    shown = checks()[rule["alert"]]
    assert stem in shown["files"]
    assert shown["firing"]
    if rule["alert"] == "Watchdog":
        return  # it has no case of silence
    name, first = min(shown["firing"], key=lambda check: check[1])
    wait = promql.seconds(rule["for"])
    before = [at for test, at in shown["silent"] if test == name and at < first]
    assert before, f"no check of silence before {first} s in {name!r}"
    assert first - max(before) <= max(300, wait), "the check of silence should be one step before `for` ends"
    others = [test for test, _ in shown["silent"] if test != name]
    assert others or "silent" in name or " not " in name, (
        f"{rule['alert']} has no nearest case that is silent"
    )


@pytest.mark.parametrize(("stem", "rule"), ALERTING)
def test_an_alert_says_how_much_data_it_needs(stem, rule):
    text = (ALERTS / f"{stem}.yaml").read_text()
    body = text.split(f"- alert: {rule['alert']}\n")[1]
    assert body.lstrip().startswith("# Data: ")


@pytest.mark.parametrize(("stem", "rule"), ROLLING_BACK)
def test_an_alert_that_rolls_back_names_the_bundle_it_is_about(stem, rule):
    assert "$labels.bundle" in rule["annotations"]["summary"]
    firing = [
        alert
        for _, tests in unit_tests()
        for test in tests
        for check in test.get("alert_rule_test", [])
        if check["alertname"] == rule["alert"]
        for alert in check.get("exp_alerts") or []
    ]
    assert firing
    assert all(re.fullmatch("[a-f0-9]{12}", alert["exp_labels"]["bundle"]) for alert in firing)


def test_every_expression_reads_series_that_exist_by_labels_that_exist():
    known = exposed() | RECORDED
    for _, rule in RULES:
        read = promql.metrics(rule["expr"])
        assert read or rule["expr"] == "vector(1)"
        assert read <= known, rule
        assert promql.labels(rule["expr"]) <= LABELS, rule


def test_a_metric_that_is_renamed_breaks_the_build():
    assert promql.metrics(
        'sum by (bundle) (rate(clickmill_gone_total{reason=~"a|b"}[5m] offset 1h)) > 1'
    ) == {"clickmill_gone_total"}
    assert promql.labels('a{reason="x"} / on (bundle) group_left () sum without (window) (b)') == {
        "reason", "bundle", "window",
    }  # fmt: skip
    assert "clickmill_gone_total" not in exposed()
    assert "clickmill_bundle_refused_total" in exposed()


def test_reasons_and_edges_in_the_rules_are_those_of_the_endpoint():
    everything = "\n".join(path.read_text() for path in FILES)
    reasons = {refusal.reason for _, refusal in refusals._TABLE} | {refusals._BUG.reason}
    of_features = {reason.value for reason in Reason}
    for metric, values in re.findall(r'(\w+)\{[^}]*reason[!=~]+"([^"]+)"', everything):
        allowed = of_features if metric == "clickmill_features_defaulted_total" else reasons
        assert set(values.split("|")) <= allowed, metric
    edges = set(re.findall(r'\ble="([^"]+)"', everything))
    assert edges == {"0.01"}
    assert 0.01 in names.LATENCY_EDGES


def test_alertmanager_takes_the_routes_and_inhibits_by_alerts_that_exist():
    amtool = tool("amtool")
    config = ALERTS / "alertmanager.yml"

    def routed(*labels):
        command = [amtool, "config", "routes", "test", "--config.file", str(config), *labels]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert routed("alertname=Watchdog", "action=none") == "dead-man"
    assert routed("alertname=BundleSlow", "action=rollback", "severity=critical") == "release-machine,people"
    assert routed("alertname=BundleStale", "action=retrain", "severity=warning") == "people"
    alerts = {rule["alert"] for _, rule in RULES if "alert" in rule}
    rules = yaml.safe_load(config.read_text())["inhibit_rules"]
    for rule in rules:
        for matcher in rule["source_matchers"] + rule["target_matchers"]:
            label, value = re.fullmatch(r'(\w+)!?=~?"(.*)"', matcher).groups()
            assert set(value.split("|")) <= (alerts if label == "alertname" else {p.stem for p in FILES})


def test_the_table_in_the_docs_is_that_of_the_files():
    rows = [
        f"| [{rule['alert']}](../monitoring/runbooks/{rule['alert']}.md) | {stem} | {rule['labels']['severity']} | "
        f"{rule['labels']['action']} | {rule.get('for', '0m')} |"
        for stem, rule in RULES
        if "alert" in rule
    ]
    docs = (MONITORING.parent / "docs" / "monitoring.md").read_text().splitlines()
    found = [line for line in docs if line.startswith("| [") and "/runbooks/" in line]
    assert found == rows


def test_the_prometheus_config_in_the_docs_loads_all_rules_and_no_test(tmp_path):
    promtool = tool("promtool")
    docs = (MONITORING.parent / "docs" / "monitoring.md").read_text()
    [config] = re.findall(r"```yaml\n# prometheus.yml\n(.*?)```", docs, re.S)
    (tmp_path / "clickmill").symlink_to(MONITORING.parent)
    (tmp_path / "prometheus.yml").write_text(config)
    command = [promtool, "check", "config", str(tmp_path / "prometheus.yml")]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr
    assert f"{len(FILES)} rule files found" in found.stdout


def test_no_runbook_is_left_behind_and_their_links_lead_somewhere():
    alerts = {rule["alert"] for _, rule in RULES if "alert" in rule}
    runbooks = {path.stem: path.read_text() for path in (MONITORING / "runbooks").glob("*.md")}
    assert set(runbooks) == alerts
    known = exposed()
    families = known | {name.removesuffix(suffix) for name in known for suffix in ("_bucket", "_total")}
    for name, text in runbooks.items():
        for link in re.findall(r"\]\((\w+)\.md\)", text):
            assert link in alerts, name
        assert set(re.findall(r"clickmill_\w+", text)) <= families, name
