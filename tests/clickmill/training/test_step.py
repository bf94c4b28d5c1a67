"""Sparse Adagrad and the training step against numpy."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from clickmill.features import Encoder
from clickmill.models import MODELS, build
from clickmill.models.size import estimate
from clickmill.training import TrainingConfig
from clickmill.training.distinct import times_named
from clickmill.training.encoded import EncodedSplit, encode
from clickmill.training.loss import weighted_bce
from clickmill.training.sparse_adagrad import INITIAL_ACCUMULATOR, SparseAdagrad
from clickmill.training.step import TrainStep
from clickmill.training.table_adam import TableAdam


@pytest.mark.parametrize(("l2", "rate"), [(0.0, 1.0), (0.3, 1.0), (0.3, 0.25)])
def test_sparse_adagrad_equals_dense_adagrad_on_the_rows_touched(l2, rate):
    rng = np.random.default_rng(1)
    start = rng.normal(size=(7, 3)).astype(np.float32)
    table = tf.Variable(start)
    adagrad = SparseAdagrad(table, 0.1, l2, tf.Variable(rate))
    weights, accumulator = start.astype(float), np.full((7, 3), INITIAL_ACCUMULATOR)
    for _ in range(5):
        rows = rng.permutation(6)[:4].astype(np.int32)  # row 6 never
        gradient = rng.normal(size=(4, 3)).astype(np.float32)
        shares = rng.uniform(size=4).astype(np.float32)
        adagrad.apply(
            tf.constant(rows),
            tf.gather(table, rows),
            tf.constant(gradient),
            tf.constant(8.0),
            tf.constant(shares),
        )
        accumulator[rows] += (8.0 * gradient) ** 2
        step = rate * 0.1 / np.sqrt(accumulator[rows])
        # The pull is taken where it leads to: w' + step l2 share w' = w - step g.
        weights[rows] = (weights[rows] - step * 8.0 * gradient) / (1.0 + step * l2 * shares[:, None])
    np.testing.assert_allclose(table.numpy(), weights, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(adagrad.accumulator.numpy(), accumulator, rtol=1e-4)
    np.testing.assert_array_equal(table.numpy()[6], start[6])


@pytest.mark.parametrize(("l2", "rate"), [(0.0, 1.0), (0.3, 0.25)])
def test_table_adam_equals_adam_of_keras_on_the_whole_table(l2, rate):
    rng = np.random.default_rng(2)
    start = rng.normal(size=(7, 3)).astype(np.float32)
    start[0] = 0.0
    table, whole = tf.Variable(start), keras.Variable(start)
    ours = TableAdam(table, 0.01, l2, tf.Variable(rate))
    theirs = keras.optimizers.Adam(rate * 0.01, epsilon=1e-8)
    theirs.build([whole])
    for _ in range(5):
        rows = (1 + rng.permutation(5)[:3]).astype(np.int32)  # rows 0 and 6 never
        gradient = rng.normal(size=(3, 3)).astype(np.float32)
        shares = tf.ones(3)  # of no meaning here
        ours.apply(tf.constant(rows), tf.gather(table, rows), tf.constant(gradient), tf.constant(8.0), shares)
        dense = l2 * whole.numpy()
        dense[rows] += gradient
        theirs.apply([tf.constant(dense)], [whole])
    np.testing.assert_allclose(table.numpy(), whole.numpy(), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(table.numpy()[0], np.zeros(3))
    assert np.array_equal(table.numpy()[6], start[6]) is (l2 == 0)


def test_a_step_follows_the_losses_a_layer_adds_but_tells_that_of_the_clicks():
    """One step of Adam on a weight that only the added loss reaches, and one that only the clicks reach."""

    class Adds(keras.layers.Layer):
        def build(self, shape):
            self.told = self.add_weight(shape=(), initializer="ones", name="told")
            self.pulled = self.add_weight(shape=(), initializer="ones", name="pulled")

        def call(self, x, training=False):
            if training:
                self.add_loss(3.0 * self.pulled**2)
            return x[:, 0] + self.told

        def compute_output_shape(self, shape):
            return (shape[0],)

    numerics = keras.Input((1,), name="numerics")
    layer = Adds()
    model = keras.Model({"numerics": numerics}, layer(numerics))
    batch = {"numerics": np.zeros((4, 1), np.float32), "label": np.ones(4, np.float32)}
    step = TrainStep(model, TrainingConfig(learning_rate=0.01), batch)
    assert step(batch) == pytest.approx(math.log1p(math.exp(-1)))
    assert float(layer.told) == pytest.approx(1.01, rel=1e-4)
    assert float(layer.pulled) == pytest.approx(0.99, rel=1e-4)
    assert step(batch) == pytest.approx(math.log1p(math.exp(-1.01)))


def test_the_rate_scales_every_optimizers_step(dataset, space, tmp_path):
    """Adam's first step is its learning rate times the sign of the gradient, and Adagrad's is linear in its rate."""
    batch = next(encode(dataset, "test", Encoder(space), tmp_path).batches(64))
    moved = []
    for rate in (1.0, 0.25):
        model = build("wide_deep", space, {"dropout": 0.0})
        before = model.get_weights()
        step = TrainStep(model, TrainingConfig(l2=0.0, linear_l2=0.0), batch)
        step.rate.assign(rate)
        step(batch)
        moved.append([new - old for new, old in zip(model.get_weights(), before, strict=True)])
    for full, quarter in zip(*moved, strict=True):
        np.testing.assert_allclose(quarter, 0.25 * full, rtol=2e-3, atol=1e-7)
        assert np.abs(full).max() > 0


def test_the_rate_is_part_of_what_a_checkpoint_keeps(dataset, space, tmp_path):
    batch = next(encode(dataset, "test", Encoder(space), tmp_path).batches(64))
    step = TrainStep(build("lr", space), TrainingConfig(), batch)
    assert any(v is step.rate for v in step.variables)


def test_vectors_and_linear_weights_are_pulled_by_settings_of_their_own(dataset, space, tmp_path):
    """Without clicks to learn from (weight 0 on every row) only the pull moves a row."""
    batch = next(encode(dataset, "test", Encoder(space), tmp_path).batches(64))
    config = TrainingConfig(l2=0.5, linear_l2=0.25, embedding_learning_rate=0.1)
    model = build("fm", space)
    vectors, linear = (model.get_layer(name).table for name in ("embedding", "linear"))
    linear.assign(np.full(linear.shape, 0.3, np.float32))
    before = [vectors.numpy(), linear.numpy()]
    row = int(batch["slots"][0, 0])
    named = 5 * sum((batch[key] == row).sum() for key in batch if key == "slots" or key.startswith("list/"))
    split = EncodedSplit({key: np.concatenate([value] * 5) for key, value in batch.items()})
    TrainStep(model, config, batch, split)({**batch, "weight": np.zeros(64, np.float32)})
    for table, old, l2 in zip((vectors, linear), before, (0.5, 0.25), strict=True):
        expected = old[row] / (1 + 0.1 / np.sqrt(INITIAL_ACCUMULATOR) * l2 / named)
        np.testing.assert_allclose(table.numpy()[row], expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["fm", "wide_deep"])
def test_a_step_moves_the_rows_of_its_batch_by_the_gradient_of_the_whole_table(
    name, dataset, space, tmp_path
):
    """The shortcut over distinct rows against a plain tape on the tables, which TensorFlow differentiates densely."""
    batch = next(encode(dataset, "test", Encoder(space), tmp_path).batches(64))
    model = build(name, space, {"dropout": 0.0} if name == "wide_deep" else None)
    layers = [model.get_layer(layer) for layer in ("embedding", "linear")]
    inputs = {key: value for key, value in batch.items() if key not in ("label", "weight")}
    with tf.GradientTape() as tape:
        loss = weighted_bce(batch["label"], model(inputs), batch["weight"], 1.0)
    dense = [
        tf.convert_to_tensor(gradient).numpy()
        for gradient in tape.gradient(loss, [layer.table.value for layer in layers])
    ]
    before = [layer.table.numpy() for layer in layers]
    step = TrainStep(model, TrainingConfig(l2=0.0, linear_l2=0.0, embedding_learning_rate=0.1), batch)
    assert step(batch) == pytest.approx(float(loss), rel=1e-5)
    for layer, old, gradient in zip(layers, before, dense, strict=True):
        summed = 64 * gradient
        expected = old - 0.1 * summed / np.sqrt(INITIAL_ACCUMULATOR + summed**2)
        np.testing.assert_allclose(layer.table.numpy(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        *((name, {}) for name in MODELS),
        ("lr", {"linear_optimizer": "ftrl"}),
        ("fm", {"linear_optimizer": "ftrl", "embedding_optimizer": "adam"}),
        ("wide_deep", {"linear_optimizer": "adam"}),
        ("dcn_v2", {"embedding_optimizer": "adam"}),
        ("fm", {"embedding_optimizer": "table_adam", "linear_optimizer": "table_adam"}),
    ],
)
def test_the_estimate_of_size_is_what_the_step_holds(name, chosen, space):
    """Every array of a checkpoint, but for the rate, Adam's count and the generators of dropout, which are not float32 or scalar; and the
    counts of rows, which are made anew from the train split."""
    model = build(name, space)
    batch = {"label": np.zeros(1, np.float32)}
    for key, value in model.input.items():
        batch[key] = np.zeros((1, *value.shape[1:]), value.dtype)
    step = TrainStep(model, TrainingConfig(**chosen), batch)
    held = [v for v in step.variables if v.dtype == tf.float32 and v is not step.rate]
    size = estimate(space, name, **chosen)
    assert size.checkpoint_bytes == sum(4 * int(np.prod(v.shape)) for v in held)
    assert size.training_bytes == size.checkpoint_bytes + times_named(batch, space.table_rows).nbytes


def test_table_adam_pulls_by_the_prior_over_the_rows_of_an_epoch(dataset, space, tmp_path):
    """Of the mean loss over N rows a prior on their sum is the Nth part."""
    split = encode(dataset, "test", Encoder(space), tmp_path)
    batch = next(split.batches(64))
    step = TrainStep(
        build("fm", space), TrainingConfig(embedding_optimizer="table_adam", l2=12.0), batch, split
    )
    (adam,) = (o for o in step._row_optimizers if isinstance(o, TableAdam))
    assert adam.l2 == pytest.approx(12.0 / split.rows)
