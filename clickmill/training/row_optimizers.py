"""Chooses the optimizer of each embedding table from the training settings."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from clickmill.errors import UsageError
from clickmill.models.config import RowDefaults
from clickmill.models.embedding import FusedEmbedding
from clickmill.training.config import TrainingConfig
from clickmill.training.rows import RowOptimizer
from clickmill.training.sparse_adagrad import SparseAdagrad
from clickmill.training.sparse_adam import SparseAdam
from clickmill.training.sparse_ftrl import SparseFTRL
from clickmill.training.table_adam import TableAdam


def row_optimizers(
    tables: Sequence[FusedEmbedding], config: TrainingConfig, rate: tf.Variable, examples: int
) -> list[RowOptimizer]:
    """One per table: those of vectors by `embedding_optimizer`, the linear part's by `linear_optimizer`. An epoch has so many `examples`.

    Raises UsageError where FTRL is asked for and there is no linear part.
    """
    if config.linear_optimizer == "ftrl" and not any(table.width == 1 for table in tables):
        raise UsageError(
            "linear_optimizer: ftrl is for a linear part with a weight per value, and this model has none; take lr, fm or "
            "wide_deep, or leave linear_optimizer at adagrad"
        )
    return [_optimizer(table, config, rate, examples) for table in tables]


def _optimizer(
    table: FusedEmbedding, config: TrainingConfig, rate: tf.Variable, examples: int
) -> RowOptimizer:
    weights, linear = table.table.value, table.width == 1
    defaults = RowDefaults()
    l2 = config.linear_l2 if linear else defaults.l2 if config.l2 is None else config.l2
    kind = config.linear_optimizer if linear else config.embedding_optimizer
    if kind == "ftrl":
        return SparseFTRL(weights, config.ftrl_alpha, config.ftrl_beta, config.ftrl_l1, config.ftrl_l2, rate)
    if kind == "adam":
        return SparseAdam(weights, config.sparse_adam_learning_rate, l2, rate)
    if kind == "table_adam":
        # It learns from the mean loss.
        return TableAdam(weights, config.sparse_adam_learning_rate, l2 / examples, rate)
    step = config.embedding_learning_rate
    return SparseAdagrad(weights, defaults.embedding_learning_rate if step is None else step, l2, rate)
