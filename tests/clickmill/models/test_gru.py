"""DIEN's two GRUs and its auxiliary loss against step-by-step numpy."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clickmill.models import build
from clickmill.models.gru import InterestEvolution, InterestExtractor, auxiliary_loss
from clickmill.models.tower import Seeds

WIDTH = 3


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _reference_states(layer, sequence: np.ndarray, attention: np.ndarray | None = None) -> list[np.ndarray]:
    """Eqs. 2 to 5 with the paper's column vectors, one history without padding; AUGRU when there is an attention."""
    k = WIDTH
    w, u, b = (
        [a[..., i * k : (i + 1) * k].T.astype(float) for i in range(3)]
        for a in (layer.kernel.numpy(), layer.recurrent.numpy(), layer.bias.numpy())
    )
    h, states = np.zeros(k), []
    for t, item in enumerate(sequence.astype(float)):
        update = _sigmoid(w[0] @ item + u[0] @ h + b[0])
        reset = _sigmoid(w[1] @ item + u[1] @ h + b[1])
        new = np.tanh(w[2] @ item + reset * (u[2] @ h) + b[2])
        if attention is not None:
            update = attention[t] * update
        h = (1 - update) * h + update * new
        states.append(h)
    return states


def _stirred(layer):
    rng = np.random.default_rng(5)
    for variable in layer.trainable_variables:
        variable.assign(rng.normal(0, 0.9, variable.shape))
    return layer


def _extractor(weight: float = 0.0) -> InterestExtractor:
    layer = InterestExtractor(weight, Seeds(0), width=WIDTH, name="interests")
    layer(np.zeros((1, 3, WIDTH), np.float32), np.ones((1, 3), np.int32))
    return _stirred(layer)


def _evolution() -> InterestEvolution:
    layer = InterestEvolution(WIDTH, Seeds(0), name="evolution")
    zeros = np.zeros((1, 3, WIDTH), np.float32)
    layer(zeros, zeros[:, 0], np.ones((1, 3), np.int32))
    return _stirred(layer)


