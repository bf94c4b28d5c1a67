"""The operator as a process: kopf watches and wakes, one thread passes over the releases, one holds the Lease, two ports are served.

kopf keeps the watches alive and nothing else: no finalizer, annotation or handler state of its own is written, since every pass looks
at everything anew.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import kopf
import urllib3
from fastapi import FastAPI
from kubernetes import client, config

from clickmill.errors import ClickmillError, UsageError
from monitoring.operator.cluster import Cluster
from monitoring.operator.controller import Controller
from monitoring.operator.exporter import OperatorCollector, health
from monitoring.operator.lease import Lease
from monitoring.operator.names import GROUP, KSERVE, PLURAL, RELEASE, ROUTES, VERSION
from monitoring.operator.prometheus import Prometheus
from monitoring.release.alerts import read_webhook
from monitoring.release.listening import listening
from monitoring.release.receiver import alerts_router

log = logging.getLogger(__name__)

LEAST_SECONDS = 0.5
"""Between two passes, however much happens."""


@dataclass(frozen=True)
class Settings:
    """Of one process."""

    namespace: str | None
    """Watched; None: all."""
    home: str
    """Namespace of the Lease: where the operator itself runs."""
    identity: str
    """Name of this process among those that want to lead: the pod's."""
    prometheus: str
    """Its URL."""
    matchers: str
    """Of all series that are asked for."""
    token: str
    """Of the alert receiver; empty: alerts are not taken."""
    host: str
    port: int
    alert_port: int
    every: float
    """Seconds between passes when nothing happens."""


def connected() -> client.ApiClient:
    """To the cluster that this pod is in, else to the kubeconfig's. Raises UsageError when there is neither."""
    try:
        config.load_incluster_config()
    except config.ConfigException:
        try:
            config.load_kube_config()
        except (config.ConfigException, OSError) as error:
            raise UsageError(
                f"no cluster: this is no pod, and there is no usable kubeconfig ({error})"
            ) from error
    return client.ApiClient()


def run(settings: Settings) -> None:
    """Until SIGTERM or SIGINT."""
    api, writes = connected(), Counter[str]()
    cluster = Cluster(api, settings.namespace, wrote=lambda what: writes.update([what]))
    controller = Controller(cluster, Prometheus(settings.prometheus, matchers=settings.matchers))
    lease = Lease(api, settings.home, settings.identity)
    stop, wake = threading.Event(), threading.Event()
    stepped: list[float] = [time.time()]

    def passes() -> None:
        while not stop.is_set():
            if lease.held:
                try:
                    controller.step(datetime.now(UTC))
                except (client.ApiException, urllib3.exceptions.HTTPError, OSError, ClickmillError) as error:
                    controller.failures["api"] += 1
                    log.warning("the API server: %s", str(error).replace("\n", " ")[:500])
            stepped[:] = [time.time()]
            stop.wait(LEAST_SECONDS)
            wake.wait(settings.every)
            wake.clear()

    def alive() -> str:
        for thread in threads:
            if not thread.is_alive():
                return f"the thread {thread.name} has ended"
        silent = time.time() - stepped[-1]
        return "" if silent < 60 + 2 * settings.every else f"the last pass was {silent:.0f} s ago"

    def take(body: bytes) -> int:
        changed = cluster.tell(read_webhook(body))
        wake.set()
        return changed

    threads = [
        threading.Thread(target=passes, name="passes", daemon=True),
        threading.Thread(target=lease.run, args=(stop,), name="lease", daemon=True),
    ]
    with ExitStack() as stack:
        collector = OperatorCollector(controller, writes, lambda: lease.held, lambda: stepped[-1])
        stack.enter_context(listening(health(collector, alive), settings.host, settings.port))
        if settings.token:
            receiver = FastAPI(title="Clickmill alerts", openapi_url=None, docs_url=None, redoc_url=None)
            receiver.include_router(alerts_router(_told(take), settings.token))
            stack.enter_context(listening(receiver, settings.host, settings.alert_port))
        else:
            log.warning("no token: alerts are not taken and port %d stays shut", settings.alert_port)
        for thread in threads:
            thread.start()
        try:
            _watch(settings, wake)
        finally:
            stop.set()
            wake.set()
            for thread in threads:
                thread.join(10)


def _told(take: Any) -> Any:
    """What the API server refuses is answered like what can't be kept: Alertmanager tries again."""

    def told(body: bytes) -> int:
        try:
            return int(take(body))
        except (client.ApiException, urllib3.exceptions.HTTPError, OSError) as error:
            raise ClickmillError(f"the API server did not take it: {error}") from error

    return told


def _watch(settings: Settings, wake: threading.Event) -> None:
    """Wake the passes at every change of what they look at."""
    registry = kopf.OperatorRegistry()

    def changed(**_: Any) -> None:
        wake.set()

    kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)(changed)
    kopf.on.event(*KSERVE, labels={RELEASE: kopf.PRESENT}, registry=registry)(changed)
    kopf.on.event(*ROUTES, labels={RELEASE: kopf.PRESENT}, registry=registry)(changed)
    kopf.on.login(registry=registry)(kopf.login_via_client)
    own = kopf.OperatorSettings()
    own.posting.enabled = False
    own.scanning.disabled = True  # needs rights over the whole cluster, for kinds that come later
    kopf.run(
        registry=registry,
        settings=own,
        # kopf would make one of the user's name, and a pod's user has none
        identity=settings.identity,  # type: ignore[arg-type]
        standalone=True,
        clusterwide=settings.namespace is None,
        namespaces=[] if settings.namespace is None else [settings.namespace],
    )


__all__ = ["Settings", "connected", "run"]
