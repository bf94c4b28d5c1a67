"""Which store an address means: a Redis URL, or the path of a file."""

from __future__ import annotations

from pathlib import Path

from clickmill.errors import UsageError
from serving.features.store import FeatureStore, Shelf, without_password


def store_at(target: str, name: str) -> FeatureStore:
    """The store at a Redis URL or a path, for the contract `name`. Raises UsageError for another kind of address."""
    if _is_redis(target):
        from serving.features.redis_store import RedisStore

        return RedisStore(target, name)
    from serving.features.file_store import FileStore

    return FileStore(Path(target))


def shelf_at(target: str, name: str) -> Shelf:
    """The same for publishing."""
    if _is_redis(target):
        from serving.features.redis_shelf import RedisShelf

        return RedisShelf(target, name)
    from serving.features.file_shelf import FileShelf

    return FileShelf(Path(target), name)


def _is_redis(target: str) -> bool:
    scheme, separator, _ = target.partition("://")
    if separator and scheme not in ("redis", "rediss", "unix"):
        raise UsageError(
            f"{without_password(target)}: is no feature store; give redis://HOST:PORT/DB, rediss://..., unix://SOCKET or the path of a file"
        )
    return bool(separator)
