"""Clients of TensorFlow Serving's protocol: the same calls reach our endpoint and the real TF Serving over a bundle's `model/`.

TF Serving knows no contract: it wants every input and checks none. Given the contract, the client fills what is left out and refuses
what breaks a rule before anything is sent, so that both servers get the same request.
TensorFlow itself is not imported, only its messages are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import grpc
import numpy as np

from clickmill.bundle.examples import CLASSES, CLASSIFY, REGRESS
from clickmill.bundle.export import LOGIT, PCTR, RANKING, SIGNATURE
from clickmill.contract import FeatureContract
from clickmill.errors import RequestError
from clickmill.features.tensors import from_rows
from serving.client.calls import Predictions
from serving.client.retry import RetryPolicy
from serving.client.rpc import AsyncChannel, Channel, asked
from serving.tensors import filled
from serving.tf_examples import LIST_OF
from serving.tf_messages import (
    classification_pb2,
    example_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
    regression_pb2,
)
from serving.tf_tensors import predict_request, to_array

_DIGEST = "x-clickmill-bundle"


class Messages:
    """Requests of one model made, and answers read: what both clients share. Without `contract` requests go out as they are given."""

    def __init__(self, model_name: str, contract: FeatureContract | None) -> None:
        self._name, self._contract = model_name, contract

    def status(self) -> Any:
        """GetModelStatusRequest."""
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = self._name
        return request

    def signatures(self) -> Any:
        """GetModelMetadataRequest."""
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = self._name
        return request

    def rows(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Rows as raw tensors by the contract. Raises RequestError, also without a contract."""
        return from_rows(rows, self._needed())

    def predict(self, raw: Mapping[str, np.ndarray], version: int | None) -> Any:
        """PredictRequest over arrays. Raises RequestError for a required or unknown input, where the contract is known."""
        inputs = dict(raw) if self._contract is None else self._completed(raw, self._contract)
        request = predict_request(inputs, model_name=self._name, signature=SIGNATURE)
        if version is not None:
            request.model_spec.version.value = version
        return request

    def ranking(self, raw: Mapping[str, np.ndarray]) -> Any:
        """PredictRequest of the signature `ranking`, as it is given."""
        return predict_request(raw, model_name=self._name, signature=RANKING)

    def classify(self, rows: Sequence[Mapping[str, Any]]) -> Any:
        """ClassificationRequest over tf.Examples. Raises as `rows`."""
        return self._filled(classification_pb2.ClassificationRequest(), rows, CLASSIFY)

    def regress(self, rows: Sequence[Mapping[str, Any]]) -> Any:
        """RegressionRequest over tf.Examples. Raises as `rows`."""
        return self._filled(regression_pb2.RegressionRequest(), rows, REGRESS)

    def _filled(self, request: Any, rows: Sequence[Mapping[str, Any]], signature: str) -> Any:
        request.model_spec.name, request.model_spec.signature_name = self._name, signature
        request.input.example_list.examples.extend(examples(self.rows(rows), self._needed()))
        return request

    def _needed(self) -> FeatureContract:
        if self._contract is None:
            raise RequestError(
                "rows need the contract to become tensors; give the client contract=clickmill.contract.load(...), "
                "or arrays to predict_tensors"
            )
        return self._contract

    def _completed(self, raw: Mapping[str, np.ndarray], contract: FeatureContract) -> dict[str, np.ndarray]:
        rows = len(next(iter(raw.values()), ()))
        found = {}
        for name, field in contract.inputs.items():
            if name not in raw and field.required:
                raise RequestError(
                    f"field `{name}`: is required and has no default; send it for every row", field=name
                )
            found[name] = raw[name] if name in raw else filled(field, rows)
        unknown = raw.keys() - contract.columns.keys()
        if unknown:
            raise RequestError(
                f"field `{min(unknown)}` is unknown; fields of a request: {', '.join(contract.inputs)}",
                field=min(unknown),
            )
        return found


