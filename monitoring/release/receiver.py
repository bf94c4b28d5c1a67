"""The HTTP side of the release loop: Alertmanager's webhook behind a token, the state as JSON, and metrics."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.responses import JSONResponse

from clickmill import metric_names as names
from clickmill.errors import ClickmillError, RequestError
from clickmill.release import Journal, Phase, ReleasePolicy, Seen, Target
from monitoring.live import Quality
from monitoring.release.console import console
from monitoring.release.inbox import Inbox

MOST_BYTES = 2**20


def application(
    journal: Journal,
    inbox: Inbox,
    target: Target,
    policy: ReleasePolicy,
    token: str,
    *,
    stepped: Callable[[], float | None],
    quality: Callable[[], Mapping[str, Quality]] = dict,
    servers: Callable[[], Mapping[str, str]] = dict,
    saying: Callable[[], str] = str,
) -> FastAPI:
    """The console, `POST /alerts` (bearer token), `GET /release`, `GET /metrics`, `GET /targets`. stepped: Unix time of the loop's last step.
    quality: by bundle, of the last look. servers: by bundle, host and port of those that run now. saying: reason of
    the loop's last decision."""
    app = FastAPI(title="Clickmill releases", openapi_url=None, docs_url=None, redoc_url=None)
    registry = CollectorRegistry()
    registry.register(ReleaseCollector(journal, inbox, target, stepped))

    app.include_router(console(journal, inbox, target, policy, token, quality, saying))

    app.include_router(alerts_router(inbox.take, token))

    @app.get("/release")
    def release() -> Response:
        entry = journal.entries[-1]
        return Response(entry.model_dump_json(), media_type="application/json")

    @app.get("/targets")
    def targets() -> Response:
        # Prometheus' HTTP service discovery. No label of the bundle or its role: what a server serves it says itself
        # (the one of bundle information), and a role that changes would break its series in two.
        found = sorted(servers().values())
        return JSONResponse([{"targets": found, "labels": {}}] if found else [])

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return app


def alerts_router(take: Callable[[bytes], int], token: str) -> APIRouter:
    """`POST /alerts`, behind a bearer token. take: keeps a webhook's body, and returns how many alerts changed something; raises
    RequestError for a body that is none, and any other ClickmillError when it can't be kept, which is answered 503 for
    Alertmanager to try again."""
    router = APIRouter()

    @router.post("/alerts")
    async def alerts(request: Request) -> Response:
        given = request.headers.get("authorization", "")
        if not secrets.compare_digest(given.encode(), f"Bearer {token}".encode()):
            return JSONResponse({"error": "a bearer token is needed"}, 401, {"www-authenticate": "Bearer"})
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > MOST_BYTES:
                return JSONResponse({"error": f"a webhook has at most {MOST_BYTES:,} bytes"}, 413)
        try:
            changed = await run_in_threadpool(take, body)
        except RequestError as error:
            return JSONResponse({"error": str(error)}, 400)
        except ClickmillError as error:
            return JSONResponse({"error": str(error)}, 503)
        return JSONResponse({"changed": changed})

    return router


class ReleaseCollector(Collector):
    """State and traffic of an endpoint's releases, read when they are scraped."""

    def __init__(
        self, journal: Journal, inbox: Inbox, target: Target, stepped: Callable[[], float | None]
    ) -> None:
        self._journal, self._inbox, self._target, self._stepped = journal, inbox, target, stepped

    def collect(self) -> Iterator[Metric]:
        """Snapshot for a scrape."""
        release = self._journal.state
        phase = GaugeMetricFamily(
            names.RELEASE_PHASE, "1 for the phase of the release.", labels=[names.ENDPOINT, names.PHASE]
        )
        for each in Phase:
            phase.add_metric([release.endpoint, each], float(each is release.phase))
        yield phase
        yield GaugeMetricFamily(
            names.RELEASE_FROZEN, "1 while nothing may go forward.", value=float(release.freeze is not None)
        )
        percent = GaugeMetricFamily(
            names.RELEASE_PERCENT, "Share of live traffic.", labels=[names.ENDPOINT, names.BUNDLE]
        )
        for bundle, share in release.split.percent.items():
            percent.add_metric([release.endpoint, bundle[:12]], share)
        yield percent
        yield GaugeMetricFamily(
            names.RELEASE_ALERTS, "Alerts with action rollback that fire.", value=len(self._inbox.firing)
        )
        stepped = self._stepped()
        if stepped is not None:
            yield GaugeMetricFamily(
                names.RELEASE_STEPPED,
                "When the release loop last looked; stale when it is dead.",
                value=stepped,
            )
        yield from _traffic(dict(self._target.seen()[1]))

    def describe(self) -> Iterator[Metric]:
        """Nothing, so that registering reads nothing."""
        return iter(())


def _traffic(seen: dict[str, Seen]) -> Iterator[Metric]:
    series = {
        "requests": (names.RELEASE_REQUESTS, "Requests at the door."),
        "errors": (names.RELEASE_ERRORS, "Of them: 5xx, broken connections, timeouts."),
        "slow": (names.RELEASE_SLOW, "Of them: slower than the policy's p99_ms."),
    }
    for name, (metric, words) in series.items():
        family = CounterMetricFamily(metric, words, labels=[names.BUNDLE, names.ROLE])
        for bundle, counts in seen.items():
            family.add_metric([bundle[:12], "live"], getattr(counts.live, name))
            family.add_metric([bundle[:12], "shadow"], getattr(counts.shadow, name))
        yield family


__all__ = ["ReleaseCollector", "alerts_router", "application"]
