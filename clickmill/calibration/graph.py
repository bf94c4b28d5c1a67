"""Calibration as TensorFlow operations, for the exported graph.

Computed in float64 and returned in the dtype of the argument: a steep segment between two close knots would multiply the
rounding of float32 (3e-7 at a logit of -4) by its slope. Only additions, products and clips are used, no search and no
gather, so that the ONNX twin has the same operations:

    y_0 + sum_j slope_j * clip(z - x_j, 0, x_{j+1} - x_j)         every term >= 0 and non-decreasing in z
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clickmill.calibration.calibrator import Calibration
from clickmill.calibration.identity import Identity
from clickmill.calibration.isotonic import Isotonic
from clickmill.calibration.platt import Platt

if TYPE_CHECKING:
    import tensorflow as tf


def apply(calibration: Calibration | Identity | Platt | Isotonic, logit: tf.Tensor) -> tf.Tensor:
    """Calibrated logits of any shape, in the dtype of `logit` (float32 or float64); as numpy does it to 1e-6."""
    import tensorflow as tf

    z = tf.cast(logit, tf.float64)
    if isinstance(calibration, Calibration):
        z = z + tf.constant(calibration.prior.shift, tf.float64)
        calibrator = calibration.calibrator
    else:
        calibrator = calibration
    return tf.cast(_calibrated(calibrator, z), logit.dtype)


def _calibrated(calibrator: Identity | Platt | Isotonic, z: tf.Tensor) -> tf.Tensor:
    import tensorflow as tf

    if isinstance(calibrator, Platt):
        return z * tf.constant(calibrator.slope, tf.float64) + tf.constant(calibrator.intercept, tf.float64)
    if isinstance(calibrator, Isotonic):
        x, y = np.array(calibrator.x), np.array(calibrator.y)
        width = np.diff(x)
        # minimum and maximum rather than clip_by_value: they broadcast alike in TensorFlow and ONNX.
        inside = tf.minimum(tf.maximum(z[..., tf.newaxis] - x[:-1], 0.0), width)
        return tf.reduce_sum(inside * (np.diff(y) / width), axis=-1) + y[0]
    return z
