"""The loop of the operator: look at every ModelRelease, decide, carry out. One pass is one call; who calls it and when is `process`'s."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

import urllib3
from kubernetes import client
from pydantic import ValidationError

from clickmill.release import Release
from monitoring.operator.cluster import Cluster, Conflict
from monitoring.operator.observe import Object, PrometheusEvidence, world
from monitoring.operator.reconcile import reconcile
from monitoring.operator.resource import ModelReleaseSpec
from monitoring.operator.status import Status

log = logging.getLogger(__name__)


class EvidenceSource(Protocol):
    """A source of evidence."""

    def evidence(
        self, namespace: str, status: Status, spec: ModelReleaseSpec, now: datetime
    ) -> PrometheusEvidence:
        """What is known of a release now. Raises nothing: what is unknown is said in `error`."""


class Controller:
    """Level-triggered: every pass looks at everything anew."""

    def __init__(self, cluster: Cluster, source: EvidenceSource) -> None:
        self._cluster, self._source = cluster, source
        self._lock = threading.Lock()
        self.states: Mapping[str, Release] = {}
        """By namespace and name, at the last pass."""
        self.failures: Counter[str] = Counter()
        """Passes over a ModelRelease that did not come to their end, by why."""

    def step(self, now: datetime) -> int:
        """One pass over all; returns how many of them were written to. One that fails does not keep the others from their turn."""
        with self._lock:
            releases = self._cluster.releases()
            takers = _takers(releases)
            states: dict[str, Release] = {}
            written = 0
            for release in releases:
                metadata = release["metadata"]
                where = f"{metadata['namespace']}/{metadata['name']}"
                try:
                    state, wrote = self._one(release, takers[_target(release)], now)
                except Conflict as conflict:
                    log.info("%s: %s", where, conflict)  # the next pass sees what the other wrote
                except (client.ApiException, urllib3.exceptions.HTTPError, OSError) as error:
                    self.failures["api"] += 1
                    log.warning("%s: %s", where, str(error).replace("\n", " ")[:500])
                except ValidationError as error:
                    self.failures["invalid"] += 1
                    log.error("%s is not what its CRD allows: %s", where, error)
                else:
                    written += wrote
                    if state is not None:
                        states[where] = state
            self.states = states
            return written

    def _one(self, release: Object, taker: str, now: datetime) -> tuple[Release | None, bool]:
        metadata = release["metadata"]
        objects = self._cluster.objects(release)
        status = Status.from_storage(release.get("status"))
        spec = ModelReleaseSpec.model_validate(release["spec"])
        measured = self._source.evidence(metadata["namespace"], status, spec, now)
        taken = "" if taker == metadata["name"] else taker
        plan = reconcile(world(objects, measured, taken), now)
        self._cluster.carry(plan, release)
        state = None if plan.status.release is None or taken else plan.status.state
        return state, bool(plan.changed or plan.writes)


def _target(release: Object) -> tuple[str, str]:
    return release["metadata"]["namespace"], release["spec"]["target"]["inferenceService"]


def _takers(releases: list[Object]) -> dict[tuple[str, str], str]:
    """Target to the name of the ModelRelease that has it: the oldest."""
    found: dict[tuple[str, str], str] = {}
    for release in sorted(
        releases, key=lambda each: (each["metadata"]["creationTimestamp"], each["metadata"]["name"])
    ):
        found.setdefault(_target(release), release["metadata"]["name"])
    return found


__all__ = ["Controller", "EvidenceSource"]
