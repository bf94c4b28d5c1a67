"""A real redis-server on a free port of loopback, to be killed, hung and started again."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

from serving.ports import claim


class RedisProcess:
    """One server; what was saved (`save`) is there again after a start."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip(
                "redis-server is not installed, so that nothing here was tested: apt-get install redis-server"
            )
        self._program, self._folder = program, folder
        self.port = claim("127.0.0.1", 0, "--port")
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers."""
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder), "--save", ""]
        log = (self._folder / "redis.log").open("ab")
        self.process = subprocess.Popen([self._program, *options], stdout=log, stderr=log)
        log.close()
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with contextlib.suppress(RedisError):
                if self.client().ping():
                    return
            time.sleep(0.02)
        raise AssertionError((self._folder / "redis.log").read_text())

    def client(self) -> Redis:
        """A plain client, to look into it."""
        return Redis.from_url(self.url, socket_timeout=5)

    def save(self) -> None:
        """Keep what it holds for the next start."""
        self.client().save()

    def forget(self) -> None:
        """The next start finds nothing."""
        (self._folder / "dump.rdb").unlink()

    def kill(self) -> None:
        """SIGKILL: connections break."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def hang(self) -> None:
        """SIGSTOP: connections stay and nobody answers."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def running_redis(folder: Path) -> Iterator[RedisProcess]:
    """For the length of a `with`; skips the test where redis-server is not installed."""
    redis = RedisProcess(folder)
    try:
        redis.start()
        yield redis
    finally:
        if redis.process is not None:
            redis.process.kill()
            redis.process.wait()
