"""Binary cross-entropy with a weight for clicks and for rows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import tensorflow as tf

LEAST_SHARE = 1e-6
"""For `known`: rows that only fill up a batch, of weight 0, have 0 there."""


def weighted_bce(
    label: tf.Tensor,
    logit: tf.Tensor,
    weight: tf.Tensor | None,
    positive_weight: float,
    *,
    known: tf.Tensor | None = None,
    negatives_kept: float = 1.0,
    factor: tf.Tensor | None = None,
) -> tf.Tensor:
    """Mean loss over the batch, a scalar; label, logit, weight and known are (b,) float32.

        loss = sum_i w_i l_i / sum_i w_i,    l = -(w+ y log p + (1 - y) log(1 - p)),    p = sigmoid(logit)

    At its optimum p / (1 - p) is w+ times the true odds; `prior_shift` takes that back.

    known: the share F of the clicks of such a row that its label knows, where some are still to come. A known click then stands for
    1 / F clicks, and for 1 / F - 1 non-clicks less: those that will yet turn out to be clicks. Since E[y] = F p, the mean of

        l = -(w+ (y / F) log p + (1 - y + s (1 - 1 / F) y) log(1 - p))

    is that of the loss on labels that know all, whatever p is. s: the share of non-clicks kept, of which so many fewer need taking back.
    factor: (b,) multiplies each l and not the sum of weights.
    """
    others = 1.0 - label
    if known is not None:
        known = tf.maximum(known, LEAST_SHARE)
        others += negatives_kept * (1.0 - 1.0 / known) * label
        label = label / known
    # -log p = softplus(-logit). TensorFlow's own weighted_cross_entropy_with_logits is built on |logit| and relu, whose
    # gradients at a logit of exactly 0 are 0: a fresh model with no bias would learn nothing from its clicks.
    losses = positive_weight * label * tf.math.softplus(-logit) + others * tf.math.softplus(logit)
    if factor is not None:
        losses *= factor
    if weight is None:
        return tf.reduce_mean(losses)
    return tf.math.divide_no_nan(tf.reduce_sum(weight * losses), tf.reduce_sum(weight))


def prior_shift(positive_weight: float) -> float:
    """What to add to the logit of a model trained with w+: -ln w+."""
    return -math.log(positive_weight)


def fake_negative_weight(
    label: tf.Tensor, logit: tf.Tensor, log_prior: float, known: tf.Tensor | None = None
) -> tf.Tensor:
    """Weights (b,) that make rows in which every impression is a non-click, and its click a row more, ones of true labels.

        clicks (1 + p) / F,    non-clicks (1 - p) (1 + p)

    p is the model's own probability, not differentiated: among such rows b = P(click | row) = p / (1 + p), and the weights are the ratios
    of the true distribution to that. Ktena et al., "Addressing Delayed Feedback for Continuous Training with Neural Networks in CTR
    Prediction", RecSys 2019, eq. 7 to 9 (fake negative weighted). log_prior: how far the log-odds of the training rows are above those
    of traffic, for which p is meant.

    F is `known` (b,), 1 without it: the share of the clicks of such impressions that is known yet. The paper has none, and counts on
    clicks of older impressions to come in for those still to come. Then what drifts from one day to the next (how much a user has
    seen, which ads are new) tells clicks from non-clicks. With F the expected gradient of a logit z is (1 - p^2) (p - p*) in every
    impression, p* its true probability: zero at the truth whatever the features are.
    """
    p = tf.stop_gradient(tf.sigmoid(logit - log_prior))
    clicks = 1.0 if known is None else 1.0 / tf.maximum(known, LEAST_SHARE)
    return (1.0 + p) * tf.where(label > 0, clicks, 1.0 - p)


@dataclass(frozen=True)
class ClickLoss:
    """The loss of a batch, as the data and the settings have it."""

    positive_weight: float = 1.0
    """w+"""
    negatives_kept: float = 1.0
    """Share of the non-clicks that is left in the rows."""
    fake_negatives: bool = False
    """Whether a clicked impression is among the rows twice, as a non-click too."""

    def __call__(
        self, label: tf.Tensor, logit: tf.Tensor, weight: tf.Tensor | None, known: tf.Tensor | None
    ) -> tf.Tensor:
        """A scalar; all (b,) float32."""
        if not self.fake_negatives:
            return weighted_bce(
                label, logit, weight, self.positive_weight, known=known, negatives_kept=self.negatives_kept
            )
        log_prior = math.log(self.positive_weight) - math.log(self.negatives_kept)
        factor = fake_negative_weight(label, logit, log_prior, known)
        return weighted_bce(label, logit, weight, self.positive_weight, factor=factor)
