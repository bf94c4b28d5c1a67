"""Byte strings side by side in one buffer: how the text of a request stays until somebody needs Python objects, which the hash does not.

A request of 256 rows and 26 fields has 6,656 strings. As objects each is made, looked at and taken apart again; as places in the bytes
that came they are two arrays of numbers, and all fields of a request share one buffer, so that one call hashes them all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

PADDING = bytes(8)
"""Must follow the last string of a buffer: the hash fetches eight bytes at a time."""


class Texts:
    """Strings buffer[start : start + length], of any shape, that stand in for an object array of bytes: numpy's functions and whoever
    asks for values find one. Immutable.

    >>> Texts.of([b"one", b"", b"three"])[1:].tolist()
    [b'', b'three']
    """

    __slots__ = ("buffer", "lengths", "starts")
    dtype = np.dtype(object)

    def __init__(self, buffer: bytes, starts: np.ndarray, lengths: np.ndarray) -> None:
        """`starts` and `lengths` int64 of one shape; `PADDING` follows the last string in `buffer`."""
        self.buffer, self.starts, self.lengths = buffer, starts, lengths

    @classmethod
    def of(cls, texts: Sequence[bytes]) -> Texts:
        """(n,) of n byte strings."""
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        return cls(b"".join((*texts, PADDING)), lengths.cumsum() - lengths, lengths)

    @property
    def shape(self) -> tuple[int, ...]:
        """As of an array."""
        return self.lengths.shape

    @property
    def ndim(self) -> int:
        """As of an array."""
        return self.lengths.ndim

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, at: Any) -> Any:
        """One string for one place; else the strings at the places, as an array would give them."""
        starts, lengths = self.starts[at], self.lengths[at]
        if isinstance(starts, np.ndarray):
            return Texts(self.buffer, starts, lengths)
        return self.buffer[starts : starts + lengths]

    def reshape(self, *shape: int) -> Texts:
        """As of an array."""
        return Texts(self.buffer, self.starts.reshape(*shape), self.lengths.reshape(*shape))

    def ravel(self) -> Texts:
        """As of an array."""
        return self.reshape(-1)

    def tolist(self) -> list[Any]:
        """The strings as bytes, in nested lists where there are more axes than one."""
        if self.ndim == 1:
            buffer, starts = self.buffer, self.starts
            ends = (starts + self.lengths).tolist()
            return [buffer[start:end] for start, end in zip(starts.tolist(), ends, strict=True)]
        return [self[row].tolist() for row in range(len(self))]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False or np.dtype(object if dtype is None else dtype) != object:
            raise ValueError("texts become an array of objects, and a new one")
        array = np.empty(self.lengths.size, dtype=object)
        array[:] = self.ravel().tolist()
        return array.reshape(self.shape)


Column = np.ndarray | Texts
"""Values of one field of raw rows."""


def arrays(raw: Mapping[str, Column]) -> dict[str, np.ndarray]:
    """The rows with each text an object array, for whoever looks at every value."""
    return {name: np.asarray(values) for name, values in raw.items()}
