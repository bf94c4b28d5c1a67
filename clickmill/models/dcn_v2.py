"""Deep & Cross Network v2: explicit crosses of bounded degree beside a deep tower.

    x_{l+1} = x_0 * (W_l x_l + b_l) + x_l          W_l = U_l V_l' when `rank` is given           (eqs. 1 and 2)
    x_{l+1} = sum_i G_i(x_l) E_i(x_l) + x_l        a mixture of `experts` low-rank crosses       (eqs. 3 and 4)
    logit   = w' [x_L ; mlp(x_0)] + b                                                            (parallel form, fig. 1b)

Wang et al., "DCN V2: Improved Deep & Cross Network and Practical Lessons for Web-scale Learning to Rank Systems", WWW 2021,
arXiv:2008.13535. x_0 holds the vectors of all slots, the mean vector of each list, and the numerics: (b, fields * dim + n).
Departs from it: parallel form only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from clickmill.features import FeatureSpace
from clickmill.models.config import DeepConfig

if TYPE_CHECKING:
    import keras


class DCNv2Config(DeepConfig):
    """Hyperparameters of DCN-v2."""

    cross_layers: int = Field(default=3, ge=1, le=16)
    """Cross layers; l of them reach interactions of l + 1 fields."""
    rank: int | None = Field(default=None, ge=1)
    """Rank of the cross kernels; full when absent. A quarter of the width costs little quality (section 5.3 of the paper)."""
    experts: int = Field(default=1, ge=1, le=64)
    """Low-rank crosses per layer, mixed by a gate that reads the row. More than one needs `rank`."""

    @model_validator(mode="after")
    def _experts_have_a_rank(self) -> Self:
        if self.experts > 1 and self.rank is None:
            raise ValueError(f"experts={self.experts} needs a rank: the experts are low-rank crosses")
        return self


def build(space: FeatureSpace, config: DCNv2Config, seed: int) -> keras.Model:
    """Inputs as the encoder gives them, output (b,) float32 logits."""
    from clickmill.models.cross import Cross
    from clickmill.models.cross_mixture import CrossMixture
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
        name = f"cross_{layer}"
        if config.experts > 1 and config.rank is not None:
            x = CrossMixture(config.experts, config.rank, seeds, name=name)(x0, x)
        else:
            x = Cross(config.rank, seeds, name=name)(x0, x)
    terms = [scalar(x, "cross_logit", seeds)]
    if config.units:
        terms.append(
            scalar(
                mlp(x0, config.units, config.dropout, seeds, batch_norm=config.batch_norm),
                "deep_logit",
                seeds,
            )
        )
    return functional(inputs, click_logit(terms, inputs, space, config), "dcn_v2")
