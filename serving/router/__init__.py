"""The local router: one door before several bundle servers, with traffic split by weight and a copy for a shadow.

May import `clickmill` and `serving`. On a cluster a Gateway's HTTPRoute does a release's part; experiments of several bundles have only this.
"""

from serving.router.by_arm import ByArm
from serving.router.counts import Counts
from serving.router.door import HEADER_ANSWERED_BY, HEADER_USER, Door
from serving.router.experiment_target import RunningExperiment, running
from serving.router.local_target import LocalTarget
from serving.router.split import choose

__all__ = [
    "HEADER_ANSWERED_BY",
    "HEADER_USER",
    "ByArm",
    "Counts",
    "Door",
    "LocalTarget",
    "RunningExperiment",
    "choose",
    "running",
]
