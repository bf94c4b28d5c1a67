"""The chart on a real cluster: installed into a namespace that refuses pods which are not restricted, asked, upgraded and rolled back under
callers, and its operator's rights tried out by impersonation."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
import yaml

from clickmill import __version__
from clickmill.bundle import golden
from helm import generate
from serving.rows import example_row
from tests.cluster.bringup import Places, apply, get, kubectl, wait_for
from tests.cluster.callers import Callers
from tests.cluster.installation import readable_by_pods, remove_namespace, restricted_namespace
from tests.serving.small_bundle import CONTRACT
from tests.serving.twin_bundle import write_twin_bundle

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

VALUES: dict[str, Any] = {
    "endpoint": {"storageUri": "pvc://models/ctr"},
    "images": {"registry": "localhost", "pullPolicy": "Never", "serving": {"tag": __version__}},
    "predictor": {
        "replicas": {"min": 1, "max": 1},
        "drainSeconds": 10,
        "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"cpu": "2", "memory": "3Gi"}},
    },
    "ranker": {
        "replicas": {"min": 1, "max": 1},
        "drainSeconds": 10,
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"cpu": "2", "memory": "1Gi"}},
    },
    "autoscaling": {"class": "none"},
    # Its image is no part of this: what it may do is asked of the API server in its name.
    "operator": {"replicas": 1},
}


@dataclass(frozen=True)
class Release:
    """A release of the chart and the namespace that it is in."""

    at: Places
    namespace: str
    bundle: Path

    def helm(self, *words: str, values: dict[str, Any] | None = None) -> str:
        """Its standard output. Raises CalledProcessError."""
        program = generate.helm()
        assert program is not None
        return subprocess.run(
            [program, f"--kubeconfig={self.at.kubeconfig}", f"--namespace={self.namespace}", *words],
            input=None if values is None else json.dumps(values),
            check=True,
            capture_output=True,
            text=True,
            timeout=600,
        ).stdout

    def address(self, component: str) -> str:
        """Of KServe's Service, by its ClusterIP."""
        service = get(self.at, "service", f"ctr-{component}", f"--namespace={self.namespace}")
        return f"http://{service['spec']['clusterIP']}"

    def wait_for_answer(self, component: str) -> None:
        """Return when its Service leads to a pod: kube-proxy writes its rules some time after a pod is ready. Raises ClusterError."""

        def answers() -> bool:
            try:
                return httpx.get(
                    f"{self.address(component)}/v2/health/ready", timeout=5, trust_env=False
                ).is_success
            except httpx.TransportError:
                return False

        wait_for(f"an answer of the {component}", answers, 300, 1)

    def pods(self, component: str) -> list[dict[str, Any]]:
        """Those of the endpoint that are not on their way out."""
        found = get(self.at, "pods", f"--namespace={self.namespace}", f"--selector=component={component}")
        return [each for each in found["items"] if "deletionTimestamp" not in each["metadata"]]

    def rolled_out(self, argument: str) -> bool:
        """Whether all pods of the predictor have the argument, and are ready."""
        pods = self.pods("predictor")
        return bool(pods) and all(
            argument in pod["spec"]["containers"][0]["args"]
            and any(
                each["type"] == "Ready" and each["status"] == "True" for each in pod["status"]["conditions"]
            )
            for pod in pods
        )


@pytest.fixture(scope="module")
def release(node: Places) -> Iterator[Release]:
    """Installed and Ready."""
    namespace = f"chart-{os.getpid()}"
    # Pods read it as another user: not under pytest's folders, which are this user's alone.
    folder = Path(tempfile.mkdtemp(prefix="clickmill-chart-"))
    found = Release(node, namespace, folder / "ctr" / "1")
    try:
        write_twin_bundle(found.bundle)
        readable_by_pods(folder)
        apply(node, restricted_namespace(namespace, {"models": folder}))
        found.helm("install", "ctr", str(generate.CHART), "--values=-", values=VALUES)
        kubectl(
            node,
            *("wait", "inferenceservice/ctr", f"--namespace={namespace}"),
            *("--for=condition=Ready", "--timeout=600s"),
            seconds=610,
        )
        for component in ("predictor", "transformer"):
            found.wait_for_answer(component)
        yield found
    finally:
        remove_namespace(node, namespace)
        shutil.rmtree(folder, ignore_errors=True)


