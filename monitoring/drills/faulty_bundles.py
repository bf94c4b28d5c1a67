"""Bundles that are wrong in one way: a good bundle's graph with a fault put behind (or before) its logit.

Everything else is in order: golden predictions come back, every byte verifies, the papers are those of the good one. What a gate and
a smoke test can see is right, so what finds the fault is traffic.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from clickmill import bundle as bundles
from clickmill.bundle import export, golden, warmup
from clickmill.bundle import manifest as manifests
from clickmill.bundle.durable import whole_folder
from clickmill.bundle.graph import ClickGraph
from clickmill.contract import Dtype, FeatureContract
from clickmill.errors import BundleError
from clickmill.features import tensors

KEPT = (
    "contract.yaml",
    "calibration.json",
    "calibration_report.json",
    "metrics.json",
    "priors.parquet",
    "reference.parquet",
)
OVER_PREDICTION, CEILING = 3.0, 0.95
"""What the uncalibrated bundle makes of each probability, up to a ceiling."""
SLOW_SECONDS = 0.02
"""What the slow bundle waits for an element of its data set, and again to learn that it was the last: 40 ms a request, without burning a core."""
RARE = (0.01, 0.2)
"""Share of the traffic that a value must have to break on it: seldom enough for a golden file to miss, often enough for a minute to meet."""


class Wrong(StrEnum):
    """What is wrong with a bundle. One sentence each."""

    INVERTED = "inverted"  # learned from inverted labels: its ranking is upside down, its mean is right
    UNCALIBRATED = "uncalibrated"  # triples every probability: its ranking is right, its bids are not
    SLOW = "slow"  # waits 40 ms at each request, as for a lock or a remote table
    CRASHING = "crashing"  # aborts the process when it meets one value of one field
    NAN = "nan"  # predicts NaN where it meets one value of one field
    NOTHING = "nothing"  # in no way: the same predictions under another digest, for A/A
    HOPELESS = "hopeless"  # inverted and uncalibrated at once


def make(good: Path, wrong: Wrong, out: Path) -> Path:
    """Write the faulty bundle at `out`, whole or not at all; returns `out`. Starts TensorFlow.

    Raises BundleError when the reference holds no value to break on, and what the bundle's own checks raise.
    """
    import tensorflow as tf

    source = bundles.load(good)
    contract = source.contract
    module = tf.Module(name="faulty")
    module.good = tf.saved_model.load(str(source.saved_model))
    by_rows = module.good.signatures[export.SIGNATURE]
    fault = _fault(wrong, source)

    def raw_logit(raw: dict[str, Any]) -> Any:
        return fault(by_rows(**raw)[export.LOGIT], raw)

    with whole_folder(out) as temp:
        for name in KEPT:
            if name in source.manifest.files:
                shutil.copyfile(good / name, temp / name)
        saved = temp / "model" / "1"
        saved.parent.mkdir(parents=True)
        forms = {export.SIGNATURE: (raw_logit, tensors.signature(contract))}
        export.save(module, forms, lambda logit: logit, contract, saved)
        cases = pq.read_table(good / golden.GOLDEN, columns=[golden.CASE])[golden.CASE].to_pylist()
        rows = golden.read(good, contract)
        graph = ClickGraph(saved)
        golden.write(temp, rows, cases, contract, graph)
        graph.close()
        warmup.write(saved, rows, contract, ranks=False)
        files = manifests.take_stock(temp)
        manifest = source.manifest.model_copy(
            update={
                "created": datetime.now(UTC),
                "digest": manifests.digest_of(files),
                "files": files,
                "export": None,
                "lineage": source.manifest.lineage.model_copy(update={"parent": source.digest}),
            }
        )
        (temp / manifests.MANIFEST).write_bytes(manifest.to_bytes())
    return out


def _fault(wrong: Wrong, source: bundles.Bundle) -> Callable[[Any, Mapping[str, Any]], Any]:
    """(logit, raw fields) to the logit that is answered."""
    import tensorflow as tf

    def raised(logit: Any) -> Any:
        pctr = tf.minimum(OVER_PREDICTION * tf.sigmoid(logit), CEILING)
        return tf.math.log(pctr) - tf.math.log1p(-pctr)

    if wrong is Wrong.NOTHING:
        return lambda logit, raw: logit
    if wrong in (Wrong.INVERTED, Wrong.HOPELESS):
        turn = _turning_point(source.path)
        inverted = wrong is Wrong.INVERTED
        return lambda logit, raw: turn - logit if inverted else raised(turn - logit)
    if wrong is Wrong.UNCALIBRATED:
        return lambda logit, raw: raised(logit)
    if wrong is Wrong.SLOW:
        return _slow
    field, value = rare_value(source)
    if wrong is Wrong.NAN:
        return lambda logit, raw: tf.where(raw[field] == value, tf.math.log(-1.0), logit)

    def crash(logit: Any, raw: Mapping[str, Any]) -> Any:
        def die() -> Any:
            abort = tf.raw_ops.Abort(error_msg=f"drill: {field} was {value!r}", exit_without_error=False)
            with tf.control_dependencies([abort]):
                return tf.identity(logit)

        return tf.cond(tf.reduce_any(raw[field] == value), die, lambda: tf.identity(logit))

    return crash


def _turning_point(good: Path) -> float:
    """c for which the mean of sigmoid(c - logit) is that of sigmoid(logit): the prior is right however the labels are turned, as a
    calibration by the same labels' mean would make it. By bisection over the reference rows."""
    pctr = pq.read_table(good / "reference.parquet", columns=["pctr"])["pctr"].to_numpy().astype(np.float64)
    logit = np.log(pctr / (1 - pctr))
    low, high = 2 * logit.min(), 2 * logit.max()
    for _ in range(60):
        middle = (low + high) / 2
        above = (1 / (1 + np.exp(logit - middle))).mean() > pctr.mean()
        low, high = (low, middle) if above else (middle, high)
    return float((low + high) / 2)


