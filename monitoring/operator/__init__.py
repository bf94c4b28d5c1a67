"""The release operator: it carries out ModelRelease objects on KServe and a Gateway, as the release machine of `clickmill.release` decides.

May import `clickmill` and `monitoring.release`. `reconcile` is pure (state of the world in, writes out); `cluster`, `prometheus`,
`lease` and `process` touch the network, and only they import kubernetes and kopf.
"""

from monitoring.operator.reconcile import Plan, World, reconcile
from monitoring.operator.resource import ModelReleaseSpec
from monitoring.operator.standard import Observed
from monitoring.operator.status import Status

__all__ = ["ModelReleaseSpec", "Observed", "Plan", "Status", "World", "reconcile"]
