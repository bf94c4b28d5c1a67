"""The router of a cluster before Services on loopback and an API that stands for Kubernetes': it follows what is written, and outlives what is not."""

import asyncio
import contextlib
import dataclasses
import json
from collections import Counter

from aiohttp import ClientSession, web

from serving.router import HEADER_ANSWERED_BY, HEADER_USER, ClusterRouter, RouterSettings
from serving.router import shares_watch as shares_watch_module
from serving.router.shares_watch import Api
from tests.serving.router.listening import listening

SETTINGS = RouterSettings(
    config_map="ctr-shares", home="ctr-predictor", host="127.0.0.1", port=0, admin_port=0, timeout_seconds=2.0, drain_seconds=0
)  # fmt: skip
CANARY = "ctr-bbbbbbbbbb-predictor"


class ConfigMaps:
    """List and watch of one ConfigMap, as the API server has them."""

    def __init__(self):
        self.data, self.version, self.asked, self.down, self.token = None, 1, 0, False, "first"
        self.watchers = []
        self.app = web.Application()
        self.app.router.add_get("/api/v1/namespaces/ads/configmaps/ctr-shares", self.get)
        self.app.router.add_get("/api/v1/namespaces/ads/configmaps", self.watch)

    def object(self):
        return {"metadata": {"name": "ctr-shares", "resourceVersion": str(self.version)}, "data": self.data}

    async def get(self, request):
        self.asked += 1
        if request.headers["authorization"] != f"Bearer {self.token}":
            return web.Response(status=401)
        if self.down:
            return web.Response(status=500)
        return web.json_response(self.object()) if self.data is not None else web.Response(status=404)

    async def watch(self, request):
        assert request.query["fieldSelector"] == "metadata.name=ctr-shares"
        if self.down:
            return web.Response(status=500)
        events = asyncio.Queue()
        self.watchers.append(events)
        response = web.StreamResponse()
        await response.prepare(request)
        while (event := await events.get()) is not None:
            await response.write(json.dumps(event).encode() + b"\n")
        return response

    def write(self, data):
        kind = "ADDED" if self.data is None else "DELETED" if data is None else "MODIFIED"
        self.data = self.data if data is None else data
        self.version += 1
        for each in self.watchers:
            each.put_nowait({"type": kind, "object": self.object()})
        self.data = data

    def end_watches(self, last=None):
        for each in self.watchers:
            for event in (last, None) if last else (None,):
                each.put_nowait(event)
        self.watchers.clear()


def said(mirror=None, **percent):
    names = {"home": "ctr-predictor", "canary": CANARY}
    return {
        "shares": json.dumps(
            {"percent": {names[k]: v for k, v in percent.items()}, "mirror": mirror, "port": 80}
        )
    }


class Service:
    """Pods behind a name; `breaks` of the next connections are cut."""

    def __init__(self):
        self.asked, self.breaks, self.connections = 0, 0, set()
        self.hangs = False
        self.app = web.Application()
        self.app.router.add_post("/{path:.*}", self.answer)

    async def answer(self, request):
        await request.read()
        self.asked += 1
        self.connections.add(request.transport.get_extra_info("peername"))
        if self.hangs:
            await asyncio.sleep(30)
        if self.breaks:
            self.breaks -= 1
            request.transport.abort()
        return web.json_response({"predictions": []})


class Scene:
    """A router that runs, its API and its two Services."""

    def __init__(self, api, router, services, url, admin, session):
        self.api, self.router, self.services = api, router, services
        self.url, self._admin, self.session = url, admin, session

    async def ask(self, count=20):
        """Who answered `count` users."""
        found = Counter()
        for number in range(count):
            async with self.session.post(
                f"{self.url}/v1/models/ctr:predict", data=b"{}", headers={HEADER_USER: f"u{number}"}
            ) as answer:
                assert answer.status == 200
                found[answer.headers[HEADER_ANSWERED_BY]] += 1
        return found

    async def admin(self, path):
        async with self.session.get(self._admin + path) as answer:
            return answer.status, await answer.text()

    async def until(self, reached):
        while not reached():
            await asyncio.sleep(0.01)

    async def shares(self, **percent):
        names = {"home": "ctr-predictor", "canary": CANARY}
        wanted = {names[k]: v for k, v in percent.items()}
        await self.until(lambda: self.router.shares is not None and self.router.shares.percent == wanted)


@contextlib.asynccontextmanager
async def scene(tmp_path, data=None, *, down=False, settings=SETTINGS):
    api, services = ConfigMaps(), {"ctr-predictor": Service(), CANARY: Service()}
    api.data, api.down = data, down
    token = tmp_path / "token"
    token.write_text("first\n")
    async with contextlib.AsyncExitStack() as stack:
        urls = {name: await stack.enter_async_context(listening(each.app)) for name, each in services.items()}
        base = await stack.enter_async_context(listening(api.app))
        stack.callback(api.end_watches)
        router = ClusterRouter(
            SETTINGS, Api(base, "ads", token, None), url=lambda service, port: urls[service]
        )
        url = await stack.enter_async_context(listening(router.door.app))
        admin = await stack.enter_async_context(listening(router.admin))
        session = await stack.enter_async_context(ClientSession())
        watching = asyncio.create_task(router.watch.run())
        stack.callback(watching.cancel)
        yield Scene(api, router, services, url, admin, session)


