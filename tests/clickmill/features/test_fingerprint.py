"""Our fingerprints against TensorFlow's own kernel."""

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from clickmill.features.fingerprint import fingerprint64, fingerprints


def _of_tensorflow(texts):
    eight = tf.fingerprint(tf.constant(texts, tf.string), method="farmhash64").numpy()
    return np.ascontiguousarray(eight).view("<u8")[:, 0]


@settings(max_examples=150)
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=40))
def test_any_bytes_get_tensorflows_fingerprint(texts):
    np.testing.assert_array_equal(fingerprint64(texts), _of_tensorflow(texts))


def test_every_length_up_to_a_few_blocks_gets_it():
    rng = np.random.default_rng(0)
    texts = [rng.bytes(length) for length in range(400)]
    np.testing.assert_array_equal(fingerprint64(texts), _of_tensorflow(texts))


@settings(max_examples=60)
@given(st.lists(st.text(max_size=30), min_size=1, max_size=20), st.integers(1, 100_000_000))
def test_modulo_the_buckets_it_is_the_hash_of_the_encoder(texts, buckets):
    encoded = [text.encode(errors="replace") for text in texts]
    expected = tf.strings.to_hash_bucket_fast(encoded, buckets).numpy()
    np.testing.assert_array_equal(fingerprint64(encoded) % np.uint64(buckets), expected)


def test_no_string_has_no_fingerprint():
    assert fingerprint64([]).shape == (0,)


def test_strings_may_lie_anywhere_in_a_buffer():
    buffer = b"....first..second" + bytes(8)
    found = fingerprints(buffer, np.array([4, 11]), np.array([5, 6]))
    np.testing.assert_array_equal(found, fingerprint64([b"first", b"second"]))


def test_the_empty_string_has_the_constant_of_the_published_algorithm():
    assert int(fingerprint64([b""])[0]) == 0x9AE16A3B2F90404F
