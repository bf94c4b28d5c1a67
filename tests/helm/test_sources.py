"""What the chart takes from elsewhere is what stands there; what is rendered from it is what it says."""

import json
import re
import shutil
import subprocess

import pytest
import yaml

from clickmill import __version__
from helm import generate
from tests.helm import rendering

ALERTS = generate.ROOT / "monitoring" / "alerts"
BOARDS = generate.ROOT / "monitoring" / "dashboards" / "json"
MATCHER = re.compile(r"(\w+)(=~|!~|!=|=)\"(.*)\"")


def test_copies_are_current():
    for copy, source in generate.copies().items():
        assert copy.exists(), f"{copy.name} is missing: run `make gen` and commit"
        assert copy.read_text() == source.read_text(), f"{copy.name} is stale: run `make gen` and commit"


def test_no_copy_is_left_of_what_is_gone():
    kept = {path for folder in generate.FOLDERS for path in (generate.CHART / folder).glob("*")}
    assert kept == set(generate.copies()) - {generate.CHART / "files" / "alertmanager.yml"}


def test_every_rule_file_is_in_the_chart_and_no_test_of_one():
    names = {path.name for path in generate.copies() if path.parent.name == "alerts"}
    assert names == {path.name for path in ALERTS.glob("*.yaml") if ".test." not in path.name}
    assert "serving.yaml" in names


def test_the_chart_is_of_this_version():
    chart = yaml.safe_load((generate.CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == __version__


def test_rendered_rules_are_the_source_with_namespace_and_runbook():
    rendered = rendering.objects(rendering.MINIMAL, namespace="ads")
    found = {
        each["metadata"]["name"]: each["spec"]["groups"]
        for each in rendering.of_kind(rendered, "PrometheusRule")
    }
    prefix = yaml.safe_load((generate.CHART / "values.yaml").read_text())["monitoring"]["runbookUrlPrefix"]
    wanted = {}
    for path in ALERTS.glob("*.yaml"):
        if ".test." in path.name:
            continue
        groups = yaml.safe_load(path.read_text())["groups"]
        for rule in (rule for group in groups for rule in group["rules"] if "alert" in rule):
            rule["labels"]["namespace"] = "ads"
            runbook = rule["annotations"]["runbook_url"]
            assert (generate.ROOT / runbook).exists()
            rule["annotations"]["runbook_url"] = prefix + runbook
        wanted[f"ctr-{path.stem}"] = groups
    assert found == wanted


def test_prometheus_accepts_the_rendered_rules(tmp_path):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: rendered rules were NOT checked by Prometheus itself")
    for each in rendering.of_kind(rendering.objects(rendering.MINIMAL), "PrometheusRule"):
        path = tmp_path / f"{each['metadata']['name']}.yaml"
        path.write_text(yaml.safe_dump({"groups": each["spec"]["groups"]}))
        done = subprocess.run([promtool, "check", "rules", path], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_rules_as_files_are_the_files():
    rendered = rendering.objects(rendering.FULL)
    data = rendering.named(rendered, "ConfigMap", "ctr-rules")["data"]
    for name, text in data.items():
        assert yaml.safe_load(text) == yaml.safe_load((ALERTS / name).read_text())
    assert set(data) == {path.name for path in ALERTS.glob("*.yaml") if ".test." not in path.name}


def test_each_dashboard_is_a_config_map_that_the_sidecar_takes():
    rendered = rendering.objects(rendering.MINIMAL)
    boards = [
        each
        for each in rendering.of_kind(rendered, "ConfigMap")
        if each["metadata"]["labels"].get("grafana_dashboard") == "1"
    ]
    found = {name: json.loads(text) for each in boards for name, text in each["data"].items()}
    assert found == {path.name: json.loads(path.read_text()) for path in BOARDS.glob("*.json")}


def test_grafanas_own_alerts_are_the_files():
    data = rendering.named(rendering.objects(rendering.FULL), "ConfigMap", "ctr-grafana-alerts")["data"]
    sources = generate.ROOT / "monitoring" / "dashboards" / "alerting"
    assert {name: yaml.safe_load(text) for name, text in data.items()} == {
        path.name: yaml.safe_load(path.read_text()) for path in sources.glob("*.yaml")
    }
    assert data


def matcher(text):
    name, kind, value = MATCHER.fullmatch(text).groups()
    return {"name": name, "matchType": kind, "value": value}


def camel(route):
    out = {
        re.sub(r"_(\w)", lambda m: m[1].upper(), key): value
        for key, value in route.items()
        if key not in {"routes", "matchers"}
    }
    if "matchers" in route:
        out["matchers"] = [matcher(each) for each in route["matchers"]]
    if "routes" in route:
        out["routes"] = [camel(each) for each in route["routes"]]
    return out


def test_alertmanager_config_has_the_routes_and_inhibitions_of_the_file():
    source = yaml.safe_load((ALERTS / "alertmanager.yml").read_text())
    spec = rendering.named(rendering.objects(rendering.FULL), "AlertmanagerConfig", "ctr")["spec"]
    assert spec["route"] == camel(source["route"])
    assert spec["inhibitRules"] == [
        {
            "sourceMatch": [matcher(each) for each in rule["source_matchers"]],
            "targetMatch": [matcher(each) for each in rule["target_matchers"]],
            **({"equal": rule["equal"]} if "equal" in rule else {}),
        }
        for rule in source["inhibit_rules"]
    ]
    assert [each["name"] for each in spec["receivers"]] == [each["name"] for each in source["receivers"]]
    assert spec["receivers"][0]["slackConfigs"] == [{"channel": "#ads"}]


def test_the_release_machine_is_told_with_a_token_from_the_secret():
    spec = rendering.named(rendering.objects(rendering.FULL), "AlertmanagerConfig", "ctr")["spec"]
    (receiver,) = [each for each in spec["receivers"] if each["name"] == "release-machine"]
    (hook,) = receiver["webhookConfigs"]
    assert hook["url"] == "http://ctr-operator.ads.svc:9095/alerts"
    assert hook["httpConfig"]["authorization"]["credentials"] == {"name": "alerts", "key": "token"}


def test_the_kustomize_base_is_what_the_chart_renders():
    program = rendering.program()
    wanted = dict(generate.base(program))
    found = {path.name: path.read_text() for path in generate.BASE.glob("*.yaml")}
    found.pop("values.yaml")
    assert sorted(found) == sorted(wanted), "run `make gen` and commit"
    for name, text in wanted.items():
        assert found[name] == text, f"manifests/base/{name} is stale: run `make gen` and commit"
