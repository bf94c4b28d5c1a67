"""DLRM: numerics through a bottom tower to a vector like any field's, all pairs of vectors multiplied, a top tower over that.

    z_0   = mlp_bottom(n)                                           (b, d)
    z_i   = vector of field i                                       (b, d)
    p     = [<z_i, z_j> for i > j]                                  lower triangle, no diagonal
    logit = w' mlp_top([z_0 ; p]) + b

Naumov et al., "Deep Learning Recommendation Model for Personalization and Recommendation Systems", 2019, arXiv:1906.00091, sections
2.1.3 and 2.2 (it numbers no equations). A list is one field, the mean of its items. Departs from it: where the contract has no numerics
there is no z_0, and the fields' vectors take its place beside p, else a field would be known only by its products.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from clickmill.features import FeatureSpace
from clickmill.models.config import DeepConfig, Units

if TYPE_CHECKING:
    import keras


class DLRMConfig(DeepConfig):
    """Hyperparameters of DLRM; `units` are the top tower's."""

    bottom_units: Units = Field(default=(64,))
    """Widths of the bottom tower's layers before its last, which is as wide as the embedding."""


def build(space: FeatureSpace, config: DLRMConfig, seed: int) -> keras.Model:
    """Inputs as the encoder gives them, output (b,) float32 logits."""
    import keras

    from clickmill.models.embedding import field_vectors
    from clickmill.models.inputs import functional, model_inputs
    from clickmill.models.interaction import DotInteraction
    from clickmill.models.logit import click_logit
    from clickmill.models.tower import Seeds, mlp, scalar

    seeds = Seeds(seed)
    inputs = model_inputs(space)
    fields = field_vectors(
        space, inputs, config.dim, deviation=config.deviation, seed=seeds(), name="embedding"
    )
    parts = []
    if space.numerics:
        units = (*config.bottom_units, config.dim)
        bottom = mlp(
            inputs["numerics"], units, config.dropout, seeds, batch_norm=config.batch_norm, name="bottom"
        )
        parts.append(bottom)
        row = keras.layers.Reshape((1, config.dim), name="bottom_field")(bottom)
        fields = row if fields is None else keras.layers.Concatenate(axis=1, name="fields")([row, fields])
    else:
        parts.append(keras.layers.Flatten(name="fields_alone")(fields))
    if fields is not None and fields.shape[1] > 1:
        parts.append(DotInteraction(name="interaction")(fields))
    x = parts[0] if len(parts) == 1 else keras.layers.Concatenate(name="x")(parts)
    terms = [
        scalar(mlp(x, config.units, config.dropout, seeds, batch_norm=config.batch_norm), "logit", seeds)
    ]
    return functional(inputs, click_logit(terms, inputs, space, config), "dlrm")