def test_the_predictor_answers_with_the_golden_prediction_of_its_bundle(release):
    answer = httpx.post(
        f"{release.address('predictor')}/v1/models/ctr:predict",
        json={"instances": [example_row(release.bundle, CONTRACT.inputs)]},
        timeout=30,
        trust_env=False,
    )
    expected = pq.read_table(release.bundle / golden.GOLDEN)["pctr"][0].as_py()
    assert answer.json()["predictions"][0]["pctr"] == pytest.approx(expected, abs=1e-5)


def test_the_ranker_is_answered_by_the_predictor_and_not_by_click_rates(release):
    answer = httpx.post(
        f"{release.address('transformer')}/v1/models/ctr:rank",
        json={
            "user": {"user_id": "u1"},
            "context": {"shown_at": 1_700_000_000},
            "candidates": [{"id": "x", "ad_id": "a1", "bid": 1.2}, {"id": "y", "ad_id": "a2", "bid": 0.8}],
        },
        # its first call finds and connects the predictor's pods
        headers={"x-request-timeout-ms": "20000"},
        timeout=30,
        trust_env=False,
    ).json()
    assert answer["fallback"] is None
    assert {(each["id"], each["source"]) for each in answer["ranked"]} == {("x", "model"), ("y", "model")}


def test_helm_test_passes(release):
    # Without --logs, which asks the kubelet by the node's name: not every node's name resolves.
    release.helm("test", "ctr", "--timeout=5m")
    pod = get(release.at, "pod", "ctr-test", f"--namespace={release.namespace}")
    assert pod["status"]["phase"] == "Succeeded"


def test_pods_that_are_not_restricted_are_refused_where_the_charts_run(release):
    naked = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "naked", "namespace": release.namespace},
        "spec": {"containers": [{"name": "c", "image": "any"}]},
    }
    with pytest.raises(subprocess.CalledProcessError) as refused:
        kubectl(release.at, "create", "--filename=-", stdin=json.dumps(naked))
    assert 'violates PodSecurity "restricted' in refused.value.stderr
    assert release.pods("predictor")
    assert release.pods("transformer")


def previous_chart(folder: Path) -> Path:
    """The chart as it was just before its version became the present one, from the repository's history; a skip where there is none."""

    def git(*words: str) -> bytes:
        return subprocess.run(
            ["git", "-C", str(generate.ROOT), *words], check=True, capture_output=True
        ).stdout

    file = generate.CHART.relative_to(generate.ROOT) / "Chart.yaml"
    present = yaml.safe_load((generate.ROOT / file).read_text())["version"]
    raised = None
    for commit in git("log", "--format=%H", "--", str(file)).decode().split():
        if yaml.safe_load(git("show", f"{commit}:{file}"))["version"] != present:
            break
        raised = f"{commit}^"
    else:
        pytest.skip("the history here has no chart of another version: the upgrade was NOT tested")
    subprocess.run(
        ["tar", "-x", "-C", folder], input=git("archive", raised or "HEAD", str(file.parent)), check=True
    )
    return folder / file.parent


