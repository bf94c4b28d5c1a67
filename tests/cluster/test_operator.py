"""The operator on a real API server: admission, a canary to promotion, a bad one back, alerts, kills, restarts, rights.

There is no node, so a stand-in writes what KServe would (Deployments, status) and exports what pods would (`kserve_stand_in`).
"""

import json
import shutil
import subprocess
import time
import urllib.error
from datetime import UTC, datetime

import pytest
import yaml
from kubernetes import client

from monitoring.operator.cluster import Cluster
from monitoring.operator.controller import Controller
from monitoring.operator.names import BUNDLE, FINALIZER
from monitoring.operator.prometheus import Prometheus
from tests.cluster.api_server import NAMESPACE, ROOT, api_server, missing
from tests.cluster.kserve_stand_in import ROUTES, SERVICES, StandIn, service
from tests.cluster.operator_process import OperatorProcess, prometheus

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(bool(missing()), reason=missing()),
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="no prometheus on the PATH"),
]
RELEASES = f"/apis/clickmill.dev/v1alpha1/namespaces/{NAMESPACE}/modelreleases"
A, B, C = ("a" * 64, "b" * 64, "c" * 64)
URIS = {A: "s3://models/1", B: "s3://models/2", C: "s3://models/3"}
POLICY = {"steps": [10, 100], "stepSeconds": 2, "minRequests": 500, "coolDownSeconds": 0}
ROLE = "system:serviceaccount:ads:clickmill-operator"


def release(digest=A, name="ctr", policy=POLICY, **spec):
    target = {"inferenceService": "ctr", "route": {"gateways": [{"name": "public"}], "graceSeconds": 2}}
    return {
        "apiVersion": "clickmill.dev/v1alpha1",
        "kind": "ModelRelease",
        "metadata": {"name": name},
        "spec": {"bundle": {"uri": URIS[digest], "digest": digest}, "target": target, "policy": policy, **spec},
    }  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with api_server(tmp_path_factory.mktemp("api")) as found:
        yield found


class House:
    """One endpoint with its operator."""

    def __init__(self, server, crowd, operator):
        self.server, self.crowd, self.operator = server, crowd, operator

    def make(self, digest=A, **spec):
        self.server.call("POST", RELEASES, release(digest, **spec))
        self.until("promoted", A)

    def name(self, digest):
        self.server.call(
            "PATCH", f"{RELEASES}/ctr", {"spec": {"bundle": {"uri": URIS[digest], "digest": digest}}}
        )

    @property
    def stored(self):
        return self.server.call("GET", f"{RELEASES}/ctr")

    @property
    def state(self):
        return self.stored["status"]["release"]

    def until(self, phase, stable=None, percent=None, seconds=400):
        def reached():
            state = self.state
            return (
                state["phase"] == phase
                and stable in (None, state["stable"])
                and percent in (None, state.get("percent"))
            )

        self.server.until(f"{phase} {stable and stable[0]} {percent}", reached, seconds)

    def settled(self, stable, beside):
        """Home has the stable bundle and all traffic, and beside it is what should be."""

        def reached():
            found = {
                each["metadata"]["name"]: each["spec"]["predictor"]["model"]["storageUri"]
                for each in self.server.call("GET", SERVICES)["items"]
            }
            weights = self.weights()
            return found == {"ctr": URIS[stable], **beside} and weights == {"ctr-predictor": 100}

        return self.server.until("settled", reached, 400)

    def weights(self):
        (rule,) = self.server.call("GET", f"{ROUTES}/ctr")["spec"]["rules"]
        return {each["name"]: each["weight"] for each in rule["backendRefs"]}

    def clear(self):
        if self.server.call("GET", RELEASES)["items"]:
            self.server.call("DELETE", f"{RELEASES}/ctr")
            self.server.until("gone", lambda: not self.server.call("GET", RELEASES)["items"], 300)
        for path in (SERVICES, ROUTES):
            self.server.call("DELETE", path)


@pytest.fixture
def house(server, tmp_path, monkeypatch):
    digests = {uri: digest for digest, uri in URIS.items()}
    server.call("POST", SERVICES, service("ctr", URIS[A]))
    with StandIn(server, digests) as crowd, prometheus(tmp_path, crowd.port) as url:
        operator = OperatorProcess(server, url, tmp_path)
        operator.start()
        found = House(server, crowd, operator)
        try:
            yield found
            found.clear()
        finally:
            operator.stop()


def refused(server, body, method="POST", path=RELEASES):
    with pytest.raises(client.ApiException) as caught:
        server.call(method, path, body)
    assert caught.value.status == 422, caught.value.body
    return json.loads(caught.value.body)["message"]


