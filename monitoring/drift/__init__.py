"""Drift: a window of live rows held against the reference of the bundle that answered, and what follows from it.

May import `clickmill` only; evidently, jinja2 and kfp are loaded by the functions that need them.
"""

from monitoring.drift.answer import RetrainingRecord, answer
from monitoring.drift.counting import Batch, Counting, Reference, learn
from monitoring.drift.examine import Examined, WindowDrift, examine
from monitoring.drift.exporter import DriftCollector, NotPushed, PushGroup
from monitoring.drift.fields import watched
from monitoring.drift.kept import place_of
from monitoring.drift.look import Bundles, Looker
from monitoring.drift.measures import Measure
from monitoring.drift.retraining import Event, Retraining, RetrainingDecision, RetrainingPolicy, decide
from monitoring.drift.settings import DriftSettings
from monitoring.drift.trainers import KubeflowTrainer, LocalTrainer, Trainer
from monitoring.drift.verdict import Drift, FieldDrift, Quality
from monitoring.drift.watch import Retrain, kubeflow_retrain, look_once, watch

__all__ = [
    "Batch",
    "Bundles",
    "Counting",
    "Drift",
    "DriftCollector",
    "DriftSettings",
    "Event",
    "Examined",
    "FieldDrift",
    "KubeflowTrainer",
    "LocalTrainer",
    "Looker",
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
    "answer",
    "decide",
    "examine",
    "kubeflow_retrain",
    "learn",
    "look_once",
    "place_of",
    "watch",
    "watched",
]
