"""Who may do what: roles as the table in docs/kubernetes.md lists them, and NetworkPolicies that open no more than is needed."""

import re

import pytest

from helm import generate
from tests.helm import rendering
from tests.helm.rendering import FULL, MINIMAL, named, objects, of_kind

CASES = rendering.CASES
PAGE = (generate.ROOT / "docs" / "kubernetes.md").read_text()


def rights(role):
    """(group/resource, verb, names) of each thing that a role allows."""
    return {
        (f"{group}/{resource}" if group else resource, verb, ",".join(rule.get("resourceNames", [])))
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def told():
    """The same from the page: | `resource` | verbs | what for |."""
    lines = re.findall(
        r"^\| `([a-z0-9./]+)`(?: named `([a-z-]+)`)? \| ([a-z, ]+) \| .+ \|$", PAGE, re.MULTILINE
    )
    return {(resource, verb, name) for resource, name, verbs in lines for verb in verbs.split(", ")}


def test_the_operator_may_do_what_the_page_lists_and_nothing_else():
    role = named(objects(MINIMAL), "Role", "ctr-operator")
    assert rights(role) == told()


@pytest.mark.parametrize("case", CASES)
def test_nobody_has_rights_beyond_the_namespace_wildcards_secrets_or_a_way_to_more_rights(case):
    rendered = objects(CASES[case])
    assert not of_kind(rendered, "ClusterRole")
    assert not of_kind(rendered, "ClusterRoleBinding")
    roles = {each["metadata"]["name"]: each for each in of_kind(rendered, "Role")}
    routed = "ctr-router" in {each["metadata"]["name"] for each in of_kind(rendered, "Deployment")}
    assert set(roles) == {"ctr-operator"} | ({"ctr-router", "ctr-shares"} if routed else set())
    for resource, verb, _ in (right for role in roles.values() for right in rights(role)):
        assert "*" not in resource + verb
        assert resource.rpartition("/")[2] not in {"secrets", "pods", "exec", "serviceaccounts", "token"}
        assert "rbac" not in resource
        assert verb not in {"escalate", "bind", "impersonate", "deletecollection"}
    for binding in of_kind(rendered, "RoleBinding"):
        role = binding["roleRef"]["name"]
        who = {"ctr-operator": "ctr-operator", "ctr-shares": "ctr-operator", "ctr-router": "ctr-router"}[role]
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": who, "namespace": "ads"}]


def test_the_router_reads_one_config_map_and_the_operator_writes_it():
    rendered = objects(FULL)
    assert rights(named(rendered, "Role", "ctr-router")) == {
        ("configmaps", "get", "ctr-shares"),
        ("configmaps", "watch", "ctr-shares"),
    }
    assert rights(named(rendered, "Role", "ctr-shares")) == {
        ("configmaps", "create", ""),
        ("configmaps", "get", "ctr-shares"),
        ("configmaps", "patch", "ctr-shares"),
    }


def test_the_router_of_a_further_release_takes_its_shares_from_the_operator_that_is_named():
    further = {
        "operator": {"enabled": False},
        "router": {"enabled": True, "operatorAccount": "first-operator"},
    }
    bindings = {
        each["metadata"]["name"]: each for each in of_kind(objects({**MINIMAL, **further}), "RoleBinding")
    }
    assert bindings["ctr-shares"]["subjects"][0]["name"] == "first-operator"
    assert set(bindings) == {"ctr-shares", "ctr-router"}


def test_without_the_operator_nobody_has_any_right():
    rendered = objects({**MINIMAL, "operator": {"enabled": False}})
    assert not of_kind(rendered, "Role")
    assert not of_kind(rendered, "RoleBinding")


# -- network -----------------------------------------------------------------------------------------------------------------


def labels_of_pods(rendered):
    """Name to labels of the pods, those that KServe makes with the labels that it gives them."""
    found = {}
    for each in rendered:
        match each["kind"]:
            case "InferenceService":
                common = {**each["metadata"]["labels"], "serving.kserve.io/inferenceservice": "ctr"}
                found["predictor"] = {**common, "component": "predictor"}
                if "transformer" in each["spec"]:
                    found["ranker"] = {**common, "component": "transformer"}
            case "Deployment" | "Job":
                labels = each["spec"]["template"]["metadata"]["labels"]
                found[labels["app.kubernetes.io/component"]] = labels
            case "CronJob":
                labels = each["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]
                found[labels["app.kubernetes.io/component"]] = labels
            case "Pod":
                found["test"] = each["metadata"]["labels"]
    return found


def selects(selector, labels):
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


def ports(rendered, pod, direction, peer):
    """Ports that policies open between `pod` and a peer for which `peer(rule's peer)` is true; `*` for all."""
    labels = labels_of_pods(rendered)[pod]
    side = {"Ingress": "from", "Egress": "to"}[direction]
    found = set()
    for policy in of_kind(rendered, "NetworkPolicy"):
        spec = policy["spec"]
        if direction not in spec["policyTypes"] or not selects(spec["podSelector"], labels):
            continue
        for rule in spec.get(direction.lower()) or []:
            if side not in rule or any(peer(each) for each in rule[side]):
                found |= {each["port"] for each in rule.get("ports", [{"port": "*"}])}
    return found


def in_namespace(name):
    return lambda peer: (
        peer.get("namespaceSelector", {}).get("matchLabels", {}).get("kubernetes.io/metadata.name") == name
    )


def pod_of(rendered, name):
    labels = labels_of_pods(rendered)[name]
    return lambda peer: (
        "podSelector" in peer and "namespaceSelector" not in peer and selects(peer["podSelector"], labels)
    )


@pytest.mark.parametrize("case", CASES)
def test_every_pod_is_denied_by_default_and_may_ask_for_names(case):
    rendered = objects(CASES[case])
    deny = named(rendered, "NetworkPolicy", "ctr-default-deny")["spec"]
    assert deny["policyTypes"] == ["Ingress", "Egress"]
    assert not deny.get("ingress")
    assert not deny.get("egress")
    for name, labels in labels_of_pods(rendered).items():
        assert selects(deny["podSelector"], labels), name
        assert ports(rendered, name, "Egress", in_namespace("kube-system")) >= {53}


def test_the_ranker_reaches_the_predictor_and_the_predictor_lets_it_in():
    rendered = objects(FULL)
    assert 8081 in ports(rendered, "ranker", "Egress", pod_of(rendered, "predictor"))
    assert 8081 in ports(rendered, "predictor", "Ingress", pod_of(rendered, "ranker"))


@pytest.mark.parametrize("pod", ["predictor", "ranker", "quality", "drift", "operator", "router"])
def test_prometheus_reaches_the_metrics_of_every_pod(pod):
    rendered = objects(FULL)
    port = {"quality": 9105, "drift": 9107, "router": 9108}.get(pod, 8080)
    assert port in ports(rendered, pod, "Ingress", in_namespace("monitoring"))


def test_alertmanager_reaches_the_operator_and_it_prometheus_and_the_api_server():
    rendered = objects(FULL)
    assert 9095 in ports(rendered, "operator", "Ingress", in_namespace("monitoring"))
    assert 9095 not in ports(rendered, "predictor", "Ingress", in_namespace("monitoring"))
    assert 9090 in ports(rendered, "operator", "Egress", in_namespace("monitoring"))
    assert {443, 6443} <= ports(rendered, "operator", "Egress", lambda peer: False)


def test_the_pipeline_job_reaches_kubeflow_pipelines_and_nobody_else():
    rendered = objects(FULL)
    assert ports(rendered, "pipeline", "Egress", in_namespace("kubeflow")) == {8888}
    assert ports(rendered, "pipeline", "Egress", in_namespace("monitoring")) == set()


def test_jobs_that_read_files_reach_nobody_but_dns():
    rendered = objects(FULL)
    for pod in ("quality", "drift"):
        assert ports(rendered, pod, "Egress", lambda peer: True) == {53}


def test_a_job_that_pushes_reaches_the_gateway_beside_prometheus():
    rendered = objects(rendering.OTHER)
    assert ports(rendered, "drift", "Egress", in_namespace("monitoring")) == {9091}
    assert 9091 not in ports(rendered, "quality", "Egress", in_namespace("monitoring"))


def test_only_the_callers_that_are_named_are_let_in():
    ad_server = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ad-server"}}}
    rendered = objects({**MINIMAL, "networkPolicy": {"callers": [ad_server]}})
    assert ports(rendered, "ranker", "Ingress", in_namespace("ad-server")) == {8080, 8081}
    assert ports(rendered, "ranker", "Ingress", in_namespace("elsewhere")) == set()
    assert ports(rendered, "operator", "Ingress", in_namespace("ad-server")) == set()


def test_callers_reach_the_router_and_it_the_endpoint_and_the_api_server():
    behind = {"ranker": FULL, "predictor": {**FULL, "ranker": {"enabled": False}}}
    for pod, values in behind.items():
        rendered = objects(values)
        assert 8080 in ports(rendered, "router", "Ingress", lambda peer: peer == {"podSelector": {}})
        assert 8080 in ports(rendered, "router", "Egress", pod_of(rendered, pod))
        assert 8080 in ports(rendered, pod, "Ingress", pod_of(rendered, "router"))
        assert {443, 6443} <= ports(rendered, "router", "Egress", lambda peer: False)
        assert 6379 not in ports(rendered, "router", "Egress", lambda peer: True)


def test_helm_test_reaches_predictor_ranker_and_router():
    rendered = objects({**MINIMAL, "router": {"enabled": True}})
    for pod in ("predictor", "ranker", "router"):
        assert 8080 in ports(rendered, "test", "Egress", pod_of(rendered, pod))
        assert 8080 in ports(rendered, pod, "Ingress", pod_of(rendered, "test"))


def test_without_network_policies_there_are_none():
    assert not of_kind(objects({**MINIMAL, "networkPolicy": {"enabled": False}}), "NetworkPolicy")
