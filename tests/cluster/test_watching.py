"""Live quality and drift as the chart runs them, from their own image, on what a real predictor logs and a click log that grows."""

from __future__ import annotations

import itertools
import secrets
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from clickmill import bundle as bundles
from clickmill import metric_names as names
from serving.rows import example_row
from tests.cluster.bringup import Places, apply, wait_for
from tests.cluster.installation import (
    ROOT,
    Installation,
    readable_by_pods,
    remove_namespace,
    restricted_namespace,
)
from tests.serving.small_bundle import CONTRACT, WITH_IMPRESSIONS
from tests.serving.twin_bundle import write_twin_bundle

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

SMALL = {"requests": {"cpu": "20m", "memory": "128Mi"}, "limits": {"cpu": "1", "memory": "2Gi"}}
VALUES = {
    "endpoint": {"storageUri": "pvc://models/store"},
    "images": {"registry": "localhost", "pullPolicy": "Never"},
    "predictor": {"replicas": {"min": 1, "max": 1}, "threads": 1, "resources": SMALL},
    "ranker": {"enabled": False},
    "autoscaling": {"class": "none"},
    "operator": {"enabled": False},
    "store": {"claim": "models", "path": "store"},
    "predictionLog": {"claim": "logs", "saltSecretName": "salt"},
    "clicks": {"claim": "clicks", "attributionSeconds": 5},
    "quality": {
        "enabled": True,
        "everySeconds": 2,
        "resources": SMALL,
        "args": ["--set=live.lateness_seconds=1", "--set=live.windows_seconds=[60]"],
    },
    "drift": {"enabled": True, "everySeconds": 10, "resources": SMALL},
}
ENOUGH = 50


@pytest.fixture(scope="module")
def watched(
    node: Places, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Installation, Path, str]]:
    """The release, the folder of the click log, and the bundle's digest."""
    namespace = f"watch-{secrets.token_hex(3)}"
    root = node.cache / "models" / namespace
    folders = {name: root / name for name in ("models", "logs", "clicks")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    bundle = write_twin_bundle(folders["models"] / "store" / "1", contract=WITH_IMPRESSIONS)
    readable_by_pods(root)
    folders["logs"].chmod(0o777)
    installed = Installation(node, namespace, "ctr", bundle)
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "salt", "namespace": namespace},
        "stringData": {"salt": "sixteen bytes and more"},
    }
    try:
        apply(node, [*restricted_namespace(namespace, folders), secret])
        values = tmp_path_factory.mktemp("values") / "values.yaml"
        values.write_text(yaml.safe_dump(VALUES))
        installed.helm("install", "ctr", str(ROOT / "helm/clickmill"), f"--values={values}", seconds=120)
        installed.wait_for_pods(1, seconds=600)
        installed.wait_for_answer()
        yield installed, folders["clicks"], bundles.verify(bundle).digest
    finally:
        remove_namespace(node, namespace)
        shutil.rmtree(root, ignore_errors=True)


def series(installed: Installation, component: str, port: int) -> dict[str, float]:
    """What the pod exports, by name and labels."""
    pods = installed.get("pods", f"--selector=app.kubernetes.io/component={component}")["items"]
    (address,) = [each["status"]["podIP"] for each in pods if "deletionTimestamp" not in each["metadata"]]
    text = httpx.get(f"http://{address}:{port}/metrics", timeout=10, trust_env=False).text
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def test_live_quality_joins_what_a_pod_logged_with_the_clicks_that_came(watched):
    """One in five impressions is clicked, and they go on: what can be judged is older than the newest, and what could be judged at the first
    look is where the counters begin."""
    installed, clicks, digest = watched
    installed.kubectl("rollout", "status", "deployment/ctr-quality", "--timeout=300s", seconds=310)
    url = f"{installed.url()}/v1/models/ctr:predict"
    known = example_row(installed.bundle, CONTRACT.inputs)
    numbers = itertools.count()
    found: dict[str, float] = {}

    def judged() -> bool:
        shown = [f"{next(numbers)}-{place}" for place in range(5)]
        rows = [{**known, "impression_id": impression} for impression in shown]
        httpx.post(url, json={"instances": rows}, timeout=30, trust_env=False).raise_for_status()
        clicked = {
            "impression_id": shown[:1],
            "click_time": pa.array([datetime.now(UTC)], pa.timestamp("us", "UTC")),
        }
        partial = clicks / ".partial"
        pq.write_table(pa.table(clicked), partial)
        partial.chmod(0o644)
        partial.rename(clicks / f"{shown[0]}.parquet")
        seen = series(installed, "quality", 9105)
        for field in ("impressions", "clicks"):
            name = f'{dict(names.JUDGED)[field]}_total{{bundle="{digest[:12]}"}}'
            found[field] = seen.get(name, 0.0)
        return found["impressions"] >= ENOUGH

    wait_for("enough of them judged", judged, 600, 0.5)
    assert found["clicks"] == found["impressions"] / 5


def test_drift_looks_at_the_same_log_and_store(watched):
    installed, _, _ = watched
    installed.kubectl("rollout", "status", "deployment/ctr-drift", "--timeout=300s", seconds=310)

    def looked() -> bool:
        found = series(installed, "drift", 9107)
        return any(value > 0 for name, value in found.items() if name.startswith(names.DRIFT_LOOKED))

    wait_for("a look of drift's", looked, 300, 1)
