"""How a model is trained: every knob with its unit and why it stands where it does."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


class TrainingConfig(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """Settings of one training run; with the data they decide its weights."""

    epochs: int = Field(default=10, ge=1, le=1000)
    """Most passes over the train split. Early stopping usually ends it sooner."""
    batch_size: int = Field(default=1024, ge=1, le=1_000_000)
    """Impressions per step."""
    learning_rate: float = Field(default=2e-3, gt=0, le=10)
    """Adam's step for dense weights."""
    embedding_learning_rate: float = Field(default=0.1, gt=0, le=10)
    """Adagrad's step for embedding rows. Larger than the dense one: a row is touched seldom, and its step shrinks with each touch."""
    l2: float = Field(default=1.0, ge=0, le=1000)
    """Pull towards zero of every embedding vector a batch touches: l2 times the vector is added to the summed gradient of its
    impressions. Rare rows, touched by one impression at a time, feel it most. On the simulated market (1M impressions, a quarter of
    the negatives kept) DCN-v2 reached a test AUC of 0.8134 with 1, 0.8097 with 3, and 0.8085 with 0.1 at a lower rate."""
    linear_l2: float = Field(default=0.01, ge=0, le=1000)
    """The same for the weights of the linear part, of which there is one per value: these want far less of it."""
    positive_weight: float = Field(default=1.0, ge=1, le=100)
    """w+: weight of a click in the loss. Predictions are corrected for it in closed form afterwards."""
    evaluations_per_epoch: int = Field(default=1, ge=1, le=1000)
    """How often per epoch NE is measured on the validation split. More of them find the best weights of a model that learns, and then
    learns by heart, within one pass; each costs a pass over the validation split."""
    position_curve: Literal["learned", "propensities"] = "learned"
    """How a model with `position: examination` comes to its curve. `learned`: with all other weights, from all rows. Where the ranking
    that filled the log knew more of an ad's worth than the features tell, that takes unexplained worth for the effect of the slot.
    `propensities`: read beforehand from the clicks and the contract's field of role propensity, and then held fixed."""
    patience: int = Field(default=1, ge=0, le=1000)
    """Evaluations without a better NE that are put up with: one more and training stops. The best weights are kept in any case."""
    rate_decay: float = Field(default=1.0, gt=0, le=1)
    """What all learning rates are multiplied by on a plateau of NE; 1 leaves them as they are. Wants a `patience` above
    `decay_patience`, else training stops first."""
    decay_patience: int = Field(default=0, ge=0, le=1000)
    """Evaluations without a better NE that are put up with: one more and the rates are lowered, and the count starts anew."""
    least_rate: float = Field(default=0.001, gt=0, le=1)
    """The share of the learning rates below which `rate_decay` does not go."""
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    """Decides initial weights, order of the rows and dropout."""
    checkpoint_every_steps: int = Field(default=1000, ge=1)
    """Steps between checkpoints; a killed run loses at most that many. Ctrl-C saves one at once."""
    shuffle_memory_mib: int = Field(default=256, ge=1, le=65_536)
    """Memory in which rows are shuffled; a train split that fits is shuffled as a whole, a larger one by blocks."""
