"""Binary cross-entropy with a weight for clicks and for rows."""

from __future__ import annotations

import math

import tensorflow as tf


def weighted_bce(
    label: tf.Tensor, logit: tf.Tensor, weight: tf.Tensor | None, positive_weight: float
) -> tf.Tensor:
    """Mean loss over the batch, a scalar; label, logit and weight are (b,) float32.

        loss = sum_i w_i l_i / sum_i w_i,    l = -(w+ y log p + (1 - y) log(1 - p)),    p = sigmoid(logit)

    At its optimum p / (1 - p) is w+ times the true odds; `prior_shift` takes that back.
    """
    # -log p = softplus(-logit). TensorFlow's own weighted_cross_entropy_with_logits is built on |logit| and relu, whose
    # gradients at a logit of exactly 0 are 0: a fresh model with no bias would learn nothing from its clicks.
    losses = positive_weight * label * tf.math.softplus(-logit) + (1.0 - label) * tf.math.softplus(logit)
    if weight is None:
        return tf.reduce_mean(losses)
    return tf.math.divide_no_nan(tf.reduce_sum(weight * losses), tf.reduce_sum(weight))


def prior_shift(positive_weight: float) -> float:
    """What to add to the logit of a model trained with w+: -ln w+."""
    return -math.log(positive_weight)
