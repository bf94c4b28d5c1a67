"""The router: one door before several servers, with traffic split by weight and a copy for a shadow, or by the arms of an experiment.

On one machine (`local_target`) it stands in the release loop's process, before servers of its own; on a cluster without a Gateway
(`cluster_router`) in a Deployment, before KServe's Services. Experiments whose arms are bundles run on one machine only
(`experiment_target`). May import `clickmill` and `serving`.
"""

from serving.router.by_arm import ByArm
from serving.router.cluster_router import ClusterRouter, RouterCollector, RouterSettings
from serving.router.counts import Counts
from serving.router.door import HEADER_ANSWERED_BY, HEADER_USER, Door
from serving.router.experiment_target import RunningExperiment, running
from serving.router.local_target import LocalTarget
from serving.router.split import choose

__all__ = [
    "HEADER_ANSWERED_BY",
    "HEADER_USER",
    "ByArm",
    "ClusterRouter",
    "Counts",
    "Door",
    "LocalTarget",
    "RouterCollector",
    "RouterSettings",
    "RunningExperiment",
    "choose",
    "running",
]
