"""The operator on a real API server: a canary to promotion, a bad one back, alerts, kills, restarts.

There is no node, so a stand-in writes what KServe would (Deployments, status) and exports what pods would (`kserve_stand_in`).
"""

import json
import shutil
import subprocess
from datetime import UTC, datetime

import pytest

from monitoring.operator.cluster import Cluster
from monitoring.operator.controller import Controller
from monitoring.operator.names import FINALIZER
from monitoring.operator.prometheus import Prometheus
from tests.cluster.api_server import NAMESPACE
from tests.cluster.operated_endpoint import (
    POLICY,
    RELEASES,
    URIS,
    A,
    B,
    C,
    Endpoint,
    operated,
    release,
    stand_ins,
)
from tests.cluster.operator_process import OperatorProcess

pytestmark = pytest.mark.cluster


@pytest.fixture
def endpoint(server, tmp_path):
    with operated(server, tmp_path) as found:
        yield found


def table(server, *more):
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl on the PATH")
    command = [
        kubectl,
        f"--kubeconfig={server.kubeconfig}",
        f"--namespace={NAMESPACE}",
        "get",
        "modelreleases",
        *more,
    ]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_good_bundle_goes_all_the_way_home_and_kubectl_tells_it(endpoint):
    endpoint.make()
    endpoint.name(B)
    endpoint.until("canary", A, 10)
    head, line = table(endpoint.server).splitlines()
    assert head.split() == [
        "NAME",
        "SERVICE",
        "PHASE",
        "STABLE",
        "CANDIDATE",
        "SHARE",
        "PROMOTED",
        "SINCE",
        "WHY",
    ]
    assert line.split()[:7] == ["ctr", "ctr", "canary", A[:12], B[:12], "10%", "Unknown"]
    endpoint.until("promoted", B)
    endpoint.settled(B, {"ctr-aaaaaaaaaa": URIS[A]})
    assert {A: 90, B: 10} in endpoint.traffic.weights
    assert not [each for each in endpoint.traffic.weights if "" in each]  # no share went where nobody answers
    events = endpoint.server.call("GET", f"/api/v1/namespaces/{NAMESPACE}/events")["items"]
    assert {"Smoke", "Shadow", "Canary", "Promoted"} <= {each["reason"] for each in events}
    assert endpoint.operator.get("/healthz") == "ok"
    metrics = endpoint.operator.get("/metrics")
    assert 'clickmill_release_phase{endpoint="ads/ctr",phase="promoted"} 1.0' in metrics


def test_a_bad_bundle_comes_back_on_evidence_of_prometheus(endpoint):
    endpoint.traffic.errors[B] = 0.2
    endpoint.make()
    endpoint.name(B)
    endpoint.until("rolled_back", A)
    endpoint.settled(A, {})
    (condition,) = [each for each in endpoint.stored["status"]["conditions"] if each["type"] == "Promoted"]
    assert condition["status"] == "False"
    assert "shadow_errors" in condition["message"]
    assert all(set(each) == {A} for each in endpoint.traffic.weights)  # it was seen in shadow, by nobody


def webhook(digest, status="firing"):
    alert = {
        "status": status, "labels": {"alertname": "CalibrationRatioHigh", "action": "rollback", "bundle": digest[:12]},
        "annotations": {"summary": "predicts 1.5 times the clicks"}, "startsAt": "2026-11-24T12:00:00Z", "fingerprint": "f1",
    }  # fmt: skip
    return json.dumps({"version": "4", "alerts": [alert]}).encode()


def test_an_alert_takes_the_candidate_back(endpoint):
    endpoint.make(policy={**POLICY, "steps": [10, 20, 100], "stepSeconds": 3600, "shadow": False})
    endpoint.name(B)
    endpoint.until("canary", A, 10)
    endpoint.server.until(
        "10 % there", lambda: endpoint.weights() == {"ctr-predictor": 90, "ctr-bbbbbbbbbb-predictor": 10}
    )
    assert endpoint.operator.alert(webhook(B), token="wrong") == 401
    assert endpoint.operator.alert(b"{}") == 400
    assert endpoint.operator.alert(webhook(B)) == 200
    firing = endpoint.stored["status"]["alerts"]["firing"]  # on the API server before it was answered
    assert [each["name"] for each in firing.values()] == ["CalibrationRatioHigh"]
    endpoint.until("rolled_back", A)
    endpoint.settled(A, {})
    (line,) = [each for each in endpoint.stored["status"]["history"] if each["phase"] == "rolled_back"]
    assert line["reason"] == "alert CalibrationRatioHigh: predicts 1.5 times the clicks"
    alerted = [each for each in endpoint.stored["status"]["conditions"] if each["type"] == "Alerted"]
    assert alerted[0]["status"] == "True"
    assert endpoint.operator.alert(webhook(B, "resolved")) == 200
    assert (
        "firing" not in endpoint.stored["status"]["alerts"]
        or not endpoint.stored["status"]["alerts"]["firing"]
    )


