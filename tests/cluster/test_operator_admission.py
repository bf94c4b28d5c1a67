"""What the API server refuses of a ModelRelease, by the CRD alone: nobody has to read a log to know that a release can't be."""

import json

import pytest
from kubernetes import client

from tests.cluster.operated_endpoint import RELEASES, URIS, B, release

pytestmark = pytest.mark.cluster


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
        (changed(target={"route": {"gateways": []}}), "a route by Gateway needs one to hang on"),
        (changed(target={"route": {}}), "a route by Gateway needs one to hang on"),
        (
            changed(target={"route": {"by": "Router", "gateways": [{"name": "public"}]}}),
            "one by Router has neither",
        ),
        (
            changed(target={"route": {"by": "Router", "hostnames": ["a.example.com"]}}),
            "one by Router has neither",
        ),
        (changed(target={"route": {"by": "Nobody"}}), "spec.target.route.by"),
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
        router = {"spec": {"target": {"route": {"by": "Router", "gateways": []}}}}
        assert "what splits the traffic does not change" in refused(server, router, "PATCH", path)
        elsewhere = {"spec": {"bundle": {"uri": "s3://models/9"}}}
        assert "uri and digest change together" in refused(server, elsewhere, "PATCH", path)
        renamed = {"spec": {"bundle": {"digest": B}}}
        assert "uri and digest change together" in refused(server, renamed, "PATCH", path)
        server.call("PATCH", path, {"spec": {"bundle": {"uri": URIS[B], "digest": B}}})
    finally:
        server.call("DELETE", path)
