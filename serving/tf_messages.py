"""TensorFlow Serving's messages without TensorFlow.

Their modules import `tensorflow.core.framework.tensor_pb2` and its like, which are plain protobuf; but Python imports the package above them first, and that is
TensorFlow: seconds and hundreds of MB. Where it is not loaded already, an empty package stands in for it while these few modules are
imported, and is taken away again, so that a later `import tensorflow` finds nothing of it. Messages are then the same classes, since protobuf keeps
one for each descriptor.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _without_tensorflow() -> Iterator[None]:
    """Within it `tensorflow` is an empty package over the same folder. Where TensorFlow is loaded, nothing happens."""
    if "tensorflow" in sys.modules:
        yield
        return
    found = importlib.util.find_spec("tensorflow")
    if found is None or found.submodule_search_locations is None:
        raise ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow")
    stand_in = types.ModuleType("tensorflow")
    stand_in.__path__ = list(found.submodule_search_locations)
    sys.modules["tensorflow"] = stand_in
    try:
        yield
    finally:
        for name in [n for n in sys.modules if n == "tensorflow" or n.startswith("tensorflow.")]:
            del sys.modules[name]


with _without_tensorflow():
    from tensorflow.core.example import example_pb2
    from tensorflow.core.framework import tensor_pb2, types_pb2
    from tensorflow_serving.apis import (
        classification_pb2,
        get_model_metadata_pb2,
        get_model_status_pb2,
        model_service_pb2_grpc,
        predict_pb2,
        prediction_service_pb2_grpc,
        regression_pb2,
    )

__all__ = [
    "classification_pb2",
    "example_pb2",
    "get_model_metadata_pb2",
    "get_model_status_pb2",
    "model_service_pb2_grpc",
    "predict_pb2",
    "prediction_service_pb2_grpc",
    "regression_pb2",
    "tensor_pb2",
    "types_pb2",
]
