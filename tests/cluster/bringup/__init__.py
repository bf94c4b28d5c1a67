"""A real Kubernetes with a real KServe on this machine, without Docker: programs, parts, up and down.

Imports of the project nothing but its version; the tests of `tests/cluster` import this.
"""

from .cluster import down, leftovers, up
from .kubectl import apply, get, kubectl
from .places import Places, places
from .processes import ClusterError, wait_for
from .requirements import obstacle

__all__ = [
    "ClusterError",
    "Places",
    "apply",
    "down",
    "get",
    "kubectl",
    "leftovers",
    "obstacle",
    "places",
    "up",
    "wait_for",
]
