"""containerd, kubelet and kube-proxy: this machine as the cluster's one node."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from . import places as where
from .certificates import Authority
from .images import PAUSE
from .kubectl import apply, get
from .places import Places
from .processes import start, wait_for

__all__ = ["ctr", "start_containerd", "start_node"]

CNI_BIN = "/usr/lib/cni"

CONTAINERD = """
version = 2
root = "{root}"
state = "{run}/containerd"

[grpc]
  address = "{socket}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  # Without CAP_SYS_RESOURCE a score below one's own is refused, and with it every pod ("can't get final child's PID from pipe").
  restrict_oom_score_adj = true
  # Only images that were imported: nothing is pulled from anywhere.
  disable_tcp_service = true

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{cni_bin}"
  conf_dir = "{state}/cni"

[plugins."io.containerd.internal.v1.opt"]
  path = "{root}/opt"
"""


def start_containerd(at: Places) -> None:
    """Start it with its images in the cache; return when it answers."""
    at.run.mkdir(parents=True, exist_ok=True)
    _write_cni(at)  # first: it watches the folder
    config = at.state / "containerd.toml"
    config.write_text(
        CONTAINERD.format(
            root=at.cache / "containerd",
            run=at.run,
            socket=at.containerd,
            pause=PAUSE,
            cni_bin=CNI_BIN,
            state=at.state,
        )
    )
    start(at, "containerd", ["containerd", "--config", config])
    wait_for("containerd", lambda: ctr(at, "version"))


def ctr(at: Places, *words: str, seconds: float = 600.0) -> str:
    """containerd's own client, in the namespace of Kubernetes. Raises subprocess.CalledProcessError."""
    command = ["ctr", "--address", str(at.containerd), "--namespace", "k8s.io", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds).stdout


def start_node(at: Places, authority: Authority) -> None:
    """Start kubelet and kube-proxy; return when the node is Ready."""
    authority.issue("kubelet-serving", where.NODE, hosts=[where.NODE, where.GATEWAY, "127.0.0.1"])
    kubelet = at.state / "kubelet.json"
    kubelet.write_text(json.dumps(_kubelet(at)))
    start(
        at,
        "kubelet",
        [
            at.bin / "kubelet",
            f"--config={kubelet}",
            f"--kubeconfig={at.pki / 'kubelet.kubeconfig'}",
            f"--hostname-override={where.NODE}",
            f"--node-ip={where.GATEWAY}",
            f"--root-dir={at.state / 'kubelet'}",
            "--v=1",
        ],
    )
    proxy = at.state / "kube-proxy.json"
    proxy.write_text(json.dumps(_proxy(at)))
    # RBAC gives kube-proxy its rights by group membership of a bootstrap role; the binding is the installer's.
    apply(at, [_proxy_binding()])
    start(at, "kube-proxy", [at.bin / "kube-proxy", f"--config={proxy}"])
    wait_for("the node to be Ready", lambda: _ready(at), 120)


def _kubelet(at: Places) -> dict:
    (at.state / "resolv.conf").write_text(Path("/etc/resolv.conf").read_text())
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(at.pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(at.pki / "kubelet-serving.crt"),
        "tlsPrivateKeyFile": str(at.pki / "kubelet-serving.key"),
        "port": where.KUBELET_PORT,
        "healthzPort": 0,
        "containerRuntimeEndpoint": f"unix://{at.containerd}",
        "cgroupDriver": "cgroupfs",
        "failSwapOn": False,
        "failCgroupV1": False,
        "localStorageCapacityIsolation": False,
        "clusterDomain": where.DNS_DOMAIN,
        "clusterDNS": [where.GATEWAY],
        "resolvConf": str(at.state / "resolv.conf"),
        "registerNode": True,
        "maxPods": 60,
        # A full disk of the machine is not this cluster's business.
        "evictionHard": {"memory.available": "200Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "enforceNodeAllocatable": [],
        "syncFrequency": "10s",
        "podLogsDir": str(at.state / "pod-logs"),
    }


def _proxy(at: Places) -> dict:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(at.pki / "kube-proxy.kubeconfig")},
        "hostnameOverride": where.NODE,
        "mode": "iptables",
        "clusterCIDR": where.POD_NET,
        "healthzBindAddress": "127.0.0.1:11256",
        "metricsBindAddress": "127.0.0.1:11248",
        # None of the sysctls that it would set can be written everywhere, and none matters here.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    }


def _proxy_binding() -> dict:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "clickmill:kube-proxy"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "system:node-proxier",
        },
        "subjects": [{"kind": "User", "name": "system:kube-proxy", "apiGroup": "rbac.authorization.k8s.io"}],
    }


def _write_cni(at: Places) -> None:
    folder = at.state / "cni"
    folder.mkdir(parents=True, exist_ok=True)
    first = where.GATEWAY.rpartition(".")[0]
    bridge = {
        "type": "bridge",
        "bridge": where.BRIDGE,
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": str(at.state / "cni-addresses"),
            "ranges": [[{"subnet": where.POD_NET, "rangeStart": f"{first}.10", "gateway": where.GATEWAY}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    config = {"cniVersion": "0.4.0", "name": "clickmill", "plugins": [bridge, ports]}
    (folder / "10-clickmill.conflist").write_text(json.dumps(config))


def _ready(at: Places) -> bool:
    conditions = get(at, "node", where.NODE)["status"].get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
