"""TensorFlow Serving's protocol over a bundle: Predict, Classify, Regress, model metadata and model status.

Messages are bytes in and out: they are parsed where they are scored. The signatures are those of the bundle's SavedModel:

    serving_default   Predict    the contract's inputs by name          pctr, logit
    classify          Classify   tf.Example (see `tf_examples`)         classes no_click and click, with their scores
    regress           Regress    tf.Example                             pctr
    ranking           Predict    as serving_default, one row of the     pctr, logit
                                 fields that all candidates share

The rules are the contract's, as in V1 and V2, so a field left out takes its default; TF Serving itself wants every input of
`serving_default`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from clickmill.bundle.examples import CLASSES, CLASSIFY, METHODS, REGRESS
from clickmill.bundle.export import RANKING, SIGNATURE
from clickmill.contract import FeatureContract
from clickmill.errors import RequestError
from clickmill.features.sides import shared_fields
from serving import error_paths, tf_examples, tf_tensors
from serving.predictor import BundleModel, InService, Question, Scores
from serving.ranked_tensors import to_request
from serving.refusals import MalformedRequest, UnknownModel, UnknownSignature
from serving.tensors import DATATYPE, repeated, to_raw
from serving.tf_messages import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
    regression_pb2,
)
from serving.v2 import OUTPUTS, requested

PREDICT_METHOD = "tensorflow/serving/predict"
SIGNATURE_DEF = "signature_def"


@dataclass(frozen=True)
class Message:
    """A serialized answer, and the headers that name its bundle."""

    body: bytes
    headers: dict[str, str]


class TfProtocol:
    """The calls of PredictionService and ModelService over one model."""

    def __init__(self, model: BundleModel) -> None:
        self._model = model

    def ask_predict(self, data: bytes) -> Question[Message]:
        """Read and check a PredictRequest. Raises RequestError, NotReady, UnknownModel and UnknownSignature."""
        request = _parsed(predict_pb2.PredictRequest, data)
        served = self._served(request)
        signature = request.model_spec.signature_name or SIGNATURE
        ranks = signature == RANKING and served.scorer.ranks
        if signature != SIGNATURE and not ranks:
            by = {CLASSIFY: ": ask it by Classify", REGRESS: ": ask it by Regress"}.get(signature, "")
            has = f"`{SIGNATURE}`" + (f" and `{RANKING}`" if served.scorer.ranks else "")
            raise UnknownSignature(f"Predict has {has}, not `{signature}`{by}; leave signature_name out")
        names = _filtered(list(request.output_filter))
        limits = self._model.limits
        try:
            named = tf_tensors.from_protos(request.inputs, limits)
            if ranks:
                raw, rows = to_request(named, served.sides, limits, datatype_names=tf_tensors.DT_NAME)
            else:
                raw, rows = to_raw(named, served.form, limits, datatype_names=tf_tensors.DT_NAME)
        except RequestError as error:
            error.path = error_paths.of_map(error)
            raise

        def reply(scores: Scores) -> Message:
            response = predict_pb2.PredictResponse()
            self._name_model(response.model_spec, served, signature)
            for name in names:
                response.outputs[name].CopyFrom(tf_tensors.to_proto(scores[name]))
            return Message(response.SerializeToString(), served.headers)

        return Question(served, raw, rows, reply, ranks=ranks)

    def ask_classify(self, data: bytes) -> Question[Message]:
        """Read and check a ClassificationRequest. Raises RequestError, NotReady and UnknownModel."""
        request = _parsed(classification_pb2.ClassificationRequest, data)
        served, raw, rows = self._examples(request, CLASSIFY)

        def reply(scores: Scores) -> Message:
            response = classification_pb2.ClassificationResponse()
            self._name_model(response.model_spec, served, CLASSIFY)
            # one minus in float32, as the graph's own signature has it
            for pair in zip((np.float32(1) - scores["pctr"]).tolist(), scores["pctr"].tolist(), strict=True):
                row = response.result.classifications.add()
                for label, score in zip(CLASSES, pair, strict=True):
                    row.classes.add(label=label, score=score)
            return Message(response.SerializeToString(), served.headers)

        return Question(served, raw, rows, reply)

    def ask_regress(self, data: bytes) -> Question[Message]:
        """Read and check a RegressionRequest. Raises RequestError, NotReady and UnknownModel."""
        request = _parsed(regression_pb2.RegressionRequest, data)
        served, raw, rows = self._examples(request, REGRESS)

        def reply(scores: Scores) -> Message:
            response = regression_pb2.RegressionResponse()
            self._name_model(response.model_spec, served, REGRESS)
            for value in scores["pctr"].tolist():
                response.result.regressions.add(value=value)
            return Message(response.SerializeToString(), served.headers)

        return Question(served, raw, rows, reply)

    def metadata(self, data: bytes) -> Message:
        """Answer a GetModelMetadataRequest with the signatures. Raises RequestError, NotReady and UnknownModel."""
        request = _parsed(get_model_metadata_pb2.GetModelMetadataRequest, data)
        served = self._served(request)
        if not request.metadata_field:
            raise RequestError(f"`metadata_field` is empty; ask for `{SIGNATURE_DEF}`")
        for name in request.metadata_field:
            if name != SIGNATURE_DEF:
                raise RequestError(f"metadata field `{name}` is not supported; there is `{SIGNATURE_DEF}`")
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        self._name_model(response.model_spec, served, "")
        found = signatures(served.scorer.contract, ranks=served.scorer.ranks)
        response.metadata[SIGNATURE_DEF].Pack(found)
        return Message(response.SerializeToString(), served.headers)

    def status(self, data: bytes) -> bytes:
        """Answer a GetModelStatusRequest. Raises RequestError (label) and UnknownModel.

        LOADING, of a version not known yet, before the first bundle is warm; UNLOADING while the server drains, which still answers.
        """
        request = _parsed(get_model_status_pb2.GetModelStatusRequest, data)
        self._check_name(request)
        state = get_model_status_pb2.ModelVersionStatus
        response = get_model_status_pb2.GetModelStatusResponse()
        if not self._model.ready:
            response.model_version_status.add(state=state.LOADING)
            return response.SerializeToString()
        served = self._served(request)
        response.model_version_status.add(
            version=served.number, state=state.UNLOADING if self._model.draining else state.AVAILABLE
        ).status.SetInParent()
        return response.SerializeToString()

    def _check_name(self, request: Any) -> None:
        if not request.HasField("model_spec"):
            raise MalformedRequest("the request lacks its `model_spec`; name the model in model_spec.name")
        name = request.model_spec.name
        if name != self._model.name:
            raise UnknownModel(f"no model `{name}` here; this server has `{self._model.name}`")

    def _served(self, request: Any) -> InService:
        """The bundle a request's model_spec asks for."""
        self._check_name(request)
        served = self._model.in_service
        spec = request.model_spec
        choice = spec.WhichOneof("version_choice")
        if choice == "version_label":
            raise RequestError(
                f"version_label `{spec.version_label}` is unknown: this server has no labels; "
                f"ask for version {served.number}, or for none to get the one in service"
            )
        if choice == "version" and spec.version.value != served.number:
            raise UnknownModel(
                f"model {self._model.name} serves version {served.number} now, not {spec.version.value}"
            )
        return served

    def _examples(self, request: Any, signature: str) -> tuple[InService, Any, int]:
        served = self._served(request)
        asked = request.model_spec.signature_name or SIGNATURE
        if asked != signature:
            raise RequestError(
                f"the signature `{asked}` is not of the method {METHODS[signature]}; set model_spec.signature_name to `{signature}`"
            )
        rows = tf_examples.examples_of(request.input)
        try:
            raw = tf_examples.to_raw(rows, served.scorer.contract, self._model.limits)
        except RequestError as error:
            error.path = error_paths.of_example(request.input.WhichOneof("kind"), error)
            raise
        return served, raw, len(rows)

    def _name_model(self, spec: Any, served: InService, signature: str) -> None:
        spec.name, spec.signature_name = self._model.name, signature
        spec.version.value = served.number


