"""The scheduled look at drift: its compiled YAML, its knobs, and the step itself on a small market."""

import json
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from clickmill.errors import UsageError
from components.image import DEFAULT_IMAGE
from components.monitor import monitor
from pipelines.compile import COMPILED, DRIFT
from pipelines.drift import compile_pipeline
from tests.monitoring.drift import market


def test_the_committed_yaml_is_what_the_code_compiles_to(tmp_path: Path) -> None:
    fresh = compile_pipeline(tmp_path / DRIFT)
    assert fresh.read_text() == (COMPILED / DRIFT).read_text(), "run `make gen` and commit the result"


def test_a_look_is_never_cached_has_our_image_and_bounds_and_is_retried() -> None:
    pipeline = yaml.safe_load((COMPILED / DRIFT).read_text())
    (task,) = pipeline["root"]["dag"]["tasks"].values()
    assert not task["cachingOptions"].get("enableCache")
    assert task["retryPolicy"]["maxRetryCount"] == 2
    container = pipeline["deploymentSpec"]["executors"]["exec-monitor"]["container"]
    assert container["image"] == DEFAULT_IMAGE
    assert container["resources"]["resourceMemoryLimit"] == "8Gi"


def test_the_salt_comes_from_a_secret(tmp_path: Path) -> None:
    path = compile_pipeline(tmp_path / "p.yaml", salt_secret="log-salt", volumes={"ads": "/mnt/ads"})
    _, kubernetes = yaml.safe_load_all(path.read_text())
    found = kubernetes["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-monitor"]
    (secret,) = found["secretAsEnv"]
    assert secret["keyToEnv"] == [{"envVar": "CLICKMILL_LOG_SALT", "secretKey": "salt"}]
    assert "log-salt" in json.dumps(secret)
    assert "a salt of sixteen" not in path.read_text()


class Artifact(SimpleNamespace):
    def log_metric(self, name: str, value: float) -> None:
        self.figures[name] = value


def look(folder: Path, **words: object) -> tuple[str, dict[str, Artifact]]:
    outputs = {
        name: Artifact(path=str(folder / name), figures={}, metadata={})
        for name in ("report", "evidently", "metrics")
    }
    given = {
        "store": str(folder / "store"), "log": str(folder / "log"), "impressions": [], "folder": str(folder / "out"),
        "drift": {"report": "none"}, "retrain": {}, "push": "",
    }  # fmt: skip
    return monitor.python_func(**{**given, **words, **outputs}), outputs


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    digest = market.write_bundle(tmp_path / "store" / "1", market.rows(15_000, seed=1))
    moved = market.logged(
        market.rows(15_000, seed=2, odds=0.5), digest, at=datetime.now(UTC) - timedelta(minutes=1)
    )
    market.write_log(tmp_path / "log", moved)
    monkeypatch.setenv("CLICKMILL_LOG_SALT", market.SALT.secret.decode())
    return tmp_path


def test_the_step_says_its_verdict_and_keeps_window_and_metrics(site: Path) -> None:
    verdict, outputs = look(site)
    assert verdict == "drifted"
    figures = outputs["metrics"].figures
    assert (figures["rows"], figures["drifted"], figures["broken"]) == (15_000, 1, 0)
    assert "the prediction moved" in (site / "report").read_text()
    assert 'clickmill_drift_verdict{bundle="' in (site / "out" / "drift.prom").read_text()


def test_a_gateway_that_is_away_costs_the_figures_and_not_the_look(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A retry would be a second look, and two looks that agree start a training."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        verdict, _ = look(site, push=f"http://127.0.0.1:{port}/metrics/job/shop-drift")
    assert verdict == "drifted"
    assert "could not be pushed" in " ".join(capsys.readouterr().out.split())


def test_the_step_starts_one_run_of_kubeflow_and_the_next_look_none(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import kfp

    started = []

    class Client:
        def __init__(self, host: str | None) -> None:
            assert host == "http://kfp:8888"

        def create_run_from_pipeline_package(self, package: str, **words: object) -> SimpleNamespace:
            started.append(words)
            return SimpleNamespace(run_id="r1")

        def get_experiment(self, experiment_name: str) -> SimpleNamespace:
            return SimpleNamespace(experiment_id="e")

        def list_runs(self, **words: object) -> SimpleNamespace:
            return SimpleNamespace(runs=None)

    monkeypatch.setattr(kfp, "Client", Client)
    retrain = {
        "pipeline": str(COMPILED / "ctr.yaml"), "arguments": {"store": "/mnt/store"}, "host": "http://kfp:8888",
        "budget": {"windows": 1},
    }  # fmt: skip
    look(site, retrain=retrain)
    look(site, retrain=retrain)
    [words] = started
    assert words["arguments"] == {"store": "/mnt/store"}
    lines = [json.loads(line) for line in (site / "out" / "retrainings.jsonl").read_text().splitlines()]
    assert [(line["event"], line["cause"]) for line in lines] == [("started", None), ("refused", "under_way")]


def test_settings_that_make_no_sense_are_refused_before_anything_is_read(site: Path) -> None:
    with pytest.raises(UsageError, match="psy"):
        look(site, drift={"psy": 1})
    with pytest.raises(UsageError, match="no such file; give the compiled training pipeline"):
        look(site, retrain={"pipeline": "/nowhere/ctr.yaml"})
    with pytest.raises(UsageError, match="no group of a Pushgateway"):
        look(site, push="http://pushgateway:9091")
    assert not (site / "out").exists()
