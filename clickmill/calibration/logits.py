"""Logits and labels as calibration takes them, checked once, and the loss of a logit.

The loss is computed from the logit, not from a probability, so that it stays exact where sigmoid(z) rounds to 0 or 1:

    ll(y, z) = ln(1 + e^z) - y z        nats
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clickmill.errors import DataError, DegenerateLabels

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LogitRows:
    """Checked rows, float64 (n,): finite logits, labels 0/1 of both kinds, weights >= 0."""

    logit: Floats
    y: Floats
    weight: Floats

    def take(self, rows: npt.NDArray) -> LogitRows:
        """The rows at these positions, or under this mask."""
        return LogitRows(self.logit[rows], self.y[rows], self.weight[rows])

    @property
    def clicks(self) -> int:
        return int(self.y.sum())


def check_logits(logit: npt.ArrayLike, y: npt.ArrayLike, weight: npt.ArrayLike | None = None) -> LogitRows:
    """Arguments: (n,) each. Raises DataError in words, DegenerateLabels when the weight of either class is zero.

    >>> check_logits([0.5, float("nan")], [0, 1])
    Traceback (most recent call last):
    clickmill.errors.DataError: logit must be finite, got nan in row 1
    """
    logits = np.asarray(logit, dtype=np.float64)
    labels = np.asarray(y, dtype=np.float64)
    weights = np.ones_like(labels) if weight is None else np.asarray(weight, dtype=np.float64)
    for name, values in (("logit", logits), ("y", labels), ("weight", weights)):
        if values.ndim != 1 or len(values) != len(labels):
            raise DataError(f"{name} must be of shape ({labels.size},) like y, got {values.shape}")
        if not np.isfinite(values).all():
            row = int(np.argmin(np.isfinite(values)))
            raise DataError(f"{name} must be finite, got {values[row]} in row {row}")
    wrong = (labels != 0) & (labels != 1)
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(f"y must be 0 or 1, got {labels[row]} in row {row}")
    if (weights < 0).any():
        raise DataError(f"weight must be at least 0, got {weights.min()} in row {int(weights.argmin())}")
    if not (weights * labels).any() or not (weights * (1 - labels)).any():
        raise DegenerateLabels(
            f"calibration needs clicks and non-clicks, got {int(labels.sum())} clicks among {labels.size} rows; "
            "give it a longer calibration window"
        )
    return LogitRows(logits, labels, weights)


def log_loss_of_logits(logit: Floats, y: Floats) -> Floats:
    """(n,) log loss of each row, nats.

    >>> log_loss_of_logits(np.array([0.0, 800.0]), np.array([1.0, 0.0])).round(4).tolist()
    [0.6931, 800.0]
    """
    return np.logaddexp(0.0, logit) - y * logit


def sigmoid(logit: npt.ArrayLike) -> Floats:
    """1 / (1 + e^-z) without overflow.

    >>> sigmoid([-1000.0, 0.0, 1000.0]).tolist()
    [0.0, 0.5, 1.0]
    """
    z = np.asarray(logit, dtype=np.float64)
    small = np.exp(-np.abs(z))
    return np.where(z >= 0, 1.0, small) / (1.0 + small)


def logit_of(p: npt.ArrayLike) -> Floats:
    """ln(p / (1 - p)) for p in (0, 1).

    >>> logit_of([0.5, 0.75]).round(4).tolist()
    [0.0, 1.0986]
    """
    probability = np.asarray(p, dtype=np.float64)
    return np.log(probability) - np.log1p(-probability)
