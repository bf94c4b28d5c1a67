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
    embedding_optimizer: Literal["adagrad", "adam", "table_adam"] = "adagrad"
    """What moves embedding vectors. `adagrad` and `adam` read and write the rows of the batch only. `adam` keeps two numbers per weight and
    one per row where `adagrad` keeps one per weight; its step does not shrink with the touches of a row. `table_adam` sweeps over the whole
    table at each step, so that `l2` pulls every row each time: for tables of a few million weights. On a third of Frappe, a data set of
    few impressions per id, it made DCN-v2's validation AUC 0.959 instead of 0.956."""
    linear_optimizer: Literal["adagrad", "adam", "table_adam", "ftrl"] = "adagrad"
    """What moves the weights of the linear part (lr, fm, wide_deep). `ftrl` leaves those at exactly zero for which the clicks say little:
    a sparse model. It has its own regularisation in place of `linear_l2`, and two numbers per weight."""
    embedding_learning_rate: float | None = Field(default=None, gt=0, le=10)
    """Adagrad's step for embedding rows. Larger than the dense one: a row is touched seldom, and its step shrinks with each touch. By
    default what suits the model (`models.config.RowDefaults`): 0.1, less for FM."""
    sparse_adam_learning_rate: float = Field(default=1e-3, gt=0, le=10)
    """The same for `adam` and `table_adam`, whose first step of a row is this long in every direction."""
    l2: float | None = Field(default=None, ge=0, le=100_000)
    """Pull of every embedding vector towards zero: a prior, l2 / 2 times its squared length on the summed loss of one pass over the train
    split. It does not grow with the data: a batch that names a row pulls by l2 / n, where n is how often the whole split names it, so rare
    ids stay near zero and frequent ones are left to their clicks. By default what suits the model (`models.config.RowDefaults`): 30, more for FM.
    `table_adam` pulls all rows at each step, by l2 / train rows of the mean loss."""
    linear_l2: float = Field(default=1.0, ge=0, le=100_000)
    """The same for the weights of the linear part, of which there is one per value. On the simulated market 3, 10 and 30 made no
    difference; where a click weighs much (w+), a strong pull leaves predictions too low after the closed-form correction."""
    ftrl_alpha: float = Field(default=0.1, gt=0, le=10)
    """FTRL's learning rate, per coordinate alpha / (beta + root of the summed squares of its gradients)."""
    ftrl_beta: float = Field(default=1.0, ge=0, le=1000)
    """What that root starts from: 1, about a click's worth, as the paper advises."""
    ftrl_l1: float = Field(default=1.0, ge=0, le=1e6)
    """Pull that a weight must outgrow to leave zero, in clicks: a value seen with about so many clicks more or fewer than expected stays at
    zero. 0 makes nothing sparse."""
    ftrl_l2: float = Field(default=0.1, ge=0, le=1e6)
    """Proximal pull of the weights away from zero back to it; added to 1 / learning rate."""
    positive_weight: float = Field(default=1.0, ge=1, le=100)
    """w+: weight of a click in the loss. Predictions are corrected for it in closed form afterwards."""
    evaluations_per_epoch: int = Field(default=1, ge=1, le=1000)
    """How often per epoch NE is measured on the validation split. More of them find the best weights of a model that learns, and then
    learns by heart, within one pass; each costs a pass over the validation split."""
    watch: Literal["ne", "auc"] = "ne"
    """What stops training, lowers the rates and picks the weights: NE, or AUC where only the order counts and probabilities are
    calibrated afterwards anyway. Published benchmarks watch AUC; it goes on rising for some epochs after NE has begun to."""
    position_curve: Literal["learned", "propensities"] = "learned"
    """How a model with `position: examination` comes to its curve. `learned`: with all other weights, from all rows. Where the ranking
    that filled the log knew more of an ad's worth than the features tell, that takes unexplained worth for the effect of the slot.
    `propensities`: read beforehand from the clicks and the contract's field of role propensity, and then held fixed."""
    patience: int = Field(default=1, ge=0, le=1000)
    """Evaluations without a better one that are put up with: one more and training stops. The best weights are kept in any case."""
    rate_decay: float = Field(default=1.0, gt=0, le=1)
    """What all learning rates are multiplied by on a plateau; 1 leaves them as they are. Wants a `patience` above
    `decay_patience`, else training stops first."""
    decay_patience: int = Field(default=0, ge=0, le=1000)
    """Evaluations without a better one that are put up with: one more and the rates are lowered, and the count starts anew."""
    least_rate: float = Field(default=0.001, gt=0, le=1)
    """The share of the learning rates below which `rate_decay` does not go."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the matrix products in towers and cross layers while training. `bfloat16` is quicker where the processor multiplies it (AVX-512
    BF16, AMX, GPUs since Ampere) and much slower elsewhere; weights and all other arithmetic stay float32, and so does the export."""
    xla: bool = False
    """Compile forward and backward pass by XLA. Meant for GPUs; on a CPU it gains nothing (docs/benchmarks.md)."""
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    """Decides initial weights, order of the rows and dropout."""
    checkpoint_every_steps: int = Field(default=1000, ge=1)
    """Steps between checkpoints; a killed run loses at most that many. Ctrl-C saves one at once."""
    shuffle_memory_mib: int = Field(default=256, ge=1, le=65_536)
    """Memory in which rows are shuffled; a train split that fits is shuffled as a whole, a larger one by blocks."""
