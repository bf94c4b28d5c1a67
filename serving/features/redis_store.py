"""The store in Redis, as endpoints read it: one transaction a request, sent and answered in one round trip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import ValidationError
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from serving.features.publication import Publication
from serving.features.redis_keys import entity_key, meta_key, unreachable
from serving.features.store import Stored, StoreUnreachable, without_password

CONNECTIONS = 32
"""At most; each carries one request at a time. At 0.5 ms a read they are 64,000 reads a second, more than one Redis answers."""

PATIENCE_S = 1.0
"""How long a connection waits for Redis before it is dropped. Requests do not wait for it: their deadline is shorter, and a read
that comes after it finishes alone, so that a connection that takes long to open (TLS, a far zone) is there for the next one."""


class RedisStore:
    """A FeatureStore. No retries: what failed once has cost the request its time already."""

    def __init__(self, url: str, name: str) -> None:
        self.address = without_password(url)
        self._name = name
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=PATIENCE_S,
            socket_timeout=PATIENCE_S,
            socket_connect_timeout=PATIENCE_S,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),
            client_name=f"clickmill-{name}",
        )
        self._redis = Redis.from_pool(pool)
        self._known: tuple[bytes, Publication] | None = None

    async def read(self, ids: Mapping[str, Sequence[str]]) -> Stored:
        """As `FeatureStore.read` says. MULTI and EXEC travel with the reads, so that no publication comes in between."""
        asked = {entity: wanted for entity, wanted in ids.items() if wanted}
        try:
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.get(meta_key(self._name))
                for entity, wanted in asked.items():
                    pipe.hmget(entity_key(self._name, entity), list(wanted))
                meta, *found = await pipe.execute()
        except (TimeoutError, RedisError, OSError) as error:
            raise unreachable(self.address, error) from error
        rows: dict[str, Sequence[bytes | None]] = dict.fromkeys(ids, ())
        return Stored(self._publication(meta), rows | dict(zip(asked, found, strict=True)))

    async def close(self) -> None:
        """Close all connections."""
        await self._redis.aclose(close_connection_pool=True)

    def _publication(self, meta: bytes | None) -> Publication | None:
        if meta is None:
            return None
        if self._known is None or self._known[0] != meta:
            try:
                self._known = meta, Publication.model_validate_json(meta)
            except ValidationError as error:
                raise StoreUnreachable(
                    f"{self.address}: {meta_key(self._name)} holds no publication of ours ({error}); publish again"
                ) from error
        return self._known[1]
