"""FTRL-proximal against the paper's algorithm, coordinate by coordinate in plain Python, and the zeros it is for."""

import math

import numpy as np
import pytest
import tensorflow as tf

from clickmill.errors import UsageError
from clickmill.features import Encoder
from clickmill.models import build
from clickmill.training import TrainingConfig, train
from clickmill.training.encoded import encode
from clickmill.training.sparse_ftrl import SparseFTRL
from clickmill.training.step import TrainStep


def weight(z, n, alpha, beta, l1, l2):
    """The paper's w for one coordinate."""
    if abs(z) <= l1:
        return 0.0
    return -(z - math.copysign(l1, z)) / ((beta + math.sqrt(n)) / alpha + l2)


def test_every_coordinate_follows_algorithm_1():
    rng = np.random.default_rng(2)
    constants = {"alpha": 0.2, "beta": 0.7, "l1": 0.9, "l2": 0.3}
    table = tf.Variable(tf.zeros([6, 2]))
    ftrl = SparseFTRL(table, **constants, rate=tf.Variable(1.0))
    z, n = np.zeros((6, 2)), np.zeros((6, 2))
    for _ in range(25):
        rows = rng.permutation(5)[:3].astype(np.int32)
        gradient = rng.normal(size=(3, 2)).astype(np.float32)
        shares = tf.ones(3)  # of no meaning here
        ftrl.apply(tf.constant(rows), tf.gather(table, rows), tf.constant(gradient), tf.constant(2.0), shares)
        for row, gs in zip(rows, gradient, strict=True):
            for i, g in enumerate(2.0 * gs.astype(float)):
                w = weight(z[row, i], n[row, i], **constants)
                sigma = (math.sqrt(n[row, i] + g * g) - math.sqrt(n[row, i])) / constants["alpha"]
                z[row, i] += g - sigma * w
                n[row, i] += g * g
    expected = [[weight(z[r, i], n[r, i], **constants) for i in range(2)] for r in range(6)]
    np.testing.assert_allclose(table.numpy(), expected, rtol=1e-4, atol=1e-6)
    assert 0 < np.count_nonzero(table.numpy()) < 10  # the check has seen both branches


def test_weights_that_a_run_starts_from_stay_as_long_as_nothing_speaks_against_them():
    start = np.array([[0.4], [0.0], [-0.2]], np.float32)
    table = tf.Variable(start)
    ftrl = SparseFTRL(table, 0.1, 1.0, 1.0, 0.1, tf.Variable(1.0))
    rows = tf.constant([0, 1, 2])
    ftrl.apply(rows, tf.gather(table, rows), tf.zeros([3, 1]), tf.constant(1.0), tf.ones(3))
    np.testing.assert_allclose(table.numpy(), start, rtol=1e-6)


def test_l1_leaves_more_weights_at_exactly_zero_and_the_export_reads_them(dataset, space, tmp_path):
    held = {}
    for l1 in (0.0, 5.0, 1e6):
        config = TrainingConfig(epochs=1, batch_size=64, linear_optimizer="ftrl", ftrl_l1=l1)
        model = train(dataset, space, "lr", config=config, out=tmp_path / str(l1))
        held[l1] = np.count_nonzero(model.keras_model.get_layer("linear").table.numpy())
    rows = space.table_rows - 1  # the padding is zero in any case
    assert held[1e6] == 0
    assert held[1e6] < held[5.0] < held[0.0] <= rows


def test_vectors_keep_their_own_optimizer_beside_ftrl(dataset, space, tmp_path):
    """As in Wide & Deep: FTRL with L1 for the wide part, Adagrad for the deep one (Cheng et al., section 3.2)."""
    batch = next(encode(dataset, "test", Encoder(space), tmp_path).batches(256))
    models = {}
    for linear in ("adagrad", "ftrl"):
        models[linear] = build("wide_deep", space, {"dropout": 0.0})
        TrainStep(models[linear], TrainingConfig(linear_optimizer=linear), batch)(batch)
    vectors, weights = (
        [model.get_layer(name).table.numpy() for model in models.values()] for name in ("embedding", "linear")
    )
    np.testing.assert_array_equal(*vectors)
    assert not np.array_equal(*weights)


def test_ftrl_without_a_linear_part_is_refused(space):
    batch = {"slots": np.zeros((1, len(space.slots)), np.int32), "label": np.zeros(1, np.float32)}
    with pytest.raises(UsageError, match="this model has none; take lr, fm or wide_deep"):
        TrainStep(build("dcn_v2", space), TrainingConfig(linear_optimizer="ftrl"), batch)
