"""Metrics of click probabilities with their uncertainty, per slice and against the truth, and their plots.

May import `clickmill.data`, `clickmill.contract` and `clickmill.errors` (so far only the last); numpy in the core,
pandas to number ids, matplotlib inside `plots` only.
"""

from clickmill.evaluation.auc import auc
from clickmill.evaluation.bins import DEFAULT_BINS
from clickmill.evaluation.bootstrap import bootstrap, bootstrap_gauc, paired_bootstrap, paired_bootstrap_gauc
from clickmill.evaluation.calibration_error import expected_calibration_error
from clickmill.evaluation.calibration_ratio import calibration_ratio
from clickmill.evaluation.ceiling import Ceiling, compare_with_truth
from clickmill.evaluation.confusion import ConfusionMatrix, confusion_matrix
from clickmill.evaluation.estimate import Estimate
from clickmill.evaluation.evaluation import Evaluation, GroupedScore, evaluate
from clickmill.evaluation.gauc import GroupedAuc, gauc
from clickmill.evaluation.lift import LiftRow, lift, lift_at
from clickmill.evaluation.log_loss import log_loss
from clickmill.evaluation.metric import METRICS, Direction, Metric
from clickmill.evaluation.normalized_entropy import normalized_entropy
from clickmill.evaluation.reliability import (
    PctrHistogram,
    ReliabilityBin,
    pctr_histogram,
    reliability_curve,
    wilson_interval,
)
from clickmill.evaluation.roc import RocCurve, roc_curve
from clickmill.evaluation.rows import Ranked, Rows, check_rows
from clickmill.evaluation.slices import MIN_CLICKS, SliceScore, SliceStatus, evaluate_slices, rows_by_value

__all__ = [
    "DEFAULT_BINS",
    "METRICS",
    "MIN_CLICKS",
    "Ceiling",
    "ConfusionMatrix",
    "Direction",
    "Estimate",
    "Evaluation",
    "GroupedAuc",
    "GroupedScore",
    "LiftRow",
    "Metric",
    "PctrHistogram",
    "Ranked",
    "ReliabilityBin",
    "RocCurve",
    "Rows",
    "SliceScore",
    "SliceStatus",
    "auc",
    "bootstrap",
    "bootstrap_gauc",
    "calibration_ratio",
    "check_rows",
    "compare_with_truth",
    "confusion_matrix",
    "evaluate",
    "evaluate_slices",
    "expected_calibration_error",
    "gauc",
    "lift",
    "lift_at",
    "log_loss",
    "normalized_entropy",
    "paired_bootstrap",
    "paired_bootstrap_gauc",
    "pctr_histogram",
    "reliability_curve",
    "roc_curve",
    "rows_by_value",
    "wilson_interval",
]
