"""The route of an endpoint: shares between its InferenceServices, and a mirror for a shadow.

It is an HTTPRoute for a Gateway, or a ConfigMap for our own router. What the operator last wrote is in its annotations as a digest, so
that an edit by hand shows and is not written over.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from clickmill.release import SHARES, Shares
from monitoring.operator.names import APPLIED, APPLIED_AT, APPLIED_FOR, RELEASE
from monitoring.operator.resource import Carrier, Route
from monitoring.operator.writes import Kind


@dataclass(frozen=True)
class View:
    """What the operator says about a route; what the API server adds by itself is not in it."""

    weights: tuple[tuple[str, int], ...]
    """(Service, weight), by name."""
    mirror: str | None
    """Service that gets a copy of each request."""
    gateways: tuple[tuple[str, str, str], ...]
    """(namespace, name, section) of its parents, empty where it doesn't say; none for a router."""
    hostnames: tuple[str, ...]
    port: int

    @property
    def digest(self) -> str:
        """Of what is said."""
        said = json.dumps([self.weights, self.mirror, self.gateways, self.hostnames, self.port])
        return hashlib.sha256(said.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class SeenRoute:
    """A route as it is."""

    by: Carrier
    view: View | None
    """None: it no longer has a form that the operator writes."""
    applied: str
    """Digest of what the operator last wrote; empty: nothing ever."""
    applied_at: datetime | None
    applied_for: str
    """State of the release that it was written for."""
    version: str
    """resourceVersion."""

    @property
    def edited(self) -> bool:
        """Whether somebody changed it by hand."""
        return self.view is None or self.view.digest != self.applied

    def sends_to(self, service: str) -> bool:
        """Whether a Service gets anything. An unreadable route may send anywhere."""
        if self.view is None:
            return True
        return service == self.view.mirror or dict(self.view.weights).get(service, 0) > 0


def wanted(route: Route, weights: Mapping[str, int], mirror: str | None) -> View:
    """What should be said. weights: Service to percent, those above 0."""
    return View(
        weights=tuple(sorted(weights.items())),
        mirror=mirror,
        gateways=tuple((each.namespace or "", each.name, each.section_name or "") for each in route.gateways),
        hostnames=route.hostnames,
        port=route.port,
    )


def kind_of(by: Carrier) -> Kind:
    """Kind of the object that says it."""
    return Kind.ROUTE if by is Carrier.GATEWAY else Kind.SHARES


def name_of(home: str, by: Carrier) -> str:
    """Name of that object, of the endpoint `home`."""
    return home if by is Carrier.GATEWAY else f"{home}-shares"


def seen(stored: Mapping[str, Any], by: Carrier) -> SeenRoute:
    """From the object as the API gives it."""
    metadata = stored["metadata"]
    annotations = metadata.get("annotations") or {}
    at = annotations.get(APPLIED_AT)
    return SeenRoute(
        by=by,
        view=_view_of_http_route(stored["spec"]) if by is Carrier.GATEWAY else _view_of_shares(stored),
        applied=annotations.get(APPLIED, ""),
        applied_at=None if at is None else datetime.fromisoformat(at),
        applied_for=annotations.get(APPLIED_FOR, ""),
        version=metadata["resourceVersion"],
    )


def _view_of_shares(stored: Mapping[str, Any]) -> View | None:
    try:
        said = Shares.model_validate_json((stored.get("data") or {}).get(SHARES, ""))
    except ValidationError:
        return None
    return View(
        weights=tuple(sorted(said.percent.items())),
        mirror=said.mirror,
        gateways=(),
        hostnames=(),
        port=said.port,
    )


def _view_of_http_route(spec: Mapping[str, Any]) -> View | None:
    rules = spec.get("rules") or []
    if len(rules) != 1:
        return None
    filters = rules[0].get("filters") or []
    backends = rules[0].get("backendRefs") or []
    if any(each.get("type") != "RequestMirror" for each in filters) or len(filters) > 1:
        return None
    mirror = filters[0]["requestMirror"]["backendRef"]["name"] if filters else None
    ports = {each.get("port", 0) for each in backends}
    return View(
        weights=tuple(
            sorted((each["name"], each.get("weight", 1)) for each in backends if each.get("weight", 1) > 0)
        ),
        mirror=mirror,
        gateways=tuple(
            (each.get("namespace", ""), each["name"], each.get("sectionName", ""))
            for each in spec.get("parentRefs") or []
        ),
        hostnames=tuple(spec.get("hostnames") or ()),
        port=ports.pop() if len(ports) == 1 else 0,
    )


def body(view: View, by: Carrier, *, name: str, release: str, state: str, now: datetime) -> dict[str, Any]:
    """The object that says it. release: name of the ModelRelease. state: what it is written for."""
    metadata = {
        "name": name,
        "labels": {RELEASE: release},
        "annotations": {APPLIED: view.digest, APPLIED_AT: now.isoformat(), APPLIED_FOR: state},
    }
    if by is Carrier.ROUTER:
        said = Shares(percent=dict(view.weights), mirror=view.mirror, port=view.port)
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata,
            "data": {SHARES: said.model_dump_json()},
        }
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": metadata,
        "spec": _http_route(view),
    }


def _http_route(view: View) -> dict[str, Any]:
    rule: dict[str, Any] = {
        "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
        "backendRefs": [
            {"name": service, "port": view.port, "weight": weight} for service, weight in view.weights
        ],
    }
    if view.mirror:  # a merge patch replaces the rules as a whole: a mirror that is not named is gone
        backend = {"name": view.mirror, "port": view.port}
        rule["filters"] = [{"type": "RequestMirror", "requestMirror": {"backendRef": backend}}]
    parents = [
        {
            "name": name,
            **({"namespace": namespace} if namespace else {}),
            **({"sectionName": section} if section else {}),
        }
        for namespace, name, section in view.gateways
    ]
    return {"parentRefs": parents, "hostnames": list(view.hostnames), "rules": [rule]}


__all__ = ["SeenRoute", "View", "body", "kind_of", "name_of", "seen", "wanted"]
