"""A bundle handed to the release operator of a cluster, and its verdict waited for: the objects, not the decisions."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field

from clickmill.errors import ClickmillError

GROUP, VERSION, PLURAL = "clickmill.dev", "v1alpha1", "modelreleases"
_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

Object = Mapping[str, Any]


class ReleaseFailed(ClickmillError):
    """The operator took the bundle back, could not carry the release out, or did not decide in time."""


class ReleaseRequest(BaseModel):
    """Which ModelRelease is to have the bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str = Field(min_length=1)
    """Of the ModelRelease."""
    store_uri: str = Field(pattern=r"^[a-z0-9]+://.+")
    """How KServe reaches the model store that this step writes, such as `pvc://models/ctr`: version 7 is at `pvc://models/ctr/7`."""
    namespace: str = ""
    """Its namespace; empty: the one this step runs in."""
    target: dict[str, Any] = {}
    """`spec.target`, to make the ModelRelease when there is none."""
    policy: dict[str, Any] = {}
    """`spec.policy`, to make it."""
    wait_seconds: float = Field(default=86_400.0, ge=0)
    """How long the verdict is waited for; 0: not at all."""


class ModelReleases(Protocol):
    """Where ModelReleases are kept."""

    def get(self, name: str) -> Object | None:
        """The object; None when there is none."""

    def create(self, body: Object) -> None:
        """Make it."""

    def patch(self, name: str, body: Object) -> None:
        """Merge into it."""


class Kubernetes:
    """The API server of the cluster that this pod is in, else of the kubeconfig."""

    def __init__(self, namespace: str) -> None:
        from kubernetes import client, config

        try:
            config.load_incluster_config()
        except config.ConfigException:
            config.load_kube_config()
        inside = _POD_NAMESPACE.read_text().strip() if _POD_NAMESPACE.exists() else "default"
        self.namespace = namespace or inside
        self._api = client.CustomObjectsApi()
        self._where = (GROUP, VERSION, self.namespace, PLURAL)

    def get(self, name: str) -> Object | None:
        """See `ModelReleases`."""
        from kubernetes import client

        try:
            found: Object = self._api.get_namespaced_custom_object(*self._where, name, _request_timeout=30)
        except client.ApiException as error:
            if error.status == 404:
                return None
            raise
        return found

    def create(self, body: Object) -> None:
        """See `ModelReleases`."""
        self._api.create_namespaced_custom_object(*self._where, body, _request_timeout=30)

    def patch(self, name: str, body: Object) -> None:
        """See `ModelReleases`."""
        self._api.patch_namespaced_custom_object(*self._where, name, body, _request_timeout=30)


def ask(releases: ModelReleases, request: ReleaseRequest, *, uri: str, digest: str) -> None:
    """Name the bundle in the ModelRelease, which is made when there is none. The same again changes nothing. Raises ReleaseFailed."""
    bundle = {"uri": uri, "digest": digest}
    found = releases.get(request.name)
    if found is None:
        if not request.target:
            raise ReleaseFailed(
                f"there is no ModelRelease {request.name}; make it, or give `release.target` for this step to make it"
            )
        releases.create(
            {
                "apiVersion": f"{GROUP}/{VERSION}",
                "kind": "ModelRelease",
                "metadata": {"name": request.name},
                "spec": {
                    "bundle": bundle,
                    "target": request.target,
                    **({"policy": request.policy} if request.policy else {}),
                },
            }
        )
    elif found["spec"]["bundle"].get("digest") != digest:
        releases.patch(request.name, {"spec": {"bundle": bundle}})


def wait(
    releases: ModelReleases,
    request: ReleaseRequest,
    digest: str,
    *,
    say: Callable[[str], None] = lambda words: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    every: float = 10.0,
) -> str:
    """Words of the verdict, once the bundle serves. say: told what is waited for, whenever it changes.

    Raises ReleaseFailed when it was taken back, another was named meanwhile, it can't be carried out, or time is over.
    """
    end = clock() + request.wait_seconds
    said = ""
    while True:
        found = releases.get(request.name)
        if found is None:
            raise ReleaseFailed(f"ModelRelease {request.name} was deleted meanwhile")
        named = found["spec"]["bundle"]["digest"]
        if named != digest:
            raise ReleaseFailed(f"{request.name} names bundle {named[:12]} meanwhile: another run came after")
        status = found.get("status", {})
        # What is said of an earlier spec says nothing of this one.
        conditions = {
            each["type"]: each
            for each in status.get("conditions", [])
            if each.get("observedGeneration") == found["metadata"]["generation"]
        }
        verdict = conditions.get("Promoted", {})
        if verdict.get("status") == "True":
            return str(verdict.get("message", ""))
        if verdict.get("status") == "False":
            raise ReleaseFailed(f"{request.name} took the bundle back: {verdict.get('message', '')}")
        accepted = conditions.get("Accepted", {})
        if accepted.get("status") == "False":
            raise ReleaseFailed(f"{request.name} can't be carried out: {accepted.get('message', '')}")
        words = status.get("message", "the operator has not looked yet")
        if words != said:
            say(words)
            said = words
        if clock() >= end:
            raise ReleaseFailed(
                f"no verdict on {request.name} after {request.wait_seconds:,.0f} s ({words}); the release goes on without this step"
            )
        sleep(min(every, max(end - clock(), 0.0)))


__all__ = ["Kubernetes", "ModelReleases", "ReleaseFailed", "ReleaseRequest", "ask", "wait"]
