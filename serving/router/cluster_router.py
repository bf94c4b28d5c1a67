"""The router of an endpoint on a cluster without a Gateway: requests by the operator's shares, to KServe's Services.

Several may run; each follows the same ConfigMap by itself, and a user gets the same bundle from all of them. Until one was heard of, a
router sends everything home: the Service that the chart's InferenceService has.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from clickmill import metric_names as names
from clickmill.release import Shares, Split
from serving.router.door import Door, Ways
from serving.router.shares_watch import Api, SharesWatch

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RouterSettings:
    """Of one process."""

    config_map: str
    """Name of the ConfigMap with the shares."""
    home: str
    """Service that gets everything while there is no such ConfigMap."""
    host: str
    port: int
    """Of requests."""
    admin_port: int
    """Of /healthz and /metrics."""
    timeout_seconds: float
    """Of each try at a Service."""
    drain_seconds: float
    """To go on answering after SIGTERM while saying not ready."""


class ClusterRouter:
    """A door that follows shares. `admin` is the application of its probes and metrics."""

    def __init__(
        self,
        settings: RouterSettings,
        api: Api,
        *,
        url: Callable[[str, int], str] = lambda service, port: f"http://{service}:{port}",
    ) -> None:
        """url: of a Service and a port; on a cluster its name is enough."""
        self._url = url
        self._home = Shares(percent={settings.home: 100})
        self.shares: Shares | None = None
        """What is followed; None until the API server has answered once."""
        self.leaving = False
        """It is about to end: not ready any more."""
        self.door = Door(self._ways(self._home), timeout_seconds=settings.timeout_seconds)
        self.watch = SharesWatch(api, settings.config_map, self.follow)
        self._registry = CollectorRegistry()
        self._registry.register(RouterCollector(self))
        self.admin = web.Application()
        self.admin.router.add_get("/healthz", self._healthz)
        self.admin.router.add_get("/readyz", self._readyz)
        self.admin.router.add_get("/metrics", self._metrics)

    def follow(self, shares: Shares | None) -> None:
        """From the next request on. None: nobody says anything, so what was said last stays, and at first all is home's."""
        wanted = shares or self.shares or self._home
        if wanted != self.shares:
            self.shares = wanted
            self.door.turn(self._ways(wanted))
            log.info("shares: %s", wanted.model_dump_json())

    def _ways(self, shares: Shares) -> Ways:
        services = {*shares.percent, *([shares.mirror] if shares.mirror else [])}
        return Ways(
            split=Split(percent=shares.percent, shadow=shares.mirror),
            urls={service: self._url(service, shares.port) for service in services},
            several=True,
        )

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _readyz(self, request: web.Request) -> web.Response:
        if self.leaving:
            return web.Response(status=503, text="it is about to end")
        if self.shares is None:
            return web.Response(status=503, text="the API server has not said yet who gets what")
        return web.Response(text="ok")

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )


class RouterCollector(Collector):
    """Of one router, read when it is scraped."""

    def __init__(self, router: ClusterRouter) -> None:
        self._router = router

    def collect(self) -> Iterator[Metric]:
        """Snapshot for a scrape."""
        requests = CounterMetricFamily(
            names.ROUTER_REQUESTS,
            "Tries at a Service.",
            labels=[names.SERVICE, names.ROLE, names.OUTCOME],
        )
        for service, traffic in list(self._router.door.traffic.items()):
            for role, counts in (("live", traffic.live), ("shadow", traffic.shadow)):
                requests.add_metric([service, role, "failed"], counts.errors)
                requests.add_metric([service, role, "answered"], counts.requests - counts.errors)
            requests.add_metric([service, "shadow", "dropped"], traffic.dropped)
        yield requests
        percent = GaugeMetricFamily(names.ROUTER_PERCENT, "Share of the requests.", labels=[names.SERVICE])
        shares = self._router.shares
        for service, share in (shares.percent if shares else {}).items():
            percent.add_metric([service], share)
        yield percent
        yield GaugeMetricFamily(
            names.ROUTER_REFUSED,
            "1 while the ConfigMap can't be read.",
            value=float(bool(self._router.watch.refused)),
        )
        if self._router.watch.heard_at is not None:
            yield GaugeMetricFamily(
                names.ROUTER_HEARD, "When the API server last answered.", value=self._router.watch.heard_at
            )

    def describe(self) -> Iterator[Metric]:
        """Nothing, so that registering reads nothing."""
        return iter(())


def serve(settings: RouterSettings) -> None:
    """Until SIGTERM or SIGINT. Raises UsageError outside of a pod, OSError when a port is taken."""
    asyncio.run(_serve(settings, Api.of_this_pod()))


async def _serve(settings: RouterSettings, api: Api) -> None:
    router = ClusterRouter(settings, api)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    runners = []
    for app, port in ((router.admin, settings.admin_port), (router.door.app, settings.port)):
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, settings.host, port).start()
        runners.append(runner)
    watching = asyncio.create_task(router.watch.run())
    await asyncio.wait([watching, asyncio.create_task(ended.wait())], return_when=asyncio.FIRST_COMPLETED)
    router.leaving = True
    if ended.is_set():
        await asyncio.sleep(settings.drain_seconds)
    for runner in reversed(runners):
        await runner.cleanup()
    if not ended.is_set():
        watching.result()  # it never ends by itself: what stopped it is raised here
    watching.cancel()


__all__ = ["ClusterRouter", "RouterCollector", "RouterSettings", "serve"]
