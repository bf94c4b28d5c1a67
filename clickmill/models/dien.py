"""Deep Interest Evolution Network: interests change with time; a GRU extracts them, another follows those near the candidate.

    h_t   = GRU(e_t, h_{t-1})                                       interests               (eqs. 2 to 5)
    a_t   = softmax_t(h_t' W c)                                     nearness to the candidate   (eq. 8)
    h'_t  = AUGRU(h_t, h'_{t-1}, a_t)                               their evolution
    logit = w' mlp([slots ; h'_T of each history ; numerics]) + b
    loss  = L_target + alpha L_aux,   L_aux: h_t tells e_{t+1} from another item                (eqs. 6 and 7)

Zhou et al., "Deep Interest Evolution Network for Click-Through Rate Prediction", AAAI 2019, arXiv:1809.03672. A list whose items share
the rows of a slot evolves towards that slot (an ad's before others); other lists are averaged. The auxiliary loss reaches the trainer as
one of the model's `losses`. Departs from it: other items come from the clicks of the batch; the tower's activation is ReLU; `product`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from clickmill.features import FeatureSpace
from clickmill.models.config import DeepConfig

if TYPE_CHECKING:
    import keras


class DIENConfig(DeepConfig):
    """Hyperparameters of the Deep Interest Evolution Network. Both GRUs are as wide as the embedding."""

    auxiliary_weight: float = Field(default=0.1, ge=0, le=100)
    """alpha, the weight of the auxiliary loss; 0 leaves it out. The paper's code takes 1, which pulled NE up by 0.003 on the simulated
    market (300,000 training impressions), where 0.1 and 0 could not be told apart."""
    product: bool = True
    """Give the tower the product of the latest interest h_T and the candidate too, element by element: it is what the auxiliary loss
    trains to tell the next click. Not in the paper; its authors' code gives the product with the plain sum of the history."""


def build(space: FeatureSpace, config: DIENConfig, seed: int) -> keras.Model:
    """Inputs as the encoder gives them, output (b,) float32 logits."""
    import keras

    from clickmill.models.attention import OneOf, candidate_slots
    from clickmill.models.embedding import MaskedMean, item_vectors, side_by_side
    from clickmill.models.gru import InterestEvolution, InterestExtractor
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
            extractor = InterestExtractor(
                config.auxiliary_weight, seeds, width=config.dim, name=f"interests_{i}"
            )
            candidate = OneOf(candidates[name], name=f"candidate_{i}")(slots)
            evolution = InterestEvolution(config.dim, seeds, name=f"evolution_{i}")
            interests = extractor(history, rows)
            pooled.append(evolution(interests, candidate, rows))
            if config.product:
                latest = OneOf(-1, name=f"latest_{i}")(interests)
                pooled.append(keras.layers.Multiply(name=f"product_{i}")([latest, candidate]))
        else:
            pooled.append(MaskedMean(name=f"mean_{i}")(history, rows))
    x = flat(side_by_side(slots, pooled, name="fields"), inputs, name="x")
    terms = [
        scalar(mlp(x, config.units, config.dropout, seeds, batch_norm=config.batch_norm), "deep_logit", seeds)
    ]
    return functional(inputs, click_logit(terms, inputs, space, config), "dien")
