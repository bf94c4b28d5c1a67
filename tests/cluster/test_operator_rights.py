"""The operator's Role on a real API server: it is enough, and no more."""

import pytest
import yaml
from kubernetes import client

from monitoring.operator.names import BUNDLE
from tests.cluster.api_server import NAMESPACE, ROOT
from tests.cluster.kserve_stand_in import SERVICES
from tests.cluster.operated_endpoint import RELEASES, URIS, A, B, operated

pytestmark = pytest.mark.cluster
ACCOUNT = "clickmill-operator"
WHO = f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"


@pytest.fixture(scope="module")
def accounts(server):
    """The operator's ServiceAccount and Role, as people apply them."""
    server.grant(yaml.safe_load_all((ROOT / "manifests" / "operator-rbac.yaml").read_text()))
    server.until("allowed", lambda: "items" in server.call("GET", RELEASES, user=WHO))


def test_the_role_is_enough_and_no_more(server, accounts):
    def allowed(verb, resource, group="", subresource="", namespace=NAMESPACE):
        attributes = {
            "verb": verb,
            "resource": resource,
            "group": group,
            "subresource": subresource,
            "namespace": namespace,
        }
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
                  "spec": {"user": WHO, "resourceAttributes": attributes}}  # fmt: skip
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
        server.call("GET", f"/api/v1/namespaces/{NAMESPACE}/secrets", user=WHO)
    assert caught.value.status == 403


def test_with_its_own_rights_only_it_does_all_of_its_work(server, accounts, tmp_path):
    with operated(server, tmp_path, server.kubeconfig_of(ACCOUNT)) as endpoint:
        endpoint.make()
        endpoint.name(B)
        endpoint.until("promoted", B)
        endpoint.settled(B, {"ctr-aaaaaaaaaa": URIS[A]})
        assert "Forbidden" not in endpoint.operator.log()
        assert server.call("GET", f"{SERVICES}/ctr")["metadata"]["annotations"][BUNDLE] == B
