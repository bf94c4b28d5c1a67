"""One user, many candidates: a trained model rearranged so that what depends on the user alone is computed once.

The request form of a model shares its layers and weights. Every layer whose inputs all have one row runs on one row; where a layer
meets both sides, the one row is repeated, unless the layer itself knows how to meet many candidates (`broadcasts = True`). So, once
per request instead of once per candidate:

    all models    look-up of every list of the user, mean of a list; the user's part of a tower's first layer (see `apart`)
    DCN-v2        and of its first cross layer, and of its last
    DIN           and the history's part of the attention unit's first layer
    DIEN          and the GRU that extracts interests, and the input side of the GRU that evolves them

Slots and numerics meet as rows and numbers, before their look-up: reading one row n times costs what copying its vector would.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from clickmill.features import FeatureSpace
from clickmill.features.sides import Sides, numeric_sides, shared_fields, slot_sides
from clickmill.models import apart
from clickmill.models.inputs import functional, keys_unlike_names


class Repeated(keras.layers.Layer):
    """One row as often as `like` has rows: (1, ...) to (n, ...)."""

    def call(self, row: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
        return tf.repeat(row, tf.shape(like)[0], axis=0)

    def compute_output_spec(self, row: keras.KerasTensor, like: keras.KerasTensor) -> keras.KerasTensor:
        return keras.KerasTensor((like.shape[0], *row.shape[1:]), row.dtype)


class Columns(keras.layers.Layer):
    """Columns of both sides in the order of the space: shared (n, k) and candidate (n, m) to (n, k + m)."""

    def __init__(self, sides: Sides, *, name: str) -> None:
        super().__init__(name=name)
        self._order = np.argsort([*sides.shared, *sides.candidate]).astype(np.int32)

    def call(self, shared: tf.Tensor, candidate: tf.Tensor) -> tf.Tensor:
        return tf.gather(tf.concat([shared, candidate], axis=1), self._order, axis=1)

    def compute_output_spec(
        self, shared: keras.KerasTensor, candidate: keras.KerasTensor
    ) -> keras.KerasTensor:
        return keras.KerasTensor((candidate.shape[0], len(self._order)), candidate.dtype)


def request_inputs(space: FeatureSpace) -> dict[str, keras.KerasTensor]:
    """Symbolic inputs, the keys and shapes of `Encoder.request`."""
    inputs = {}
    for kind, dtype, sides in (
        ("slots", "int32", slot_sides(space)),
        ("numerics", "float32", numeric_sides(space)),
    ):
        for side, places, rows in (("shared", sides.shared, 1), ("candidate", sides.candidate, None)):
            if places:
                inputs[f"{kind}/{side}"] = keras.Input(
                    batch_shape=(rows, len(places)), dtype=dtype, name=f"{kind}_{side}"
                )
    shared = shared_fields(space.contract)
    for i, slot in enumerate(space.lists):
        shape = (1 if slot.name in shared else None, slot.max_length)
        inputs[f"list/{slot.name}"] = keras.Input(batch_shape=shape, dtype="int32", name=f"list_{i}")
    if space.positions:
        inputs["position"] = keras.Input((), dtype="int32", name="position")
    return inputs


def request_form(model: keras.Model, space: FeatureSpace) -> keras.Model:
    """The model over `Encoder.request(raw)` of one request: output (n,) float32 logits of its n candidates, in their order.

    They equal those of the model on the shared fields repeated n times. Layers and weights are the model's own, so a later change of
    its weights shows here too. For inference only. Where a contract has no candidate's field at all, the output is (1,).
    """
    inputs = request_inputs(space)
    last: list[Any] = []

    sides = apart.Sides()

    def call(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        def ordinary(*args: Any) -> Any:
            return layer(*(args if getattr(layer, "broadcasts", False) else _met(args)), **kwargs)

        last[:] = [sides.call(layer, args, ordinary)]
        return last[0]

    joined = _joined(inputs, space, sides)
    with keys_unlike_names():
        keras.models.clone_model(
            model,
            {key: joined[key] for key in model.input},
            clone_function=lambda layer: layer,
            call_function=call,
        )
    return functional(inputs, last[0], f"{model.name}_request")


def _joined(
    inputs: Mapping[str, keras.KerasTensor], space: FeatureSpace, known: apart.Sides
) -> dict[str, keras.KerasTensor]:
    """The inputs under the keys of the ordinary form; what they are apart becomes `known`."""
    joined = {key: value for key, value in inputs.items() if key.startswith("list/") or key == "position"}
    for kind, sides in (("slots", slot_sides(space)), ("numerics", numeric_sides(space))):
        parts = [inputs[key] for key in (f"{kind}/shared", f"{kind}/candidate") if key in inputs]
        if len(parts) == 2:
            shared, candidate = _met(tuple(parts))
            whole = joined[kind] = Columns(sides, name=f"{kind}_joined")(shared, candidate)
            # taken out of the whole again: keras clones a model from its inputs on, and nothing may come from before them
            once, each = apart.Side(sides.shared, once=True), apart.Side(sides.candidate, once=False)
            known.note(
                whole,
                apart.Apart(once(whole), each(whole), np.array(sides.shared), np.array(sides.candidate)),
            )
        elif parts:
            joined[kind] = parts[0]
    return joined


def _met(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Arguments of a layer (tensors, or lists of them) with a row per candidate each, if any of them has."""
    many = next((tensor for tensor in keras.tree.flatten(args) if tensor.shape[0] is None), None)
    if many is None:
        return args
    return keras.tree.map_structure(
        lambda tensor: tensor if tensor.shape[0] is None else Repeated()(tensor, many), args
    )
