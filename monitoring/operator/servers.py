"""InferenceServices as seen, and those that the operator makes: one beside the target for each further bundle that must be up.

KServe 0.20 has a canary of its own for Standard mode; decision 0019 says why it isn't used.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from monitoring.operator.names import BEFORE, BUNDLE, GROUP, KIND, RELEASE, SOURCE_URI, VERSION

_NOT_COPIED = ("kubectl.kubernetes.io/", "meta.helm.sh/", "argocd.argoproj.io/")
_NOT_COPIED_LABELS = (*_NOT_COPIED, "helm.sh/", "app.kubernetes.io/managed-by")

STORAGE_URI = "STORAGE_URI"
"""Variable by which KServe knows what a container of ours is to find at /mnt/models."""


@dataclass(frozen=True)
class Server:
    """One InferenceService."""

    name: str
    uri: str
    """Where its model comes from, by its spec."""
    bundle: str | None
    """Digest of what it is told to serve; None: an address that no release named."""
    available: bool
    """Its pods answer."""
    complete: bool
    """All of its pods are of the present spec."""
    away_since: datetime | None
    """When it last stopped to be available; None while it is."""
    replicas: int
    """Pods that answer."""
    version: str
    """resourceVersion."""
    revisions: Revisions | None = None
    """In mode Knative."""


@dataclass(frozen=True)
class Revisions:
    """What Knative says of an InferenceService."""

    percent: int | None
    """Share of the newest revision, by spec; None: all, as soon as it is ready."""
    created: str
    """The newest revision."""
    ready: str
    """The newest one that is ready."""
    rolled_out: str
    """The last one that had all traffic: it has what the newest has not."""
    before: str
    """The newest one at the time the spec was last changed by the operator."""


def server(
    seen: Mapping[str, Any],
    deployment: Mapping[str, Any] | None,
    uris: Mapping[str, str],
    *,
    transformer: Mapping[str, Any] | None = None,
) -> Server:
    """From the objects as the API gives them. deployment, transformer: its Deployments; None in mode Knative, and while there is none."""
    spec = seen["spec"]["predictor"]
    uri = spec.get("model", {}).get("storageUri", "")
    conditions = {each["type"]: each for each in seen.get("status", {}).get("conditions", [])}
    parts = ["PredictorReady"] + ["TransformerReady"] * ("transformer" in seen["spec"])
    away = [conditions.get(part, {}) for part in parts if conditions.get(part, {}).get("status") != "True"]
    told = [each.get("lastTransitionTime") for each in away]
    since = next((when for when in told if when), seen["metadata"]["creationTimestamp"]) if away else None
    of_predictor = seen.get("status", {}).get("components", {}).get("predictor", {})
    return Server(
        name=seen["metadata"]["name"],
        uri=uri,
        bundle=next((digest for digest, address in uris.items() if address == uri), None),
        available=not away,
        complete=all(
            each is not None and _complete(each, uri)
            for each in (deployment, transformer)[: 2 if _reads_bundle(seen["spec"]) else 1]
        ),
        away_since=None if since is None else datetime.fromisoformat(since),
        replicas=0 if deployment is None else deployment.get("status", {}).get("availableReplicas", 0),
        version=seen["metadata"]["resourceVersion"],
        revisions=Revisions(
            percent=spec.get("canaryTrafficPercent"),
            created=of_predictor.get("latestCreatedRevision", ""),
            ready=of_predictor.get("latestReadyRevision", ""),
            rolled_out=of_predictor.get("latestRolledoutRevision", ""),
            before=(seen["metadata"].get("annotations") or {}).get(BEFORE, ""),
        ),
    )


def _complete(deployment: Mapping[str, Any], uri: str) -> bool:
    """Kubernetes' own rule for a finished rollout, of a template that loads from `uri`."""
    status = deployment.get("status", {})
    annotations = deployment["spec"]["template"]["metadata"].get("annotations") or {}
    wanted = deployment["spec"].get("replicas", 1)
    counts = {status.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas")}
    return (
        status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
        and annotations.get(SOURCE_URI) == uri
        and counts == {wanted}
        and wanted > 0
    )


def told_to_load(spec: Mapping[str, Any], uri: str) -> dict[str, Any]:
    """The parts of an InferenceService's spec that name the bundle, naming the one at `uri`: the predictor's address and, where a
    transformer reads the bundle too, its STORAGE_URI. As a merge patch of the spec."""
    found: dict[str, Any] = {"predictor": {"model": {"storageUri": uri}}}
    if _reads_bundle(spec):
        containers = copy.deepcopy(spec["transformer"]["containers"])
        for container in containers:
            for variable in container.get("env") or []:
                if variable["name"] == STORAGE_URI:
                    variable["value"] = uri
        found["transformer"] = {"containers": containers}
    return found


def _reads_bundle(spec: Mapping[str, Any]) -> bool:
    """Whether the transformer loads the bundle as well, as our ranker does."""
    containers = spec.get("transformer", {}).get("containers") or []
    return any(variable["name"] == STORAGE_URI for each in containers for variable in each.get("env") or [])


def pods_name(server: str) -> str:
    """Of the Service by which a ranker sees the predictor's pods one by one (the chart makes home's)."""
    return f"{server}-predictor-pods"


def pods_beside(home: Mapping[str, Any], name: str, owner: Mapping[str, Any]) -> dict[str, Any]:
    """Such a Service for the InferenceService `name`, like `home`'s."""
    spec = home["spec"]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": pods_name(name),
            "labels": {RELEASE: owner["name"]},
            "ownerReferences": [_owned_by(owner)],
        },
        "spec": {
            "clusterIP": "None",
            "selector": {**spec["selector"], "serving.kserve.io/inferenceservice": name},
            "ports": spec["ports"],
        },
    }