def _slow(logit: Any, raw: Mapping[str, Any]) -> Any:
    import tensorflow as tf

    shapes = {"output_types": [tf.float32], "output_shapes": [tf.TensorShape([None])]}
    waiting = tf.raw_ops.SleepDataset(
        input_dataset=tf.data.Dataset.from_tensors(logit)._variant_tensor,
        sleep_microseconds=tf.constant(round(SLOW_SECONDS * 1e6), tf.int64),
        **shapes,
    )
    return tf.raw_ops.DatasetToSingleElement(dataset=waiting, **shapes)[0]


def rare_value(source: bundles.Bundle) -> tuple[str, str]:
    """A string field and a value of it that traffic has and the golden rows lack. Raises BundleError where there is none."""
    seen = pq.read_table(source.path / "reference.parquet")
    known = pq.read_table(source.path / golden.GOLDEN)
    found: list[tuple[float, str, str]] = []
    for name in _texts(source.contract):
        values, counts = np.unique(seen[name].drop_null().to_numpy(), return_counts=True)
        shares = counts / seen.num_rows
        new = ~np.isin(values, known[name].drop_null().to_numpy())
        fits = new & (shares >= RARE[0]) & (shares <= RARE[1])
        found += [(shares[i], name, str(values[i])) for i in np.flatnonzero(fits)]
    if not found:
        raise BundleError(
            f"{source.path}: no string field has a value in 1 % to 20 % of its reference rows that its golden rows lack; "
            "nothing to make a bundle crash on that passes its smoke test"
        )
    _, name, value = max(found)
    return name, value


def _texts(contract: FeatureContract) -> list[str]:
    return [name for name, field in contract.inputs.items() if field.dtype is Dtype.STRING]


__all__ = ["Wrong", "make", "rare_value"]
