"""A cluster whose API has no Gateway: the operator writes shares, and a router follows them, each by the chart's Roles alone.

API server, operator process, router and callers are real; what KServe, pods and their metrics would be are stand-ins.
"""

import asyncio
import threading
from collections import Counter
from contextlib import AsyncExitStack

import pytest
import yaml
from aiohttp import ClientSession, web
from kubernetes import client

from helm import generate
from serving.router import HEADER_ANSWERED_BY, HEADER_USER, ClusterRouter, RouterSettings
from serving.router.shares_watch import Api
from tests.cluster.api_server import NAMESPACE, api_server, missing
from tests.cluster.kserve_stand_in import SHARES
from tests.cluster.operated_endpoint import BY_ROUTER, POLICY, URIS, A, B, operated
from tests.serving.router.listening import listening

pytestmark = pytest.mark.cluster
ROUTER = f"system:serviceaccount:{NAMESPACE}:ctr-router"
CANARY = "ctr-bbbbbbbbbb-predictor"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Without the Gateway API's CRDs, and with the accounts that the chart makes."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("api")
    values = folder / "values.yaml"
    values.write_text(yaml.safe_dump({"endpoint": {"storageUri": URIS[A]}, "router": {"enabled": True}}))
    with api_server(folder, gateway=False) as found:
        rendered = [
            each for each in yaml.safe_load_all(generate.render(str(generate.helm()), values)) if each
        ]
        kinds = ("ServiceAccount", "Role", "RoleBinding")
        found.grant(sorted((e for e in rendered if e["kind"] in kinds), key=lambda e: kinds.index(e["kind"])))
        yield found


class Remembers(ClusterRouter):
    """All shares that it has followed."""

    followed: list[dict[str, int]]

    def follow(self, shares):
        super().follow(shares)
        if not self.followed or self.followed[-1] != self.shares.percent:
            self.followed.append(self.shares.percent)


class Router:
    """On a thread: the router, by the rights of its account, before two Services on loopback; and a caller who never stops."""

    def __init__(self, server, folder):
        (folder / "token").write_text(server.token("ctr-router"))
        authority = server.folder / "certificates" / "apiserver.crt"
        self._api = Api(f"https://127.0.0.1:{server.port}", NAMESPACE, folder / "token", authority)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self.shares, self.answered, self.failures = [], Counter(), []

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *raised):
        self._stop.set()
        self._thread.join()

    async def _run(self):
        settings = RouterSettings("ctr-shares", "ctr-predictor", "127.0.0.1", 0, 0, 2.0, 0.0)
        urls = {}
        async with AsyncExitStack() as stack:
            for name in ("ctr-predictor", CANARY, "ctr-aaaaaaaaaa-predictor"):
                app = web.Application()
                app.router.add_post("/{path:.*}", _ok)
                urls[name] = await stack.enter_async_context(listening(app))
            router = Remembers(settings, self._api, url=lambda service, port: urls[service])
            router.followed = self.shares
            url = await stack.enter_async_context(listening(router.door.app))
            watching = asyncio.create_task(router.watch.run())
            session = await stack.enter_async_context(ClientSession())
            number = 0
            while not self._stop.is_set():
                number += 1
                headers = {HEADER_USER: f"u{number % 500}"}
                async with session.post(
                    f"{url}/v1/models/ctr:predict", data=b"{}", headers=headers
                ) as answer:
                    if answer.status == 200:
                        self.answered[answer.headers[HEADER_ANSWERED_BY]] += 1
                    else:
                        self.failures.append(await answer.text())
                await asyncio.sleep(0.01)
            watching.cancel()


async def _ok(request):
    return web.json_response({"predictions": []})


def test_a_bundle_gets_its_exact_shares_by_the_router_and_nobody_waits(server, tmp_path):
    with (
        Router(server, tmp_path) as router,
        operated(server, tmp_path, server.kubeconfig_of("ctr-operator")) as endpoint,
    ):
        endpoint.make(route=BY_ROUTER, policy={**POLICY, "stepSeconds": 4})
        endpoint.name(B)
        endpoint.until("promoted", B)
        endpoint.settled(B, {"ctr-aaaaaaaaaa": URIS[A]})
        server.until("the last shares at the router", lambda: router.shares[-1] == {"ctr-predictor": 100})
        assert "Forbidden" not in endpoint.operator.log()
        endpoint.clear()
    assert router.failures == []
    assert {"ctr-predictor": 90, CANARY: 10} in router.shares
    assert {CANARY: 100} in router.shares
    assert router.answered[CANARY] > 0
    assert {A: 90, B: 10} in endpoint.traffic.weights
    assert not [each for each in endpoint.traffic.weights if "" in each]


def test_the_router_may_read_its_shares_and_nothing_else(server):
    with pytest.raises(client.ApiException) as caught:
        server.call("GET", SHARES, user=ROUTER)
    assert caught.value.status == 404  # allowed, and there is none
    configmaps = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
    refused = [
        ("GET", f"{configmaps}/other"),
        ("GET", configmaps),
        ("PATCH", SHARES),
        ("DELETE", SHARES),
        ("GET", f"/api/v1/namespaces/{NAMESPACE}/secrets"),
    ]
    for method, path in refused:
        with pytest.raises(client.ApiException) as caught:
            server.call(method, path, {} if method == "PATCH" else None, user=ROUTER)
        assert caught.value.status == 403, (method, path)
