"""The Pod Security Standard `restricted`, rule by rule, as https://kubernetes.io/docs/concepts/security/pod-security-standards/ states it.

Written from that page and not from a library: what the tests hold pods against. `violations` of a pod that passes is empty.
"""

from collections.abc import Iterator
from typing import Any

VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
}
SELINUX_TYPES = {"", None, "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}


def violations(pod: dict[str, Any]) -> list[str]:
    """What the standard forbids in a pod spec, in words."""
    return [
        *_pod(pod),
        *(
            f"{container['name']}: {problem}"
            for part in ("initContainers", "containers", "ephemeralContainers")
            for container in pod.get(part, [])
            for problem in _container(container, pod.get("securityContext", {}))
        ),
    ]


def _pod(pod: dict[str, Any]) -> Iterator[str]:
    for shared in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(shared):
            yield shared
    for volume in pod.get("volumes", []):
        (kind,) = set(volume) - {"name"}
        if kind not in VOLUMES:
            yield f"volume {volume['name']}: {kind}"
    context = pod.get("securityContext", {})
    yield from (
        f"sysctl {each['name']}" for each in context.get("sysctls", []) if each["name"] not in SYSCTLS
    )
    yield from _selinux(context)
    if context.get("windowsOptions", {}).get("hostProcess"):
        yield "hostProcess"


def _container(container: dict[str, Any], of_pod: dict[str, Any]) -> Iterator[str]:
    context = container.get("securityContext", {})
    if context.get("privileged"):
        yield "privileged"
    if context.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation"
    capabilities = context.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []):
        yield "capabilities are not dropped"
    if set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield "capabilities are added"
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield "hostPort"
    for probe in ("livenessProbe", "readinessProbe", "startupProbe", "lifecycle"):
        if "'host':" in str(container.get(probe)):
            yield f"{probe} names a host"
    if context.get("procMount", "Default") != "Default":
        yield "procMount"
    yield from _selinux(context)
    either = {**of_pod, **context}
    if either.get("runAsNonRoot") is not True:
        yield "runAsNonRoot"
    if either.get("runAsUser") == 0:
        yield "runAsUser 0"
    if either.get("seccompProfile", {}).get("type") not in {"RuntimeDefault", "Localhost"}:
        yield "seccompProfile"
    if either.get("appArmorProfile", {}).get("type", "RuntimeDefault") not in {"RuntimeDefault", "Localhost"}:
        yield "appArmorProfile"


def _selinux(context: dict[str, Any]) -> Iterator[str]:
    options = context.get("seLinuxOptions", {})
    if options.get("type") not in SELINUX_TYPES or options.get("user") or options.get("role"):
        yield "seLinuxOptions"