def test_the_api_server_goes_away_and_comes_back(endpoint):
    endpoint.make()
    endpoint.name(B)
    endpoint.until("canary", A, 10)
    endpoint.server.kill()
    endpoint.server.start()
    endpoint.until("promoted", B)
    endpoint.settled(B, {"ctr-aaaaaaaaaa": URIS[A]})
    assert not [each for each in endpoint.traffic.weights if "" in each]


def test_deleted_in_the_middle_it_leaves_the_stable_bundle_serving(endpoint):
    endpoint.make(policy={**POLICY, "stepSeconds": 3600, "shadow": False})
    endpoint.name(B)
    endpoint.until("canary", A, 10)
    assert endpoint.stored["metadata"]["finalizers"] == [FINALIZER]
    endpoint.server.call("DELETE", f"{RELEASES}/ctr")
    endpoint.server.until("gone", lambda: not endpoint.server.call("GET", RELEASES)["items"], 200)
    endpoint.settled(A, {})


KILLS = 20


@pytest.mark.timeout(3600)
def test_a_process_killed_twenty_times_comes_to_the_same_end(endpoint):
    """SIGKILL, each time something that it writes has just changed, over a promotion and a rollback. Each new process waits for the Lease
    of the one before it to end."""
    endpoint.make(policy={**POLICY, "steps": [5, 10, 20, 40, 70, 100]})
    endpoint.traffic.errors[C] = 0.2
    kills, beside = 0, {"ctr-aaaaaaaaaa": URIS[A]}
    for wanted, ends in ((B, ("promoted", B)), (C, ("rolled_back", B))):
        endpoint.name(wanted)
        while kills < KILLS:
            before = endpoint.written()
            endpoint.server.until(
                "a change, or the end",
                lambda before=before, ends=ends: (
                    endpoint.written() != before or (endpoint.at(*ends) and endpoint.is_settled(B, beside))
                ),
            )
            if endpoint.written() == before:
                break
            endpoint.operator.kill()
            endpoint.operator.start()
            kills += 1
            endpoint.server.until("up", lambda: endpoint.operator.get("/healthz") == "ok", 600)
        endpoint.until(*ends, seconds=600)
        endpoint.settled(B, beside)
    assert kills == KILLS
    same_end(endpoint.state, endpoint.traffic)


def same_end(state, traffic):
    """B serves, A is warm, C was taken back and seen in shadow only; no share went where nobody answers."""
    assert (state["stable"], state["lastGood"]) == (B, A)
    assert [each["bundle"] for each in state["quarantine"]] == [C]
    assert all(set(each) <= {A, B} for each in traffic.weights)


class Killed(BaseException):
    """The process is gone."""


class Mortal(Cluster):
    """Lives for one write."""

    def _call(self, method, path, body=None):
        found = super()._call(method, path, body)
        if method != "GET":
            raise Killed
        return found


@pytest.mark.timeout(1800)
def test_killed_after_every_single_write_the_outcome_is_the_same(server, tmp_path):
    """Each life of the operator ends right after its first write: no decision may need two."""
    with stand_ins(server, tmp_path) as (traffic, url):
        endpoint = Endpoint(server, traffic, None)
        kills = 0

        def lives(what, reached):
            def one_life():
                nonlocal kills
                try:
                    Controller(Mortal(server.api(), NAMESPACE), Prometheus(url)).step(datetime.now(UTC))
                except Killed:
                    kills += 1
                return reached()

            server.until(what, one_life, 900)

        server.call("POST", RELEASES, release())
        lives("A serves", lambda: endpoint.at("promoted", A) and endpoint.is_settled(A, {}))
        endpoint.name(B)
        beside = {"ctr-aaaaaaaaaa": URIS[A]}
        lives("B serves", lambda: endpoint.at("promoted", B) and endpoint.is_settled(B, beside))
        traffic.errors[C] = 0.2
        endpoint.name(C)
        lives("C is gone", lambda: endpoint.at("rolled_back", B) and endpoint.is_settled(B, beside))
        assert kills >= KILLS
        same_end(endpoint.state, traffic)
        server.call("DELETE", f"{RELEASES}/ctr")
        lives("deleted", lambda: not server.call("GET", RELEASES)["items"])
        assert endpoint.weights() == {"ctr-predictor": 100}
        endpoint.clear()


def test_two_operators_and_one_leads(endpoint, tmp_path):
    endpoint.make()
    (tmp_path / "second").mkdir()
    second = OperatorProcess(endpoint.server.kubeconfig, endpoint.operator.prometheus, tmp_path / "second")
    second.start()
    try:
        endpoint.server.until("up", lambda: second.get("/healthz") == "ok")
        assert "clickmill_operator_leads 0.0" in second.get("/metrics")
        endpoint.operator.kill()
        endpoint.server.until("leads", lambda: "clickmill_operator_leads 1.0" in second.get("/metrics"))
        endpoint.name(B)
        endpoint.until("promoted", B)
        endpoint.settled(B, {"ctr-aaaaaaaaaa": URIS[A]})
        endpoint.clear()
        assert second.stop() == 0
        assert "Traceback" not in second.log()
    finally:
        if second.process is not None and second.process.poll() is None:
            second.stop()
