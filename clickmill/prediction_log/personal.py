"""Personal values leave the process only as salted hashes."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from clickmill.errors import UsageError

LEAST_BYTES = 16


@dataclass(frozen=True)
class Salt:
    """A secret of at least 16 bytes. Who has the log but not the salt can tell that two rows are of one person, not of whom."""

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not LEAST_BYTES <= len(self.secret) <= 64:
            raise UsageError(
                f"the salt of the prediction log has {len(self.secret)} bytes; take {LEAST_BYTES} to 64 random ones "
                "(openssl rand -hex 32) and keep it out of the logs"
            )

    @classmethod
    def of_environment(cls) -> Salt | None:
        """CLICKMILL_LOG_SALT; None where it is not set, or empty. Raises UsageError as the class does."""
        salt = os.environ.get("CLICKMILL_LOG_SALT")
        return cls(salt.encode()) if salt else None

    def hashed(self, values: pa.Array) -> pa.Array:
        """Keyed BLAKE2b (RFC 7693) of each value as 32 hex digits; nulls stay null, equal values stay equal.

        values: string, or any type that casts to string; a list's items are hashed one by one.
        """
        if pa.types.is_list(values.type):
            return pa.ListArray.from_arrays(values.offsets, self.hashed(values.values), mask=values.is_null())
        coded = pc.dictionary_encode(values.cast(pa.string()))
        digests = [self._digest(value) for value in coded.dictionary.to_pylist()]
        return pa.DictionaryArray.from_arrays(
            coded.indices, pa.array(digests, pa.string())
        ).dictionary_decode()

    def _digest(self, value: str) -> str:
        return hashlib.blake2b(value.encode(), key=self.secret, digest_size=16).hexdigest()
