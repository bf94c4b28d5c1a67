"""Our cross and dot layers beside those of keras-rs: forward and backward, alternating in one run.

    pip install --no-deps --target DIR keras-rs==0.4.0
    PYTHONPATH=.:DIR python tests/bench/layers.py [--rounds 15] [--steps 4]

Sizes are those of `make bench-train`: batch 4096, 26 fields of 16 and 13 numerics (width 429), three full crosses, or of rank 64; dots of 27
vectors of 16. Both sides get the same weights and must give the same values.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import keras_rs
import numpy as np
import tensorflow as tf

from clickmill.models.cross import Cross
from clickmill.models.interaction import DotInteraction
from clickmill.models.tower import Seeds

BATCH, WIDTH, LAYERS = 4096, 429, 3
FIELDS, DIM = 27, 16


def crosses(layers: list[keras.layers.Layer]) -> keras.Model:
    x0 = x = keras.Input((WIDTH,))
    for layer in layers:
        x = layer(x0, x)
    return keras.Model(x0, x)


def dots(of: Callable[[keras.KerasTensor], keras.KerasTensor]) -> keras.Model:
    vectors = keras.Input((FIELDS, DIM))
    return keras.Model(vectors, of(vectors))


def pairs() -> dict[str, tuple[keras.Model, keras.Model]]:
    """By case, ours and theirs."""
    found = {}
    for name, rank in (("cross, full", None), ("cross, rank 64", 64)):
        ours = crosses([Cross(rank, Seeds(k), name=f"{rank}_{k}") for k in range(LAYERS)])
        theirs = crosses([keras_rs.layers.FeatureCross(projection_dim=rank) for _ in range(LAYERS)])
        found[name] = (ours, theirs)
    split = keras.layers.Lambda(lambda vectors: tf.unstack(vectors, axis=1))
    found["dot of all pairs"] = (
        dots(DotInteraction()),
        dots(lambda vectors: keras_rs.layers.DotInteraction()(split(vectors))),
    )
    for ours, theirs in found.values():
        by_shape = [np.asarray(weight) for weight in ours.get_weights()]
        theirs.set_weights(by_shape)
    return found


def step(model: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    """Values, and the gradients of weights and of the input, as one graph; answers with a number that needs them all."""

    @tf.function
    def run(x: tf.Tensor) -> tf.Tensor:
        weights = [weight.value for weight in model.trainable_variables]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([x, *weights])
            total = tf.reduce_sum(tf.square(model(x, training=True)))
        gradients = tape.gradient(total, [x, *weights])
        return tf.add_n([total, *(tf.reduce_sum(gradient) for gradient in gradients)])

    return run


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="times each side is measured (15)")
    parser.add_argument("--steps", type=int, default=4, help="steps in a measurement (4)")
    args = parser.parse_args()
    print("| layers | ours, ms | keras-rs, ms | keras-rs takes |\n|---|---|---|---|")
    for name, models in pairs().items():
        shape = (BATCH, FIELDS, DIM) if name.startswith("dot") else (BATCH, WIDTH)
        x = tf.random.stateless_normal(shape, (0, 0)) * 0.1
        np.testing.assert_allclose(models[0](x), models[1](x), rtol=1e-4, atol=1e-4)
        steps = [step(model) for model in models]
        for run in steps:
            run(x)
        taken: list[list[float]] = [[], []]
        for _ in range(args.rounds):
            for side, run in enumerate(steps):
                began = time.perf_counter()
                for _ in range(args.steps):
                    float(run(x))
                taken[side].append((time.perf_counter() - began) / args.steps * 1e3)
        ratios = sorted(b / a for a, b in zip(*taken, strict=True))
        told = f"{statistics.median(ratios):.2f} x ({ratios[len(ratios) // 4]:.2f} to {ratios[-len(ratios) // 4]:.2f})"
        ours, theirs = map(statistics.median, taken)
        print(f"| {name} | {ours:.1f} | {theirs:.1f} | {told} |", flush=True)


if __name__ == "__main__":
    main()
