"""TensorProtos read as TensorFlow reads them: the oracle is its own reader, Tensor::FromProto behind tf.io.parse_tensor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2

from clickmill.errors import RequestTooLarge
from serving.limits import Limits
from serving.refusals import MalformedRequest
from serving.tf_tensors import from_protos, predict_request, to_array, to_proto

KINDS = {
    tf.string: ("string_val", st.binary(max_size=300)),
    tf.int64: ("int64_val", st.integers(-(2**63), 2**63 - 1)),
    tf.float32: ("float_val", st.floats(width=32, allow_nan=False)),
    tf.bool: ("bool_val", st.booleans()),
}


def read(proto: Any) -> np.ndarray:
    (tensor,) = from_protos({"x": proto}, Limits())
    return tensor.values.reshape(tensor.shape)


@st.composite
def protos(draw: st.DrawFn) -> tuple[Any, Any]:
    """A proto in any of the forms clients send, with no more values than its shape has room for, and its dtype."""
    dtype = draw(st.sampled_from(list(KINDS)))
    attribute, value = KINDS[dtype]
    shape = draw(st.lists(st.integers(0, 4), min_size=1, max_size=2))
    size = int(np.prod(shape))
    values = draw(st.lists(value, max_size=size))
    proto = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum)
    for side in shape:
        proto.tensor_shape.dim.add(size=side)
    if len(values) == size and dtype != tf.string and draw(st.booleans()):
        proto.tensor_content = np.array(values, dtype.as_numpy_dtype).tobytes()
    elif len(values) == size and size and dtype == tf.string and draw(st.booleans()):
        proto.tensor_content = b"".join(varint(len(text)) for text in values) + b"".join(values)
    else:
        getattr(proto, attribute).extend(values)
    return proto, dtype


def varint(number: int) -> bytes:
    """Base 128, least first, the high bit on all but the last."""
    return bytes([number & 127 | 128]) + varint(number >> 7) if number > 127 else bytes([number])


@given(protos())
@settings(max_examples=150)
def test_every_form_of_a_proto_is_read_as_tensorflow_reads_it(case):
    proto, dtype = case
    expected = tf.io.parse_tensor(proto.SerializeToString(), dtype).numpy()
    found = read(proto)
    assert found.shape == expected.shape
    assert found.tolist() == expected.tolist()


@given(st.lists(st.floats(width=32, allow_nan=False), max_size=20))
@settings(max_examples=30)
def test_answers_are_read_back_by_tensorflow(values):
    scores = np.array(values, np.float32)
    assert tf.make_ndarray(to_proto(scores)).tolist() == scores.tolist()


@st.composite
def arrays(draw: st.DrawFn) -> tuple[Any, np.ndarray]:
    """A dtype and an array of it, of one or two axes, also empty."""
    dtype = draw(st.sampled_from(list(KINDS)))
    shape = draw(st.lists(st.integers(0, 4), min_size=1, max_size=2))
    values = draw(st.lists(KINDS[dtype][1], min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
    array = np.empty(len(values), dtype.as_numpy_dtype)
    array[:] = values
    return dtype, array.reshape(shape)


@given(arrays())
@settings(max_examples=100)
def test_requests_are_read_by_tensorflow_as_they_were_written(case):
    dtype, array = case
    request = predict_request({"x": array}, model_name="ctr", signature="ranking")
    assert (request.model_spec.name, request.model_spec.signature_name) == ("ctr", "ranking")
    proto = request.inputs["x"]
    theirs = tf.io.parse_tensor(proto.SerializeToString(), dtype).numpy()
    for found in (theirs, to_array(proto)):
        assert (found.shape, found.tolist()) == (array.shape, array.tolist())


def proto_of(values: Any, shape: list[int], **fields: Any) -> Any:
    proto = tf.make_tensor_proto(values)
    del proto.tensor_shape.dim[:]
    for side in shape:
        proto.tensor_shape.dim.add(size=side)
    for name, value in fields.items():
        setattr(proto, name, value)
    return proto


def test_a_shape_that_repeats_one_value_into_gigabytes_is_refused_before_it_is_one():
    bomb = proto_of(np.array([1.0], np.float32), [2000, 1_000_000])
    with pytest.raises(RequestTooLarge, match=r"input `x`: shape \[2000, 1000000\] repeats"):
        read(bomb)
    many = {f"x{i}": proto_of(np.array([1], np.int64), [2000, 1000]) for i in range(3)}
    with pytest.raises(RequestTooLarge, match="input `x2`"):
        from_protos(many, Limits())


@pytest.mark.parametrize(
    ("proto", "words"),
    [
        (tensor_pb2.TensorProto(dtype=1, tensor_content=b"12345"), "5 bytes of tensor_content, its shape needs 4"),
        (tensor_pb2.TensorProto(dtype=7, tensor_content=b"\xff\xff\xff\xff\xff\xff"), "does not begin with 1 lengths"),
        (tensor_pb2.TensorProto(dtype=7, tensor_content=b"\x05ab"), "take 6 bytes; it has 3"),
    ],
)  # fmt: skip
def test_content_that_does_not_fit_its_shape_is_refused(proto, words):
    with pytest.raises(MalformedRequest, match=words):
        read(proto)
    with pytest.raises(tf.errors.InvalidArgumentError):  # so does TensorFlow
        tf.io.parse_tensor(proto.SerializeToString(), tf.string if proto.dtype == 7 else tf.float32)
