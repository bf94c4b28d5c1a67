"""Warm-up requests: what TF Serving replays at load, so that no caller waits for the first run of the graph.

A TFRecord of PredictionLog messages under assets.extra/, the place and name TF Serving looks for; its digest is in the
manifest like that of any other file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clickmill.bundle.export import RANKING, SIGNATURE
from clickmill.bundle.requests import one_request
from clickmill.contract import FeatureContract
from clickmill.features.raw import length, take

WARMUP = "assets.extra/tf_serving_warmup_requests"
BATCHES = (1, 2, 8, 32, 128, 512)
"""Rows of each request: TensorFlow picks kernels and plans buffers by size; 512 candidates is a large request."""


def write(
    saved_model: Path, raw: Mapping[str, np.ndarray], contract: FeatureContract, *, ranks: bool
) -> Path:
    """Write one request per batch size (and signature, where the graph `ranks`), filled with the given rows in turn."""
    import tensorflow as tf

    path = saved_model / WARMUP
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = length(raw)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for batch in BATCHES:
            filled = take(raw, np.arange(batch) % rows)
            asked = {SIGNATURE: filled}
            if ranks:
                asked[RANKING] = one_request(filled, contract)
            for signature, tensors in asked.items():
                request = predict_request(tensors, model_name=contract.name, signature=signature)
                writer.write(_log(request).SerializeToString())
    return path


def read(saved_model: Path) -> Iterator[Any]:
    """The PredictRequests of the warm-up file, in order."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    for record in tf.data.TFRecordDataset(str(saved_model / WARMUP)).as_numpy_iterator():
        yield prediction_log_pb2.PredictionLog.FromString(record).predict_log.request


def predict_request(raw: Mapping[str, np.ndarray], *, model_name: str, signature: str = SIGNATURE) -> Any:
    """A tensorflow_serving PredictRequest over raw tensors."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = model_name
    request.model_spec.signature_name = signature
    for name, values in raw.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(np.asarray(values)))
    return request


def _log(request: Any) -> Any:
    from tensorflow_serving.apis import prediction_log_pb2

    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.CopyFrom(request)
    return log


def raw_of(request: Any) -> dict[str, np.ndarray]:
    """The arrays of a PredictRequest, by field."""
    import tensorflow as tf

    return {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