def run(coroutine, monkeypatch):
    monkeypatch.setattr(shares_watch_module, "PAUSE_SECONDS", 0.01)
    asyncio.run(asyncio.wait_for(coroutine, 60))


def test_it_follows_what_the_operator_writes_and_users_stay(tmp_path, monkeypatch):
    async def body():
        async with scene(tmp_path, said(home=100)) as found:
            await found.shares(home=100)
            assert await found.ask() == {"ctr-predictor": 20}
            await found.until(lambda: found.api.watchers)
            found.api.write(said(home=50, canary=50))
            await found.shares(home=50, canary=50)
            half = await found.ask(40)
            assert 8 < half[CANARY] < 32
            assert await found.ask(40) == half
            found.api.write(said(home=100))
            await found.shares(home=100)
            assert await found.ask() == {"ctr-predictor": 20}

    run(body(), monkeypatch)


def test_without_a_config_map_all_is_homes_and_it_is_ready(tmp_path, monkeypatch):
    async def body():
        async with scene(tmp_path) as found:
            await found.shares(home=100)
            assert (await found.admin("/readyz"))[0] == 200
            assert await found.ask() == {"ctr-predictor": 20}
            await found.until(lambda: found.api.watchers)
            found.api.write(said(home=10, canary=90))
            await found.shares(home=10, canary=90)
            found.api.write(None)  # deleted: what was said last stays
            heard = found.router.watch.heard_at
            found.api.end_watches()
            await found.until(lambda: found.router.watch.heard_at > heard)
            assert found.router.shares.percent[CANARY] == 90

    run(body(), monkeypatch)


def test_it_is_not_ready_before_the_api_server_has_answered_and_keeps_the_shares_when_it_goes_away(
    tmp_path, monkeypatch
):
    async def body():
        async with scene(tmp_path, said(home=50, canary=50), down=True) as found:
            await found.until(lambda: found.api.asked > 2)
            assert (await found.admin("/readyz"))[0] == 503
            assert (await found.admin("/healthz"))[0] == 200
            found.api.down = False
            await found.shares(home=50, canary=50)
            await found.until(lambda: found.api.watchers)
            found.api.down = True
            asked = found.api.asked
            found.api.end_watches({"type": "ERROR", "object": {"code": 410}})
            await found.until(lambda: found.api.asked > asked + 2)
            assert found.router.shares.percent == {"ctr-predictor": 50, CANARY: 50}
            assert (await found.admin("/readyz"))[0] == 200
            (tmp_path / "token").write_text("second")
            found.api.data, found.api.down, found.api.token = said(home=100), False, "second"
            await found.shares(home=100)

    run(body(), monkeypatch)


def test_what_can_not_be_read_is_told_and_not_followed(tmp_path, monkeypatch):
    async def body():
        async with scene(tmp_path, said(home=50, canary=50)) as found:
            await found.shares(home=50, canary=50)
            await found.until(lambda: found.api.watchers)
            found.api.write(said(home=50, canary=40))
            await found.until(lambda: found.router.watch.refused)
            assert "add up to 100" in found.router.watch.refused
            assert found.router.shares.percent[CANARY] == 50
            _, metrics = await found.admin("/metrics")
            assert "clickmill_router_shares_refused 1.0" in metrics
            assert f'clickmill_router_traffic_percent{{service="{CANARY}"}} 50.0' in metrics
            found.api.write(said(home=100))
            await found.shares(home=100)
            assert not found.router.watch.refused

    run(body(), monkeypatch)


def test_a_broken_connection_is_tried_again_at_the_same_service(tmp_path, monkeypatch):
    async def body():
        async with scene(tmp_path, said(home=100)) as found:
            await found.shares(home=100)
            found.services["ctr-predictor"].breaks = 1
            assert await found.ask(5) == {"ctr-predictor": 5}
            assert found.services["ctr-predictor"].asked == 6
            _, metrics = await found.admin("/metrics")
            requests = 'clickmill_router_requests_total{outcome="failed",role="live",service="ctr-predictor"}'
            assert f"{requests} 1.0" in metrics

    run(body(), monkeypatch)


def test_a_late_answer_is_not_asked_for_again_where_it_would_be_late_again(tmp_path, monkeypatch):
    async def body():
        hasty = dataclasses.replace(SETTINGS, timeout_seconds=0.3)
        async with scene(tmp_path, said(home=100), settings=hasty) as found:
            await found.shares(home=100)
            found.services["ctr-predictor"].hangs = True
            async with found.session.post(f"{found.url}/v1/models/ctr:predict", data=b"{}") as answer:
                assert answer.status == 502
            assert found.services["ctr-predictor"].asked == 1

    run(body(), monkeypatch)


def test_connections_are_given_up_so_that_pods_which_came_later_are_found(tmp_path, monkeypatch):
    async def body():
        async with scene(tmp_path, said(home=100)) as found:
            await found.shares(home=100)
            await found.ask(450)  # one after the other: one connection would do
            assert len(found.services["ctr-predictor"].connections) == 5

    run(body(), monkeypatch)


def test_a_mirrored_service_gets_copies_and_answers_nobody(tmp_path, monkeypatch):
    async def body():
        async with scene(tmp_path, said(mirror=CANARY, home=100)) as found:
            await found.shares(home=100)
            assert await found.ask(10) == {"ctr-predictor": 10}
            await found.until(lambda: found.services[CANARY].asked == 10)

    run(body(), monkeypatch)
