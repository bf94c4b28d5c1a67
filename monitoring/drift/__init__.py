"""Drift: compares a window of live rows with the reference of the bundle that answered them, and may start a training.

May import `clickmill` only; evidently, jinja2 and kfp are loaded by the functions that need them.
"""

from monitoring.drift.archive import place_of
from monitoring.drift.checker import Bundles, DriftChecker
from monitoring.drift.counting import Batch, Counting, Reference, learn
from monitoring.drift.examine import Examined, WindowDrift, examine
from monitoring.drift.exporter import DriftCollector, NotPushed, PushGroup
from monitoring.drift.fields import watched
from monitoring.drift.measures import Measure
from monitoring.drift.retraining import Event, Retraining, RetrainingDecision, RetrainingPolicy, decide
from monitoring.drift.retraining_trigger import RetrainingRecord, trigger_retraining
from monitoring.drift.settings import DriftSettings
from monitoring.drift.trainers import KubeflowTrainer, LocalTrainer, Trainer
from monitoring.drift.verdict import Drift, FieldDrift, Quality
from monitoring.drift.watch import Retrain, check_once, kubeflow_retrain, watch

__all__ = [
    "Batch",
    "Bundles",
    "Counting",
    "Drift",
    "DriftChecker",
    "DriftCollector",
    "DriftSettings",
    "Event",
    "Examined",
    "FieldDrift",
    "KubeflowTrainer",
    "LocalTrainer",
    "Measure",
    "NotPushed",
    "PushGroup",
    "Quality",
    "Reference",
    "Retrain",
    "Retraining",
    "RetrainingDecision",
    "RetrainingPolicy",
    "RetrainingRecord",
    "Trainer",
    "WindowDrift",
    "check_once",
    "decide",
    "examine",
    "kubeflow_retrain",
    "learn",
    "place_of",
    "trigger_retraining",
    "watch",
    "watched",
]
