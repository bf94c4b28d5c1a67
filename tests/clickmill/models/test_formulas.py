"""Layers against their formulas in numpy."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from clickmill.models import DCNv2Config, build
from clickmill.models.cross import Cross
from clickmill.models.embedding import FusedEmbedding, MaskedMean
from clickmill.models.factorization import NumericVectors, PairwiseSum
from clickmill.models.logit import PositionBias
from clickmill.models.tower import Seeds, mlp

_floats = st.floats(-2, 2, width=32)


@given(
    st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 5)).flatmap(
        lambda shape: arrays(np.float32, shape, elements=_floats)
    )
)
@settings(max_examples=60)
def test_the_fast_form_of_fm_equals_the_sum_over_pairs(vectors):
    fields = vectors.shape[1]
    wide = vectors.astype(np.float64)
    pairs = sum(
        (wide[:, i] * wide[:, j]).sum(axis=1) for i in range(fields) for j in range(i + 1, fields)
    ) + np.zeros(len(vectors))
    np.testing.assert_allclose(PairwiseSum()(vectors).numpy(), pairs, rtol=1e-4, atol=1e-4)


def test_fm_is_eq_1_of_the_paper(space, encoded):
    """Row by row in plain Python, from the weights of a built model."""
    model = build("fm", space, {"dim": 3, "deviation": 0.5}, seed=1)
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(0, 0.5, variable.shape))
    batch = encoded(space, 9)
    w, v = model.get_layer("linear").table.numpy(), model.get_layer("embedding").table.numpy()
    w[0], v[0] = 0, 0
    wn = model.get_layer("linear_numerics").kernel.numpy()[:, 0]
    vn = model.get_layer("numeric_vectors").vectors.numpy()
    bias = model.get_layer("bias").value.numpy()
    shift = model.get_layer("position_bias").shift.numpy()
    expected = []
    for r in range(9):
        history = [i for i in batch["list/history"][r] if i]
        fields = [(w[i, 0], v[i]) for i in batch["slots"][r]]
        fields.append(
            (
                np.mean([w[i, 0] for i in history] or [0]),
                np.mean([v[i] for i in history] or [[0] * 3], axis=0),
            )
        )
        fields += [(x * wn[i], x * vn[i]) for i, x in enumerate(batch["numerics"][r])]
        pairs = sum(a[1] @ b[1] for i, a in enumerate(fields) for b in fields[i + 1 :])
        expected.append(bias + sum(f[0] for f in fields) + pairs + shift[batch["position"][r]])
    np.testing.assert_allclose(model(batch).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_lr_is_the_sum_of_its_weights(space, encoded):
    model = build("lr", space)
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(0, 0.5, variable.shape))
    batch = encoded(space, 9)
    w = model.get_layer("linear").table.numpy()[:, 0]
    w[0] = 0
    there = batch["list/history"] > 0
    history = (w[batch["list/history"]] * there).sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    expected = (
        w[batch["slots"]].sum(axis=1)
        + history
        + batch["numerics"] @ model.get_layer("linear_numerics").kernel.numpy()[:, 0]
        + model.get_layer("bias").value.numpy()
        + model.get_layer("position_bias").shift.numpy()[batch["position"]]
    )
    np.testing.assert_allclose(model(batch).numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rank", [None, 2])
def test_the_cross_layer_equals_eq_1_of_dcn_v2(rank):
    rng = np.random.default_rng(0)
    x0, x = rng.normal(size=(2, 5, 6)).astype(np.float32)
    layer = Cross(rank, Seeds(0), name="cross")
    layer(x0, x)
    for variable in layer.trainable_variables:
        variable.assign(rng.normal(size=variable.shape))
    # Rows of x are the paper's column vectors, so W here is the transpose of theirs.
    kernel = layer.kernel.numpy() if rank is None else layer.v.numpy() @ layer.u.numpy()
    expected = x0 * (x @ kernel + layer.bias.numpy()) + x
    np.testing.assert_allclose(layer(x0, x).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_low_rank_saves_weights(space):
    full = build("dcn_v2", space, DCNv2Config(dim=8)).count_params()
    assert build("dcn_v2", space, DCNv2Config(dim=8, rank=4)).count_params() < full


def test_dcn_without_a_tower_is_the_cross_network_alone(space, encoded):
    model = build("dcn_v2", space, DCNv2Config(units=()))
    assert not [layer.name for layer in model.layers if layer.name.startswith("deep")]
    assert model(encoded(space, 3)).shape == (3,)


def test_a_normalized_tower_layer_is_blind_to_the_scale_of_what_comes_in():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(64, 3)).astype(np.float32)
    inputs = keras.Input((3,))
    tower = keras.Model(inputs, mlp(inputs, [4], 0.0, Seeds(1), batch_norm=True))
    kernel, bias = tower.layers[1].get_weights()
    linear = x @ kernel + bias
    expected = np.maximum((linear - linear.mean(0)) / linear.std(0), 0)
    np.testing.assert_allclose(tower(x, training=True), expected, atol=1e-3)
    np.testing.assert_allclose(tower(0.05 * x, training=True), expected, atol=1e-1)
    plain = keras.Model(inputs, mlp(inputs, [4], 0.0, Seeds(1)))
    np.testing.assert_allclose(plain(x), np.maximum(linear, 0), atol=1e-5)


def test_the_mean_of_a_list_counts_only_its_items():
    vectors = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    rows = np.array([[7, 0, 9], [0, 0, 0]], np.int32)
    np.testing.assert_array_equal(MaskedMean()(vectors, rows).numpy(), [[2.0, 3.0], [0.0, 0.0]])


def test_numeric_vectors_scale_with_the_value():
    layer = NumericVectors(3, 0.1, 0, name="n")
    out = layer(np.array([[2.0, -1.0]], np.float32)).numpy()
    v = layer.vectors.numpy()
    np.testing.assert_allclose(out[0], [2 * v[0], -v[1]], rtol=1e-6)


def test_the_position_bias_adds_the_number_of_the_position():
    layer = PositionBias(3, "p")
    layer(np.zeros(1, np.float32), np.zeros(1, np.int32))
    layer.shift.assign([0.5, -1.0, 2.0])
    out = layer(np.array([1.0, 1.0], np.float32), np.array([2, 1], np.int32))
    np.testing.assert_allclose(out.numpy(), [3.0, 0.0])


def test_the_table_starts_with_the_deviation_asked_for():
    layer = FusedEmbedding(5000, 4, deviation=0.02, seed=1, name="t")
    layer(np.array([1], np.int32))
    table = layer.table.numpy()
    assert not table[0].any()
    assert table[1:].std() == pytest.approx(0.02, rel=0.05)