def changed(**spec):
    body = release()
    for name, value in spec.items():
        body["spec"][name] = {**body["spec"].get(name, {}), **value}
    return body


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (changed(policy={"steps": [10, 50]}), "steps must end at 100 percent"),
        (changed(policy={"steps": [50, 10, 100]}), "steps must ascend from at least 1 to 100 percent"),
        (changed(policy={"steps": [0, 100]}), "steps must ascend from at least 1 to 100 percent"),
        (changed(policy={"steps": [10, 10, 100]}), "Duplicate value"),
        (changed(policy={"maxErrorRate": 0}), "spec.policy.maxErrorRate"),
        (changed(policy={"p99Ms": -1}), "spec.policy.p99Ms"),
        (changed(bundle={"digest": "abc"}), "spec.bundle.digest"),
        (changed(bundle={"uri": "models/1"}), "spec.bundle.uri"),
        (changed(target={"inferenceService": "Not_a_name"}), "spec.target.inferenceService"),
        (changed(target={"mode": "Knative"}), "mode Standard needs a route, mode Knative has its own"),
        (
            changed(target={"mode": "Knative", "route": None}),
            "mode Knative cannot mirror requests: set policy.shadow to false",
        ),
        (changed(target={"route": {"gateways": []}}), "spec.target.route.gateways"),
        (changed(rollback={"digest": B}), "spec.rollback.reason"),
        (changed(freeze={"reason": ""}), "spec.freeze.reason"),
    ],
)
def test_what_can_not_be_carried_out_is_refused_at_the_door(server, body, words):
    if body["spec"]["target"].get("route", 0) is None:
        del body["spec"]["target"]["route"]
    assert words in refused(server, body)


def test_what_must_not_change_does_not(server):
    made = release(name="still")
    server.call("POST", RELEASES, made)
    path = f"{RELEASES}/still"
    try:
        assert server.call("GET", path)["spec"]["policy"]["alpha"] == 0.01  # defaults are filled in
        moved = {"spec": {"target": {"inferenceService": "other"}}}
        assert "a release stays with its InferenceService" in refused(server, moved, "PATCH", path)
        elsewhere = {"spec": {"bundle": {"uri": "s3://models/9"}}}
        assert "uri and digest change together" in refused(server, elsewhere, "PATCH", path)
        renamed = {"spec": {"bundle": {"digest": B}}}
        assert "uri and digest change together" in refused(server, renamed, "PATCH", path)
        server.call("PATCH", path, {"spec": {"bundle": {"uri": URIS[B], "digest": B}}})
    finally:
        server.call("DELETE", path)


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


def test_a_good_bundle_goes_all_the_way_home_and_kubectl_tells_it(house):
    house.make()
    house.name(B)
    house.until("canary", A, 10)
    head, line = table(house.server).splitlines()
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
    house.until("promoted", B)
    house.settled(B, {"ctr-aaaaaaaaaa": URIS[A]})
    assert {A: 90, B: 10} in house.crowd.weights
    assert not [each for each in house.crowd.weights if "" in each]  # no share went where nobody answers
    events = house.server.call("GET", f"/api/v1/namespaces/{NAMESPACE}/events")["items"]
    assert {"Smoke", "Shadow", "Canary", "Promoted"} <= {each["reason"] for each in events}
    assert house.operator.get("/healthz") == "ok"
    metrics = house.operator.get("/metrics")
    assert 'clickmill_release_phase{endpoint="ads/ctr",phase="promoted"} 1.0' in metrics


def test_a_bad_bundle_comes_back_on_evidence_of_prometheus(house):
    house.crowd.errors[B] = 0.2
    house.make()
    house.name(B)
    house.until("rolled_back", A)
    house.settled(A, {})
    (condition,) = [each for each in house.stored["status"]["conditions"] if each["type"] == "Promoted"]
    assert condition["status"] == "False"
    assert "shadow_errors" in condition["message"]
    assert all(set(each) == {A} for each in house.crowd.weights)  # it was seen in shadow, by nobody


def webhook(digest, status="firing"):
    alert = {
        "status": status, "labels": {"alertname": "CalibrationRatioHigh", "action": "rollback", "bundle": digest[:12]},
        "annotations": {"summary": "predicts 1.5 times the clicks"}, "startsAt": "2026-11-24T12:00:00Z", "fingerprint": "f1",
    }  # fmt: skip
    return json.dumps({"version": "4", "alerts": [alert]}).encode()


