"""Deep & Cross Network: explicit crosses of bounded degree, a vector of weights each, beside a deep tower.

    x_{l+1} = x_0 x_l' w_l + b_l + x_l                              (eq. 3)
    h_{l+1} = relu(W_l h_l + b_l),   h_0 = x_0                      (eq. 4)
    logit   = w' [x_L ; h_L] + b                                    (eq. 5)

Wang et al., "Deep & Cross Network for Ad Click Predictions", ADKDD 2017, arXiv:1708.05123. x_0 holds the vectors of all slots, the
mean vector of each list, and the numerics: (b, fields * dim + n). Departs from it: one width of embedding for all fields instead of
6 * cardinality^(1/4), because they lie in one table; batch normalization in the tower only where the configuration asks for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from clickmill.features import FeatureSpace
from clickmill.models.config import DeepConfig

if TYPE_CHECKING:
    import keras


class DCNConfig(DeepConfig):
    """Hyperparameters of the Deep & Cross Network."""

    cross_layers: int = Field(default=3, ge=1, le=16)
    """Cross layers; l of them reach interactions of l + 1 inputs. Each has 2 (fields * dim + n) weights."""


def build(space: FeatureSpace, config: DCNConfig, seed: int) -> keras.Model:
    """Inputs as the encoder gives them, output (b,) float32 logits."""
    from clickmill.models.cross import VectorCross
    from clickmill.models.embedding import field_vectors
    from clickmill.models.inputs import flat, functional, model_inputs
    from clickmill.models.logit import click_logit
    from clickmill.models.tower import Seeds, mlp, scalar

    seeds = Seeds(seed)
    inputs = model_inputs(space)
    vectors = field_vectors(
        space, inputs, config.dim, deviation=config.deviation, seed=seeds(), name="embedding"
    )
    x0 = flat(vectors, inputs, name="x0")
    x = x0
    for layer in range(config.cross_layers):
        x = VectorCross(seeds, name=f"cross_{layer}")(x0, x)
    terms = [scalar(x, "cross_logit", seeds)]
    if config.units:
        terms.append(
            scalar(
                mlp(x0, config.units, config.dropout, seeds, batch_norm=config.batch_norm),
                "deep_logit",
                seeds,
            )
        )
    return functional(inputs, click_logit(terms, inputs, space, config), "dcn")
