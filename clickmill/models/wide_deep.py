"""Wide & Deep: a linear model that memorizes beside a tower that generalizes, trained together.

    logit = w_wide' [x, phi(x)] + w_deep' a^(L) + b,        a^(l+1) = relu(W^(l) a^(l) + b^(l))      (eqs. 2 and 3)

Cheng et al., "Wide & Deep Learning for Recommender Systems", DLRS 2016, arXiv:1606.07792. phi(x), the cross products, are the
contract's fields of kind `cross`, which are slots like any other. Departs from it: one optimizer (Adagrad for rows, Adam for the
tower) instead of FTRL for the wide part, and crosses enter the deep part too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clickmill.features import FeatureSpace
from clickmill.models.config import DeepConfig

if TYPE_CHECKING:
    import keras


class WideDeepConfig(DeepConfig):
    """Hyperparameters of Wide & Deep."""


def build(space: FeatureSpace, config: WideDeepConfig, seed: int) -> keras.Model:
    """Inputs as the encoder gives them, output (b,) float32 logits."""
    from clickmill.models.embedding import field_vectors
    from clickmill.models.inputs import flat, functional, model_inputs
    from clickmill.models.linear import linear_terms
    from clickmill.models.logit import click_logit
    from clickmill.models.tower import Seeds, mlp, scalar

    seeds = Seeds(seed)
    inputs = model_inputs(space)
    vectors = field_vectors(
        space, inputs, config.dim, deviation=config.deviation, seed=seeds(), name="embedding"
    )
    deep = mlp(
        flat(vectors, inputs, name="x"), config.units, config.dropout, seeds, batch_norm=config.batch_norm
    )
    terms = [*linear_terms(space, inputs), scalar(deep, "deep_logit", seeds)]
    return functional(inputs, click_logit(terms, inputs, space, config), "wide_deep")
