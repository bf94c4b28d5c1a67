"""metrics-server as a host process, behind the API server's aggregation: what `kubectl top` and autoscalers read."""

from __future__ import annotations

import base64

from . import places as where
from .certificates import Authority
from .kubectl import apply, kubectl
from .places import Places
from .processes import start, wait_for

__all__ = ["start_metrics_server", "wait_for_metrics"]


def start_metrics_server(at: Places, authority: Authority) -> None:
    """Start it and register its API; does not wait for first numbers (`wait_for_metrics`)."""
    host = "metrics-server.kube-system.svc"
    issued = authority.issue("metrics-server", "metrics-server", hosts=[host, where.GATEWAY])
    config = at.pki / "metrics-server.kubeconfig"
    start(
        at,
        "metrics-server",
        [
            at.bin / "metrics-server",
            f"--kubeconfig={config}",
            f"--authentication-kubeconfig={config}",
            f"--authorization-kubeconfig={config}",
            f"--secure-port={where.METRICS_SERVER_PORT}",
            f"--tls-cert-file={issued}",
            f"--tls-private-key-file={issued.with_suffix('.key')}",
            f"--kubelet-certificate-authority={at.pki / 'ca.crt'}",
            "--kubelet-preferred-address-types=InternalIP",
            "--kubelet-use-node-status-port",
            "--metric-resolution=10s",
            "--kubelet-request-timeout=8s",  # has to be less
        ],
    )
    meta = {"name": "metrics-server", "namespace": "kube-system"}
    port = {"name": "https", "port": 443, "protocol": "TCP"}
    apply(
        at,
        [
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": meta,
                "spec": {"ports": [port | {"targetPort": where.METRICS_SERVER_PORT}]},
            },
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": meta | {"labels": {"kubernetes.io/service-name": "metrics-server"}},
                "addressType": "IPv4",
                "endpoints": [{"addresses": [where.GATEWAY], "conditions": {"ready": True}}],
                "ports": [port | {"port": where.METRICS_SERVER_PORT}],
            },
            {
                "apiVersion": "apiregistration.k8s.io/v1",
                "kind": "APIService",
                "metadata": {"name": "v1beta1.metrics.k8s.io"},
                "spec": {
                    "group": "metrics.k8s.io",
                    "version": "v1beta1",
                    "groupPriorityMinimum": 100,
                    "versionPriority": 100,
                    "service": meta | {"port": 443},
                    "caBundle": base64.b64encode(authority.pem).decode(),
                },
            },
        ],
    )


def wait_for_metrics(at: Places, seconds: float = 120.0) -> None:
    """Return when the node's use is known. Raises ClusterError."""
    wait_for(
        "the node's metrics", lambda: where.NODE in kubectl(at, "top", "nodes", "--no-headers"), seconds, 1.0
    )
