"""What KServe, a Gateway and a crowd of callers would do on a cluster that has only an API server: Deployments and their status, and the
counters that pods would export. Everything else in these tests is real: API server, admission, RBAC, Prometheus, operator process."""

from __future__ import annotations

import contextlib
import http.server
import threading
import time
from collections import defaultdict
from typing import Any

import urllib3
from kubernetes import client

from clickmill import metric_names as names
from clickmill.release import Shares
from monitoring.operator.names import SOURCE_URI
from tests.cluster.api_server import NAMESPACE, ApiServer

SERVICES = f"/apis/serving.kserve.io/v1beta1/namespaces/{NAMESPACE}/inferenceservices"
ROUTES = f"/apis/gateway.networking.k8s.io/v1/namespaces/{NAMESPACE}/httproutes"
SHARES = f"/api/v1/namespaces/{NAMESPACE}/configmaps/ctr-shares"
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
_OLD = "the one before"


def service(name: str, uri: str) -> dict[str, Any]:
    """An InferenceService as a chart makes it."""
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name, "labels": {"team": "ads"}},
        "spec": {"predictor": {"minReplicas": 1, "maxReplicas": 4,
                               "model": {"modelFormat": {"name": "clickmill"}, "storageUri": uri}}},
    }  # fmt: skip