def test_an_alert_takes_the_candidate_back(house):
    house.make(policy={**POLICY, "steps": [10, 20, 100], "stepSeconds": 3600, "shadow": False})
    house.name(B)
    house.until("canary", A, 10)
    house.server.until(
        "10 % there", lambda: house.weights() == {"ctr-predictor": 90, "ctr-bbbbbbbbbb-predictor": 10}
    )
    assert house.operator.alert(webhook(B), token="wrong") == 401
    assert house.operator.alert(b"{}") == 400
    assert house.operator.alert(webhook(B)) == 200
    firing = house.stored["status"]["alerts"]["firing"]  # on the API server before it was answered
    assert [each["name"] for each in firing.values()] == ["CalibrationRatioHigh"]
    house.until("rolled_back", A)
    house.settled(A, {})
    (line,) = [each for each in house.stored["status"]["history"] if each["phase"] == "rolled_back"]
    assert line["reason"] == "alert CalibrationRatioHigh: predicts 1.5 times the clicks"
    alerted = [each for each in house.stored["status"]["conditions"] if each["type"] == "Alerted"]
    assert alerted[0]["status"] == "True"
    assert house.operator.alert(webhook(B, "resolved")) == 200
    assert "firing" not in house.stored["status"]["alerts"] or not house.stored["status"]["alerts"]["firing"]


def test_the_api_server_goes_away_and_comes_back(house):
    house.make()
    house.name(B)
    house.until("canary", A, 10)
    house.server.kill()
    house.server.start()
    house.until("promoted", B)
    house.settled(B, {"ctr-aaaaaaaaaa": URIS[A]})
    assert not [each for each in house.crowd.weights if "" in each]


def test_deleted_in_the_middle_it_leaves_the_stable_bundle_serving(house):
    house.make(policy={**POLICY, "stepSeconds": 3600, "shadow": False})
    house.name(B)
    house.until("canary", A, 10)
    assert house.stored["metadata"]["finalizers"] == [FINALIZER]
    house.server.call("DELETE", f"{RELEASES}/ctr")
    house.server.until("gone", lambda: not house.server.call("GET", RELEASES)["items"], 200)
    house.settled(A, {})


@pytest.mark.timeout(1800)
def test_a_process_killed_again_and_again_comes_to_the_same_end(house):
    """SIGKILL, each time something has just changed, over a promotion and a rollback."""
    house.make()
    kills = 0
    for wanted, ends in ((B, ("promoted", B)), (C, ("rolled_back", B))):
        house.crowd.errors[C] = 0.2
        house.name(wanted)
        for _ in range(3):
            now = house.stored["metadata"]["resourceVersion"]
            house.server.until(
                "a change", lambda now=now: house.stored["metadata"]["resourceVersion"] != now, 400
            )
            house.operator.kill()
            house.operator.start()
            kills += 1
            house.server.until("up", lambda: house.operator.get("/healthz") == "ok", 600)
        house.until(*ends, seconds=600)
        house.settled(B, {"ctr-aaaaaaaaaa": URIS[A]})
    assert kills == 6
    same_end(house.state, house.crowd)


def same_end(state, crowd):
    """B serves, A is warm, C was taken back and seen in shadow only; no share went where nobody answers."""
    assert (state["stable"], state["lastGood"]) == (B, A)
    assert [each["bundle"] for each in state["quarantine"]] == [C]
    assert all(set(each) <= {A, B} for each in crowd.weights)


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
    digests = {uri: digest for digest, uri in URIS.items()}
    server.call("POST", SERVICES, service("ctr", URIS[A]))
    with StandIn(server, digests) as crowd, prometheus(tmp_path, crowd.port) as url:
        house = House(server, crowd, None)
        kills = 0

        def lives(reached):
            nonlocal kills
            end = time.monotonic() + 900
            while time.monotonic() < end:
                try:
                    Controller(Mortal(server.api(), NAMESPACE), Prometheus(url)).step(datetime.now(UTC))
                except Killed:
                    kills += 1
                else:
                    time.sleep(0.5)
                try:
                    if reached():
                        return
                except (KeyError, client.ApiException):
                    continue
            raise AssertionError(f"not reached after {kills} lives: {house.stored.get('status')}")

        def at(phase, stable, beside):
            def reached():
                models = {
                    each["metadata"]["name"]: each["spec"]["predictor"]["model"]["storageUri"]
                    for each in server.call("GET", SERVICES)["items"]
                }
                state = house.state
                return ((state["phase"], state["stable"]) == (phase, stable) and models == {"ctr": URIS[stable], **beside}
                        and house.weights() == {"ctr-predictor": 100})  # fmt: skip

            return reached

        server.call("POST", RELEASES, release())
        lives(at("promoted", A, {}))
        house.name(B)
        lives(at("promoted", B, {"ctr-aaaaaaaaaa": URIS[A]}))
        crowd.errors[C] = 0.2
        house.name(C)
        lives(at("rolled_back", B, {"ctr-aaaaaaaaaa": URIS[A]}))
        assert kills >= 20
        same_end(house.state, crowd)
        server.call("DELETE", f"{RELEASES}/ctr")
        lives(lambda: not server.call("GET", RELEASES)["items"])
        assert house.weights() == {"ctr-predictor": 100}
    for path in (SERVICES, ROUTES):
        server.call("DELETE", path)


