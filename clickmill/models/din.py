"""Deep Interest Network: the history is summed anew for each candidate, each item by how much it bears on the candidate.

    v_U(c) = sum_j a(h_j, c) h_j                                    (eq. 3)
    logit  = w' mlp([slots ; v_U of each history ; numerics]) + b

Zhou et al., "Deep Interest Network for Click-Through Rate Prediction", KDD 2018, arXiv:1706.06978. h_j are the vectors of a history's
items, c that of the candidate: a list whose items share the rows of a slot attends to that slot (an ad's before others); other lists
are averaged. Departs from it: the tower's activation is ReLU (PReLU or Dice stand in the activation unit); `recency` and `identity` tell
the unit what the paper's does not know; `heads`; `product`; rows are regularized by the trainer's l2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from clickmill.features import FeatureSpace
from clickmill.models.config import DeepConfig, Units

if TYPE_CHECKING:
    import keras


class DINConfig(DeepConfig):
    """Hyperparameters of the Deep Interest Network."""

    attention_units: Units = (80, 40)
    """Widths of the activation unit's hidden layers, those of the authors' code; the paper draws one of 36."""
    activation: Literal["prelu", "dice"] = "prelu"
    """Activation inside the unit. Dice moves its bend to the mean of its inputs, which pays on very large data."""
    softmax: bool = False
    """Make the weights of a history add up to 1. Off as in the paper: the sum's length tells how strong the interest is."""
    recency: bool = True
    """Let the unit see how many clicks ago an item was. Off, the order of a history changes nothing, as in the paper."""
    identity: bool = True
    """Let the unit see whether an item is the candidate itself, which vectors tell only when they are long and well learned."""
    heads: int = Field(default=2, ge=1, le=64)
    """Sums v_U per history, each weighed in its own way: one may follow lasting tastes, another what was clicked last. The paper has one."""
    product: bool = True
    """Give the tower the product of v_U and the candidate too, element by element; a tower of sums learns products slowly. Not in
    the paper; its authors' code does so with the plain sum of the history."""


def build(space: FeatureSpace, config: DINConfig, seed: int) -> keras.Model:
    """Inputs as the encoder gives them, output (b,) float32 logits."""
    import keras

    from clickmill.models.attention import LocalActivationUnit, OneOf, candidate_slots
    from clickmill.models.embedding import MaskedMean, item_vectors, side_by_side
    from clickmill.models.inputs import flat, functional, model_inputs
    from clickmill.models.logit import click_logit
    from clickmill.models.tower import Seeds, mlp, scalar

    seeds = Seeds(seed)
    inputs = model_inputs(space)
    slots, histories = item_vectors(
        space, inputs, config.dim, deviation=config.deviation, seed=seeds(), name="embedding"
    )
    candidates = candidate_slots(space)
    pooled = []
    for i, (name, history) in enumerate(histories.items()):
        rows = inputs[f"list/{name}"]
        if name in candidates:
            unit = LocalActivationUnit(
                config.attention_units,
                config.activation,
                seeds,
                heads=config.heads,
                softmax=config.softmax,
                recency=config.recency,
                identity=config.identity,
                name=f"attention_{i}",
            )
            candidate = OneOf(candidates[name], name=f"candidate_{i}")(slots)
            row = OneOf(candidates[name], name=f"candidate_row_{i}")(inputs["slots"])
            interests = unit(history, candidate, rows, row)
            for head in range(config.heads):
                interest = OneOf(head, name=f"interest_{i}_{head}")(interests)
                pooled.append(interest)
                if config.product:
                    pooled.append(keras.layers.Multiply(name=f"product_{i}_{head}")([interest, candidate]))
        else:
            pooled.append(MaskedMean(name=f"mean_{i}")(history, rows))
    x = flat(side_by_side(slots, pooled, name="fields"), inputs, name="x")
    terms = [
        scalar(mlp(x, config.units, config.dropout, seeds, batch_norm=config.batch_norm), "deep_logit", seeds)
    ]
    return functional(inputs, click_logit(terms, inputs, space, config), "din")
