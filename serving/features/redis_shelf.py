"""Loading the store in Redis: written beside what readers see, then put in its place by one transaction."""

from __future__ import annotations

import uuid
from typing import Any

from pydantic import ValidationError
from redis import Redis
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.exceptions import RedisError, WatchError
from redis.retry import Retry

from clickmill.progress import Progress
from serving.features.publication import Publication
from serving.features.redis_keys import entity_key, meta_key, unreachable
from serving.features.store import Rows, refuse_older, without_password

KEEP_S = 900
"""Life of a half-written publication after its last portion, and of the old one should nobody free it."""


class RedisShelf:
    """A Shelf. For a moment Redis holds the old and the new publication: it needs memory for both."""

    def __init__(self, url: str, name: str) -> None:
        self.address = without_password(url)
        self._name = name
        self._redis = Redis.from_url(
            url, socket_timeout=10.0, socket_connect_timeout=5.0, retry=Retry(NoBackoff(), 0)
        )

    def current(self) -> Publication | None:
        """What readers see now; None also where something is that we did not write."""
        try:
            return _read(self._redis.get(meta_key(self._name)))
        except (RedisError, OSError) as error:
            raise unreachable(self.address, error) from error

    def put(self, publication: Publication, rows: Rows, *, allow_older: bool, progress: Progress) -> bool:
        """As `Shelf.put` says."""
        current = self.current()
        refuse_older(current, publication, self.address, allow_older=allow_older)
        if current is not None and current.version == publication.version:
            return False
        run = uuid.uuid4().hex
        try:
            written = self._write(publication, rows, run, progress)
            while not self._swap(publication, written, run, allow_older=allow_older):
                pass  # another publisher was quicker between our look and our swap: look again
        except (RedisError, OSError) as error:
            raise unreachable(self.address, error) from error
        return True

    def _write(self, publication: Publication, rows: Rows, run: str, progress: Progress) -> frozenset[str]:
        """Entities that have rows; Redis knows no empty hash."""
        written = set()
        progress.start("writing", sum(e.ids for e in publication.entities.values()), "ids")
        for entity, portions in rows.items():
            key = self._new(entity, run)
            for portion in portions:
                pipe = self._redis.pipeline(transaction=False)
                pipe.hset(key, mapping=dict[Any, Any](portion))
                pipe.expire(key, KEEP_S)
                pipe.execute()
                written.add(entity)
                progress.advance(len(portion))
        progress.finish()
        return frozenset(written)

    def _swap(
        self, publication: Publication, written: frozenset[str], run: str, *, allow_older: bool
    ) -> bool:
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.watch(meta_key(self._name))
            current = _read(pipe.get(meta_key(self._name)))
            refuse_older(current, publication, self.address, allow_older=allow_older)
            replaced = [e for e in (current.entities if current else {}) if self._exists(pipe, e)]
            pipe.multi()
            for entity in replaced:
                # RENAME onto a key would free the old hash then and there, and stop Redis for it.
                pipe.rename(entity_key(self._name, entity), self._old(entity, run))
                pipe.expire(self._old(entity, run), KEEP_S)
            for entity in written:
                pipe.persist(self._new(entity, run))
                pipe.rename(self._new(entity, run), entity_key(self._name, entity))
            pipe.set(meta_key(self._name), publication.model_dump_json())
            try:
                pipe.execute()
            except WatchError:
                return False
        if replaced:
            self._redis.unlink(*(self._old(entity, run) for entity in replaced))
        return True

    def _exists(self, pipe: Pipeline, entity: str) -> bool:
        return bool(pipe.exists(entity_key(self._name, entity)))

    def _new(self, entity: str, run: str) -> str:
        return f"{meta_key(self._name)}:new:{run}:{entity}"

    def _old(self, entity: str, run: str) -> str:
        return f"{meta_key(self._name)}:old:{run}:{entity}"


def _read(meta: Any) -> Publication | None:
    try:
        return None if meta is None else Publication.model_validate_json(meta)
    except ValidationError:
        return None  # not ours, or of a version we do not know: it is replaced
