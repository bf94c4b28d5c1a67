"""FarmHash's Fingerprint64 over many strings at once: what `tf.strings.to_hash_bucket_fast` takes modulo the number of buckets.

Pike and Alakuijala, FarmHash (github.com/google/farmhash), `farmhashna::Hash64`: a fingerprint, so it never changes between versions.
Strings are sorted by the four cases of the algorithm (up to 16, 32, 64, more bytes), and each case is computed with whole arrays:
unsigned 64-bit arithmetic that wraps, over words fetched at any byte. A test holds it equal to TensorFlow's for any bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_K0, _K1, _K2 = (np.uint64(k) for k in (0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F))
_WORD = 8
_BLOCK = 64

Words = np.ndarray
"""uint64 (k,), one per string."""


def fingerprint64(texts: Sequence[bytes]) -> Words:
    """Fingerprints (n,) uint64 of n byte strings."""
    # One word of zeros behind, so that fetching eight bytes at the last one stays inside.
    buffer = b"".join((*texts, bytes(_WORD)))
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    return fingerprints(buffer, lengths.cumsum() - lengths, lengths)


def fingerprints(buffer: bytes | memoryview, starts: np.ndarray, lengths: np.ndarray) -> Words:
    """As `fingerprint64`, of the strings buffer[start : start + length] (int64); at least 8 bytes must follow the last of them."""
    fetch = _Fetch(buffer)
    n = len(lengths)
    if n == 0:
        return np.empty(0, np.uint64)
    shortest, longest = int(lengths.min()), int(lengths.max())
    for least, most, of_case in _CASES:
        if shortest >= least and longest <= most:
            return of_case(fetch, starts, lengths)
    found = np.empty(n, np.uint64)
    for least, most, of_case in _CASES:
        if longest >= least and shortest <= most:
            (chosen,) = ((lengths >= least) & (lengths <= most)).nonzero()
            if len(chosen):
                found[chosen] = of_case(fetch, starts[chosen], lengths[chosen])
    return found


class _Fetch:
    """Little-endian words of a buffer at any byte."""

    def __init__(self, buffer: bytes | memoryview) -> None:
        size = len(buffer)
        self._words = np.ndarray((max(size - 7, 0),), "<u8", buffer, strides=(1,))
        self._halves = np.ndarray((max(size - 3, 0),), "<u4", buffer, strides=(1,))
        self._bytes = np.frombuffer(buffer, np.uint8)

    def word(self, at: np.ndarray) -> Words:
        return self._words[at]

    def half(self, at: np.ndarray) -> Words:
        return self._halves[at].astype(np.uint64)

    def byte(self, at: np.ndarray) -> Words:
        return self._bytes[at].astype(np.uint64)


def _rotated(x: Words, bits: int) -> Words:
    return (x >> np.uint64(bits)) | (x << np.uint64(64 - bits))


def _mixed(x: Words) -> Words:
    return x ^ (x >> np.uint64(47))


def _pair(u: Words, v: Words, multiplier: Words) -> Words:
    """HashLen16 of the original."""
    a = _mixed((u ^ v) * multiplier)
    return _mixed((v ^ a) * multiplier) * multiplier


def _multiplier(lengths: np.ndarray) -> Words:
    return _K2 + (lengths.view(np.uint64) << np.uint64(1))


def _empty(fetch: _Fetch, at: np.ndarray, lengths: np.ndarray) -> Words:
    return np.full(len(lengths), _K2)


def _to_3(fetch: _Fetch, at: np.ndarray, lengths: np.ndarray) -> Words:
    y = fetch.byte(at) + (fetch.byte(at + (lengths >> 1)) << np.uint64(8))
    z = lengths.view(np.uint64) + (fetch.byte(at + lengths - 1) << np.uint64(2))
    return _mixed((y * _K2) ^ (z * _K0)) * _K2


def _to_7(fetch: _Fetch, at: np.ndarray, lengths: np.ndarray) -> Words:
    first = lengths.view(np.uint64) + (fetch.half(at) << np.uint64(3))
    return _pair(first, fetch.half(at + lengths - 4), _multiplier(lengths))


def _to_16(fetch: _Fetch, at: np.ndarray, lengths: np.ndarray) -> Words:
    multiplier = _multiplier(lengths)
    a, b = fetch.word(at) + _K2, fetch.word(at + lengths - 8)
    return _pair(_rotated(b, 37) * multiplier + a, (_rotated(a, 25) + b) * multiplier, multiplier)


def _to_32(fetch: _Fetch, at: np.ndarray, lengths: np.ndarray) -> Words:
    multiplier, end = _multiplier(lengths), at + lengths
    a, b = fetch.word(at) * _K1, fetch.word(at + 8)
    c, d = fetch.word(end - 8) * multiplier, fetch.word(end - 16) * _K2
    return _pair(_rotated(a + b, 43) + _rotated(c, 30) + d, a + _rotated(b + _K2, 18) + c, multiplier)


def _to_64(fetch: _Fetch, at: np.ndarray, lengths: np.ndarray) -> Words:
    multiplier, end = _multiplier(lengths), at + lengths
    a, b = fetch.word(at) * _K2, fetch.word(at + 8)
    c, d = fetch.word(end - 8) * multiplier, fetch.word(end - 16) * _K2
    y = _rotated(a + b, 43) + _rotated(c, 30) + d
    z = _pair(y, a + _rotated(b + _K2, 18) + c, multiplier)
    e, f = fetch.word(at + 16) * multiplier, fetch.word(at + 24)
    g, h = (y + fetch.word(end - 32)) * multiplier, (z + fetch.word(end - 24)) * multiplier
    return _pair(_rotated(e + f, 43) + _rotated(g, 30) + h, e + _rotated(f + a, 18) + g, multiplier)


def _half_block(fetch: _Fetch, at: np.ndarray, a: Words, b: Words) -> tuple[Words, Words]:
    """WeakHashLen32WithSeeds of the original: the 32 bytes at `at` with two seeds."""
    w, x, y, z = (fetch.word(at + 8 * i) for i in range(4))
    a = a + w
    b = _rotated(b + a + z, 21)
    c = a
    a = a + x + y
    b = b + _rotated(a, 44)
    return a + z, b + c


def _longer(fetch: _Fetch, at: np.ndarray, lengths: np.ndarray) -> Words:
    n = len(lengths)
    state = np.zeros((7, n), np.uint64)  # x, y, z, v0, v1, w0, w1
    seed = np.full(n, 81, np.uint64)  # an array: scalars that wrap warn
    state[0] = seed * _K2 + fetch.word(at)
    state[1] = seed * _K1 + np.uint64(113)
    state[2] = _mixed(state[1] * _K2 + np.uint64(113)) * _K2
    blocks = (lengths - 1) // _BLOCK
    for i in range(int(blocks.max())):
        (going,) = (blocks > i).nonzero()
        state[:, going] = _round(fetch, at[going] + i * _BLOCK, state[:, going], _K1, last=False)
    rest = (lengths - 1) & (_BLOCK - 1)
    multiplier = _K1 + ((state[2] & np.uint64(0xFF)) << np.uint64(1))
    state[5] += rest.view(np.uint64)
    state[3] += state[5]
    state[5] += state[3]
    last = at + blocks * _BLOCK + rest - (_BLOCK - 1)
    x, y, z, v0, v1, w0, w1 = _round(fetch, last, state, multiplier, last=True)
    return _pair(_pair(v0, w0, multiplier) + _mixed(y) * _K0 + z, _pair(v1, w1, multiplier) + x, multiplier)


def _round(
    fetch: _Fetch, at: np.ndarray, state: np.ndarray, multiplier: Words | np.uint64, *, last: bool
) -> tuple[Words, ...]:
    """One block of 64 bytes; the last weighs what the earlier ones left by 9."""
    x, y, z, v0, v1, w0, w1 = iter(state)
    weight = np.uint64(9 if last else 1)
    x = _rotated(x + y + v0 + fetch.word(at + 8), 37) * multiplier
    y = _rotated(y + v1 + fetch.word(at + 48), 42) * multiplier
    x = x ^ (w1 * weight)
    y = y + v0 * weight + fetch.word(at + 40)
    z = _rotated(z + w0, 33) * multiplier
    v0, v1 = _half_block(fetch, at, v1 * multiplier, x + w0)
    w0, w1 = _half_block(fetch, at + 32, z + w1, y + fetch.word(at + 16))
    return z, y, x, v0, v1, w0, w1


_CASES = (
    (0, 0, _empty),
    (1, 3, _to_3),
    (4, 7, _to_7),
    (8, 16, _to_16),
    (17, 32, _to_32),
    (33, 64, _to_64),
    (65, np.iinfo(np.int64).max, _longer),
)
"""Least and most bytes of each case of the algorithm."""