def _owned_by(owner: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": KIND,
        "name": owner["name"],
        "uid": owner["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def name_of(base: str, bundle: str) -> str:
    """Of the InferenceService beside `base` for a bundle."""
    return f"{base}-{bundle[:10]}"


def entry(seen: Mapping[str, Any]) -> str:
    """The Service by which KServe's InferenceServices of this shape are entered: the transformer's where there is one."""
    return "transformer" if "transformer" in seen["spec"] else "predictor"


def beside(
    base: Mapping[str, Any], bundle: str, uri: str, owner: Mapping[str, Any], floor: int
) -> dict[str, Any]:
    """An InferenceService like `base` for another bundle. owner: the ModelRelease. floor: pods that it starts with at least, so that it
    can take the traffic at once."""
    metadata = base["metadata"]
    labels = {
        key: value
        for key, value in (metadata.get("labels") or {}).items()
        if not key.startswith(_NOT_COPIED_LABELS)
    }
    annotations = {
        key: value
        for key, value in (metadata.get("annotations") or {}).items()
        if not key.startswith((*_NOT_COPIED, GROUP))
    }
    spec = copy.deepcopy(dict(base["spec"]))
    spec.pop("canary", None)
    predictor = spec["predictor"]
    predictor.pop("canaryTrafficPercent", None)
    changed = told_to_load(spec, uri)
    predictor["model"] |= changed["predictor"]["model"]
    if "transformer" in changed:
        spec["transformer"] |= changed["transformer"]
    if floor > predictor.get("minReplicas", 1):
        predictor["minReplicas"] = floor
        if predictor.get("maxReplicas"):
            predictor["maxReplicas"] = max(predictor["maxReplicas"], floor)
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": name_of(metadata["name"], bundle),
            "labels": {**labels, RELEASE: owner["name"], BUNDLE: bundle[:12]},
            "annotations": {**annotations, BUNDLE: bundle},
            "ownerReferences": [_owned_by(owner)],
        },
        "spec": spec,
    }


__all__ = [
    "Revisions",
    "Server",
    "beside",
    "entry",
    "name_of",
    "pods_beside",
    "pods_name",
    "server",
    "told_to_load",
]
