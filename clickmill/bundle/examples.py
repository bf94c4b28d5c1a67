"""The graph asked with tf.Examples: what TF Serving's Classify and Regress take. Two more signatures around that of rows.

    classify   inputs: serialized tf.Examples (n,)   classes (n, 2) no_click and click, scores (n, 2)
    regress    inputs: serialized tf.Examples (n,)   outputs (n,), the click probability

A feature left out takes the contract's default inside the graph, unless it is required. An Example cannot tell a list that is absent
from an empty one, so both are empty here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clickmill.contract import Dtype, FeatureContract, ListOf

CLASSIFY, REGRESS = "classify", "regress"
CLASSES = ("no_click", "click")
"""Labels of Classify, in the order of its scores."""
METHODS = {CLASSIFY: "tensorflow/serving/classify", REGRESS: "tensorflow/serving/regress"}
"""TF Serving answers a call only by a signature of its method."""


def signatures(by_rows: Any, contract: FeatureContract, *, pctr: str) -> dict[str, Any]:
    """Concrete functions of both signatures over `by_rows`, the one of rows; `pctr` names its output."""
    import tensorflow as tf

    serialized = tf.TensorSpec([None], tf.string, name="inputs")

    def classify(inputs: Any) -> dict[str, Any]:
        click = by_rows(**raw_of(inputs, contract))[pctr]
        labels = tf.tile(tf.constant([CLASSES]), [tf.shape(click)[0], 1])
        return {"classes": labels, "scores": tf.stack([1.0 - click, click], axis=1)}

    def regress(inputs: Any) -> dict[str, Any]:
        return {"outputs": by_rows(**raw_of(inputs, contract))[pctr]}

    return {
        name: tf.function(form, autograph=False).get_concrete_function(inputs=serialized)
        for name, form in ((CLASSIFY, classify), (REGRESS, regress))
    }


def raw_of(serialized: Any, contract: FeatureContract) -> dict[str, Any]:
    """Raw tensors, in the dtypes of `features.tensors.signature`, of serialized tf.Examples (n,)."""
    import tensorflow as tf

    types = {Dtype.STRING: tf.string, Dtype.STRING_LIST: tf.string, Dtype.FLOAT32: tf.float32}
    spec: dict[str, Any] = {}
    for name, field in contract.inputs.items():
        assert field.dtype is not None, "inputs are never derived"
        kind = types.get(field.dtype, tf.int64)  # an Example has no bool
        if field.dtype.is_list:
            spec[name] = tf.io.RaggedFeature(kind)
        else:
            fill = int(field.fill) if field.dtype is Dtype.BOOL else field.fill  # type: ignore[arg-type]
            spec[name] = tf.io.FixedLenFeature([], kind, None if field.required else fill)
    parsed = tf.io.parse_example(serialized, spec)
    raw = {}
    for name, field in contract.inputs.items():
        values = parsed[name]
        if isinstance(field.encoding, ListOf):
            pad = tf.constant("") if field.dtype is Dtype.STRING_LIST else tf.int64.min
            values = values[:, -field.encoding.max_length :].to_tensor(default_value=pad)
        raw[name] = tf.cast(values, tf.bool) if field.dtype is Dtype.BOOL else values
    return raw


def name_methods(saved_model: Path) -> None:
    """Write the methods into a SavedModel: TensorFlow 2 saves every signature as one of Predict."""
    import tensorflow as tf

    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(str(saved_model))
    for signature, method in METHODS.items():
        updater.replace_method_name(signature_key=signature, method_name=method, tags="serve")
    updater.save()
    # it holds a checksum of the file as it was; the manifest has the one that counts
    (saved_model / "fingerprint.pb").unlink(missing_ok=True)
