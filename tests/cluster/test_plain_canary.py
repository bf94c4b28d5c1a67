"""KServe's own canary of Standard mode beside a second InferenceService, which is what our operator makes: the same model, the same load.

What is asserted are replicas, by KServe's own rule; how many requests the missing pod costs depends on the machine and is printed
(docs/benchmarks.md has it).
"""

from __future__ import annotations

import copy
import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from serving.rows import example_row
from tests.cluster.bringup import Places, apply, wait_for
from tests.cluster.callers import Callers
from tests.cluster.installation import (
    ROOT,
    Installation,
    readable_by_pods,
    remove_namespace,
    restricted_namespace,
)
from tests.cluster.sampled import Sampled
from tests.serving.small_bundle import CONTRACT
from tests.serving.twin_bundle import write_twin_bundle

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]

VALUES = {
    "endpoint": {"storageUri": "pvc://models/a"},
    "images": {"registry": "localhost", "pullPolicy": "Never"},
    "predictor": {
        "replicas": {"min": 2, "max": 2},
        "threads": 1,
        "drainSeconds": 5,
        "resources": {
            "requests": {"cpu": "20m", "memory": "256Mi"},
            "limits": {"cpu": "200m", "memory": "1Gi"},
        },
    },
    "ranker": {"enabled": False},
    "autoscaling": {"class": "none"},
    "operator": {"enabled": False},
}
ROWS = 500


@pytest.fixture(scope="module")
def installed(node: Places, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Two pods of a fifth of a core each."""
    namespace = f"canary-{secrets.token_hex(3)}"
    models = node.cache / "models" / namespace
    for letter, bias in (("a", 0.0), ("b", 0.01)):
        write_twin_bundle(models / letter, bias=bias)
    readable_by_pods(models)
    found = Installation(node, namespace, "ctr", models / "a")
    try:
        apply(node, restricted_namespace(namespace, {"models": models}))
        values = tmp_path_factory.mktemp("values") / "values.yaml"
        values.write_text(yaml.safe_dump(VALUES))
        found.helm("install", "ctr", str(ROOT / "helm/clickmill"), f"--values={values}", seconds=120)
        found.wait_for_pods(2, seconds=600)
        found.wait_for_answer()
        yield found
    finally:
        remove_namespace(node, namespace)


def asked(installed: Installation) -> list[dict[str, Any]]:
    """Rows of one request: so many that two pods of a fifth of a core can answer these callers, and one can't."""
    return [example_row(installed.bundle, CONTRACT.inputs)] * ROWS


def available(installed: Installation, name: str) -> int:
    return int(installed.get("deployment", name)["status"].get("availableReplicas", 0))


def test_kserves_own_canary_takes_a_pod_from_the_stable_model_before_its_own_is_up(
    installed: Installation,
) -> None:
    home = installed.get("inferenceservice", "ctr")
    model = {**home["spec"]["predictor"]["model"], "storageUri": "pvc://models/b"}
    canary = {"trafficPercent": 50, "predictor": {"name": "next", "model": model}}
    with (
        Callers(
            f"{installed.url()}/v1/models/ctr:predict", asked(installed), threads=8, pause_seconds=0.03
        ) as callers,
        Sampled(
            lambda: (available(installed, "ctr-predictor"), available(installed, "ctr-next-predictor"))
        ) as pods,
    ):
        wait_for("answers", lambda: callers.answered > 500, 120)
        before = len(callers.failures), callers.answered
        installed.kubectl(
            "patch",
            "inferenceservice",
            "ctr",
            "--type=merge",
            f"--patch={json.dumps({'spec': {'canary': [canary]}})}",
        )
        wait_for("the canary", lambda: available(installed, "ctr-next-predictor") == 1, 600, 1)
        failed, answered = len(callers.failures) - before[0], callers.answered - before[1]
    print(
        f"\nspec.canary at 50 %: {failed} of {failed + answered} requests failed until the canary was up, {before[0]} of {sum(before)} before; {callers.failures[-1:]}"
    )
    alone = [(stable, coming) for stable, coming in pods.seen if stable + coming < 2]
    assert alone, "there were always two pods"
    assert len(callers.bundles) == 1, "no request reached the canary by the InferenceService's own address"
    installed.kubectl("patch", "inferenceservice", "ctr", "--type=merge", '--patch={"spec":{"canary":null}}')
    wait_for("both stable pods", lambda: available(installed, "ctr-predictor") == 2, 300, 1)


def test_a_second_inference_service_takes_none(installed: Installation) -> None:
    home = installed.get("inferenceservice", "ctr")
    kept = {key: home["metadata"].get(key, {}) for key in ("labels", "annotations")}
    beside = {
        **{key: home[key] for key in ("apiVersion", "kind")},
        "metadata": {"name": "ctr-beside", "namespace": installed.namespace, **kept},
        "spec": copy.deepcopy(home["spec"]),
    }
    beside["spec"]["predictor"]["model"]["storageUri"] = "pvc://models/b"
    with (
        Callers(
            f"{installed.url()}/v1/models/ctr:predict", asked(installed), threads=8, pause_seconds=0.03
        ) as callers,
        Sampled(lambda: available(installed, "ctr-predictor")) as pods,
    ):
        wait_for("answers", lambda: callers.answered > 500, 120)
        before = len(callers.failures), callers.answered
        apply(installed.at, [beside])
        wait_for("the pods beside", lambda: available(installed, "ctr-beside-predictor") == 2, 600, 1)
        failed, answered = len(callers.failures) - before[0], callers.answered - before[1]
    print(
        f"\nbeside: {failed} of {failed + answered} requests failed until it was up, {before[0]} of {sum(before)} before; {callers.failures[-1:]}"
    )
    assert min(pods.seen) == 2
    installed.kubectl("delete", "inferenceservice", "ctr-beside", "--wait=true", seconds=120)