def signatures(contract: FeatureContract, *, ranks: bool) -> Any:
    """SignatureDefMap of a bundle of this contract: names, types and shapes are those in its SavedModel, names of nodes are not."""
    found = get_model_metadata_pb2.SignatureDefMap()
    one_row = {SIGNATURE: frozenset[str](), **({RANKING: shared_fields(contract)} if ranks else {})}
    for signature, once in one_row.items():
        predict = found.signature_def[signature]
        predict.method_name = PREDICT_METHOD
        for name, field in contract.inputs.items():
            assert field.dtype is not None, "inputs are never derived"
            rows = 1 if name in once else -1
            shape = [rows, -1] if field.dtype.is_list else [rows]
            _describe(predict.inputs[name], name, DATATYPE[field.dtype], shape)
        for name in OUTPUTS:
            _describe(predict.outputs[name], name, "FP32", [-1])
    classify, regress = found.signature_def[CLASSIFY], found.signature_def[REGRESS]
    classify.method_name, regress.method_name = METHODS[CLASSIFY], METHODS[REGRESS]
    for signature in (classify, regress):
        _describe(signature.inputs["inputs"], "inputs", "BYTES", [-1])
    _describe(classify.outputs["classes"], "classes", "BYTES", [-1, len(CLASSES)])
    _describe(classify.outputs["scores"], "scores", "FP32", [-1, len(CLASSES)])
    _describe(regress.outputs["outputs"], "outputs", "FP32", [-1])
    return found


def _describe(info: Any, name: str, datatype: str, shape: list[int]) -> None:
    info.name, info.dtype = f"{name}:0", tf_tensors.DT[datatype]
    for side in shape:
        info.tensor_shape.dim.add(size=side)


def _filtered(names: list[str]) -> tuple[str, ...]:
    """Outputs a request asks for. Raises RequestError for an unknown one or one named twice, as TF Serving does."""
    if len(set(names)) != len(names):
        raise RequestError(f"output `{repeated(names):.100}` is named twice in output_filter; keep one")
    return requested(names)


def _parsed(kind: Any, data: bytes) -> Any:
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise MalformedRequest(f"the message is no {kind.DESCRIPTOR.name}: {error}") from None
