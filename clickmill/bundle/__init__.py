"""The bundle: one trained, calibrated model as an immutable folder: write, verify, load, score, keep versions.

May import everything in the library but `clickmill.command` and `clickmill.release`. TensorFlow, jinja2 and matplotlib are
loaded by the functions that need them: reading a manifest and verifying stay quick.
"""

from clickmill.bundle.calibration_report import CalibrationReport, CalibrationStep
from clickmill.bundle.candidate import build_bundle, calibrate
from clickmill.bundle.load import Bundle, Engine, load
from clickmill.bundle.manifest import (
    ExportFacts,
    FileEntry,
    Lineage,
    Manifest,
    ModelFacts,
    SplitFacts,
    verify,
)
from clickmill.bundle.manifest import read as read_manifest
from clickmill.bundle.priors import Priors
from clickmill.bundle.score import evaluate_bundle, evaluate_predictions, score
from clickmill.bundle.store import Deployed, Store
from clickmill.bundle.stored_rows import ExportConfig
from clickmill.bundle.write import write

__all__ = [
    "Bundle",
    "CalibrationReport",
    "CalibrationStep",
    "Deployed",
    "Engine",
    "ExportConfig",
    "ExportFacts",
    "FileEntry",
    "Lineage",
    "Manifest",
    "ModelFacts",
    "Priors",
    "SplitFacts",
    "Store",
    "build_bundle",
    "calibrate",
    "evaluate_bundle",
    "evaluate_predictions",
    "load",
    "read_manifest",
    "score",
    "verify",
    "write",
]
