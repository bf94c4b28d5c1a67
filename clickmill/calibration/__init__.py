"""From raw logits to click probabilities: prior correction, Platt, isotonic, their choice, and the same in the graph.

May import `clickmill.data`, `clickmill.contract` and `clickmill.errors` (so far only the last); scikit-learn inside the
isotonic fit only, TensorFlow inside `graph.apply` only.
"""

from clickmill.calibration.calibrator import Calibration, Calibrator
from clickmill.calibration.identity import Identity
from clickmill.calibration.isotonic import Isotonic, fit_isotonic
from clickmill.calibration.platt import Platt, fit_platt
from clickmill.calibration.prior import PriorCorrection
from clickmill.calibration.selection import METHODS, Method, Selection, fit, select

__all__ = [
    "METHODS",
    "Calibration",
    "Calibrator",
    "Identity",
    "Isotonic",
    "Method",
    "Platt",
    "PriorCorrection",
    "Selection",
    "fit",
    "fit_isotonic",
    "fit_platt",
    "select",
]