def test_no_request_fails_while_the_previous_chart_is_upgraded_to_this_one_and_rolled_back(node, tmp_path):
    namespace = f"upgrade-{os.getpid()}"
    folder = Path(tempfile.mkdtemp(prefix="clickmill-upgrade-"))
    upgraded = Release(node, namespace, folder / "ctr" / "1")
    old = previous_chart(tmp_path)
    versions = [
        yaml.safe_load((chart / "Chart.yaml").read_text())["version"] for chart in (old, generate.CHART)
    ]
    assert versions[0] != versions[1]
    # What the old one has not: a router. And an option of the predictor, so that its pods are others too.
    values = {
        **VALUES,
        "router": {"enabled": True},
        "predictor": {**VALUES["predictor"], "args": ["--max-rows=1000"]},
    }
    try:
        write_twin_bundle(upgraded.bundle)
        row = example_row(upgraded.bundle, CONTRACT.inputs)
        readable_by_pods(folder)
        apply(node, restricted_namespace(namespace, {"models": folder}))
        upgraded.helm("install", "ctr", str(old), "--values=-", values=VALUES)
        wait_for("pods of the old chart", lambda: upgraded.rolled_out("--threads=2"), 600, 1)
        url = f"{upgraded.address('predictor')}/v1/models/ctr:predict"
        upgraded.wait_for_answer("predictor")
        with Callers(url, [row]) as callers:
            upgraded.helm("upgrade", "ctr", str(generate.CHART), "--values=-", values=values)
            wait_for("the new pods", lambda: upgraded.rolled_out("--max-rows=1000"), 600, 1)
            router = ("deployment/ctr-router", f"--namespace={namespace}", "--timeout=300s")
            kubectl(node, "rollout", "status", *router, seconds=310)
            routed = f"{upgraded.address('router')}/v1/models/ctr:predict"
            with Callers(routed, [row]) as through_the_router:
                wait_for("answers by the router", lambda: through_the_router.answered > 20, 120, 1)
            before = callers.answered
            upgraded.helm("rollback", "ctr", "1")
            wait_for(
                "the old pods",
                lambda: not upgraded.rolled_out("--max-rows=1000") and upgraded.rolled_out("--threads=2"),
                600,
                1,
            )
            wait_for("answers of the old pods", lambda: callers.answered > before + 20, 120, 1)
        assert callers.failures == []
        assert through_the_router.failures == []
        history = json.loads(upgraded.helm("history", "ctr", "--output=json"))
        assert [each["chart"].rpartition("-")[2] for each in history] == [*versions, versions[0]]
    finally:
        remove_namespace(node, namespace)
        shutil.rmtree(folder, ignore_errors=True)


ALLOWED = [
    ("patch", "inferenceservices.serving.kserve.io"),
    ("create", "inferenceservices.serving.kserve.io"),
    ("update", "modelreleases.clickmill.dev --subresource=status"),
    ("get", "deployments.apps"),
    ("create", "events"),
    ("update", "leases.coordination.k8s.io/clickmill-operator"),
]
REFUSED = [
    ("get", "secrets"),
    ("list", "pods"),
    ("create", "pods"),
    ("create", "pods --subresource=exec"),
    ("delete", "modelreleases.clickmill.dev"),
    ("create", "modelreleases.clickmill.dev"),
    ("patch", "deployments.apps"),
    ("delete", "httproutes.gateway.networking.k8s.io"),
    ("update", "leases.coordination.k8s.io/other"),
    ("create", "rolebindings.rbac.authorization.k8s.io"),
    ("create", "serviceaccounts --subresource=token"),
    ("patch", "servingruntimes.serving.kserve.io"),
]


def may(release: Release, account: str, verb: str, what: str, namespace: str | None = None) -> bool:
    """What the API server says when asked in the account's name."""
    done = subprocess.run(
        [
            *("kubectl", f"--kubeconfig={release.at.kubeconfig}", "auth", "can-i", verb, *what.split()),
            f"--namespace={namespace or release.namespace}",
            f"--as=system:serviceaccount:{release.namespace}:{account}",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() in {"yes", "no"}, done.stderr
    return done.stdout.strip() == "yes"


@pytest.mark.parametrize(("verb", "what"), ALLOWED)
def test_the_operator_may(verb, what, release):
    assert may(release, "ctr-operator", verb, what)


@pytest.mark.parametrize(("verb", "what"), REFUSED)
def test_the_operator_must_not(verb, what, release):
    assert not may(release, "ctr-operator", verb, what)


def test_the_operator_has_no_right_in_another_namespace(release):
    for verb, what in ALLOWED:
        assert not may(release, "ctr-operator", verb, what, namespace="kserve")


def test_endpoint_and_jobs_have_no_right_at_all(release):
    for account in ("ctr-endpoint", "ctr-jobs"):
        for verb, what in [*ALLOWED, *REFUSED]:
            assert not may(release, account, verb, what)


def test_a_refusal_is_one_in_fact_and_not_only_by_question(release):
    with pytest.raises(subprocess.CalledProcessError) as refused:
        kubectl(
            release.at,
            *("get", "secrets", f"--namespace={release.namespace}"),
            f"--as=system:serviceaccount:{release.namespace}:ctr-operator",
        )
    assert "forbidden" in refused.value.stderr.lower()
