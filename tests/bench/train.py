"""Samples per second of training DCN-v2 beside its roofline, alternating in one run.

    python tests/bench/train.py [--ids 100000] [--rounds 5] [--steps 30]

Clickmill: batches shuffled out of the encoded arrays, sparse rows by Adagrad, dense weights by Adam; the whole of what `train`
does per step. Roofline: the same dense layers alone, on embeddings that are ready in memory: forward, backward down to the
embeddings' gradient, Adam. What lies between them is the price of the embeddings and of the input.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

from clickmill.contract import ContractField, FeatureContract, Hash, Role, Standardize
from clickmill.features import FeatureSpace, Moments
from clickmill.models import build
from clickmill.models.cross import Cross
from clickmill.models.tower import Seeds, mlp, scalar
from clickmill.training import TrainingConfig
from clickmill.training.ahead import ahead
from clickmill.training.encoded import EncodedSplit
from clickmill.training.step import TrainStep

FIELDS, NUMERICS, DIM, BATCH = 26, 13, 16, 4096


def space(ids: int) -> FeatureSpace:
    fields = {
        f"c{i:02d}": ContractField(role=Role.AD, dtype="string", encoding=Hash(buckets=ids))
        for i in range(FIELDS)
    } | {
        f"n{i:02d}": ContractField(role=Role.AD, dtype="float32", encoding=Standardize())
        for i in range(NUMERICS)
    }
    moments = {f"n{i:02d}": Moments(0.0, 1.0) for i in range(NUMERICS)}
    return FeatureSpace(FeatureContract(name="bench", fields=fields), moments=moments)


def split(ids: int, rows: int) -> EncodedSplit:
    """Ids by a zipf law (exponent 1.1), spread over each field's rows."""
    rng = np.random.default_rng(0)
    weights = 1 / np.arange(1, ids + 1) ** 1.1
    cumulative = np.cumsum(weights) / weights.sum()
    slots = np.empty((rows, FIELDS), np.int32)
    for field in range(FIELDS):
        rank = np.searchsorted(cumulative, rng.random(rows)).clip(0, ids - 1)
        slots[:, field] = 1 + field * ids + rng.permutation(ids)[rank]
    return EncodedSplit(
        {
            "slots": slots,
            "numerics": rng.standard_normal((rows, NUMERICS), dtype=np.float32),
            "label": (rng.random(rows) < 0.03).astype(np.float32),
        }
    )


def clickmill(ids: int, rows: int) -> Callable[[int], None]:
    """A function that trains so many steps."""
    data, config = split(ids, rows), TrainingConfig(batch_size=BATCH)
    step = TrainStep(
        build("dcn_v2", space(ids), {"dim": DIM, "units": (256, 128), "dropout": 0.0}),
        config,
        next(data.batches(1)),
    )

    def endless() -> Iterator[dict[str, np.ndarray]]:
        epoch = 0
        while True:
            yield from (
                b
                for b in data.shuffled(BATCH, seed=0, epoch=epoch, memory=256 << 20)
                if len(b["label"]) == BATCH
            )
            epoch += 1

    batches = ahead(map(step.prepare, endless()))

    def run(steps: int) -> None:
        for _ in range(steps):
            step.run(next(batches))

    return run


def roofline() -> Callable[[int], None]:
    seeds = Seeds(0)
    x0 = keras.Input((FIELDS * DIM + NUMERICS,))
    x = x0
    for layer in range(3):
        x = Cross(None, seeds, name=f"cross_{layer}")(x0, x)
    logit = scalar(x, "cross_logit", seeds) + scalar(mlp(x0, (256, 128), 0.0, seeds), "deep_logit", seeds)
    model = keras.Model(x0, logit)
    adam = keras.optimizers.Adam(1e-3)
    adam.build(model.trainable_variables)
    rng = np.random.default_rng(0)
    features = tf.constant(rng.standard_normal((BATCH, FIELDS * DIM + NUMERICS), dtype=np.float32))
    label = tf.constant((rng.random((BATCH, 1)) < 0.03).astype(np.float32))

    @tf.function
    def step() -> tuple[tf.Tensor, tf.Tensor]:
        variables = [v.value for v in model.trainable_variables]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([features, *variables])
            losses = tf.nn.sigmoid_cross_entropy_with_logits(label, model(features, training=True))
            loss = tf.reduce_mean(losses)
        down, *gradients = tape.gradient(loss, [features, *variables])
        adam.apply(gradients, model.trainable_variables)
        return loss, tf.reduce_sum(down)

    def run(steps: int) -> None:
        for _ in range(steps):
            float(step()[0])

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ids", type=int, default=100_000, help="ids of each of the 26 fields")
    parser.add_argument("--rounds", type=int, default=5, help="times each side is measured")
    parser.add_argument("--steps", type=int, default=30, help="steps of 4096 rows in a measurement")
    args = parser.parse_args()
    sides = {"clickmill": clickmill(args.ids, 300_000), "roofline": roofline()}
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for run in sides.values():
        run(3)  # traces the graph and touches the memory
    for _ in range(args.rounds):
        for name, run in sides.items():
            began = time.perf_counter()
            run(args.steps)
            rates[name].append(args.steps * BATCH / (time.perf_counter() - began))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, values in rates.items():
        spread = f"{min(values):,.0f} to {max(values):,.0f}"
        print(f"train {name:10s} {medians[name]:10,.0f} samples/s   ({spread}, {args.rounds} rounds)")
    ratio = medians["clickmill"] / medians["roofline"]
    print(
        f"train ratio      {ratio:10.1%} of the roofline   (DCN-v2, {FIELDS} fields x {args.ids:,} ids, dim {DIM}, batch {BATCH})"
    )


if __name__ == "__main__":
    main()
