"""etcd, API server, controller manager and scheduler as host processes."""

from __future__ import annotations

from . import places as where
from .certificates import Authority, write_key_pair
from .kubectl import kubectl, kubectl_ok
from .places import Places
from .processes import start, wait_for

__all__ = ["start_control_plane", "wait_for_api"]


def start_control_plane(at: Places) -> Authority:
    """Start them and return when the API answers; the authority has signed all that they need."""
    authority = Authority(at.pki)
    pki = at.pki
    _certificates(at, authority)
    start(
        at,
        "etcd",
        [
            at.bin / "etcd",
            "--name=clickmill",
            f"--data-dir={at.state / 'etcd'}",
            f"--listen-client-urls=http://127.0.0.1:{where.ETCD_PORT}",
            f"--advertise-client-urls=http://127.0.0.1:{where.ETCD_PORT}",
            f"--listen-peer-urls=http://127.0.0.1:{where.ETCD_PEER_PORT}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{where.ETCD_PEER_PORT}",
            f"--initial-cluster=clickmill=http://127.0.0.1:{where.ETCD_PEER_PORT}",
            "--unsafe-no-fsync",  # nothing here outlives the machine
            "--log-level=warn",
        ],
    )
    start(
        at,
        "kube-apiserver",
        [
            at.bin / "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{where.ETCD_PORT}",
            f"--secure-port={where.API_PORT}",
            "--bind-address=0.0.0.0",
            f"--advertise-address={where.GATEWAY}",
            f"--service-cluster-ip-range={where.SERVICE_NET}",
            f"--client-ca-file={pki / 'ca.crt'}",
            f"--tls-cert-file={pki / 'apiserver.crt'}",
            f"--tls-private-key-file={pki / 'apiserver.key'}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={pki / 'service-account.pub'}",
            f"--service-account-signing-key-file={pki / 'service-account.key'}",
            f"--kubelet-client-certificate={pki / 'apiserver-kubelet.crt'}",
            f"--kubelet-client-key={pki / 'apiserver-kubelet.key'}",
            # for metrics-server, which runs outside the pod network
            f"--requestheader-client-ca-file={pki / 'ca.crt'}",
            "--requestheader-allowed-names=front-proxy",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-username-headers=X-Remote-User",
            f"--proxy-client-cert-file={pki / 'front-proxy.crt'}",
            f"--proxy-client-key-file={pki / 'front-proxy.key'}",
            "--enable-aggregator-routing=true",
            "--event-ttl=3h",
            "--v=1",
        ],
    )
    wait_for_api(at)
    leaders = ["--leader-elect=false"]  # there is one of each, and a paused etcd must not end them
    start(
        at,
        "kube-controller-manager",
        [
            at.bin / "kube-controller-manager",
            f"--kubeconfig={pki / 'controller-manager.kubeconfig'}",
            f"--service-account-private-key-file={pki / 'service-account.key'}",
            f"--root-ca-file={pki / 'ca.crt'}",
            f"--cluster-signing-cert-file={pki / 'ca.crt'}",
            f"--cluster-signing-key-file={pki / 'ca.key'}",
            "--use-service-account-credentials=true",
            f"--secure-port={where.CONTROLLER_PORT}",
            # An autoscaler that decides within a test: metrics come every 10 s (the least metrics-server allows).
            "--horizontal-pod-autoscaler-sync-period=5s",
            "--horizontal-pod-autoscaler-downscale-stabilization=20s",
            "--horizontal-pod-autoscaler-cpu-initialization-period=20s",
            "--horizontal-pod-autoscaler-initial-readiness-delay=5s",
            *leaders,
        ],
    )
    start(
        at,
        "kube-scheduler",
        [
            at.bin / "kube-scheduler",
            f"--kubeconfig={pki / 'scheduler.kubeconfig'}",
            f"--secure-port={where.SCHEDULER_PORT}",
            *leaders,
        ],
    )
    return authority


def wait_for_api(at: Places, seconds: float = 120.0) -> None:
    """Return when the API server says it is ready."""
    wait_for("the API server", lambda: kubectl(at, "get", "--raw=/readyz") == "ok", seconds)
    wait_for("namespace default", lambda: kubectl_ok(at, "get", "namespace", "default"), seconds)


def _certificates(at: Places, authority: Authority) -> None:
    hosts = [
        "127.0.0.1",
        "localhost",
        where.GATEWAY,
        where.API_SERVICE,
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        f"kubernetes.default.svc.{where.DNS_DOMAIN}",
    ]
    authority.issue("apiserver", "kube-apiserver", hosts=hosts)
    authority.issue("apiserver-kubelet", "kube-apiserver-kubelet-client", ["system:masters"])
    authority.issue("front-proxy", "front-proxy")
    write_key_pair(at.pki, "service-account")
    users = {
        "controller-manager": ("system:kube-controller-manager", []),
        "scheduler": ("system:kube-scheduler", []),
        "kube-proxy": ("system:kube-proxy", []),
        "kubelet": (f"system:node:{where.NODE}", ["system:nodes"]),
        "metrics-server": ("clickmill:metrics-server", ["system:masters"]),
        "kserve": ("clickmill:kserve", ["system:masters"]),
    }
    for name, (user, groups) in users.items():
        authority.kubeconfig(at.pki / f"{name}.kubeconfig", where.SERVER, user, groups)
    authority.kubeconfig(at.kubeconfig, where.SERVER, "clickmill:admin", ["system:masters"])