def _histories(seed: int, length: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One history of every length from 0 to `length`; where nothing is, lies noise."""
    rng = np.random.default_rng(seed)
    there = np.arange(length) < np.arange(length + 1)[:, None]
    vectors = rng.normal(size=(length + 1, length, WIDTH)).astype(np.float32)
    candidate = rng.normal(size=(length + 1, WIDTH)).astype(np.float32)
    return vectors, candidate, np.where(there, rng.integers(1, 9, there.shape), 0).astype(np.int32)


@given(seed=st.integers(0, 1000))
@settings(max_examples=10)
def test_interests_are_the_states_of_a_gru_step_by_step(seed):
    layer = _extractor()
    items, _, rows = _histories(seed)
    got = layer(items, rows).numpy()
    for r in range(6):
        expected = _reference_states(layer, items[r, :r])
        np.testing.assert_allclose(got[r, :r], np.reshape(expected, (r, WIDTH)), rtol=1e-4, atol=1e-5)
        # beyond the end the last state stays
        last = expected[-1] if expected else np.zeros(WIDTH)
        np.testing.assert_allclose(got[r, r:], np.tile(last, (5 - r, 1)), rtol=1e-4, atol=1e-5)


@given(seed=st.integers(0, 1000))
@settings(max_examples=10)
def test_the_evolution_is_an_augru_step_by_step(seed):
    layer = _evolution()
    states, candidate, rows = _histories(seed)
    got = layer(states, candidate, rows).numpy()
    assert not got[0].any()  # an empty history leads nowhere
    for r in range(1, 6):
        scores = np.exp([h @ layer.relevance.numpy() @ candidate[r] for h in states[r, :r]])
        expected = _reference_states(layer, states[r, :r], scores / scores.sum())[-1]
        np.testing.assert_allclose(got[r], expected, rtol=1e-4, atol=1e-5)


@given(more=st.integers(1, 6), seed=st.integers(0, 1000))
@settings(max_examples=10)
def test_padding_on_the_right_changes_nothing(more, seed):
    extractor, evolution = _extractor(), _evolution()
    items, candidate, rows = _histories(seed)
    noise = np.random.default_rng(seed).normal(size=(6, more, WIDTH)).astype(np.float32)
    padded, padded_rows = np.concatenate([items, noise], axis=1), np.pad(rows, ((0, 0), (0, more)))
    states, padded_states = extractor(items, rows), extractor(padded, padded_rows)
    np.testing.assert_allclose(padded_states[:, :5], states, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        evolution(padded_states, candidate, padded_rows),
        evolution(states, candidate, rows),
        rtol=1e-5,
        atol=1e-6,
    )


def test_the_auxiliary_loss_is_eq_6_as_a_mean():
    rng = np.random.default_rng(0)
    states, following, others = rng.normal(size=(3, 4, 2, WIDTH)).astype(np.float32)
    valid = np.array([[1, 1], [1, 0], [0, 0], [0, 1]], bool)
    terms = [
        -np.log(_sigmoid(states[i, t] @ following[i, t])) - np.log(1 - _sigmoid(states[i, t] @ others[i, t]))
        for i in range(4)
        for t in range(2)
        if valid[i, t]
    ]
    assert float(auxiliary_loss(states, following, others, valid)) == pytest.approx(np.mean(terms), rel=1e-5)
    assert float(auxiliary_loss(states, following, others, np.zeros_like(valid))) == 0.0


def test_other_clicks_come_from_the_batch_and_are_never_the_next_item():
    layer = _extractor()
    _, _, rows = _histories(3)
    drawn = set()
    for _ in range(40):
        others, valid = (x.numpy() for x in layer.other_clicks(rows))
        items = rows[others[..., 0], others[..., 1]]
        assert (items[valid] > 0).all()
        assert (items[valid] != rows[:, 1:][valid]).all()
        pairs = (rows[:, :-1] > 0) & (rows[:, 1:] > 0)
        assert not valid[~pairs].any()
        # where the draw is another click, the pair counts
        assert valid[pairs & (items != rows[:, 1:])].all()
        drawn |= set(items[valid].tolist())
    assert drawn == set(rows[rows > 0].tolist())


def test_a_batch_of_empty_histories_has_no_auxiliary_loss():
    layer = _extractor(1.0)
    layer(np.zeros((3, 4, WIDTH), np.float32), np.zeros((3, 4), np.int32), training=True)
    assert [float(loss) for loss in layer.losses] == [0.0]


def test_the_auxiliary_loss_is_there_while_training_only(space, encoded):
    batch = encoded(space, 20)
    model = build("dien", space, {"auxiliary_weight": 0.5})
    model(batch, training=True)
    # at the start states and vectors are tiny, and both logarithms are ln 2
    assert [float(loss) for loss in model.losses] == pytest.approx([0.5 * 2 * np.log(2)], rel=1e-2)
    model(batch, training=False)
    assert model.losses == []
    without = build("dien", space, {"auxiliary_weight": 0.0})
    without(batch, training=True)
    assert without.losses == []


def test_states_learn_to_tell_the_next_item():
    """Histories that go round in circles: after training on the auxiliary loss alone, the next item wins almost always."""
    rng = np.random.default_rng(0)
    rows = (1 + (rng.integers(0, 6, (64, 1)) + np.arange(5)) % 6).astype(np.int32)
    table = keras.Variable(rng.normal(0, 0.5, (7, 4)).astype(np.float32))
    layer = InterestExtractor(1.0, Seeds(0), width=4, name="interests")
    layer(np.zeros((1, 5, 4), np.float32), np.ones((1, 5), np.int32))
    adam = keras.optimizers.Adam(0.03)
    variables = [*layer.trainable_variables, table]

    import tensorflow as tf

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            layer(tf.gather(table.value, rows), rows, training=True)
            loss = layer.losses[0]
        adam.apply(tape.gradient(loss, [v.value for v in variables]), variables)

    for _ in range(150):
        step()
    states = layer(tf.gather(table.value, rows), rows).numpy()
    guess = 1 + np.argmax(states[:, :-1] @ table.numpy()[1:].T, axis=2)
    assert (guess == rows[:, 1:]).mean() > 0.95
