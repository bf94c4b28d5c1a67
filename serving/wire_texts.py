"""Strings of the binary extension (4 bytes of length, little endian, before each), found in their buffers without being taken out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clickmill.features.texts import PADDING, Texts
from serving.refusals import MalformedRequest

_SHORT = 256
"""Bytes below which a string's length has three zeros behind its first byte."""

Buffer = bytes | memoryview


def texts_of(name: str, buffer: Buffer) -> Texts:
    """The strings of one buffer. Raises MalformedRequest where one runs past its end."""
    found = texts_of_all([buffer])
    return _walked(name, bytes(buffer)) if found is None else found[0]


def texts_of_all(buffers: Sequence[Buffer]) -> list[Texts] | None:
    """The strings of each buffer, found in all of them at once, in one buffer; None where they have to be looked for one by one, since a
    buffer is broken, or strings are long, or hold the very bytes by which the others are told.

    What is guessed (all of one length, or lengths below 256 where three zeros stand) is proven by the lengths in the buffer: each string
    ends where the next begins, the last at the end, and no string lies in two buffers.
    """
    sizes = np.fromiter(map(len, buffers), np.int64, len(buffers))
    ends = sizes.cumsum()
    total = int(ends[-1]) if len(ends) else 0
    whole = b"".join((*buffers, PADDING))
    found = _of_one_length(whole, total)
    if found is None:
        found = _of_short(whole, total)
    if found is None:
        return None
    begins, lengths = found
    # of each buffer the place of its first string; one that begins within a string has none
    firsts = np.searchsorted(begins, ends - sizes)
    if not (np.append(begins, total)[firsts] == ends - sizes)[sizes > 0].all():
        return None
    starts, lasts = begins + 4, np.searchsorted(begins, ends).tolist()
    return [Texts(whole, starts[a:b], lengths[a:b]) for a, b in zip(firsts.tolist(), lasts, strict=True)]


def are_utf8(texts: Sequence[Texts]) -> bool:
    """Whether all strings, found by `texts_of_all` in one buffer, are UTF-8. May say no where others in that buffer are not."""
    buffer = texts[0].buffer
    if buffer.isascii():
        return True
    data = np.frombuffer(buffer, np.uint8).copy()
    starts = np.concatenate([part.starts for part in texts])
    for back in range(1, 5):
        data[starts - back] = (
            0  # in place of the lengths; between two strings, none can complete the character of another
        )
    try:
        data.tobytes().decode()
    except UnicodeDecodeError:
        return False
    return True


def _of_one_length(whole: bytes, total: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Where each string's length stands, and what it is."""
    length = int.from_bytes(whole[:4], "little") if total >= 4 else 0
    step = 4 + length
    if total % step:
        return None
    told = np.ndarray((total // step,), "<u4", whole, strides=(step,))
    if not (told == length).all():
        return None
    return np.arange(0, total, step), np.full(total // step, length)


def _of_short(whole: bytes, total: int) -> tuple[np.ndarray, np.ndarray] | None:
    if total < 4:
        return None
    data = np.frombuffer(whole, np.uint8, total)
    begins = np.flatnonzero((data[1:-2] | data[2:-1] | data[3:]) == 0)
    lengths = data[begins].astype(np.int64)
    nexts = begins + 4 + lengths
    # the byte before an empty string looks like a length, but nothing ends there
    reached = np.zeros(total + 4 + _SHORT, np.bool_)
    reached[nexts] = True
    reached[0] = True
    kept = reached[begins]
    if not kept.all():
        begins, lengths, nexts = begins[kept], lengths[kept], nexts[kept]
    if not len(begins) or begins[0] or nexts[-1] != total or not (nexts[:-1] == begins[1:]).all():
        return None
    return begins, lengths


def _walked(name: str, buffer: bytes) -> Texts:
    starts, lengths, at, end = [], [], 0, len(buffer)
    while at < end:
        start = at + 4
        length = int.from_bytes(buffer[at:start], "little")
        if start > end or start + length > end:
            raise MalformedRequest(
                f"input `{name}`: the string at byte {at} runs past the end of its {end:,} bytes; "
                "each string needs its length before it, 4 bytes, little endian"
            )
        starts.append(start)
        lengths.append(length)
        at = start + length
    return Texts(buffer + PADDING, np.array(starts, np.int64), np.array(lengths, np.int64))
