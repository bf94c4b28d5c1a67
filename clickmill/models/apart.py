"""The two sides of a request kept apart up to the first matrix product, and through the last: what the user's columns add is computed once.

With x_0 = [s ; c], s the columns that all candidates share (1, a) and c those of each candidate (n, b):

    W x_0                      = W_s s + W_c c                                              first layer of a tower, first cross
    w'(x_0 * (W x + b) + x)    = w_c'(c * (W x + b)_c) + (W_s'(w_s * s) + w)'x + w_s'(s * b_s)      last cross and its logit

Only what holds c or x is computed for each candidate. The same numbers as the model's, but for the order of additions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from clickmill.models.cross import Cross
from clickmill.models.embedding import FusedEmbedding
from clickmill.models.precision import product
from clickmill.models.tower import Dense


class Apart(NamedTuple):
    """A tensor (n, k, ...) as its columns of one row (1, a, ...) and those of n rows (n, b, ...), with the places of each among the k."""

    shared: keras.KerasTensor
    candidate: keras.KerasTensor
    shared_at: np.ndarray
    candidate_at: np.ndarray


class Side(keras.layers.Layer):
    """Some columns of a tensor: (n, k) to (n, len(at)), or to (1, len(at)) where they are the same in every row."""

    def __init__(self, at: Sequence[int], *, once: bool) -> None:
        super().__init__()
        self._at, self._once = list(at), once

    def call(self, whole: tf.Tensor) -> tf.Tensor:
        return tf.gather(whole[:1] if self._once else whole, self._at, axis=1)

    def compute_output_spec(self, whole: keras.KerasTensor) -> keras.KerasTensor:
        return keras.KerasTensor((1 if self._once else whole.shape[0], len(self._at)), whole.dtype)


class SplitDense(keras.layers.Layer):
    """A Dense layer on columns that are apart: (1, a) and (n, b) to (n, units). Its weights are that layer's."""

    def __init__(self, dense: Dense, shared_at: np.ndarray, candidate_at: np.ndarray) -> None:
        super().__init__(name=f"{dense.name}_apart")
        self._dense, self._at = dense, (shared_at.tolist(), candidate_at.tolist())

    def call(self, shared: tf.Tensor, candidate: tf.Tensor) -> tf.Tensor:
        dense = self._dense
        return dense.activation(_split_product(shared, candidate, dense.kernel, self._at) + dense.bias)

    def compute_output_spec(
        self, shared: keras.KerasTensor, candidate: keras.KerasTensor
    ) -> keras.KerasTensor:
        return keras.KerasTensor((candidate.shape[0], self._dense.units), candidate.dtype)


class FirstCross(keras.layers.Layer):
    """x_0 * (W x_0 + b) + x_0 with x_0 given whole and apart: (n, d), (1, a) and (n, b) to (n, d)."""

    def __init__(self, cross: Cross, shared_at: np.ndarray, candidate_at: np.ndarray) -> None:
        super().__init__(name=f"{cross.name}_apart")
        self._cross, self._at = cross, (shared_at.tolist(), candidate_at.tolist())

    def call(self, x0: tf.Tensor, shared: tf.Tensor, candidate: tf.Tensor) -> tf.Tensor:
        cross = self._cross
        wx = _split_product(shared, candidate, cross.kernel if cross.rank is None else cross.v, self._at)
        return x0 * ((wx if cross.rank is None else product(wx, cross.u)) + cross.bias) + x0

    def compute_output_spec(
        self, x0: keras.KerasTensor, shared: keras.KerasTensor, candidate: keras.KerasTensor
    ) -> keras.KerasTensor:
        return keras.KerasTensor(x0.shape, x0.dtype)


