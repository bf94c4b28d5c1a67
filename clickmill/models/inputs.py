"""Model inputs as the encoder gives them, and the flat vector of the deep models."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import keras

from clickmill.features import FeatureSpace


def model_inputs(space: FeatureSpace) -> dict[str, keras.KerasTensor]:
    """Symbolic inputs, the keys and shapes of `clickmill.features.Encoder`."""
    inputs = {}
    if space.slots:
        inputs["slots"] = keras.Input((len(space.slots),), dtype="int32", name="slots")
    if space.numerics:
        inputs["numerics"] = keras.Input((len(space.numerics),), dtype="float32", name="numerics")
    for i, slot in enumerate(space.lists):
        # Input names are layer names, which may not hold a slash; the key of the mapping may.
        inputs[f"list/{slot.name}"] = keras.Input((slot.max_length,), dtype="int32", name=f"list_{i}")
    if space.positions:
        inputs["position"] = keras.Input((), dtype="int32", name="position")
    return inputs


def functional(inputs: Mapping[str, keras.KerasTensor], logit: keras.KerasTensor, name: str) -> keras.Model:
    """The model from inputs to logit; calls match inputs by key."""
    with keys_unlike_names():
        return keras.Model(dict(inputs), logit, name=name)


@contextmanager
def keys_unlike_names() -> Iterator[None]:
    """Keras wants each key to equal its input's name, but refuses the slash of `list/<name>` in names."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="When providing `inputs` as a dict")
        yield


def flat(
    vectors: keras.KerasTensor | None, inputs: Mapping[str, keras.KerasTensor], *, name: str
) -> keras.KerasTensor:
    """All field vectors (b, fields, d) side by side and the numerics after them: (b, fields * d + n)."""
    parts = [] if vectors is None else [keras.layers.Flatten(name=f"{name}_fields")(vectors)]
    if "numerics" in inputs:
        parts.append(inputs["numerics"])
    return parts[0] if len(parts) == 1 else keras.layers.Concatenate(name=name)(parts)
