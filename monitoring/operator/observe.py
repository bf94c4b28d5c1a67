"""Turns the objects that the API server returns into a `World`, the input of `reconcile`. Pure; `cluster` fetches them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from clickmill.release import Evidence
from monitoring.operator import routes, servers
from monitoring.operator.reconcile import World
from monitoring.operator.resource import ModelReleaseSpec
from monitoring.operator.standard import Observed
from monitoring.operator.status import Status

Object = Mapping[str, Any]


@dataclass(frozen=True)
class Objects:
    """Of one ModelRelease."""

    release: Object
    home: Object | None = None
    """The InferenceService of the spec."""
    others: tuple[Object, ...] = ()
    """InferenceServices that the operator made for it."""
    deployments: Mapping[str, Object] = field(default_factory=dict)
    """Name to Deployment, of predictors and transformers."""
    pods: Object | None = None
    """Home's Service of the predictor's pods, if it has one."""
    others_pods: tuple[str, ...] = ()
    """Names of such Services that the operator made."""
    route: Object | None = None
    """HTTPRoute or ConfigMap, as the spec has it."""


@dataclass(frozen=True)
class PrometheusEvidence:
    """What was asked of Prometheus."""

    evidence: Evidence = field(default_factory=Evidence)
    served: frozenset[str] = frozenset()
    """Digests that endpoints report to serve."""
    error: str = ""
    """Why there is none."""


def world(objects: Objects, measured: PrometheusEvidence, taken_by: str = "") -> World:
    """All that is known. taken_by: another ModelRelease that has the InferenceService already. Raises pydantic's ValidationError for a spec or status that the CRD would not have let in."""
    release = objects.release
    metadata = release["metadata"]
    status = Status.from_storage(release.get("status"))
    spec = ModelReleaseSpec.model_validate(release["spec"])
    return World(
        name=metadata["name"],
        generation=metadata["generation"],
        finalizers=tuple(metadata.get("finalizers") or ()),
        leaving="deletionTimestamp" in metadata,
        version=metadata["resourceVersion"],
        taken_by=taken_by,
        spec=spec,
        status=status,
        observed=None if objects.home is None else _observed(objects, objects.home, spec, status),
        evidence=measured.evidence,
        served=measured.served,
        evidence_error=measured.error,
    )


def _observed(objects: Objects, home: Object, spec: ModelReleaseSpec, status: Status) -> Observed:
    uris = {spec.bundle.digest: spec.bundle.uri, **status.uris}

    def server(seen: Object) -> servers.Server:
        name = seen["metadata"]["name"]
        predictor, transformer = (
            objects.deployments.get(f"{name}-{part}") for part in ("predictor", "transformer")
        )
        return servers.server(seen, predictor, uris, transformer=transformer)

    def alive(seen: Iterable[Object]) -> Iterable[Object]:
        return (each for each in seen if "deletionTimestamp" not in each["metadata"])

    metadata = objects.release["metadata"]
    return Observed(
        home=server(home),
        home_bundle=status.home,
        others=tuple(
            server(each) for each in sorted(alive(objects.others), key=lambda each: each["metadata"]["name"])
        ),
        route=None
        if objects.route is None or spec.target.route is None
        else routes.seen(objects.route, spec.target.route.by),
        entry=servers.entry(home),
        template=home,
        owner={"name": metadata["name"], "uid": metadata["uid"]},
        pods=objects.pods,
        others_pods=objects.others_pods,
    )


__all__ = ["Object", "Objects", "PrometheusEvidence", "world"]
