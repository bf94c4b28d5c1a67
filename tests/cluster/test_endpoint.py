"""The chart's endpoint on a real API server, kubelet and KServe: it answers, scales, and outlives what is done to its cluster."""

from __future__ import annotations

import secrets
import signal
import subprocess
import time
from collections.abc import Iterator

import numpy as np
import pyarrow.parquet as pq
import pytest

from clickmill import contract as contracts
from clickmill.bundle import golden
from clickmill.contract import Role
from clickmill.features.sides import shared_fields
from serving.client import Client
from serving.rows import json_rows
from tests.cluster.bringup import Places, get, kubectl, wait_for
from tests.cluster.bringup.control_plane import wait_for_api
from tests.cluster.bringup.metrics_server import wait_for_metrics
from tests.cluster.bringup.processes import restart, running, signal_process
from tests.cluster.callers import Callers
from tests.cluster.installation import Installation, install, uninstall

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]

PATH = "/v1/models/ctr:predict"
PAUSED_SECONDS = 10.0


@pytest.fixture(scope="module")
def release(node: Places) -> Iterator[Installation]:
    installed = install(node, f"ads-{secrets.token_hex(3)}")
    try:
        # pods first: KServe 0.20 says Ready for a moment before it has seen its Deployments
        installed.wait_for_pods(1)
        installed.wait_for_pods(1, component="transformer")
        installed.wait_until_ready()
        for component in ("predictor", "transformer"):
            installed.wait_for_answer(component)
        yield installed
    finally:
        uninstall(installed)


@pytest.fixture(scope="module")
def rows(release: Installation) -> list[dict]:
    """Real rows of the bundle's golden ones, as requests carry them."""
    contract = contracts.load(release.bundle / "contract.yaml")
    table = pq.read_table(release.bundle / golden.GOLDEN)
    return json_rows(table.slice(0, 50), contract.inputs)


@pytest.fixture
def two_pods(release: Installation) -> Iterator[Installation]:
    release.set("upgrade", predictor__replicas__min=2)
    release.wait_for_pods(2)
    yield release
    release.set("upgrade")


