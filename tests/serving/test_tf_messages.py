"""TensorFlow Serving's messages come without TensorFlow, and are TensorFlow's own when that comes later."""

from __future__ import annotations

import subprocess
import sys


def test_messages_come_without_tensorflow_and_fit_it_when_it_comes() -> None:
    code = """
import sys
from serving import tf_protocol
from serving.tf_messages import predict_pb2, tensor_pb2
assert not [name for name in sys.modules if name.split(".")[0] in ("tensorflow", "keras")]
request = predict_pb2.PredictRequest()
import tensorflow as tf
request.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0, 2.0]))
assert tf.make_ndarray(request.inputs["x"]).tolist() == [1.0, 2.0]
from tensorflow.core.framework import tensor_pb2 as later
assert later.TensorProto is tensor_pb2.TensorProto
"""
    subprocess.run([sys.executable, "-c", code], check=True)