class PredictionClient:
    """PredictionService and ModelService of one model, to call. A context manager."""

    def __init__(
        self,
        target: str,
        *,
        model_name: str,
        contract: FeatureContract | None = None,
        timeout_seconds: float = 10.0,
        policy: RetryPolicy | None = None,
    ) -> None:
        """`target` is host:port. Without `contract` requests go out as they are given."""
        self._channel = Channel(target, timeout_seconds, policy)
        self._prediction = prediction_service_pb2_grpc.PredictionServiceStub(self._channel.channel)
        self._model = model_service_pb2_grpc.ModelServiceStub(self._channel.channel)
        self._messages = Messages(model_name, contract)

    def __enter__(self) -> PredictionClient:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def ready(self) -> bool:
        """Whether some version is available; False when the server cannot be reached."""
        request, seconds = self._messages.status(), self._channel.timeout_seconds
        return _available(asked(lambda: self._model.GetModelStatus(request, timeout=seconds)))

    def signatures(self) -> dict[str, Any]:
        """SignatureDef by name: what the model takes and gives. Raises UnknownModel, NotReady, Unreachable."""
        answer, _ = self._channel.call(self._prediction.GetModelMetadata, self._messages.signatures())
        return _signatures(answer)

    def predict(self, rows: Sequence[Mapping[str, Any]], *, version: int | None = None) -> Predictions:
        """Score rows of JSON-like values by Predict; they are checked and filled by the contract here.

        Raises RequestError (also without a contract), RequestTooLarge, UnknownModel, NotReady, Overloaded, DeadlinePassed, Unreachable.
        """
        return self.predict_tensors(self._messages.rows(rows), version=version)

    def predict_tensors(self, raw: Mapping[str, np.ndarray], *, version: int | None = None) -> Predictions:
        """Score arrays by Predict: (n,) a field, (n, L) for lists. Raises the same errors."""
        request = self._messages.predict(raw, version)
        return _predictions(*self._channel.call(self._prediction.Predict, request))

    def rank_tensors(self, raw: Mapping[str, np.ndarray]) -> Predictions:
        """Score the n candidates of one request by Predict's signature `ranking`: (1,) or (1, L) for fields of user and context, (n,)
        or (n, L) for the others. No auction, see `Client.rank`. Raises as `predict`, and UnknownSignature where the bundle has none."""
        return _predictions(*self._channel.call(self._prediction.Predict, self._messages.ranking(raw)))

    def classify(self, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Click probability (n,) float32 by Classify over tf.Examples. Raises as `predict`."""
        answer, _ = self._channel.call(self._prediction.Classify, self._messages.classify(rows))
        return _classified(answer)

    def regress(self, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Click probability (n,) float32 by Regress over tf.Examples. Raises as `predict`."""
        answer, _ = self._channel.call(self._prediction.Regress, self._messages.regress(rows))
        return _regressed(answer)


class AsyncPredictionClient:
    """The calls of `PredictionClient`, to await. To be made where the event loop runs."""

    def __init__(
        self,
        target: str,
        *,
        model_name: str,
        contract: FeatureContract | None = None,
        timeout_seconds: float = 10.0,
        policy: RetryPolicy | None = None,
    ) -> None:
        """As `PredictionClient`."""
        self._channel = AsyncChannel(target, timeout_seconds, policy)
        self._prediction = prediction_service_pb2_grpc.PredictionServiceStub(self._channel.channel)
        self._model = model_service_pb2_grpc.ModelServiceStub(self._channel.channel)
        self._messages = Messages(model_name, contract)

    async def __aenter__(self) -> AsyncPredictionClient:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def ready(self) -> bool:
        """As `PredictionClient.ready`."""
        try:
            answer = await self._model.GetModelStatus(
                self._messages.status(), timeout=self._channel.timeout_seconds
            )
        except grpc.RpcError:
            return False
        return _available(answer)

    async def signatures(self) -> dict[str, Any]:
        """As `PredictionClient.signatures`."""
        answer, _ = await self._channel.call(self._prediction.GetModelMetadata, self._messages.signatures())
        return _signatures(answer)

    async def predict(self, rows: Sequence[Mapping[str, Any]], *, version: int | None = None) -> Predictions:
        """As `PredictionClient.predict`."""
        return await self.predict_tensors(self._messages.rows(rows), version=version)

    async def predict_tensors(
        self, raw: Mapping[str, np.ndarray], *, version: int | None = None
    ) -> Predictions:
        """As `PredictionClient.predict_tensors`."""
        request = self._messages.predict(raw, version)
        return _predictions(*await self._channel.call(self._prediction.Predict, request))

    async def rank_tensors(self, raw: Mapping[str, np.ndarray]) -> Predictions:
        """As `PredictionClient.rank_tensors`."""
        return _predictions(*await self._channel.call(self._prediction.Predict, self._messages.ranking(raw)))

    async def classify(self, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """As `PredictionClient.classify`."""
        answer, _ = await self._channel.call(self._prediction.Classify, self._messages.classify(rows))
        return _classified(answer)

    async def regress(self, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """As `PredictionClient.regress`."""
        answer, _ = await self._channel.call(self._prediction.Regress, self._messages.regress(rows))
        return _regressed(answer)


def _available(answer: Any) -> bool:
    available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
    return answer is not None and any(version.state == available for version in answer.model_version_status)


def _signatures(answer: Any) -> dict[str, Any]:
    found = get_model_metadata_pb2.SignatureDefMap()
    answer.metadata["signature_def"].Unpack(found)
    return dict(found.signature_def)


def _predictions(answer: Any, headers: Mapping[str, str]) -> Predictions:
    pctr, logit = (to_array(answer.outputs[name]) for name in (PCTR, LOGIT))
    return Predictions(pctr, logit, str(answer.model_spec.version.value), headers.get(_DIGEST, ""))


def _classified(answer: Any) -> np.ndarray:
    click = CLASSES.index("click")
    return np.array([row.classes[click].score for row in answer.result.classifications], np.float32)


def _regressed(answer: Any) -> np.ndarray:
    return np.array([row.value for row in answer.result.regressions], np.float32)


def examples(raw: Mapping[str, np.ndarray], contract: FeatureContract) -> list[Any]:
    """A tf.Example for each row of raw arrays; padding of lists is left out."""
    rows = [example_pb2.Example() for _ in range(len(next(iter(raw.values()))))]
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
