"""TF Serving's protocol over a bundle. The oracles: the formula, and the bundle's own SavedModel asked with the same request.

TF Serving's binary cannot be had where these tests run; its stand-in is what it would execute: the signature of the SavedModel,
called through TensorFlow with the tensors of the request.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from prometheus_client import CollectorRegistry
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
    regression_pb2,
)

from clickmill.bundle.requests import one_request
from clickmill.bundle.warmup import predict_request
from clickmill.errors import RequestError, RequestTooLarge
from clickmill.features.tensors import from_arrow, from_rows
from serving.client.tensorflow import examples
from serving.limits import Limits
from serving.metrics import Metrics
from serving.predictor import BundleModel
from serving.refusals import MalformedRequest, NotReady, UnknownModel, UnknownSignature
from serving.tf_protocol import TfProtocol, signatures
from tests.serving.small_bundle import CONTRACT, GOOD_ROW, logit_of, pctr_of, raw_rows


@pytest.fixture
def model(small_scorer: Any) -> BundleModel:
    limits = Limits(max_rows=50, max_string_bytes=64)
    model = BundleModel("small", limits=limits, metrics=Metrics(CollectorRegistry()))
    model.swap(small_scorer, "3")
    return model


@pytest.fixture
def protocol(model: BundleModel) -> TfProtocol:
    return TfProtocol(model)


@pytest.fixture(scope="module")
def saved_model(small_bundle: Path) -> Any:
    return tf.saved_model.load(str(small_bundle / "model" / "1"))


def predict(protocol: TfProtocol, request: Any) -> Any:
    message = protocol._model.answer(protocol.ask_predict(request.SerializeToString()))
    return predict_pb2.PredictResponse.FromString(message.body)


def pctr_in(response: Any) -> list[float]:
    return tf.make_ndarray(response.outputs["pctr"]).tolist()


def ad_request(ads: list[bytes] = [b"a1"], **spec: Any) -> Any:  # noqa: B006 - never written to
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "small"
    for name, value in spec.items():
        setattr(request.model_spec, name, value)
    request.inputs["ad_id"].CopyFrom(tf.make_tensor_proto(ads, shape=[len(ads)], dtype=tf.string))
    return request


def test_the_same_predict_request_gives_the_same_by_us_and_by_the_saved_model(protocol, saved_model):
    request = predict_request(raw_rows(40, seed=5), model_name="small")
    ours = predict(protocol, request)
    signature = saved_model.signatures["serving_default"]
    inputs = {
        name: tf.io.parse_tensor(proto.SerializeToString(), tf.dtypes.as_dtype(proto.dtype))
        for name, proto in request.inputs.items()
    }
    theirs = signature(**inputs)
    assert set(ours.outputs) == set(theirs)
    for name, values in theirs.items():
        np.testing.assert_allclose(tf.make_ndarray(ours.outputs[name]), values.numpy(), atol=1e-6)
    assert (ours.model_spec.name, ours.model_spec.version.value) == ("small", 3)
    assert ours.model_spec.signature_name == "serving_default"


def test_golden_predictions_come_back_equal_by_predict_classify_and_regress(protocol, small_bundle):
    golden = pq.read_table(small_bundle / "golden.parquet")
    raw = from_arrow(golden.select(list(CONTRACT.inputs)), CONTRACT)
    found = {
        "predict": pctr_in(predict(protocol, predict_request(raw, model_name="small"))),
        "classify": [row.classes[1].score for row in classify(protocol, examples(raw, CONTRACT)).classifications],
        "regress": [row.value for row in regress(protocol, examples(raw, CONTRACT)).regressions],
    }  # fmt: skip
    for call, pctr in found.items():
        assert np.abs(np.array(pctr) - golden["pctr"].to_numpy()).max() <= 1e-6, call


def test_inputs_left_out_take_the_contracts_defaults(protocol):
    response = predict(protocol, ad_request([b"a1", b"a2"]))
    assert pctr_in(response) == pytest.approx([pctr_of({"ad_id": ad}) for ad in ("a1", "a2")], abs=1e-6)


def test_the_output_filter_chooses_outputs(protocol):
    request = ad_request()
    request.output_filter.append("logit")
    response = predict(protocol, request)
    assert set(response.outputs) == {"logit"}
    assert response.outputs["logit"].float_val[0] == pytest.approx(logit_of({"ad_id": "a1"}), abs=1e-5)


def test_version_numbers_are_those_of_the_store_and_1_outside(model, protocol, small_scorer):
    request = ad_request()
    request.model_spec.version.value = 3
    assert predict(protocol, request).model_spec.version.value == 3
    model.swap(small_scorer, small_scorer.digest[:12])
    assert predict(protocol, ad_request()).model_spec.version.value == 1


def changed(change: Any) -> Any:
    request = ad_request()
    change(request)
    return request


def put(name: str, values: Any, dtype: Any) -> Any:
    return changed(lambda r: r.inputs[name].CopyFrom(tf.make_tensor_proto(values, dtype=dtype)))


BAD = {
    "another model": (ad_request(name="other"), UnknownModel, "no model `other` here; this server has `small`"),
    "another version": (changed(lambda r: setattr(r.model_spec.version, "value", 9)), UnknownModel, "serves version 3 now, not 9"),
    "a label": (ad_request(version_label="stable"), RequestError, "version_label `stable` is unknown: this server has no labels; ask for version 3"),
    "a signature": (ad_request(signature_name="classify"), UnknownSignature, "not `classify`: ask it by Classify"),
    "no model_spec": (predict_pb2.PredictRequest(), MalformedRequest, "lacks its `model_spec`"),
    "an unknown output": (changed(lambda r: r.output_filter.append("x")), RequestError, "output `x` is unknown"),
    "an output twice": (changed(lambda r: r.output_filter.extend(["pctr", "pctr"])), RequestError, "output `pctr` is named twice"),
    "an unknown input": (put("x", [1.0], tf.float32), RequestError, "field `x` is unknown"),
    "another type": (put("price", [1.0], tf.float64), RequestError, r"field `price`: datatype must be DT_FLOAT \(float32\); got DT_DOUBLE"),
    "another length": (put("price", [1.0, 2.0], tf.float32), RequestError, "all inputs need the same n"),
    "a scalar": (put("price", 1.0, tf.float32), RequestError, r"field `price`: shape \[\] has no rows"),
    "out of range": (put("position", [21], tf.int64), RequestError, "row 0, field `position`: must lie in 1 to 20; got 21"),
    "too many rows": (ad_request([b"a1"] * 51), RequestTooLarge, "51 rows, the limit is 50"),
    "a long string": (ad_request([b"a" * 65]), RequestTooLarge, "a string of 65 bytes, the limit is 64"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_predict_refuses_by_the_contract_and_by_the_models_name(protocol, case):
    request, kind, words = BAD[case]
    with pytest.raises(kind, match=words) as caught:
        predict(protocol, request)
    assert type(caught.value) is kind


def test_bytes_that_are_no_message_are_malformed(protocol):
    for ask in (protocol.ask_predict, protocol.ask_classify, protocol.ask_regress, protocol.metadata):
        with pytest.raises(MalformedRequest, match=r"the message is no [A-Z]"):
            ask(b"\xff\xff\xff")


def example(**features: Any) -> Any:
    made = tf.train.Example()
    for name, values in features.items():
        kind = {bytes: "bytes_list", int: "int64_list", float: "float_list"}[type(values[0])]
        getattr(made.features.feature[name], kind).value.extend(values)
    return made


FULL = example(
    user_id=[b"u1"], ad_id=[b"a1"], price=[3.5], device=[b"desk"], returning=[1], history=[b"a", b"b"], categories=[7],
    shown_at=[1_700_000_000], position=[2],
)  # fmt: skip
SPARSE = example(ad_id=["ü3".encode()], history=[b"a", b"b", b"c", b"d", b"e"])


def classify(protocol: TfProtocol, rows: list[Any], signature: str = "classify") -> Any:
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name, request.model_spec.signature_name = "small", signature
    request.input.example_list.examples.extend(rows)
    message = protocol._model.answer(protocol.ask_classify(request.SerializeToString()))
    return classification_pb2.ClassificationResponse.FromString(message.body).result


def regress(protocol: TfProtocol, rows: list[Any], context: Any = None) -> Any:
    request = regression_pb2.RegressionRequest()
    request.model_spec.name, request.model_spec.signature_name = "small", "regress"
    if context is None:
        request.input.example_list.examples.extend(rows)
    else:
        request.input.example_list_with_context.examples.extend(rows)
        request.input.example_list_with_context.context.CopyFrom(context)
    message = protocol._model.answer(protocol.ask_regress(request.SerializeToString()))
    return regression_pb2.RegressionResponse.FromString(message.body).result


def test_classify_gives_both_classes_with_the_formulas_probability(protocol):
    expected = [pctr_of(GOOD_ROW), pctr_of({"ad_id": "ü3", "history": list("abcde")})]
    found = classify(protocol, [FULL, SPARSE]).classifications
    assert [[item.label for item in row.classes] for row in found] == [["no_click", "click"]] * 2
    for row, pctr in zip(found, expected, strict=True):
        assert [item.score for item in row.classes] == pytest.approx([1 - pctr, pctr], abs=1e-6)


def test_the_saved_models_own_signatures_of_examples_give_what_we_give(protocol, saved_model):
    rows = [FULL, SPARSE, example(ad_id=[b"nobody"], returning=[0])]
    serialized = tf.constant([row.SerializeToString() for row in rows])
    theirs = saved_model.signatures["classify"](inputs=serialized)
    ours = classify(protocol, rows).classifications
    assert theirs["classes"].numpy().tolist() == [[b"no_click", b"click"]] * 3
    np.testing.assert_allclose([[c.score for c in row.classes] for row in ours], theirs["scores"], atol=1e-6)
    values = saved_model.signatures["regress"](inputs=serialized)["outputs"]
    np.testing.assert_allclose([r.value for r in regress(protocol, rows).regressions], values, atol=1e-6)
    with pytest.raises(tf.errors.InvalidArgumentError, match="ad_id"):  # required there too
        saved_model.signatures["regress"](inputs=tf.constant([example(price=[1.0]).SerializeToString()]))


def test_a_shared_context_lies_under_every_example(protocol):
    context = example(user_id=[b"u1"], position=[9], returning=[1])
    rows = [example(ad_id=[b"a1"]), example(ad_id=[b"a2"], position=[2])]
    expected = [
        pctr_of({"ad_id": "a1", "position": 9, "returning": True}),
        pctr_of({"ad_id": "a2", "position": 2, "returning": True}),
    ]
    found = regress(protocol, rows, context).regressions
    assert [row.value for row in found] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "`input` holds no examples"),
        ([SPARSE, example(price=[1.0])], "row 1, field `ad_id`: is required"),
        ([example(ad_id=[b"a1"], price=[5])], r"row 0, field `price`: must be in a float_list \(float32\); got a int64_list"),
        ([example(ad_id=[b"a1", b"a2"])], "row 0, field `ad_id`: must be one value; got 2"),
        ([example(ad_id=[b"\xff"])], "row 0, field `ad_id`: is not UTF-8"),
        ([example(ad_id=[b"a1"], returning=[2])], r"row 0, field `returning`: must be 0 or 1 \(bool\); got 2"),
        ([example(ad_id=[b"a1"], colour=[b"x"])], "row 0, field `colour` is unknown"),
        ([example(ad_id=[b"a1"], position=[0])], "row 0, field `position`: must lie in 1 to 20; got 0"),
        ([example(ad_id=[b"a" * 65])], "a string of 65 bytes"),
        ([SPARSE] * 51, "51 examples, the limit is 50"),
    ],
)  # fmt: skip
def test_examples_are_refused_by_the_contract(protocol, rows, words):
    with pytest.raises(RequestError, match=words):
        classify(protocol, rows)


def test_classify_wants_its_own_signature_as_tf_serving_does(protocol):
    with pytest.raises(
        RequestError, match="`serving_default` is not of the method tensorflow/serving/classify; set"
    ):
        classify(protocol, [FULL], signature="")


def test_examples_of_raw_rows_are_the_rows_again():
    rows = [GOOD_ROW, {"ad_id": "a2", "history": []}]
    first, second = examples(from_rows(rows, CONTRACT), CONTRACT)
    assert first.SerializeToString(deterministic=True) == FULL.SerializeToString(deterministic=True)
    assert second.features.feature["history"].WhichOneof("kind") == "bytes_list", "empty is no absence"


def test_the_metadata_are_the_signatures_of_the_saved_model(protocol, small_bundle):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "small"
    response = get_model_metadata_pb2.GetModelMetadataResponse.FromString(
        protocol.metadata(request.SerializeToString()).body
    )
    found = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(found)
    assert response.model_spec.version.value == 3
    file = saved_model_pb2.SavedModel.FromString((small_bundle / "model/1/saved_model.pb").read_bytes())
    written = file.meta_graphs[0].signature_def

    def form(signature: Any) -> Any:
        sides = [
            {name: (i.dtype, [d.size for d in i.tensor_shape.dim]) for name, i in side.items()}
            for side in (signature.inputs, signature.outputs)
        ]
        return signature.method_name, *sides

    assert set(found.signature_def) == {"serving_default", "classify", "regress", "ranking"}
    for name in found.signature_def:
        assert form(found.signature_def[name]) == form(written[name]), name
    assert set(signatures(CONTRACT, ranks=False).signature_def) == {"serving_default", "classify", "regress"}


def test_a_ranking_by_predict_is_what_the_saved_models_own_signature_gives(protocol, saved_model):
    request = one_request(raw_rows(20, seed=6), CONTRACT)
    found = predict(protocol, predict_request(request, model_name="small", signature="ranking"))
    signature = saved_model.signatures["ranking"]
    expected = signature(**{name: tf.constant(values) for name, values in request.items()})
    assert pctr_in(found) == pytest.approx(expected["pctr"].numpy().tolist(), abs=1e-6)
    assert found.model_spec.signature_name == "ranking"
    with pytest.raises(
        RequestError, match=r"is the same for all candidates: its shape must begin with 1; got \[20"
    ):
        predict(protocol, predict_request(raw_rows(20), model_name="small", signature="ranking"))


@pytest.mark.parametrize(("fields", "words"), [([], "`metadata_field` is empty"), (["x"], "metadata field `x` is not supported")])  # fmt: skip
def test_metadata_of_another_kind_are_refused(protocol, fields, words):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    request.model_spec.name = "small"
    with pytest.raises(RequestError, match=words):
        protocol.metadata(request.SerializeToString())


def status(protocol: TfProtocol, version: int | None = None) -> list[tuple[int, int]]:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "small"
    if version is not None:
        request.model_spec.version.value = version
    response = get_model_status_pb2.GetModelStatusResponse.FromString(
        protocol.status(request.SerializeToString())
    )
    return [(item.version, item.state) for item in response.model_version_status]


def test_the_status_is_loading_then_available_then_unloading(small_scorer):
    state = get_model_status_pb2.ModelVersionStatus
    model = BundleModel("small", metrics=Metrics(CollectorRegistry()))
    protocol = TfProtocol(model)
    assert status(protocol) == [(0, state.LOADING)]
    with pytest.raises(NotReady):
        predict(protocol, ad_request())
    model.swap(small_scorer, "3")
    assert status(protocol) == status(protocol, version=3) == [(3, state.AVAILABLE)]
    with pytest.raises(UnknownModel, match="serves version 3 now, not 4"):
        status(protocol, version=4)
    model.drain()
    assert status(protocol) == [(3, state.UNLOADING)]
