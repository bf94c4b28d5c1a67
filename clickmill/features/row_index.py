"""Which row a known value has: one hash table for all vocabularies of a space, as two flat arrays that a file can be mapped to.

    key  = fingerprint64(value) + salt(vocabulary)         strings and flags
           mix64(value) + salt(vocabulary)                 integers; mix64 is one to one (the finalizer of SplitMix64)

Open addressing in the order of the keys: home = the upper bits of the key, and each key takes the first free place from its home on, the
lesser keys first. A search walks on while it meets lesser keys, so it ends at the key, at a greater one or at a free place: one or two steps
at a load of at most a half. Values themselves are not kept: another value is taken for a known one with a probability of 2^-64 for each
known value, some 1e-12 where there are ten million.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickmill.disk import write_array
from clickmill.errors import UnreadableData
from clickmill.features.fingerprint import fingerprint64
from clickmill.features.space import EMPTY_LINE

_FREE = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
_KEYS, _PLACES = "keys.npy", "places.npy"
_GOLDEN = 0x9E37_79B9_7F4A_7C15
"""2^64 over the golden ratio: multiples of it are spread over all 64 bits."""


@dataclass(frozen=True, eq=False)
class RowIndex:
    """`find(keys)` gives the place of each key in its vocabulary, -1 for a key that is in none."""

    keys: np.ndarray
    """uint64 (slots,), all ones where free."""
    places: np.ndarray
    """int32 (slots,): place of the value in its vocabulary, from 0."""

    @classmethod
    def over(cls, vocabularies: Mapping[str, pa.Array]) -> RowIndex:
        """Of vocabularies in the order of their salts. Raises UnreadableData when two values have one key, which no data will show."""
        keys, places = [np.empty(0, np.uint64)], [np.empty(0, np.int32)]
        for number, values in enumerate(vocabularies.values()):
            keys.append(keys_of(values, salt(number)))
            places.append(np.arange(len(values), dtype=np.int32))
            if not pa.types.is_integer(values.type) and (empty := pc.index(values, "").as_py()) >= 0:
                # the graph's table knows the empty string under this name, and cannot tell who asks for it by that
                keys.append(keys_of(pa.array([EMPTY_LINE]), salt(number)))
                places.append(np.array([empty], np.int32))
        return cls._laid(np.concatenate(keys), np.concatenate(places))

    @classmethod
    def _laid(cls, keys: np.ndarray, places: np.ndarray) -> RowIndex:
        order = np.argsort(keys)
        keys, places = keys[order], places[order]
        if len(keys) and (keys[-1] == _FREE or (keys[1:] == keys[:-1]).any()):
            raise UnreadableData(
                "two values of the vocabularies have one key of 64 bits; leave one of them out"
            )
        slots = 1 << bits_for(len(keys))
        home = (keys >> np.uint64(65 - slots.bit_length())).astype(np.int64)
        step = np.arange(len(keys))
        at = np.maximum.accumulate(home - step) + step if len(keys) else step
        # a free place behind the last key ends every search
        size = slots + max(0, int(at[-1]) + 2 - slots if len(keys) else 0)
        table, found = np.full(size, _FREE), np.full(size, -1, np.int32)
        table[at], found[at] = keys, places
        return cls(table, found)

    @cached_property
    def _shift(self) -> np.uint64:
        # the table is a power of two of homes, and a few places more
        return np.uint64(65 - len(self.keys).bit_length())

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Places (n,) int32 of keys (n,) uint64."""
        at = (keys >> self._shift).astype(np.int64)
        met = self.keys[at]
        places = np.where(met == keys, self.places[at], np.int32(-1))
        (going,) = (met < keys).nonzero()
        while len(going):
            at[going] += 1
            met = self.keys[at[going]]
            hit = met == keys[going]
            places[going[hit]] = self.places[at[going[hit]]]
            going = going[met < keys[going]]
        return places

    def save(self, folder: Path) -> None:
        """Write `keys.npy` and `places.npy`."""
        folder.mkdir(parents=True, exist_ok=True)
        write_array(folder / _KEYS, self.keys)
        write_array(folder / _PLACES, self.places)

    @classmethod
    def load(cls, folder: Path) -> RowIndex:
        """Map what `save` wrote: pages are read when they are asked for, and shared between processes. Raises UnreadableData."""
        try:
            keys, places = (np.load(folder / name, mmap_mode="r") for name in (_KEYS, _PLACES))
        except (OSError, ValueError, EOFError) as error:
            raise UnreadableData(
                f"{folder}: holds no index of rows ({error}); write the bundle again"
            ) from error
        if (
            keys.dtype != np.uint64
            or places.dtype != np.int32
            or keys.shape != places.shape
            or keys.ndim != 1
        ):
            raise UnreadableData(
                f"{folder}: {_KEYS} and {_PLACES} do not fit together; write the bundle again"
            )
        # plain views of the mapped pages: each operation on np.memmap would pay for its subclass
        return cls(keys.view(np.ndarray), places.view(np.ndarray))


def bits_for(values: int) -> int:
    """Log of the number of homes, so that at most half of them are taken."""
    return max(2 * values - 1, 1).bit_length()


def salt(vocabulary: int) -> np.uint64:
    """What is added to the keys of the vocabulary of this number."""
    return np.uint64((vocabulary + 1) * _GOLDEN & 0xFFFF_FFFF_FFFF_FFFF)


def keys_of(values: pa.Array, added: np.uint64) -> np.ndarray:
    """Keys (n,) uint64 of a vocabulary's values, strings or int64."""
    if pa.types.is_integer(values.type):
        return mix64(values.to_numpy(zero_copy_only=False)) + added
    return fingerprint64([value.encode() for value in values.to_pylist()]) + added


def mix64(values: np.ndarray) -> np.ndarray:
    """int64 (n,) to uint64 (n,), one to one, every bit in doubt after one bit of the value is turned.

    Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014, figure 16 (Stafford's variant 13).
    """
    z = np.ascontiguousarray(values, np.int64).view(np.uint64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58_476D_1CE4_E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D0_49BB_1331_11EB)
    return z ^ (z >> np.uint64(31))
