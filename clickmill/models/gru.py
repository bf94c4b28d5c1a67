"""Gated recurrent units over histories padded on the right: interests from items, and their evolution towards a candidate.

    u_t = sigmoid(W_u i_t + U_u h_{t-1} + b_u)                      (eq. 2)
    r_t = sigmoid(W_r i_t + U_r h_{t-1} + b_r)                      (eq. 3)
    n_t = tanh(W_n i_t + r_t * U_n h_{t-1} + b_n)                   (eq. 4)
    h_t = (1 - u_t) * h_{t-1} + u_t * n_t,   h_0 = 0                (eq. 5)

Zhou et al., "Deep Interest Evolution Network", AAAI 2019, arXiv:1809.03672. AUGRU, the second layer's, scales u_t by the attention a_t.
Where an item is not there the state stays as it is, so padding changes nothing. Time is unrolled in the graph: it grows with the
list's `max_length`, runs without the cost of a loop per step, and needs no loop in ONNX.
"""

from __future__ import annotations

import keras
import tensorflow as tf

from clickmill.models.attention import masked_softmax
from clickmill.models.replicas import ReplicaSeeds
from clickmill.models.tower import Seeds


def gru_step(projected: tf.Tensor, state: tf.Tensor, recurrent: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """Next state (b, k) from W i_t + b, (b, 3 k) in the order u, r, n, the state (b, k), U (k, 3 k) and the share (b, 1) of the
    update that happens: 1, in AUGRU a_t, and 0 where no item is, which leaves the state exactly as it is."""
    k = state.shape[-1]
    from_state = tf.matmul(state, recurrent)
    gates = tf.sigmoid(projected[:, : 2 * k] + from_state[:, : 2 * k])
    new = tf.tanh(projected[:, 2 * k :] + gates[:, k:] * from_state[:, 2 * k :])
    return state + share * gates[:, :k] * (new - state)


def auxiliary_loss(states: tf.Tensor, following: tf.Tensor, others: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
    """How badly a state tells the next click from another item, a scalar; states, following, others (b, T, d), valid bool (b, T).

        - mean over valid (i, t) of [ ln s(<h_t, e_{t+1}>) + ln(1 - s(<h_t, e'_{t+1}>)) ]          (eq. 6, s = sigmoid)

    The paper sums over t; the mean, which its authors' code uses, keeps the weight of this loss apart from the length of histories.
    """
    right = tf.nn.softplus(-tf.reduce_sum(states * following, axis=2))
    wrong = tf.nn.softplus(tf.reduce_sum(states * others, axis=2))
    weight = tf.cast(valid, states.dtype)
    return tf.math.divide_no_nan(tf.reduce_sum((right + wrong) * weight), tf.reduce_sum(weight))


class _Recurrent(keras.layers.Layer):
    """The weights of a GRU of width k: W (d, 3 k), U (k, 3 k), b (3 k)."""

    def __init__(self, width: int, seeds: Seeds, *, name: str) -> None:
        super().__init__(name=name)
        self.width = width
        self._initial = [keras.initializers.GlorotUniform(seeds()) for _ in range(3)]

    def _build_gates(self, inputs: int) -> None:
        k = self.width
        self.kernel = self.add_weight(shape=(inputs, 3 * k), initializer=self._initial[0], name="kernel")
        self.recurrent = self.add_weight(shape=(k, 3 * k), initializer=self._initial[1], name="recurrent")
        self.bias = self.add_weight(shape=(3 * k,), initializer="zeros", name="bias")

    def _states(self, sequence: tf.Tensor, share: tf.Tensor) -> list[tf.Tensor]:
        """The state (b, k) after each place; sequence (b, L, d) or (1, L, d), share float32 (b, L)."""
        projected = tf.unstack(tf.tensordot(sequence, self.kernel, 1) + self.bias, axis=1)
        recurrent = tf.convert_to_tensor(self.recurrent)
        state, states = tf.zeros([tf.shape(share)[0], self.width]), []
        for now, part in zip(projected, tf.split(share, len(projected), axis=1), strict=True):
            state = gru_step(now, state, recurrent, part)
            states.append(state)
        return states


class InterestExtractor(_Recurrent):
    """Interests behind a history, a GRU's states: items (b, L, d), rows int32 (b, L) to (b, L, d) (section "Interest Extractor").

    While training it adds `auxiliary_weight` times the auxiliary loss to the model's losses: a state should tell the item clicked next
    from another. The other is a click of another history of the batch, so items are drawn as often as they are clicked; where it is
    the next item itself, the pair is left out.
    """

    def __init__(self, auxiliary_weight: float, seeds: Seeds, *, width: int, name: str) -> None:
        super().__init__(width, seeds, name=name)
        self.auxiliary_weight = auxiliary_weight
        self.draws = ReplicaSeeds(seeds())

    def build(self, items_shape: tuple[int | None, int, int], rows_shape: object = None) -> None:
        self._build_gates(items_shape[2])

    def call(self, items: tf.Tensor, rows: tf.Tensor, training: bool = False) -> tf.Tensor:
        there = tf.cast(tf.not_equal(rows, 0), items.dtype)
        states = tf.stack(self._states(items, there), axis=1)
        if training and self.auxiliary_weight and rows.shape[1] > 1:
            others, valid = self.other_clicks(rows)
            loss = auxiliary_loss(states[:, :-1], items[:, 1:], tf.gather_nd(items, others), valid)
            self.add_loss(self.auxiliary_weight * loss)
        return states

    def other_clicks(self, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """For each place t + 1 of rows (b, L) a random click of the batch, as its (row, place), int64 (b, L - 1, 2), and whether the
        pair counts: there are clicks at t and t + 1, and the other is another item."""
        there = tf.not_equal(rows, 0)
        clicks = tf.concat([tf.where(there), [[0, 0]]], axis=0)  # never empty
        seed = tf.bitcast(tf.cast(self.draws.next(), tf.uint32), tf.int32)
        shape = tf.stack([tf.shape(rows)[0], tf.shape(rows)[1] - 1])
        most = tf.maximum(tf.shape(clicks)[0] - 1, 1)
        others = tf.gather(clicks, tf.random.stateless_uniform(shape, seed, 0, most, tf.int32))
        drawn = tf.gather_nd(rows, others)
        valid = there[:, :-1] & there[:, 1:] & tf.not_equal(drawn, rows[:, 1:]) & tf.not_equal(drawn, 0)
        return others, valid

    def compute_output_shape(
        self, items_shape: tuple[int | None, int, int], rows_shape: object = None
    ) -> tuple[int | None, int, int]:
        return (items_shape[0], items_shape[1], self.width)


class InterestEvolution(_Recurrent):
    """The interest that leads to a candidate: states (b, L, k), candidate (b, d), rows int32 (b, L) to (b, k), the last state.

        a_t = softmax over t of  h_t' W c                                       (eq. 8)
        u'_t = a_t * u_t,   h'_t = (1 - u'_t) * h'_{t-1} + u'_t * n_t           (AUGRU)

    States and rows may be (1, L, ...) for candidates (n, d): one history, extracted once, evolves towards each.
    """

    broadcasts = True

    def build(
        self,
        states_shape: tuple[int | None, int, int],
        candidate_shape: tuple[int | None, int],
        rows_shape: object = None,
    ) -> None:
        self._build_gates(states_shape[2])
        self.relevance = self.add_weight(
            shape=(states_shape[2], candidate_shape[1]), initializer=self._initial[2], name="relevance"
        )

    def call(self, states: tf.Tensor, candidate: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        towards = tf.matmul(candidate, self.relevance, transpose_b=True)
        scores = tf.matmul(states, towards[:, :, None])[:, :, 0]
        return self._states(states, masked_softmax(scores, tf.not_equal(rows, 0)))[-1]

    def compute_output_shape(
        self,
        states_shape: tuple[int | None, int, int],
        candidate_shape: tuple[int | None, int],
        rows_shape: object = None,
    ) -> tuple[int | None, int]:
        return (candidate_shape[0], self.width)
