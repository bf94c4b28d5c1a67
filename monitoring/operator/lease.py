"""Leader election by a Lease: of several operators one acts.

Who holds the Lease renews it; another takes it only after it was not renewed for its whole length, by the taker's own clock since it
saw it change (clocks of two machines are not compared). Who can't renew stops to act well before that. Two that act at once would
still do no harm: every write names the version of the object that it was decided on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import urllib3
from kubernetes import client

log = logging.getLogger(__name__)

NAME = "clickmill-operator"


@dataclass(frozen=True)
class Timing:
    """Seconds."""

    length: float = 15.0
    """Until another may take it."""
    act: float = 10.0
    """After the last renewal that the holder acts."""
    again: float = 2.0
    """Between two tries."""


class Lease:
    """`held` says whether this process may act. `run` renews until it is told to stop, then lets go."""

    def __init__(
        self,
        api: client.ApiClient,
        namespace: str,
        identity: str,
        *,
        timing: Timing | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = client.CoordinationV1Api(api)
        self._namespace, self._identity, self._clock = namespace, identity, clock
        self._timing = timing or Timing()
        self._renewed: float | None = None
        self._seen: tuple[Any, ...] | None = None
        self._seen_at = 0.0

    @property
    def held(self) -> bool:
        """Whether this process may act now."""
        return self._renewed is not None and self._clock() - self._renewed < self._timing.act

    def run(self, stop: threading.Event) -> None:
        """Renew or try to take it, until `stop`."""
        while not stop.is_set():
            before = self.held
            started = self._clock()
            try:
                if self.take():
                    self._renewed = started
                else:
                    self._renewed = None
            except (client.ApiException, urllib3.exceptions.HTTPError, OSError) as error:
                log.warning("the Lease can't be renewed: %s", str(error).splitlines()[0])
            if self.held is not before:
                log.info("%s %s", self._identity, "leads" if self.held else "does not lead")
            stop.wait(self._timing.again)
        self.let_go()

    def take(self) -> bool:
        """One try. True when this process holds it now."""
        try:
            found = self._api.read_namespaced_lease(NAME, self._namespace, _request_timeout=5)
        except client.ApiException as error:
            if error.status != 404:
                raise
            return self._write(None)
        spec = found.spec
        seen = (spec.holder_identity, spec.renew_time, found.metadata.resource_version)
        if seen != self._seen:
            self._seen, self._seen_at = seen, self._clock()
        mine = spec.holder_identity == self._identity
        over = self._clock() - self._seen_at >= self._timing.length
        if mine or not spec.holder_identity or over:
            return self._write(found)
        return False

    def let_go(self) -> None:
        """So that another need not wait."""
        if not self.held:
            return
        self._renewed = None
        try:
            found = self._api.read_namespaced_lease(NAME, self._namespace, _request_timeout=5)
            if found.spec.holder_identity == self._identity:
                found.spec.holder_identity = ""
                self._api.replace_namespaced_lease(NAME, self._namespace, found, _request_timeout=5)
        except (client.ApiException, urllib3.exceptions.HTTPError, OSError) as error:
            log.warning("the Lease was not let go, others wait for its end: %s", str(error).splitlines()[0])

    def _write(self, found: Any) -> bool:
        now = datetime.now(UTC)
        spec: Mapping[str, Any] = {
            "holder_identity": self._identity,
            "lease_duration_seconds": round(self._timing.length),
            "renew_time": now,
        }
        try:
            if found is None:
                made = client.V1Lease(
                    metadata=client.V1ObjectMeta(name=NAME),
                    spec=client.V1LeaseSpec(acquire_time=now, lease_transitions=0, **spec),
                )
                self._api.create_namespaced_lease(self._namespace, made, _request_timeout=5)
                return True
            if found.spec.holder_identity != self._identity:
                found.spec.acquire_time = now
                found.spec.lease_transitions = (found.spec.lease_transitions or 0) + 1
            for name, value in spec.items():
                setattr(found.spec, name, value)
            self._api.replace_namespaced_lease(NAME, self._namespace, found, _request_timeout=5)
        except client.ApiException as error:
            if error.status == 409:
                return False  # another was quicker
            raise
        return True


__all__ = ["NAME", "Lease", "Timing"]
