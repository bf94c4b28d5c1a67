"""Client of TensorFlow Serving's protocol: the same calls reach our endpoint and the real TF Serving over a bundle's `model/`.

TF Serving knows no contract: it wants every input and checks none. Given the contract, the client fills what is left out and refuses
what breaks a rule before anything is sent, so that both servers get the same request. Importing this file imports TensorFlow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf.message import Message
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from clickmill.bundle.examples import CLASSES, CLASSIFY, REGRESS
from clickmill.bundle.export import LOGIT, PCTR
from clickmill.bundle.warmup import predict_request
from clickmill.contract import FeatureContract
from clickmill.errors import RequestError
from clickmill.features.tensors import from_rows
from serving.client import Predictions, error_of
from serving.tensors import filled
from serving.tf_examples import LIST_OF

_DIGEST = "x-clickmill-bundle"


class PredictionClient:
    """PredictionService and ModelService of one model. A context manager."""

    def __init__(
        self,
        target: str,
        *,
        model_name: str,
        contract: FeatureContract | None = None,
        timeout_seconds: float = 10.0,
    ) -> None:
        """`target` is host:port. Without `contract` requests go out as they are given."""
        self._channel = grpc.insecure_channel(target)
        self._prediction = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._model = model_service_pb2_grpc.ModelServiceStub(self._channel)
        self._target, self._name, self._timeout = target, model_name, timeout_seconds
        self._contract = contract

    def __enter__(self) -> PredictionClient:
        return self

    def __exit__(self, *raised: object) -> None:
        self._channel.close()

    def ready(self) -> bool:
        """Whether some version is available; False when the server cannot be reached."""
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = self._name
        try:
            answer = self._model.GetModelStatus(request, timeout=self._timeout)
        except grpc.RpcError:
            return False
        available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
        return any(version.state == available for version in answer.model_version_status)

    def signatures(self) -> dict[str, Any]:
        """SignatureDef by name: what the model takes and gives. Raises UnknownModel, NotReady, Unreachable."""
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = self._name
        answer, _ = self._call(self._prediction.GetModelMetadata, request)
        found = get_model_metadata_pb2.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(found)
        return dict(found.signature_def)

    def predict(self, rows: Sequence[Mapping[str, Any]], *, version: int | None = None) -> Predictions:
        """Score rows of JSON-like values by Predict; they are checked and filled by the contract here.

        Raises RequestError (also without a contract), RequestTooLarge, UnknownModel, NotReady, Unreachable.
        """
        return self.predict_tensors(from_rows(rows, self._needed()), version=version)

    def predict_tensors(self, raw: Mapping[str, np.ndarray], *, version: int | None = None) -> Predictions:
        """Score arrays by Predict: (n,) a field, (n, L) for lists. Raises the same errors."""
        inputs = dict(raw)
        if self._contract is not None:
            inputs = self._completed(raw, self._contract)
        request = predict_request(inputs, model_name=self._name)
        if version is not None:
            request.model_spec.version.value = version
        answer, digest = self._call(self._prediction.Predict, request)
        pctr, logit = (tf.make_ndarray(answer.outputs[name]) for name in (PCTR, LOGIT))
        return Predictions(pctr, logit, str(answer.model_spec.version.value), digest)

    def classify(self, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Click probability (n,) float32 by Classify over tf.Examples. Raises as `predict`."""
        request = classification_pb2.ClassificationRequest()
        self._fill(request, rows, CLASSIFY)
        answer, _ = self._call(self._prediction.Classify, request)
        click = CLASSES.index("click")
        found = [row.classes[click].score for row in answer.result.classifications]
        return np.array(found, np.float32)

    def regress(self, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Click probability (n,) float32 by Regress over tf.Examples. Raises as `predict`."""
        request = regression_pb2.RegressionRequest()
        self._fill(request, rows, REGRESS)
        answer, _ = self._call(self._prediction.Regress, request)
        return np.array([row.value for row in answer.result.regressions], np.float32)

    def _fill(self, request: Any, rows: Sequence[Mapping[str, Any]], signature: str) -> None:
        contract = self._needed()
        request.model_spec.name, request.model_spec.signature_name = self._name, signature
        request.input.example_list.examples.extend(examples(from_rows(rows, contract), contract))

    def _needed(self) -> FeatureContract:
        if self._contract is None:
            raise RequestError(
                "rows need the contract to become tensors; give PredictionClient(contract=clickmill.contract.load(...)), "
                "or arrays to predict_tensors"
            )
        return self._contract

    def _completed(self, raw: Mapping[str, np.ndarray], contract: FeatureContract) -> dict[str, np.ndarray]:
        rows = len(next(iter(raw.values()), ()))
        found = {}
        for name, field in contract.inputs.items():
            if name not in raw and field.required:
                raise RequestError(f"field `{name}`: is required and has no default; send it for every row")
            found[name] = raw[name] if name in raw else filled(field, rows)
        unknown = raw.keys() - contract.columns.keys()
        if unknown:
            raise RequestError(
                f"field `{min(unknown)}` is unknown; fields of a request: {', '.join(contract.inputs)}"
            )
        return found

    def _call(self, method: Any, request: Message) -> tuple[Any, str]:
        try:
            answer, call = method.with_call(request, timeout=self._timeout, wait_for_ready=True)
        except grpc.RpcError as error:
            raise error_of(error, self._target) from error
        return answer, str(dict(call.trailing_metadata() or ()).get(_DIGEST, ""))


def examples(raw: Mapping[str, np.ndarray], contract: FeatureContract) -> list[Any]:
    """A tf.Example for each row of raw arrays; padding of lists is left out."""
    rows = [tf.train.Example() for _ in range(len(next(iter(raw.values()))))]
    for name, field in contract.inputs.items():
        assert field.dtype is not None, "inputs are never derived"
        values = raw[name]
        if field.dtype.is_list:
            pad = b"" if values.dtype == object else np.iinfo(np.int64).min
            columns = [[value for value in row if value != pad] for row in values.tolist()]
        else:
            # an Example has no bool
            plain = values.astype(np.int64) if values.dtype == bool else values
            columns = [[value] for value in plain.tolist()]
        for example, column in zip(rows, columns, strict=True):
            feature = getattr(example.features.feature[name], LIST_OF[field.dtype])
            feature.SetInParent()  # an empty list is a value, no absence
            feature.value.extend(column)
    return rows