class StandIn:
    """A thread. loads: seconds until new pods answer. errors: share of failing requests by digest."""

    def __init__(self, server: ApiServer, digests: dict[str, str], *, loads: float = 1.0) -> None:
        """digests: address to digest of each bundle."""
        self._server, self._digests, self._loads = server, digests, loads
        self.errors: dict[str, float] = {}
        self.per_second = 40_000.0
        self.weights: list[dict[str, int]] = []
        """Shares by digest, each time they changed; '' where nobody answers."""
        self._told: dict[str, tuple[str, float]] = {}
        self._answers: dict[str, str] = {}
        self._counts: dict[tuple[str, str, str], float] = defaultdict(float)
        self._judged: dict[tuple[str, str], float] = defaultdict(float)
        self._paired: dict[tuple[str, str, str], float] = defaultdict(float)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._last = time.monotonic()

    def __enter__(self) -> StandIn:
        stand_in = self

        class Scraped(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = stand_in.metrics().encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.end_headers()
                with contextlib.suppress(BrokenPipeError):  # Prometheus waits a second, then asks again
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Scraped)
        self.port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._stop.set()
        self._thread.join()
        self._http.shutdown()
        self._http.server_close()

    def metrics(self) -> str:
        """What Prometheus scrapes, of all pods; `honor_labels` keeps whose it is."""
        lines = [f'{names.LIVE_RIPENING}{{namespace="{NAMESPACE}"}} 1']
        for name, digest in list(self._answers.items()):
            where = f'instance="{name}",job="pods",namespace="{NAMESPACE}"'
            lines.append(f'{names.BUNDLE_INFO}{{digest="{digest}",{where}}} 1')
        for (name, series, labels), value in list(self._counts.items()):
            where = f'instance="{name}",job="pods",namespace="{NAMESPACE}"'
            lines.append(f"{series}{{{where}{labels}}} {value}")
        series_of = dict(names.JUDGED)
        for (field, digest), value in list(self._judged.items()):
            lines.append(
                f'{series_of[field]}_total{{bundle="{digest[:12]}",namespace="{NAMESPACE}"}} {value}'
            )
        for (field, one, other), value in list(self._paired.items()):
            labels = f'bundle="{one[:12]}",beside="{other[:12]}",namespace="{NAMESPACE}"'
            lines.append(f"{dict(names.PAIRED)[field]}_total{{{labels}}} {value}")
        return "\n".join(lines) + "\n"

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._services()
                self._traffic()
            except (client.ApiException, urllib3.exceptions.HTTPError, OSError):
                pass  # the API server is being restarted, or an object went away; the next round sees
            self._stop.wait(0.3)

    def _services(self) -> None:
        seen = {each["metadata"]["name"]: each for each in self._server.call("GET", SERVICES)["items"]}
        for name, stored in seen.items():
            uri = stored["spec"]["predictor"]["model"]["storageUri"]
            if self._told.get(name, ("", 0))[0] != uri:
                self._told[name] = (uri, time.monotonic())
                self._deploy(name, uri)
            answers = time.monotonic() - self._told[name][1] >= self._loads
            if answers and self._answers.get(name) != self._digests.get(uri, uri):
                self._answers[name] = self._digests.get(uri, uri)
                self._status(name, ready=True)
            elif not answers and name not in self._answers:
                self._status(name, ready=False)
        for name in set(self._told) - set(seen):
            del self._told[name]
            self._answers.pop(name, None)
            self._server.call("DELETE", f"{DEPLOYMENTS}/{name}-predictor")

    def _deploy(self, name: str, uri: str) -> None:
        labels = {"app": f"{name}-predictor"}
        template = {
            "metadata": {"labels": labels, "annotations": {SOURCE_URI: uri}},
            "spec": {"containers": [{"name": "kserve-container", "image": "none"}]},
        }
        body = {
            "metadata": {"name": f"{name}-predictor"},
            "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
        }
        try:
            self._server.call("POST", DEPLOYMENTS, body)
        except client.ApiException as error:
            if error.status != 409:
                raise
            self._server.call("PATCH", f"{DEPLOYMENTS}/{name}-predictor", {"spec": {"template": template}})

    def _status(self, name: str, *, ready: bool) -> None:
        path = f"{DEPLOYMENTS}/{name}-predictor"
        generation = self._server.call("GET", path)["metadata"]["generation"]
        counts = {
            "replicas": 1,
            "updatedReplicas": int(ready),
            "availableReplicas": int(ready),
            "readyReplicas": int(ready),
        }
        self._server.call("PATCH", f"{path}/status", {"status": {"observedGeneration": generation, **counts}})
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        condition = {
            "type": "PredictorReady",
            "status": "True" if ready else "False",
            "lastTransitionTime": now,
        }
        old = self._server.call("GET", f"{SERVICES}/{name}").get("status", {}).get("conditions", [{}])
        if old[0].get("status") != condition["status"]:
            self._server.call("PATCH", f"{SERVICES}/{name}/status", {"status": {"conditions": [condition]}})

    def _traffic(self) -> None:
        now = time.monotonic()
        requests, self._last = self.per_second * (now - self._last), now
        split = self._split()
        shares: dict[str, int] = defaultdict(int)
        for service, weight in split.percent.items():
            name = service.removesuffix("-predictor")
            digest = self._answers.get(name, "")
            shares[digest] += weight
            self._count(name, digest, requests * weight / 100)
        if split.mirror:
            name = split.mirror.removesuffix("-predictor")
            digest = self._answers.get(name, "")
            self._count(name, digest, requests)
            stable = next(iter(shares))
            for field, share in (("worse", 0.01), ("better", 0.01), ("squares", 0.001)):
                self._paired[(field, digest, stable)] += requests * share
        if self._answers and (not self.weights or self.weights[-1] != shares):
            self.weights.append(dict(shares))

    def _split(self) -> Shares:
        """What the HTTPRoute says, or the ConfigMap; all for home while there is neither."""
        route = self._found(f"{ROUTES}/ctr")
        if route is not None:
            (rule,) = route["spec"]["rules"]
            mirrors = [each["requestMirror"]["backendRef"]["name"] for each in rule.get("filters", [])]
            percent = {each["name"]: each["weight"] for each in rule["backendRefs"]}
            return Shares(percent=percent, mirror=mirrors[0] if mirrors else None)
        shares = self._found(SHARES)
        if shares is not None:
            return Shares.model_validate_json(shares["data"]["shares"])
        return Shares(percent={"ctr-predictor": 100})

    def _found(self, path: str) -> dict[str, Any] | None:
        try:
            return dict(self._server.call("GET", path))
        except client.ApiException as error:
            if error.status != 404:
                raise
            return None

    def _count(self, name: str, digest: str, requests: float) -> None:
        errors = requests * self.errors.get(digest, 0.0)
        count = f"{names.REQUEST_SECONDS}_count"
        self._counts[(name, count, "")] += requests - errors
        self._counts[(name, f"{names.REQUEST_SECONDS}_bucket", ',le="0.01"')] += requests - errors
        if errors:
            self._counts[(name, f"{names.REJECTED}_total", ',reason="internal"')] += errors
        sums = {"impressions": 1.0, "clicks": 0.05, "pctr": 0.05, "residual_squares": 0.0475, "log_loss": 0.1985,
                "log_loss_squares": 0.45}  # fmt: skip
        for field, each in sums.items():
            self._judged[(field, digest)] += requests * each
