"""The spec of a ModelRelease, which people write. The CRD is made from these classes (`crd.py`); the policy is `clickmill.release`'s."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from clickmill.release import ReleasePolicy

_CAMEL = ConfigDict(alias_generator=to_camel, populate_by_name=True)
SPOKEN = ConfigDict(**_CAMEL, frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)
"""Of everything that is stored on a cluster: camelCase there, snake_case here."""

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", max_length=64)]
Label = Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=40)]


def rules(*stated: tuple[str, str]) -> dict[str, Any]:
    """CEL rules for the API server: (rule, what it says when it does not hold)."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in stated]}


class Mode(StrEnum):
    """How KServe runs the InferenceService."""

    STANDARD = "Standard"  # Deployments; shares by a route between InferenceServices
    KNATIVE = "Knative"  # revisions; shares by canaryTrafficPercent


class Carrier(StrEnum):
    """What splits an endpoint's traffic in mode Standard."""

    GATEWAY = "Gateway"  # a Gateway, by an HTTPRoute that the operator owns
    ROUTER = "Router"  # our own (`clickmill serve-router`), by a ConfigMap that the operator owns


class Bundle(BaseModel):
    """The bundle that is to serve."""

    model_config = SPOKEN | ConfigDict(
        json_schema_extra=rules(
            (
                "(self.uri == oldSelf.uri) == (self.digest == oldSelf.digest)",
                "uri and digest change together: a bundle does not change, and what is at an address is one bundle",
            )
        )
    )

    uri: Annotated[str, Field(pattern=r"^[a-z0-9]+://.+$", max_length=1024)]
    """Where KServe's storage initializer finds it, such as `s3://models/ctr/7` or `pvc://store/7`."""
    digest: Digest
    """Its digest, as `clickmill bundle show` says it. The endpoint's metrics must report the same before it gets traffic."""
    even_quarantined: bool = False
    """Release it although it was taken back before. Counts once: for the generation of the spec that says so."""


class Gateway(BaseModel):
    """A Gateway that the route hangs on."""

    model_config = SPOKEN

    name: Annotated[str, Field(min_length=1, max_length=253)]
    """Its name."""
    namespace: Annotated[str, Field(max_length=63)] | None = None
    """Its namespace, if another than the ModelRelease's."""
    section_name: Annotated[str, Field(max_length=253)] | None = None
    """The listener, if not all of them."""


class Route(BaseModel):
    """Where callers come in, and by what their requests are split."""

    model_config = SPOKEN | ConfigDict(
        json_schema_extra=rules(
            (
                "self.by == 'Gateway' ? self.gateways.size() > 0 : self.gateways.size() + self.hostnames.size() == 0",
                "a route by Gateway needs one to hang on; one by Router has neither gateways nor hostnames",
            ),
        )
    )

    by: Carrier = Carrier.GATEWAY
    """Gateway: an HTTPRoute of the InferenceService's name. Router: where there is no Gateway; callers ask the chart's router (`router.enabled`),
    which reads the ConfigMap `NAME-shares`."""
    gateways: Annotated[tuple[Gateway, ...], Field(max_length=4)] = ()
    """Where the HTTPRoute hangs."""
    hostnames: Annotated[tuple[Annotated[str, Field(max_length=253)], ...], Field(max_length=8)] = ()
    """Host names it answers to; none: all of the Gateway's."""
    port: int = Field(default=80, ge=1, le=65535)
    """Port of KServe's Services behind it. 80 is what KServe makes of the container's first port."""
    grace_seconds: int = Field(default=30, ge=0)
    """After the route has left an InferenceService, until that one is touched: Gateways and routers learn of a change one after the other, and
    requests under way end. Also the pause between two quarters of the traffic that move between servers of one bundle."""


class Target(BaseModel):
    """The endpoint."""

    model_config = SPOKEN | ConfigDict(
        json_schema_extra=rules(
            (
                "self.inferenceService == oldSelf.inferenceService",
                "a release stays with its InferenceService; make another ModelRelease for another",
            ),
            ("self.mode == oldSelf.mode", "the mode does not change; make another ModelRelease"),
            (
                "!has(self.route) || !has(oldSelf.route) || self.route.by == oldSelf.route.by",
                "what splits the traffic does not change; make another ModelRelease",
            ),
            (
                "self.mode == 'Knative' ? !has(self.route) : has(self.route)",
                "mode Standard needs a route, mode Knative has its own",
            ),
        )
    )

    inference_service: Label
    """Name of the InferenceService, in the same namespace. Its `spec.predictor.model.storageUri` is set by the operator once there is a
    ModelRelease, and left as it is when the ModelRelease goes."""
    mode: Mode = Mode.STANDARD
    """How KServe runs it."""
    route: Route | None = None
    """In mode Standard: where its traffic comes in."""
    ready_seconds: int = Field(default=600, ge=10)
    """How long the candidate's pods may take to load it, and how long they may be away later, before it is taken back."""


class Policy(ReleasePolicy):
    """Steps, analysis and what follows a rollback: `clickmill.release.ReleasePolicy`."""

    model_config = _CAMEL | ConfigDict(
        json_schema_extra=rules(
            (
                "self.steps.size() > 0 && self.steps[self.steps.size() - 1] == 100",
                "steps must end at 100 percent",
            ),
            (
                "self.steps.isSorted() && self.steps.all(s, s >= 1 && s <= 100)",
                "steps must ascend from at least 1 to 100 percent",
            ),
        )
    )


class SpecFreeze(BaseModel):
    """Nothing goes forward while this is here; back is always open."""

    model_config = SPOKEN

    reason: Annotated[str, Field(min_length=1, max_length=1024)]
    """Why."""
    until: AwareDatetime | None = None
    """When it ends by itself; without it: when it is removed."""


class Rollback(BaseModel):
    """A bundle that a person takes back, whether it is the candidate or serves."""

    model_config = SPOKEN

    digest: Digest
    """The bundle that must go. Once it is gone this says nothing more."""
    reason: Annotated[str, Field(min_length=1, max_length=1024)]
    """Why; it stays in the history."""


class ModelReleaseSpec(BaseModel):
    """Which bundle an endpoint is to serve, and how it comes to."""

    model_config = SPOKEN | ConfigDict(
        json_schema_extra=rules(
            (
                "self.target.mode != 'Knative' || !self.policy.shadow",
                "mode Knative cannot mirror requests: set policy.shadow to false",
            )
        )
    )

    bundle: Bundle
    """What is to serve."""
    target: Target
    """Where."""
    policy: Policy = Policy()
    """How."""
    freeze: SpecFreeze | None = None
    """Hold everything where it is."""
    rollback: Rollback | None = None
    """Take a bundle back by hand."""


__all__ = [
    "SPOKEN",
    "Bundle",
    "Carrier",
    "Digest",
    "Gateway",
    "Mode",
    "ModelReleaseSpec",
    "Policy",
    "Rollback",
    "Route",
    "SpecFreeze",
    "Target",
    "rules",
]
