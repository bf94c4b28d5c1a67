"""Cross layers, their mixture and DLRM's products against their formulas in numpy and plain loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clickmill.errors import UsageError
from clickmill.models import build, configure
from clickmill.models.cross import VectorCross
from clickmill.models.cross_mixture import CrossMixture
from clickmill.models.interaction import DotInteraction
from clickmill.models.tower import Seeds


def _stirred(layer, rng: np.random.Generator):
    for variable in layer.trainable_variables:
        variable.assign(rng.normal(0, 0.7, variable.shape))
    return layer


@given(rows=st.integers(1, 4), width=st.integers(1, 6), seed=st.integers(0, 1000))
@settings(max_examples=20)
def test_the_cross_layer_of_dcn_is_eq_3_of_its_paper(rows, width, seed):
    rng = np.random.default_rng(seed)
    x0, x = rng.normal(size=(2, rows, width)).astype(np.float32)
    layer = VectorCross(Seeds(0), name="cross")
    layer(x0, x)
    _stirred(layer, rng)
    w, b = layer.kernel.numpy().astype(float), layer.bias.numpy()
    # row by row as it stands there: the outer product of x_0 and x_l, times w_l
    expected = [(np.outer(x0[i], x[i]) @ w)[:, 0] + b + x[i] for i in range(rows)]
    np.testing.assert_allclose(layer(x0, x), expected, rtol=1e-4, atol=1e-5)


@given(experts=st.integers(1, 3), rank=st.integers(1, 3), width=st.integers(1, 5), seed=st.integers(0, 1000))
@settings(max_examples=20)
def test_the_mixture_of_crosses_is_eqs_3_and_4_of_dcn_v2(experts, rank, width, seed):
    rng = np.random.default_rng(seed)
    x0, x = rng.normal(size=(2, 3, width)).astype(np.float32)
    layer = CrossMixture(experts, rank, Seeds(0), name="cross")
    layer(x0, x)
    _stirred(layer, rng)
    v = layer.v.numpy().reshape(width, experts, rank).astype(float)
    u = layer.u.numpy().reshape(experts, rank, width).astype(float)
    c, gate, b = layer.c.numpy().astype(float), layer.gate.numpy().astype(float), layer.bias.numpy()
    expected = np.array(x, float)
    for row in range(3):
        scores = np.exp(x[row] @ gate)
        for i in range(experts):
            low = np.tanh(np.tanh(v[:, i].T @ x[row]) @ c[i])
            expected[row] += scores[i] / scores.sum() * (x0[row] * (u[i].T @ low + b))
    np.testing.assert_allclose(layer(x0, x), expected, rtol=1e-4, atol=1e-5)


def test_experts_without_a_rank_are_refused():
    with pytest.raises(UsageError, match="experts=3 needs a rank: the experts are low-rank crosses"):
        configure("dcn_v2", {"experts": 3})


def test_experts_take_the_place_of_the_cross_layers(space, encoded):
    model = build("dcn_v2", space, {"rank": 2, "experts": 3, "cross_layers": 2})
    assert sum(isinstance(layer, CrossMixture) for layer in model.layers) == 2
    assert np.isfinite(model(encoded(space, 4))).all()


@given(fields=st.integers(2, 6), width=st.integers(1, 5), seed=st.integers(0, 1000))
@settings(max_examples=20)
def test_the_interactions_of_dlrm_are_the_products_of_all_pairs(fields, width, seed):
    z = np.random.default_rng(seed).normal(size=(3, fields, width)).astype(np.float32)
    expected = [[float(row[i] @ row[j]) for i in range(fields) for j in range(i)] for row in z]
    layer = DotInteraction()
    np.testing.assert_allclose(layer(z), expected, rtol=1e-4, atol=1e-5)
    assert layer.compute_output_shape(z.shape) == (3, fields * (fields - 1) // 2)


def test_dlrm_is_its_page_in_numpy(space, encoded):
    """Row by row from the weights of a built model: bottom, pairs, top, bias, position."""
    model = build("dlrm", space, {"dim": 3, "bottom_units": [4], "units": [5]})
    _stirred(model, np.random.default_rng(0))
    batch = encoded(space, 7)
    table = model.get_layer("embedding").table.numpy()
    table[0] = 0

    def dense(name: str, x: np.ndarray) -> np.ndarray:
        layer = model.get_layer(name)
        return np.maximum(x @ layer.kernel.numpy() + layer.bias.numpy(), 0)

    expected = []
    for r in range(7):
        bottom = dense("bottom_1", dense("bottom_0", batch["numerics"][r]))
        history = [table[i] for i in batch["list/history"][r] if i] or [np.zeros(3)]
        fields = [bottom, *table[batch["slots"][r]], np.mean(history, axis=0)]
        pairs = [fields[i] @ fields[j] for i in range(len(fields)) for j in range(i)]
        top = dense("deep_0", np.concatenate([bottom, pairs]))
        logit = top @ model.get_layer("logit").kernel.numpy()[:, 0] + model.get_layer("bias").value.numpy()
        expected.append(logit + model.get_layer("position_bias").shift.numpy()[batch["position"][r]])
    np.testing.assert_allclose(model(batch, training=False), expected, rtol=1e-4, atol=1e-4)


def test_dlrm_knows_a_lone_field_that_has_no_partner(any_space, encoded):
    """Without numerics the vectors themselves reach the top: one list alone still moves the logit."""
    model = _stirred(build("dlrm", any_space), np.random.default_rng(0))
    assert len(np.unique(model(encoded(any_space, 9), training=False))) > 4