class LastCross(keras.layers.Layer):
    """w'(x_0 * (W x + b) + x) with x_0 apart: (1, a), (n, b) and x (n, d) to (n, 1). `logit` is the Dense layer that holds w."""

    def __init__(
        self, cross: Cross, logit: keras.layers.Dense, shared_at: np.ndarray, candidate_at: np.ndarray
    ) -> None:
        super().__init__(name=f"{cross.name}_to_logit")
        self._cross, self._logit = cross, logit
        self._at = shared_at.tolist(), candidate_at.tolist()

    def call(self, shared: tf.Tensor, candidate: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        cross, w = self._cross, self._logit.kernel
        of_shared, of_candidate = (tf.gather(w, at) for at in self._at)
        last = cross.kernel if cross.rank is None else cross.u
        last_shared, last_candidate = (tf.gather(last, at, axis=1) for at in self._at)
        bias_shared, bias_candidate = (tf.gather(cross.bias, at) for at in self._at)
        direction = tf.matmul(last_shared, of_shared * tf.transpose(shared))
        if cross.rank is not None:
            direction = tf.matmul(cross.v, direction)
        own = product(x if cross.rank is None else product(x, cross.v), last_candidate) + bias_candidate
        once = tf.matmul(shared * bias_shared, of_shared)
        return tf.matmul(candidate * own, of_candidate) + tf.matmul(x, direction + w) + once

    def compute_output_spec(
        self, shared: keras.KerasTensor, candidate: keras.KerasTensor, x: keras.KerasTensor
    ) -> keras.KerasTensor:
        return keras.KerasTensor((candidate.shape[0], 1), candidate.dtype)


def _split_product(
    shared: tf.Tensor, candidate: tf.Tensor, kernel: Any, at: tuple[list[int], list[int]]
) -> tf.Tensor:
    of_shared, of_candidate = (tf.gather(kernel, places) for places in at)
    return product(shared, of_shared) + product(candidate, of_candidate)


Call = Callable[..., Any]


class Sides:
    """Follows the tensors of a request through the layers of a model, and knows which of them it has apart."""

    def __init__(self) -> None:
        # tensors are kept beside what is known of them, so that no other one gets their id
        self._apart: dict[int, tuple[keras.KerasTensor, Apart]] = {}
        self._crossed: dict[int, tuple[keras.KerasTensor, Cross, Apart, keras.KerasTensor]] = {}

    def note(self, whole: keras.KerasTensor, apart: Apart) -> None:
        """`whole` is what `apart` is apart."""
        self._apart[id(whole)] = whole, apart

    def of(self, whole: Any) -> Apart | None:
        """A tensor apart, None where that is not known."""
        found = self._apart.get(id(whole))
        return None if found is None else found[1]

    def call(self, layer: keras.layers.Layer, args: tuple[Any, ...], ordinary: Call) -> Any:
        """The layer's output, by `ordinary(*args)` or a form of it that computes what is shared once."""
        x: Any = args[0] if args else None
        apart = self.of(x)
        if isinstance(layer, Dense) and apart is not None:
            return SplitDense(layer, *apart[2:])(*apart[:2])
        if isinstance(layer, Cross) and (apart := self.of(args[0])) is not None:
            return self._cross(layer, apart, args, ordinary)
        if isinstance(layer, keras.layers.Dense) and id(x) in self._crossed and not layer.use_bias:
            _, cross, of_x0, before = self._crossed[id(x)]
            return LastCross(cross, layer, *of_x0[2:])(*of_x0[:2], before)
        whole = ordinary(*args)
        if apart is not None and isinstance(layer, FusedEmbedding):
            self.note(whole, apart._replace(shared=layer(apart.shared), candidate=layer(apart.candidate)))
        elif apart is not None and isinstance(layer, keras.layers.Flatten):
            each = int(np.prod(x.shape[2:]))
            self.note(
                whole,
                Apart(
                    layer(apart.shared),
                    layer(apart.candidate),
                    *(_spread(at, each) for at in (apart.shared_at, apart.candidate_at)),
                ),
            )
        elif isinstance(layer, keras.layers.Concatenate) and layer.axis in (1, whole.ndim - 1, -1):
            self._concatenate(x, whole, layer.axis)
        return whole

    def _cross(self, layer: Cross, apart: Apart, args: tuple[Any, ...], ordinary: Call) -> keras.KerasTensor:
        x0, x = args
        crossed = FirstCross(layer, *apart[2:])(x0, *apart[:2]) if x is x0 else ordinary(x0, x)
        self._crossed[id(crossed)] = crossed, layer, apart, x
        return crossed

    def _concatenate(self, parts: Sequence[keras.KerasTensor], whole: keras.KerasTensor, axis: int) -> None:
        """Side by side in axis 1: each part apart, of one row, or of n rows."""
        if whole.ndim > 2 and axis != 1:
            return
        shared: list[keras.KerasTensor] = []
        candidate: list[keras.KerasTensor] = []
        shared_at: list[np.ndarray] = []
        candidate_at: list[np.ndarray] = []
        begin = 0
        for part in parts:
            places = np.arange(begin, begin + part.shape[1])
            if (apart := self.of(part)) is not None:
                shared.append(apart.shared)
                candidate.append(apart.candidate)
                shared_at.append(places[apart.shared_at])
                candidate_at.append(places[apart.candidate_at])
            elif part.shape[0] == 1:
                shared.append(part)
                shared_at.append(places)
            else:
                candidate.append(part)
                candidate_at.append(places)
            begin += part.shape[1]
        if shared and candidate:
            at = np.concatenate(shared_at), np.concatenate(candidate_at)
            self.note(whole, Apart(_beside(shared), _beside(candidate), *at))


def _beside(parts: list[keras.KerasTensor]) -> keras.KerasTensor:
    return parts[0] if len(parts) == 1 else keras.layers.Concatenate(axis=1)(parts)


def _spread(at: np.ndarray, each: int) -> np.ndarray:
    return (at[:, None] * each + np.arange(each)).ravel()
