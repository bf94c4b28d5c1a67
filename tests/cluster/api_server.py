"""A real API server on this machine: etcd and kube-apiserver, no node, with KServe's and the Gateway API's CRDs and ours.

The programs are those that the cluster tier builds (CLICKMILL_CLUSTER_CACHE, default `.cache/cluster`); CRDs come from the Go module cache.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import urllib3
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from kubernetes import client

from tests.cluster.bringup.processes import wait_for

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("CLICKMILL_CLUSTER_CACHE", ROOT / ".cache" / "cluster"))
MODULES = Path(os.environ.get("GOMODCACHE", Path.home() / "go" / "pkg" / "mod"))
TOKEN = "administrator"
NAMESPACE = "ads"


def missing() -> str:
    """Why there can be no API server here; empty when there can."""
    absent = [name for name in ("etcd", "kube-apiserver") if not (CACHE / "bin" / name).exists()]
    if absent:
        return f"{' and '.join(absent)} not in {CACHE / 'bin'} (the cluster tier builds them)"
    if len(list(_foreign())) != 2:
        return f"no CRDs of KServe and of the Gateway API under {MODULES}"
    return "" if shutil.which("prometheus") else "no prometheus on the PATH"


def _foreign() -> Iterator[Path]:
    """CRD files of KServe 0.20 and of a Gateway API."""
    kserve = (
        MODULES / "github.com/kserve/kserve@v0.20.0/config/crd/full/serving.kserve.io_inferenceservices.yaml"
    )
    if kserve.exists():
        yield kserve
    yield from sorted(
        MODULES.glob(
            "sigs.k8s.io/gateway-api@*/config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"
        )
    )[-1:]


class ApiServer:
    """Running. `kill` and `start` take the API server away and bring it back, with what etcd has kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self._etcd_port, self._peer_port = (_free_port() for _ in range(3))
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._clients: dict[str | None, client.ApiClient] = {}
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        (folder / "key.pem").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        )
        (folder / "tokens.csv").write_text(f'{TOKEN},admin,admin,"system:masters"\n')
        self.kubeconfig = folder / "kubeconfig"
        cluster = {"server": f"https://127.0.0.1:{self.port}", "insecure-skip-tls-verify": True}
        self.kubeconfig.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "c",
                    "clusters": [{"name": "c", "cluster": cluster}],
                    "users": [{"name": "u", "user": {"token": TOKEN}}],
                    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                }
            )
        )

    def api(self, user: str | None = None) -> client.ApiClient:
        """A client; of the administrator, or of `user` by impersonation."""
        if user in self._clients:
            return self._clients[user]
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        settings = client.Configuration(host=f"https://127.0.0.1:{self.port}")
        settings.verify_ssl = False
        settings.api_key = {"authorization": f"Bearer {TOKEN}"}
        found = client.ApiClient(settings)
        if user is not None:
            found.set_default_header("Impersonate-User", user)
        return self._clients.setdefault(user, found)

    def grant(self, documents: Iterable[dict[str, Any]]) -> None:
        """ServiceAccounts, Roles and RoleBindings, into `NAMESPACE`."""
        for document in documents:
            kind = document["kind"]
            group = "/api/v1" if kind == "ServiceAccount" else "/apis/rbac.authorization.k8s.io/v1"
            document["metadata"].pop("namespace", None)
            for subject in document.get("subjects", []):
                subject["namespace"] = NAMESPACE
            self.call("POST", f"{group}/namespaces/{NAMESPACE}/{kind.lower()}s", document)

    def token(self, account: str) -> str:
        """Of a ServiceAccount in `NAMESPACE`."""
        path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{account}/token"
        asked = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": ["https://kubernetes.default.svc"]},
        }
        return str(self.call("POST", path, asked)["status"]["token"])

    def kubeconfig_of(self, account: str) -> Path:
        """Of who has the rights of this ServiceAccount and no others."""
        config = yaml.safe_load(self.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": self.token(account)}
        path = self.folder / f"{account}.kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return path

    def start_etcd(self) -> None:
        """Start it."""
        peer = f"http://127.0.0.1:{self._peer_port}"
        url = f"http://127.0.0.1:{self._etcd_port}"
        self._run(
            "etcd",
            "--name=one",
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={url}",
            f"--advertise-client-urls={url}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=one={peer}",
            "--unsafe-no-fsync",
            "--log-level=error",
        )

    def start(self) -> None:
        """Start the API server and wait until it is ready."""
        self._run(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            f"--secure-port={self.port}",
            "--bind-address=127.0.0.1",
            f"--cert-dir={self.folder / 'certificates'}",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.97.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.folder / 'key.pem'}",
            f"--service-account-signing-key-file={self.folder / 'key.pem'}",
            "--endpoint-reconciler-type=none",
            "--disable-admission-plugins=ServiceAccount",
        )
        self.until("ready", lambda: self.call("GET", "/readyz") == "ok")

    def kill(self) -> None:
        """As a crash would."""
        process = self._processes.pop("kube-apiserver")
        process.send_signal(signal.SIGKILL)
        process.wait()

    def call(self, method: str, path: str, body: Any = None, *, user: str | None = None) -> Any:
        """One call; a patch is a merge patch. Raises ApiException."""
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        return self.api(user).call_api(
            path,
            method,
            header_params={"Content-Type": kind, "Accept": "application/json"},
            body=body,
            auth_settings=["BearerToken"],
            response_type="object",
            _return_http_data_only=True,
            _request_timeout=10,
        )

    def until(self, what: str, reached: Callable[[], object], seconds: float = 400.0) -> None:
        """Return when it holds; meanwhile the API server may be away, and an object not there yet. Raises ClusterError."""

        def holds() -> object:
            try:
                return reached()
            except (client.ApiException, urllib3.exceptions.HTTPError, KeyError) as error:
                raise OSError(f"{type(error).__name__}: {error}") from error

        wait_for(what, holds, seconds)

    def install(self, gateway: bool) -> None:
        """CRDs and the namespace."""
        files = [*_foreign(), ROOT / "manifests" / "crds" / "modelrelease.yaml"]
        files = [file for file in files if gateway or "gateway" not in file.name]
        for file in files:
            definition = yaml.safe_load(file.read_text())
            self.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
        for file in files:
            spec = yaml.safe_load(file.read_text())["spec"]
            version = next(each["name"] for each in spec["versions"] if each["storage"])
            path = f"/apis/{spec['group']}/{version}/{spec['names']['plural']}"
            self.until(f"serving {path}", lambda path=path: "items" in self.call("GET", path))
        self.call("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})

    def stop(self) -> None:
        """End both."""
        for each in self._clients.values():
            each.rest_client.pool_manager.clear()
            each.close()
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _run(self, name: str, *flags: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [CACHE / "bin" / name, *flags], stdout=log, stderr=log, start_new_session=True
            )


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def api_server(folder: Path, *, gateway: bool = True) -> Iterator[ApiServer]:
    """One with the CRDs in. gateway: whether those of the Gateway API are among them."""
    server = ApiServer(folder)
    try:
        server.start_etcd()
        server.start()
        server.install(gateway)
        yield server
    finally:
        server.stop()
