"""Metrics of the operator, and whether it is alive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.responses import PlainTextResponse

from clickmill import metric_names as names
from clickmill.release import Phase
from monitoring.operator.controller import Controller


class OperatorCollector(Collector):
    """State of every release, read when it is scraped. Only who leads has any."""

    def __init__(
        self,
        controller: Controller,
        writes: Counter[str],
        leads: Callable[[], bool],
        stepped: Callable[[], float | None],
    ) -> None:
        """stepped: Unix time of the last pass."""
        self._controller, self._writes, self._leads, self._stepped = controller, writes, leads, stepped

    def collect(self) -> Iterator[Metric]:
        """Snapshot for a scrape."""
        leads, stepped = self._leads(), self._stepped()
        yield GaugeMetricFamily(names.OPERATOR_LEADS, "1 for the one that acts.", value=float(leads))
        writes = CounterMetricFamily(
            names.OPERATOR_WRITES, "Calls that changed something.", labels=[names.OUTCOME]
        )
        for what, count in sorted(self._writes.items()):
            writes.add_metric([what], count)
        yield writes
        failures = CounterMetricFamily(
            names.OPERATOR_FAILURES,
            "Passes over a release that did not come to their end.",
            labels=[names.REASON],
        )
        for reason, count in sorted(self._controller.failures.items()):
            failures.add_metric([reason], count)
        yield failures
        if not leads:
            return
        if stepped is not None:
            yield GaugeMetricFamily(
                names.RELEASE_STEPPED,
                "When the release loop last looked; stale when it is dead.",
                value=stepped,
            )
        phase = GaugeMetricFamily(
            names.RELEASE_PHASE, "1 for the phase of the release.", labels=[names.ENDPOINT, names.PHASE]
        )
        frozen = GaugeMetricFamily(
            names.RELEASE_FROZEN, "1 while nothing may go forward.", labels=[names.ENDPOINT]
        )
        percent = GaugeMetricFamily(
            names.RELEASE_PERCENT, "Share of live traffic.", labels=[names.ENDPOINT, names.BUNDLE]
        )
        for where, release in self._controller.states.items():
            for each in Phase:
                phase.add_metric([where, each], float(each is release.phase))
            frozen.add_metric([where], float(release.freeze is not None))
            for bundle, share in release.split.percent.items():
                percent.add_metric([where, bundle[:12]], share)
        yield from (phase, frozen, percent)

    def describe(self) -> Iterator[Metric]:
        """Nothing, so that registering reads nothing."""
        return iter(())


def health(collector: OperatorCollector, alive: Callable[[], str]) -> FastAPI:
    """`GET /healthz` and `GET /metrics`. alive: why it is not, in words; empty when it is."""
    app = FastAPI(title="Clickmill operator", openapi_url=None, docs_url=None, redoc_url=None)
    registry = CollectorRegistry()
    registry.register(collector)

    @app.get("/healthz")
    def healthz() -> Response:
        words = alive()
        return PlainTextResponse(words or "ok", 503 if words else 200)

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return app


__all__ = ["OperatorCollector", "health"]