def test_golden_predictions_come_back_over_the_cluster_ip(release: Installation) -> None:
    contract = contracts.load(release.bundle / "contract.yaml")
    with Client(release.url(), model_name="ctr", timeout_seconds=60) as client:

        def ask(raw: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            answer = client.predict_tensors(raw)
            return {"pctr": answer.pctr, "logit": answer.logit}

        assert golden.check(release.bundle, contract, ask) >= golden.REAL_ROWS


def test_the_ranker_finds_its_predictors_by_name_and_scores_with_them(release: Installation) -> None:
    contract = contracts.load(release.bundle / "contract.yaml")
    table = pq.read_table(release.bundle / golden.GOLDEN).slice(0, 1)
    row = json_rows(table, contract.inputs)[0]
    position = next(name for name, field in contract.inputs.items() if field.role is Role.POSITION)
    shared = shared_fields(contract)
    context = {name: row[name] for name in shared & row.keys()}
    ad = {name: value for name, value in row.items() if name not in shared | {position}}
    with Client(release.url("transformer"), model_name="ctr", timeout_seconds=60) as client:
        ranked = client.rank([{"id": "x", "bid": 1.0, **ad}], context=context, on_failure="error")
    with Client(release.url(), model_name="ctr", timeout_seconds=60) as client:
        scored = client.predict([{**row, position: 1}])
    (only,) = ranked.ads
    assert only.source == "model"
    assert only.pctr == pytest.approx(scored.pctr[0], rel=1e-5)


def test_helm_test_passes(release: Installation) -> None:
    assert "Succeeded" in release.helm("test", release.name, "--timeout", "4m")


def test_the_namespace_refuses_a_pod_that_is_not_restricted_and_holds_ours(release: Installation) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        release.kubectl("run", "rooted", "--image=localhost/clickmill/pause:1", "--privileged")
    assert 'violates PodSecurity "restricted:latest": privileged' in refused.value.stderr
    assert release.ready_pods()
    assert release.ready_pods("transformer")


def test_the_endpoints_account_may_do_nothing_at_the_api(release: Installation) -> None:
    who = f"--as=system:serviceaccount:{release.namespace}:{release.name}-endpoint"
    for asked in (("get", "secrets"), ("list", "pods"), ("create", "pods"), ("patch", "inferenceservices")):
        words = ["auth", "can-i", *asked, who, "--namespace", release.namespace]
        done = subprocess.run(
            ["kubectl", f"--kubeconfig={release.at.kubeconfig}", *words], capture_output=True, text=True
        )
        assert done.stdout.strip() == "no", asked


def test_network_policies_are_accepted_by_the_api(release: Installation) -> None:
    # The bridge plugin enforces none of them: that they let through what must pass is seen by the other tests only
    # on a network that does. Here: the API server takes them, and they select pods that exist.
    policies = release.get("networkpolicies")["items"]
    assert {p["metadata"]["name"] for p in policies} >= {
        f"{release.name}-predictor",
        f"{release.name}-ranker",
    }


def test_load_brings_a_second_pod_and_silence_takes_it_away(release: Installation, rows: list[dict]) -> None:
    wait_for_metrics(release.at)
    name = f"{release.name}-predictor"
    with Callers(release.url() + PATH, rows, threads=4, pause_seconds=0.0) as callers:
        release.wait_for_pods(2, seconds=400)
    assert callers.failures == []
    assert callers.answered > 0
    scaled = release.get("hpa", name)["status"]
    assert scaled["desiredReplicas"] == 2
    release.wait_for_pods(1, seconds=400)


def test_a_deleted_pod_costs_no_request(two_pods: Installation, rows: list[dict]) -> None:
    before = two_pods.ready_pods()
    with Callers(two_pods.url() + PATH, rows[:2]) as callers:
        _answered(callers, 20)
        two_pods.kubectl("delete", "pod", before[0], "--wait=true", seconds=180)
        two_pods.wait_for_pods(2)
        _answered(callers, callers.answered + 20)
    assert callers.failures == []
    after = two_pods.ready_pods()
    assert before[0] not in after
    assert before[1] in after


def test_serving_goes_on_while_etcd_stands_still(release: Installation, rows: list[dict]) -> None:
    at = release.at
    with Callers(release.url() + PATH, rows[:2]) as callers:
        _answered(callers, 5)
        signal_process(at, "etcd", signal.SIGSTOP)
        try:
            begun = time.monotonic()
            answered = callers.answered
            time.sleep(PAUSED_SECONDS)
            assert time.monotonic() - begun >= PAUSED_SECONDS
            assert callers.answered > answered
        finally:
            signal_process(at, "etcd", signal.SIGCONT)
        wait_for_api(at)
        _the_api_still_works(release)
        _answered(callers, callers.answered + 5)
    assert callers.failures == []


def test_serving_goes_on_while_the_api_server_is_started_again(
    release: Installation, rows: list[dict]
) -> None:
    at = release.at
    with Callers(release.url() + PATH, rows[:2]) as callers:
        _answered(callers, 5)
        first = running(at, "kube-apiserver")
        restart(at, "kube-apiserver", seconds=10)  # it would wait a minute for its watchers
        assert running(at, "kube-apiserver") != first
        wait_for_api(at)
        _the_api_still_works(release)
        _answered(callers, callers.answered + 5)
    assert callers.failures == []


def test_every_part_of_the_cluster_outlived_the_tests(release: Installation) -> None:
    for name in (
        "etcd",
        "kube-controller-manager",
        "kube-scheduler",
        "kubelet",
        "kube-proxy",
        "kserve-manager",
    ):
        assert running(release.at, name), name
    conditions = get(release.at, "nodes")["items"][0]["status"]["conditions"]
    assert [c["status"] for c in conditions if c["type"] == "Ready"] == ["True"]


def _answered(callers: Callers, count: int) -> None:
    wait_for(f"{count} answers", lambda: callers.answered >= count or callers.failures, 120)


def _the_api_still_works(release: Installation) -> None:
    """A change is taken and carried out: KServe makes the label of an InferenceService one of its Deployment."""
    mark = secrets.token_hex(4)
    wait_for(
        "a write",
        lambda: kubectl(
            release.at,
            "-n",
            release.namespace,
            "label",
            "--overwrite",
            "inferenceservice",
            release.name,
            f"mark={mark}",
        ),
        60,
        1.0,
    )
    wait_for(
        "KServe to carry it out",
        lambda: (
            release.get("deployment", f"{release.name}-predictor")["metadata"]["labels"].get("mark") == mark
        ),
        120,
        1.0,
    )
