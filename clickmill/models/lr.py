"""Logistic regression over the encoded fields.

    logit = b + sum_i w_{x_i} + w' n [and the position]

with x_i the row of slot i, n the numerics; a list adds the mean of its items' weights. McMahan et al., "Ad Click Prediction:
a View from the Trenches", KDD 2013, section 3 (the model; here trained by Adagrad).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clickmill.features import FeatureSpace
from clickmill.models.config import ModelConfig

if TYPE_CHECKING:
    import keras


class LRConfig(ModelConfig):
    """Logistic regression has no hyperparameters of its own beside `position`; rates and l2 are the trainer's."""


def build(space: FeatureSpace, config: LRConfig, seed: int) -> keras.Model:
    """Inputs as the encoder gives them, output (b,) float32 logits. All weights start at zero, so `seed` changes nothing."""
    from clickmill.models.inputs import functional, model_inputs
    from clickmill.models.linear import linear_terms
    from clickmill.models.logit import click_logit

    inputs = model_inputs(space)
    return functional(inputs, click_logit(linear_terms(space, inputs), inputs, space, config), "lr")
