"""Where the latest values of users and ads are kept: one interface over Redis and a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

from clickmill.errors import ClickmillError, UsageError
from clickmill.progress import Progress
from serving.features.publication import Publication

Rows = Mapping[str, Iterator[Mapping[bytes, bytes]]]
"""By id field, the ids and their bytes in portions."""


class StoreUnreachable(ClickmillError):
    """The store does not answer, or not with what was asked for; names the address and what to do."""


@dataclass(frozen=True)
class Stored:
    """What lies under the ids asked for, all of one publication."""

    publication: Publication | None
    """None while nothing was ever published."""
    rows: Mapping[str, Sequence[bytes | None]]
    """By id field, in the order asked for; None for an id the store does not know."""


class FeatureStore(Protocol):
    """Read by endpoints, many times a second."""

    address: str
    """Where it is, without passwords: for messages and logs."""

    async def read(self, ids: Mapping[str, Sequence[str]]) -> Stored:
        """The rows of many ids of several kinds in one round trip, all of one publication. Raises StoreUnreachable; bounds its own
        waiting (`serving.features.Lookup` has the deadline of a request)."""
        ...

    async def close(self) -> None:
        """Give the connections back."""
        ...


class Shelf(Protocol):
    """Loaded by a publisher, some times a day."""

    address: str

    def current(self) -> Publication | None:
        """What readers see now. Raises StoreUnreachable."""
        ...

    def put(self, publication: Publication, rows: Rows, *, allow_older: bool, progress: Progress) -> bool:
        """Replace everything at once: a reader sees the old publication or the new one, never some of each. False when the store
        holds this very version already. Raises StoreUnreachable, and UsageError when it holds a later one."""
        ...


def refuse_older(current: Publication | None, new: Publication, address: str, *, allow_older: bool) -> None:
    """Raises UsageError when readers would be taken back in time unasked: a job that hung for an hour, an old dataset."""
    if current is not None and current.as_of > new.as_of and not allow_older:
        raise UsageError(
            f"{address}: holds features as of {current.as_of:%Y-%m-%d %H:%M:%S} UTC, later than these "
            f"({new.as_of:%Y-%m-%d %H:%M:%S} UTC); publish later ones, or say --allow-older to go back"
        )


def without_password(url: str) -> str:
    """A URL as it may stand in a log."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
