"""The cluster's name server as a host process on the bridge's address, where the kubelet sends every pod."""

from __future__ import annotations

from . import places as where
from .certificates import Authority
from .places import Places
from .processes import start

__all__ = ["start_dns"]

COREFILE = """
.:53 {{
  bind {address}
  errors
  kubernetes {domain} in-addr.arpa {{
    kubeconfig {kubeconfig}
    ttl 5
  }}
  forward . {resolv}
  cache 5
}}
"""


def start_dns(at: Places, authority: Authority) -> None:
    """Start it; names of services resolve some seconds later."""
    config = authority.kubeconfig(
        at.pki / "coredns.kubeconfig", where.SERVER, "clickmill:coredns", ["system:masters"]
    )
    corefile = at.state / "Corefile"
    corefile.write_text(
        COREFILE.format(
            address=where.GATEWAY,
            domain=where.DNS_DOMAIN,
            kubeconfig=config,
            resolv=at.state / "resolv.conf",
        )
    )
    start(at, "coredns", [at.bin / "coredns", "-conf", corefile])
