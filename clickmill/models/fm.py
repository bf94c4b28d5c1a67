"""Factorization machine: every pair of fields interacts through the product of two learned vectors.

    logit = b + w'x + sum_{i<j} <v_i, v_j> x_i x_j                                            (eq. 1)
          = b + w'x + 1/2 sum_f [ (sum_i v_{i,f} x_i)^2 - sum_i v_{i,f}^2 x_i^2 ]             (lemma 3.1, O(k d))

Rendle, "Factorization Machines", ICDM 2010. Here x_i is 1 for the row of a slot, 1/length for the items of a list (so a list is one
field, the mean of its items), and the value of a numeric, which has a vector of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clickmill.features import FeatureSpace
from clickmill.models.config import EmbeddingConfig, RowDefaults

if TYPE_CHECKING:
    import keras


class FMConfig(EmbeddingConfig):
    """Hyperparameters of the factorization machine."""


def row_defaults(space: FeatureSpace) -> RowDefaults:
    """The steps and the prior that the vectors of F fields would have in units of 1 / sqrt(F): rate 0.1 / sqrt(F), l2 10 F.

    The products of all pairs go into the log-odds as they are, and a batch moves the vectors of all fields in one direction: at a rate of
    0.1 the first step of 27 fields of width 8 would shift the log-odds by 27^2 / 2 * 0.1^2 * 8 = 29. In these units (each x_i divided by
    sqrt(F): the instance-wise normalization of Juan et al., "Field-aware Factorization Machines", RecSys 2016, section 3.2) a step has
    the same weight however many fields there are.
    """
    fields = max(len(space.slots) + len(space.lists) + len(space.numerics), 1)
    return RowDefaults(l2=10.0 * fields, embedding_learning_rate=0.1 / fields**0.5)


def build(space: FeatureSpace, config: FMConfig, seed: int) -> keras.Model:
    """Inputs as the encoder gives them, output (b,) float32 logits."""
    import keras

    from clickmill.models.embedding import field_vectors
    from clickmill.models.factorization import NumericVectors, PairwiseSum
    from clickmill.models.inputs import functional, model_inputs
    from clickmill.models.linear import linear_terms
    from clickmill.models.logit import click_logit
    from clickmill.models.tower import Seeds

    seeds = Seeds(seed)
    inputs = model_inputs(space)
    vectors = field_vectors(
        space, inputs, config.dim, deviation=config.deviation, seed=seeds(), name="embedding"
    )
    parts = [] if vectors is None else [vectors]
    if space.numerics:
        numeric = NumericVectors(config.dim, config.deviation, seeds(), name="numeric_vectors")
        parts.append(numeric(inputs["numerics"]))
    fields = parts[0] if len(parts) == 1 else keras.layers.Concatenate(axis=1, name="fields")(parts)
    terms = [*linear_terms(space, inputs), PairwiseSum(name="pairs")(fields)]
    return functional(inputs, click_logit(terms, inputs, space, config), "fm")
