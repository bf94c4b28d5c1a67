"""The API server: what is there, fetched as plain objects, and plans carried out. The only file here that talks to it about releases."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from kubernetes import client

from clickmill.errors import ClickmillError
from monitoring.operator.names import (
    CONFIG_MAPS,
    GROUP,
    KIND,
    KSERVE,
    PLURAL,
    RELEASE,
    ROUTES,
    SERVICES,
    VERSION,
)
from monitoring.operator.observe import Object, Objects
from monitoring.operator.reconcile import Plan
from monitoring.operator.resource import Carrier, Mode
from monitoring.operator.routes import kind_of, name_of
from monitoring.operator.servers import pods_name
from monitoring.operator.status import Status
from monitoring.operator.writes import Kind, Notice, Verb, Write
from monitoring.release.alerts import Told

log = logging.getLogger(__name__)

SECONDS = 10.0
"""A call may take."""
RESOLVED_KEPT = 50
"""Alerts that are over, kept in a status: objects are small."""
_KINDS = {
    Kind.RELEASE: (GROUP, VERSION, PLURAL),
    Kind.STATUS: (GROUP, VERSION, PLURAL),
    Kind.SERVICE: KSERVE,
    Kind.ROUTE: ROUTES,
    Kind.SHARES: CONFIG_MAPS,
    Kind.PODS: SERVICES,
}


class Conflict(ClickmillError):
    """Somebody wrote the object since it was read: look again."""


class Cluster:
    """One API server. Any thread may use it. namespace: the one that is watched; None: all."""

    def __init__(
        self,
        api: client.ApiClient,
        namespace: str | None,
        *,
        wrote: Callable[[str], None] = lambda what: None,
    ) -> None:
        """wrote: told of each call that changes something, such as `patch HTTPRoute`."""
        self._api, self.namespace, self._wrote = api, namespace, wrote

    def releases(self) -> list[Object]:
        """All ModelReleases that are watched."""
        found = self._call("GET", _path((GROUP, VERSION, PLURAL), self.namespace))
        return list(found["items"])

    def objects(self, release: Object) -> Objects:
        """What belongs to a ModelRelease."""
        metadata, target = release["metadata"], release["spec"]["target"]
        namespace, home = metadata["namespace"], target["inferenceService"]
        standard = target.get("mode", Mode.STANDARD) == Mode.STANDARD
        by = Carrier(target.get("route", {}).get("by", Carrier.GATEWAY))
        selector = f"?labelSelector={RELEASE}%3D{metadata['name']}"
        others = self._call("GET", _path(KSERVE, namespace) + selector)["items"] if standard else []
        names = [home, *(each["metadata"]["name"] for each in others)]
        seen = self._get(KSERVE, namespace, home)
        ranked = seen is not None and "transformer" in seen["spec"]
        deployments = {
            f"{name}-{part}": self._get(("apps", "v1", "deployments"), namespace, f"{name}-{part}")
            for name in (names if standard else [])
            for part in ("predictor", "transformer")[: 2 if ranked else 1]
        }
        by_pod = self._get(SERVICES, namespace, pods_name(home)) if ranked and standard else None
        beside = self._call("GET", _path(SERVICES, namespace) + selector)["items"] if by_pod else []
        return Objects(
            release=release,
            home=seen,
            others=tuple(each for each in others if each["metadata"]["name"] != home),
            deployments={name: found for name, found in deployments.items() if found is not None},
            route=self._get(_KINDS[kind_of(by)], namespace, name_of(home, by)) if standard else None,
            pods=by_pod,
            others_pods=tuple(each["metadata"]["name"] for each in beside),
        )

    def carry(self, plan: Plan, release: Object) -> None:
        """Do what the plan says: status first, so that a kill finds the decision. Raises Conflict."""
        namespace = release["metadata"]["namespace"]
        if plan.changed:
            self._write_status(release, plan.status)
        for notice in plan.notices:
            self._event(release, notice)
        for write in plan.writes:
            self._do(namespace, write)

    def tell(self, told: tuple[Told, ...]) -> int:
        """Keep alerts in the status of the ModelReleases whose bundles they are about; returns how many changed something. They are on
        the API server when this returns. Raises Conflict when others write all the time."""
        return sum(self._tell(release, told) for release in self.releases())

    def _tell(self, release: Object, told: tuple[Told, ...]) -> int:
        for _ in range(5):
            status = Status.from_storage(release.get("status"))
            state = status.release
            known = () if state is None else (state.candidate, state.stable, state.last_good)
            about = [
                each
                for each in told
                if each.key in status.alerts.firing
                or (each.bundle and any(bundle and bundle.startswith(each.bundle) for bundle in known))
            ]
            alerts, changed = status.alerts.after(about, kept=RESOLVED_KEPT)
            if not changed:
                return 0
            try:
                self._write_status(release, status.model_copy(update={"alerts": alerts}))
            except Conflict:
                metadata = release["metadata"]
                found = self._get((GROUP, VERSION, PLURAL), metadata["namespace"], metadata["name"])
                if found is None:
                    return 0
                release = found
            else:
                return changed
        raise Conflict(f"the status of {release['metadata']['name']} is written by others all the time")

    def _write_status(self, release: Object, status: Status) -> None:
        metadata = release["metadata"]
        path = _path((GROUP, VERSION, PLURAL), metadata["namespace"], metadata["name"]) + "/status"
        self._call("PUT", path, {**release, "status": status.for_storage()})
        self._wrote(f"put {Kind.STATUS}")

    def _do(self, namespace: str, write: Write) -> None:
        kind = _KINDS[write.kind]
        path = _path(kind, namespace, None if write.verb is Verb.CREATE else write.name)
        if write.verb is Verb.CREATE:
            body = {**write.body, "metadata": {**write.body["metadata"], "namespace": namespace}}
            self._call("POST", path, body)
        elif write.verb is Verb.PATCH:
            metadata = {**write.body.get("metadata", {}), "resourceVersion": write.version}
            self._call("PATCH", path, {**write.body, "metadata": metadata})
        else:
            only = {"preconditions": {"resourceVersion": write.version}} if write.version else {}
            self._call("DELETE", path, only)
        self._wrote(f"{write.verb} {write.kind}")
        log.info("%s/%s", namespace, write)

    def _event(self, release: Object, notice: Notice) -> None:
        metadata = release["metadata"]
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        self._call(
            "POST",
            _path(("", "v1", "events"), metadata["namespace"]),
            {
                "metadata": {"generateName": f"{metadata['name']}-", "namespace": metadata["namespace"]},
                "involvedObject": {
                    "apiVersion": f"{GROUP}/{VERSION}",
                    "kind": KIND,
                    "name": metadata["name"],
                    "namespace": metadata["namespace"],
                    "uid": metadata["uid"],
                },
                "reason": notice.reason,
                "message": notice.message,
                "type": "Warning" if notice.warning else "Normal",
                "source": {"component": "clickmill-operator"},
                "firstTimestamp": now,
                "lastTimestamp": now,
                "count": 1,
            },
        )
        self._wrote("create Event")

    def _get(self, kind: tuple[str, str, str], namespace: str, name: str) -> Object | None:
        try:
            return self._call("GET", _path(kind, namespace, name))
        except client.ApiException as error:
            if error.status == 404:
                return None
            raise

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        try:
            found = self._api.call_api(
                path,
                method,
                header_params={"Accept": "application/json", "Content-Type": kind},
                body=body,
                auth_settings=["BearerToken"],
                response_type="object",
                _return_http_data_only=True,
                _request_timeout=SECONDS,
            )
        except client.ApiException as error:
            if error.status == 409:
                raise Conflict(f"{method} {path}: {_words(error)}") from None
            if error.status == 404 and method == "DELETE":
                return {}
            raise
        return dict(found or {})


def _words(error: client.ApiException) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (ValueError, KeyError, TypeError):
        return str(error.reason)


def _path(kind: tuple[str, str, str], namespace: str | None, name: str | None = None) -> str:
    group, version, plural = kind
    return "/".join(_parts(group, version, namespace, plural, name))


def _parts(group: str, version: str, namespace: str | None, plural: str, name: str | None) -> Iterator[str]:
    yield f"/apis/{group}/{version}" if group else f"/api/{version}"
    if namespace is not None:
        yield f"namespaces/{namespace}"
    yield plural
    if name is not None:
        yield name


__all__ = ["Cluster", "Conflict"]
