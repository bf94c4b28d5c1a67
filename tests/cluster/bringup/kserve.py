"""KServe's controller as a host process: CRDs, settings and webhooks from its own module at its version."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import yaml

from . import places as where
from .certificates import Authority
from .kubectl import apply, get
from .places import Places
from .processes import start, wait_for
from .programs import KSERVE, module_source

__all__ = ["start_kserve"]

_HOOKS = f"https://127.0.0.1:{where.KSERVE_WEBHOOK_PORT}"


def start_kserve(at: Places, authority: Authority) -> None:
    """Install it in Standard mode without ingress; return when its webhooks answer."""
    config = module_source(KSERVE) / "config"
    crds = [o for path in sorted((config / "crd/full").glob("serving*.yaml")) for o in _objects(path)]
    crds += [
        o
        for path in sorted((config / "crd/full/clusterstoragecontainer").glob("serving*.yaml"))
        for o in _objects(path)
    ]
    apply(at, [_namespace("kserve"), *crds])
    wait_for("KServe's CRDs", lambda: all(_established(at, crd["metadata"]["name"]) for crd in crds))
    apply(at, [_settings(config)])
    hooks = at.state / "kserve"
    certificates = hooks / "k8s-webhook-server" / "serving-certs"
    certificates.mkdir(parents=True)
    issued = authority.issue("kserve-webhook", "kserve-webhook", hosts=["127.0.0.1"])
    (certificates / "tls.crt").write_bytes(issued.read_bytes())
    (certificates / "tls.key").write_bytes(issued.with_suffix(".key").read_bytes())
    start(
        at,
        "kserve-manager",
        [
            at.bin / "kserve-manager",
            f"--kubeconfig={at.pki / 'kserve.kubeconfig'}",
            f"--webhook-port={where.KSERVE_WEBHOOK_PORT}",
            f"--metrics-addr=127.0.0.1:{where.KSERVE_METRICS_PORT}",
            f"--health-probe-addr=127.0.0.1:{where.KSERVE_PROBE_PORT}",
        ],
        # it looks for its certificate below the folder for temporary files, and has no option for it
        environment={"POD_NAMESPACE": "kserve", "TMPDIR": str(hooks)},
    )
    wait_for("KServe's controller", lambda: _answers(where.KSERVE_PROBE_PORT))
    # after the controller: with failurePolicy Fail nothing could be created before it answers
    apply(at, [_at_host(o, authority) for o in _objects(config / "webhook/manifests.yaml")])


def _settings(config: Path) -> dict[str, Any]:
    """KServe's own defaults with what differs here."""
    (settings,) = _objects(config / "configmap/inferenceservice.yaml")
    data = settings["data"]
    data.pop("_example")
    _change(data, "deploy", defaultDeploymentMode="Standard")
    _change(data, "ingress", disableIngressCreation=True, ingressDomain="example.com")
    _change(data, "autoscaler", scaleDownStabilizationWindowSeconds="15")
    # A request for a whole core and 2 GiB by default would not let two pods onto a small machine.
    small = {"cpuRequest": "100m", "cpuLimit": "2", "memoryRequest": "128Mi", "memoryLimit": "2Gi"}
    _change(data, "inferenceService", resource=small)
    # There is no storage initializer's image here: volumes are mounted, as `pvc://` asks.
    _change(data, "storageInitializer", enableDirectPvcVolumeMount=True)
    settings["metadata"]["namespace"] = "kserve"
    return settings


def _change(data: dict[str, str], key: str, **values: Any) -> None:
    data[key] = json.dumps(json.loads(data[key]) | values)


def _at_host(hook: dict[str, Any], authority: Authority) -> dict[str, Any]:
    """The webhook configuration with the host process in the place of a service."""
    for webhook in hook["webhooks"]:
        service = webhook["clientConfig"].pop("service")
        webhook["clientConfig"] = {
            "url": _HOOKS + service["path"],
            "caBundle": base64.b64encode(authority.pem).decode(),
        }
    hook["metadata"].pop("creationTimestamp", None)
    return hook


def _objects(path: Path) -> list[dict[str, Any]]:
    return [o for o in yaml.load_all(path.read_text(), Loader=yaml.CSafeLoader) if o]


def _namespace(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _established(at: Places, name: str) -> bool:
    conditions = get(at, "crd", name).get("status", {}).get("conditions") or []
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


def _answers(port: int) -> bool:
    import urllib.request

    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
        return answer.status == 200
