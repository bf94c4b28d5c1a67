"""Warm-up records are what TF Serving reads: PredictionLogs that the signature answers."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from clickmill.bundle import manifest as manifests
from clickmill.bundle import warmup

NAME = "assets.extra/tf_serving_warmup_requests"


def test_the_records_replay_through_the_signature(bundle):
    signatures = tf.saved_model.load(str(bundle.saved_model)).signatures
    sizes: dict[str, list[int]] = {"serving_default": [], "ranking": []}
    for record in tf.data.TFRecordDataset(str(bundle.saved_model / NAME)):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        request = log.predict_log.request
        assert request.model_spec.name == "toy-market"
        name = request.model_spec.signature_name
        answers = signatures[name](**{n: tf.constant(tf.make_ndarray(t)) for n, t in request.inputs.items()})
        sizes[name].append(len(answers["pctr"]))
        assert np.all((answers["pctr"].numpy() > 0) & (answers["pctr"].numpy() < 1) | (sizes[name][-1] > 64))
        if name == "ranking":
            assert len(tf.make_ndarray(request.inputs["user_id"])) == 1
    assert sizes == {name: [1, 2, 8, 32, 128, 512] for name in sizes}


def test_the_digest_covers_them(bundle):
    assert f"model/1/{NAME}" in manifests.verify(bundle.path).files


def test_warming_runs_every_request(bundle):
    requests = list(warmup.read(bundle.saved_model))
    first = bundle.predict(warmup.raw_of(requests[0]))["pctr"]
    golden = tf.constant(first)
    assert golden.shape == (1,)
    bundle.warm()
