"""Texts stand in for object arrays of bytes: whatever is done to both gives the same strings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clickmill.features.fingerprint import fingerprint64, fingerprints
from clickmill.features.texts import Texts, arrays

STRINGS = st.lists(st.binary(max_size=70), min_size=1, max_size=12)


def objects(texts: list[bytes]) -> np.ndarray:
    array = np.empty(len(texts), object)
    array[:] = texts
    return array


@settings(deadline=None)
@given(STRINGS, st.data())
def test_texts_give_what_an_array_gives(strings, data):
    texts, array = Texts.of(strings), objects(strings)
    at = data.draw(st.lists(st.integers(0, len(strings) - 1), max_size=5))
    assert len(texts) == len(array)
    assert (texts.shape, texts.ndim, texts.dtype) == (array.shape, array.ndim, array.dtype)
    assert texts.tolist() == array.tolist()
    assert texts[-1] == array[-1]
    assert texts[1:].tolist() == array[1:].tolist()
    assert texts[np.array(at, int)].tolist() == array[np.array(at, int)].tolist()
    assert np.repeat(texts, 2, axis=0).tolist() == np.repeat(array, 2, axis=0).tolist()
    assert np.concatenate([texts, texts[1:]]).tolist() == np.concatenate([array, array[1:]]).tolist()
    assert texts.reshape(1, -1).tolist() == array.reshape(1, -1).tolist()
    assert np.asarray(texts.reshape(-1, 1)).tolist() == array.reshape(-1, 1).tolist()
    assert texts.reshape(-1, 1).ravel().tolist() == strings


@settings(deadline=None)
@given(STRINGS)
def test_the_hash_of_texts_is_that_of_their_strings(strings):
    texts = Texts.of(strings)[::-1]
    found = fingerprints(texts.buffer, texts.starts, texts.lengths)
    assert found.tolist() == fingerprint64(strings[::-1]).tolist()


def test_arrays_leave_arrays_as_they_are():
    numbers = np.arange(2)
    found = arrays({"a": Texts.of([b"x", b""]), "b": numbers})
    assert found["b"] is numbers
    assert found["a"].dtype == object
    assert found["a"].tolist() == [b"x", b""]


def test_texts_are_no_numbers():
    with pytest.raises(ValueError, match="array of objects"):
        np.asarray(Texts.of([b"1"]), dtype=np.float32)
