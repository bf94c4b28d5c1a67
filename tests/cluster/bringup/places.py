"""Where the cluster lives on this machine: folders, addresses, ports. All of it is here and nowhere else."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DNS_DOMAIN", "GATEWAY", "NODE", "POD_NET", "SERVER", "SERVICE_NET", "Places", "places"]

ROOT = Path(__file__).resolve().parents[3]
NODE = "clickmill"
BRIDGE = "cm-cni0"
GATEWAY = "10.88.0.1"
"""The bridge's address: the node's own, reached from pods and from host processes alike."""
POD_NET = "10.88.0.0/16"
SERVICE_NET = "10.96.0.0/16"
API_SERVICE = "10.96.0.1"
DNS_DOMAIN = "cluster.local"

# Not the usual ones, so that a cluster of somebody else's on this machine is left alone.
API_PORT = 16443
SERVER = f"https://127.0.0.1:{API_PORT}"
"""The API for processes of this machine; pods use the Service `kubernetes`."""
ETCD_PORT, ETCD_PEER_PORT = 12379, 12380
SCHEDULER_PORT, CONTROLLER_PORT = 11259, 11257
KUBELET_PORT = 11250
METRICS_SERVER_PORT = 14443
KSERVE_WEBHOOK_PORT, KSERVE_METRICS_PORT, KSERVE_PROBE_PORT = 19443, 19480, 19481


@dataclass(frozen=True)
class Places:
    """`cache` outlives the cluster (programs, images); `state` is made anew at each start; `run` is short, for sockets."""

    cache: Path
    run: Path = Path("/run/clickmill-cluster")

    @property
    def bin(self) -> Path:
        return self.cache / "bin"

    @property
    def state(self) -> Path:
        return self.cache / "state"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def pki(self) -> Path:
        return self.state / "pki"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.cache / "kubeconfig"

    @property
    def up(self) -> Path:
        """Exists while the cluster is whole."""
        return self.cache / "up"

    @property
    def containerd(self) -> Path:
        """containerd's socket."""
        return self.run / "containerd.sock"


def places() -> Places:
    """By CLICKMILL_CLUSTER_CACHE; default `.cache/cluster` under the repository's root."""
    return Places(Path(os.environ.get("CLICKMILL_CLUSTER_CACHE") or ROOT / ".cache" / "cluster"))
