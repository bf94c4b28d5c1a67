"""Strings of the binary extension (4 bytes of length, little endian, before each), found in their buffers without being taken out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clickmill.features.texts import PADDING, Texts
from serving.refusals import MalformedRequest

_SHORT = 256
"""Bytes below which a string's length has three zeros behind its first byte."""
_FEW_BYTES = 1024
"""Size up to which a walk from string to string is quicker than numpy's calls: a row or two."""

Places = tuple[np.ndarray, np.ndarray]
"""Where each string's length stands in a buffer, and what it is; int64 (n,)."""

Buffer = bytes | memoryview


def texts_of(name: str, buffer: Buffer) -> Texts:
    """The strings of one buffer. Raises MalformedRequest where one runs past its end."""
    at_once = texts_of_all([buffer])
    if at_once is not None:
        return at_once[0]
    whole = bytes(buffer) + PADDING
    found, at = _walked(whole, len(buffer))
    if found is None:
        raise MalformedRequest(
            f"input `{name}`: the string at byte {at} runs past the end of its {len(buffer):,} bytes; "
            "each string needs its length before it, 4 bytes, little endian"
        )
    return Texts(whole, found[0] + 4, found[1])


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
    if total <= _FEW_BYTES:
        found = _walked(whole, total)[0]
    else:
        found = _of_one_length(whole, total) or _of_short(whole, total)
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


def _of_one_length(whole: bytes, total: int) -> Places | None:
    length = int.from_bytes(whole[:4], "little") if total >= 4 else 0
    step = 4 + length
    if total % step:
        return None
    told = np.ndarray((total // step,), "<u4", whole, strides=(step,))
    if not (told == length).all():
        return None
    return np.arange(0, total, step), np.full(total // step, length)


def _of_short(whole: bytes, total: int) -> Places | None:
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
    if len(begins) and not begins[0] and nexts[-1] == total and (nexts[:-1] == begins[1:]).all():
        return begins, lengths
    return _of_chain(begins, lengths, total)


def _of_chain(begins: np.ndarray, lengths: np.ndarray, total: int) -> Places | None:
    """Of places that may be beginnings, those that the first one leads to. In a row of empty strings, such as padded lists have, every fourth
    zero looks like one. The number of steps that is looked ahead doubles (pointer jumping, Wyllie 1979), so that n places take log n rounds.
    """
    n = len(begins)
    if not n or begins[0]:
        return None
    nexts = begins + 4 + lengths
    after = np.searchsorted(begins, nexts)
    after[np.append(begins, -1)[after] != nexts] = n  # the end, or nowhere
    jump, on_the_way = np.append(after, n), np.zeros(n + 1, np.bool_)
    on_the_way[0] = True
    count = 0
    while count != (count := int(on_the_way[:n].sum())):
        on_the_way[jump[on_the_way]] = True
        jump = jump[jump]
    chosen = np.flatnonzero(on_the_way[:n])
    return (begins[chosen], lengths[chosen]) if nexts[chosen[-1]] == total else None


def _walked(whole: bytes, total: int) -> tuple[Places | None, int]:
    """Strings from one to the next, and where the last one begins: the culprit, where there are no places since it runs past the end."""
    begins, lengths, at, last = [], [], 0, 0
    while at < total:
        length = int.from_bytes(whole[at : at + 4], "little")
        begins.append(at)
        lengths.append(length)
        last, at = at, at + 4 + length
    if at != total:
        return None, last
    return (np.array(begins, np.int64), np.array(lengths, np.int64)), last
