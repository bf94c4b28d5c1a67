"""The keys of a contract's features in Redis, and what Redis's errors mean to us.

    clickmill:features:{NAME}              JSON of the publication that readers see
    clickmill:features:{NAME}:ENTITY       hash of id -> row, of that publication
    clickmill:features:{NAME}:new:...      a publication on its way in; expires by itself when its publisher dies
    clickmill:features:{NAME}:old:...      the one before, being freed

The braces are part of the keys: on a Redis Cluster all of a contract lies in one slot, where a transaction can replace it.
"""

from __future__ import annotations

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
)

from serving.features.store import StoreUnreachable


def meta_key(name: str) -> str:
    """Key of the publication's own JSON."""
    return f"clickmill:features:{{{name}}}"


def entity_key(name: str, entity: str) -> str:
    """Key of the hash with the rows of an id field."""
    return f"{meta_key(name)}:{entity}"


def unreachable(address: str, error: Exception) -> StoreUnreachable:
    """The error as we raise it: where, what, and what to do."""
    if isinstance(error, AuthenticationError | AuthorizationError | NoPermissionError):
        remedy = "give user and password in the URL: redis://USER:PASSWORD@HOST:PORT/DB"
    elif isinstance(error, OutOfMemoryError):
        remedy = "raise its maxmemory: a publication needs room beside the one in service"
    elif isinstance(error, ReadOnlyError):
        remedy = "this is a replica; publish to its primary"
    elif isinstance(error, BusyLoadingError):
        remedy = "it is reading its dump after a start; wait and try again"
    else:
        remedy = "check that redis-server runs there and that the address and port are right"
    said = str(error).rstrip(".") or type(error).__name__
    return StoreUnreachable(f"{address}: {said}; {remedy}")