def test_two_operators_and_one_leads(house, tmp_path):
    house.make()
    (tmp_path / "second").mkdir()
    second = OperatorProcess(house.server, house.operator._prometheus, tmp_path / "second")
    second.start()
    try:
        house.server.until("up", lambda: second.get("/healthz") == "ok")
        assert "clickmill_operator_leads 0.0" in second.get("/metrics")
        house.operator.kill()
        house.server.until("leads", lambda: "clickmill_operator_leads 1.0" in second.get("/metrics"))
        house.name(B)
        house.until("promoted", B)
        house.settled(B, {"ctr-aaaaaaaaaa": URIS[A]})
        house.clear()
        assert second.stop() == 0
        assert "Traceback" not in second.log()
    finally:
        if second.process is not None and second.process.poll() is None:
            second.stop()


# Rights


def test_the_role_is_enough_and_no_more(server):
    for document in yaml.safe_load_all((ROOT / "manifests" / "operator-rbac.yaml").read_text()):
        kind = document["kind"]
        group = "/api/v1" if kind == "ServiceAccount" else "/apis/rbac.authorization.k8s.io/v1"
        path = f"{group}/namespaces/{NAMESPACE}/{kind.lower()}s"
        document["metadata"].pop("namespace", None)
        for subject in document.get("subjects", []):
            subject["namespace"] = NAMESPACE
        server.call("POST", path, document)
    server.until("allowed", lambda: "items" in server.call("GET", RELEASES, user=ROLE))

    def allowed(verb, resource, group="", subresource="", namespace=NAMESPACE):
        attributes = {
            "verb": verb,
            "resource": resource,
            "group": group,
            "subresource": subresource,
            "namespace": namespace,
        }
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
                  "spec": {"user": ROLE, "resourceAttributes": attributes}}  # fmt: skip
        return server.call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)["status"][
            "allowed"
        ]

    assert allowed("update", "modelreleases", "clickmill.dev", "status")
    for verb in ("get", "list", "watch", "create", "patch", "delete"):
        assert allowed(verb, "inferenceservices", "serving.kserve.io"), verb
    for verb, resource, group in [
        ("create", "modelreleases", "clickmill.dev"), ("delete", "modelreleases", "clickmill.dev"),
        ("delete", "httproutes", "gateway.networking.k8s.io"), ("get", "secrets", ""), ("create", "pods", ""),
        ("list", "pods", ""), ("patch", "deployments", "apps"), ("create", "roles", "rbac.authorization.k8s.io"),
        ("escalate", "roles", "rbac.authorization.k8s.io"), ("delete", "leases", "coordination.k8s.io"), ("list", "configmaps", ""),
    ]:  # fmt: skip
        assert not allowed(verb, resource, group), (verb, resource)
    assert not allowed("list", "modelreleases", "clickmill.dev", namespace="default")
    with pytest.raises(client.ApiException) as caught:
        server.call("GET", f"/api/v1/namespaces/{NAMESPACE}/secrets", user=ROLE)
    assert caught.value.status == 403


def test_with_its_own_rights_only_it_does_all_of_its_work(server, house_by_role):
    house = house_by_role
    house.make()
    house.name(B)
    house.until("promoted", B)
    house.settled(B, {"ctr-aaaaaaaaaa": URIS[A]})
    assert "Forbidden" not in house.operator.log()
    assert house.server.call("GET", f"{SERVICES}/ctr")["metadata"]["annotations"][BUNDLE] == B


@pytest.fixture
def house_by_role(server, tmp_path):
    """The operator with a kubeconfig that acts as its ServiceAccount."""
    digests = {uri: digest for digest, uri in URIS.items()}
    server.call("POST", SERVICES, service("ctr", URIS[A]))
    config = yaml.safe_load(server.kubeconfig.read_text())
    token = server.call(
        "POST", f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/clickmill-operator/token",
        {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": ["https://kubernetes.default.svc"]}},
    )["status"]["token"]  # fmt: skip
    config["users"][0]["user"] = {"token": token}
    own = tmp_path / "kubeconfig"
    own.write_text(yaml.safe_dump(config))

    class As:
        kubeconfig = own

    with StandIn(server, digests) as crowd, prometheus(tmp_path, crowd.port) as url:
        operator = OperatorProcess(As, url, tmp_path)
        operator.start()
        found = House(server, crowd, operator)
        try:
            yield found
            found.clear()
        finally:
            operator.stop()


def test_a_health_port_that_is_not_there_is_not_taken_for_health(tmp_path):
    class Nowhere:
        kubeconfig = tmp_path / "none"

    with pytest.raises(urllib.error.URLError):
        OperatorProcess(Nowhere, "http://127.0.0.1:1", tmp_path).get("/healthz")
