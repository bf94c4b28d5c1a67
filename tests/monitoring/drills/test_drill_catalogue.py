"""The catalogue: every fault of the issue, alerts that exist, sentences people can read."""

import importlib

import pytest
from typer.testing import CliRunner

from clickmill.command.app import app
from monitoring.drills import DRILLS, DrillFailed, Expected, run
from tests.monitoring.series import RULES

ALERTS = {rule["alert"] for _, rule in RULES if "alert" in rule}
CHECKS = ("watch_", "shadow_", "canary_", "smoke", "calibration", "ne")


def test_each_fault_that_was_asked_for_has_a_drill():
    assert DRILLS.keys() >= {
        "bad-bundle", "uncalibrated-bundle", "slow-bundle", "crashing-bundle", "nan-bundle", "feature-nulled", "categories-renamed",
        "unit-changed", "traffic-shift", "click-log-stalled", "prometheus-down", "alertmanager-down", "receiver-killed",
        "alerts-repeated", "two-alerts",
    }  # fmt: skip


@pytest.mark.parametrize("drill", DRILLS.values(), ids=lambda drill: drill.name)
def test_a_drill_names_alerts_and_checks_that_exist(drill):
    assert drill.because, "a verdict without a reason is no verdict"
    for word in (*drill.because, *drill.silent):
        assert word in ALERTS or word.startswith(CHECKS), word
    if drill.expected is Expected.STAYS:
        assert set(drill.because) <= ALERTS
    actions = {rule["alert"]: rule["labels"]["action"] for _, rule in RULES if "alert" in rule}
    asked = {actions[word] for word in drill.because if word in ALERTS}
    assert asked <= ({"retrain", "page-data"} if drill.expected is Expected.STAYS else {"rollback"})


def test_a_drill_that_runs_without_alerts_has_a_check_of_the_machine_that_finds_it():
    tells_itself = {"alerts-repeated", "two-alerts"}  # the drill is its own Alertmanager there
    alone = {drill.name: drill for drill in DRILLS.values() if not drill.needs_alerts}
    assert alone.keys() == tells_itself | {
        "bad-bundle", "uncalibrated-bundle", "crashing-bundle", "nan-bundle", "uncalibrated-candidate", "crashing-candidate",
    }  # fmt: skip
    for name in alone.keys() - tells_itself:
        assert not set(alone[name].because) <= ALERTS, name


def test_without_prometheus_it_says_what_is_missing_and_a_drill_about_alerts_does_not_begin(
    monkeypatch, tmp_path
):
    # The package's `run` is the function, not the module.
    monkeypatch.setattr(importlib.import_module("monitoring.drills.run"), "installed", lambda program: False)
    folder = tmp_path / "site"
    for name in ("slow-bundle", "traffic-shift", "prometheus-down"):
        with pytest.raises(DrillFailed) as failed:
            run(DRILLS[name], tmp_path, tmp_path, folder, say=print)
        assert str(failed.value) == (
            f"{name} needs the alerts: prometheus and prometheus-alertmanager not found on the PATH "
            "(Debian: apt-get install prometheus prometheus-alertmanager)"
        )
    assert not folder.exists()


def test_the_list_shows_every_drill_and_an_unknown_one_is_answered_with_those_there_are():
    shown = CliRunner().invoke(app, ["drill", "list", "--json"])
    assert shown.exit_code == 0
    for name in DRILLS:
        assert f'"{name}"' in shown.stdout
    wrong = CliRunner().invoke(app, ["drill", "badbundle"])
    assert wrong.exit_code == 2
