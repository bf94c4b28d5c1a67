"""An endpoint `ctr` with its ModelRelease on an API server without a node: the operator as a process, and stand-ins for what pods would do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kubernetes import client

from tests.cluster.api_server import NAMESPACE, ApiServer
from tests.cluster.kserve_stand_in import ROUTES, SERVICES, SHARES, StandIn, service
from tests.cluster.operator_process import OperatorProcess, prometheus

RELEASES = f"/apis/clickmill.dev/v1alpha1/namespaces/{NAMESPACE}/modelreleases"
A, B, C = ("a" * 64, "b" * 64, "c" * 64)
URIS = {A: "s3://models/1", B: "s3://models/2", C: "s3://models/3"}
POLICY = {"steps": [10, 100], "stepSeconds": 2, "minRequests": 500, "coolDownSeconds": 0}
BY_GATEWAY = {"gateways": [{"name": "public"}], "graceSeconds": 2}
BY_ROUTER = {"by": "Router", "graceSeconds": 2}


def release(digest=A, name="ctr", policy=POLICY, route=BY_GATEWAY, **spec) -> dict[str, Any]:
    return {
        "apiVersion": "clickmill.dev/v1alpha1",
        "kind": "ModelRelease",
        "metadata": {"name": name},
        "spec": {
            "bundle": {"uri": URIS[digest], "digest": digest},
            "target": {"inferenceService": "ctr", "route": route},
            "policy": policy,
            **spec,
        },
    }


class Endpoint:
    """`traffic` is who calls it and what answers, a stand-in; `operator` the process, None where a test is it."""

    def __init__(self, server: ApiServer, traffic: StandIn, operator: OperatorProcess | None) -> None:
        self.server, self.traffic, self._operator = server, traffic, operator

    @property
    def operator(self) -> OperatorProcess:
        assert self._operator is not None
        return self._operator

    def make(self, **spec: Any) -> None:
        """The ModelRelease, of the bundle that serves."""
        self.server.call("POST", RELEASES, release(A, **spec))
        self.until("promoted", A)

    def name(self, digest: str) -> None:
        """A bundle to release."""
        self.server.call(
            "PATCH", f"{RELEASES}/ctr", {"spec": {"bundle": {"uri": URIS[digest], "digest": digest}}}
        )

    @property
    def stored(self) -> dict[str, Any]:
        return self.server.call("GET", f"{RELEASES}/ctr")

    @property
    def state(self) -> dict[str, Any]:
        return self.stored["status"]["release"]

    def at(self, phase: str, stable: str, percent: int | None = None) -> bool:
        """Whether the release stands there."""
        state = self.state
        return (state["phase"], state["stable"]) == (phase, stable) and percent in (
            None,
            state.get("percent"),
        )

    def until(self, phase: str, stable: str, percent: int | None = None, seconds: float = 400.0) -> None:
        self.server.until(f"{phase} {stable[0]} {percent}", lambda: self.at(phase, stable, percent), seconds)

    def written(self) -> tuple[Any, ...]:
        """Versions of all that the operator writes."""
        services = self.server.call("GET", SERVICES)["items"]
        specs = sorted((e["metadata"]["name"], e["metadata"]["generation"]) for e in services)
        return self.stored["metadata"]["resourceVersion"], tuple(specs), tuple(sorted(self.weights().items()))

    def models(self) -> dict[str, str]:
        """InferenceService to the address it is told to load."""
        found = self.server.call("GET", SERVICES)["items"]
        return {e["metadata"]["name"]: e["spec"]["predictor"]["model"]["storageUri"] for e in found}

    def weights(self) -> dict[str, int]:
        """Service to share, of the HTTPRoute or else of the ConfigMap."""
        try:
            (rule,) = self.server.call("GET", f"{ROUTES}/ctr")["spec"]["rules"]
        except client.ApiException as error:
            if error.status != 404:
                raise
            return json.loads(self.server.call("GET", SHARES)["data"]["shares"])["percent"]
        return {each["name"]: each["weight"] for each in rule["backendRefs"]}

    def is_settled(self, stable: str, beside: dict[str, str]) -> bool:
        """Home has the stable bundle and all traffic, and beside it is what should be."""
        return self.models() == {"ctr": URIS[stable], **beside} and self.weights() == {"ctr-predictor": 100}

    def settled(self, stable: str, beside: dict[str, str]) -> None:
        self.server.until("settled", lambda: self.is_settled(stable, beside))

    def clear(self) -> None:
        if self.server.call("GET", RELEASES)["items"]:
            self.server.call("DELETE", f"{RELEASES}/ctr")
            self.server.until("gone", lambda: not self.server.call("GET", RELEASES)["items"], 300)
        for path in (SERVICES, ROUTES, SHARES):
            try:
                self.server.call("DELETE", path)
            except client.ApiException as error:
                if error.status != 404:
                    raise


@contextmanager
def stand_ins(server: ApiServer, folder: Path) -> Iterator[tuple[StandIn, str]]:
    """The InferenceService, who calls it, and the URL of a Prometheus that sees it."""
    server.call("POST", SERVICES, service("ctr", URIS[A]))
    digests = {uri: digest for digest, uri in URIS.items()}
    with StandIn(server, digests) as traffic, prometheus(folder, traffic.port) as url:
        yield traffic, url


@contextmanager
def operated(server: ApiServer, folder: Path, kubeconfig: Path | None = None) -> Iterator[Endpoint]:
    """With an operator, by default the administrator's. Nothing is left of it."""
    with stand_ins(server, folder) as (traffic, url):
        operator = OperatorProcess(kubeconfig or server.kubeconfig, url, folder)
        operator.start()
        try:
            found = Endpoint(server, traffic, operator)
            yield found
            found.clear()
        finally:
            operator.stop()
