"""A release on this machine: a server per bundle as child processes, and the router before them.

The door stands in this process, on a thread of its own; a server that ended is
started again while the door sends its users to the other.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from aiohttp import web

from clickmill import contract as contracts
from clickmill.bundle.golden import TOLERANCE
from clickmill.contract import FeatureContract
from clickmill.errors import ClickmillError
from clickmill.release import Paired, Seen, Smoke, Split, TargetFailed, Traffic
from serving.client import Client
from serving.process import Endpoint, EndpointFailed, running_server
from serving.router.counts import Counts
from serving.router.door import Chooser, Door, Ways, by_share
from serving.rows import json_rows

_SERVE = """
import json, os, signal, sys, threading, time
from pathlib import Path
parent = os.getppid()
def follow():  # a release loop that is killed cannot stop its servers: they notice, and the loop starts anew with its own
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=follow, daemon=True).start()
from clickmill.prediction_log import Salt
from serving.prediction_log import LogSettings
from serving.server import serve
given = json.loads(sys.argv[1])
if given["prediction_log"]:
    given["prediction_log"] = Path(given["prediction_log"])
    given["log_settings"] = LogSettings.model_validate(given["log_settings"])
    given["log_salt"] = Salt.of_environment()
if given["experiment"]:
    given["experiment"] = Path(given["experiment"])
serve(**given)
"""


class LocalTarget:
    """Servers of one endpoint on this machine, and the door that callers use. A context manager: leaving it stops them all."""

    def __init__(
        self,
        find: Callable[[str], Path],
        *,
        model_name: str,
        home: Path,
        host: str = "127.0.0.1",
        port: int = 8080,
        prediction_log: Path | None = None,
        log_settings: Mapping[str, Any] | None = None,
        slow_ms: float = 10.0,
        start_seconds: float = 180.0,
        timeout_seconds: float = 2.0,
        chooser: Chooser = by_share,
        experiment: Path | None = None,
    ) -> None:
        """find: folder of the bundle with a digest. home: servers' own output goes to `home/servers`. slow_ms: what `seen` counts as slow.
        start_seconds: how long a server may take to be ready. timeout_seconds: of each try at the door. chooser: who answers there. experiment: file of the one that
        every server's rankings are split by; CLICKMILL_LOG_SALT of the environment hashes personal fields that are logged."""
        self._find, self._model_name, self._home = find, model_name, home
        self._host, self._port, self._slow = host, port, slow_ms / 1e3
        self._options: dict[str, Any] = {
            "prediction_log": str(prediction_log) if prediction_log else None,
            "log_settings": dict(log_settings or {}),
            "experiment": str(experiment) if experiment else None,
        }
        self._chooser = chooser
        self._start_seconds, self._timeout_seconds = start_seconds, timeout_seconds
        self._servers: dict[str, tuple[Endpoint, ExitStack]] = {}
        self._door: Door | None = None
        self._epoch = uuid.uuid4().hex
        self._all = ExitStack()

    def __enter__(self) -> LocalTarget:
        return self

    def __exit__(self, *raised: object) -> None:
        self._all.close()
        for bundle in list(self._servers):
            self._stop(bundle)

    @property
    def url(self) -> str:
        """Of the door, once the first split was carried out."""
        return f"http://{self._host}:{self._port}"

    @property
    def listening(self) -> bool:
        """Whether the door is open."""
        return self._door is not None

    def carry_out(self, split: Split) -> None:
        """See `Target`. Waits for servers at the very first split only: later, one that is to get traffic and is not up yet leaves the
        split as it was (TargetFailed) until it is, since whoever waits here takes nothing back meanwhile."""
        wanted = {*split.percent, *split.warm, *([split.shadow] if split.shadow else [])}
        for bundle in wanted:
            self._keep_up(bundle)
        has = set() if self._door is None else {*self._door.ways.split.percent, self._door.ways.split.shadow}
        for bundle in {*split.percent, split.shadow} - has - {None}:
            assert bundle is not None
            try:
                self._servers[bundle][0].wait_until_ready(self._start_seconds if self._door is None else 0.1)
            except EndpointFailed as error:
                raise TargetFailed(f"bundle {bundle[:12]}: {error}", bundle=bundle) from error
        ways = Ways(split, {bundle: self._servers[bundle][0].url for bundle in wanted})
        if self._door is None:
            self._door = self._open(ways)
        self._door.turn(ways)
        for bundle in set(self._servers) - wanted:
            self._stop(bundle)

    @property
    def servers(self) -> dict[str, str]:
        """Digest to the host and port of its server, of all that run: where each bundle's own metrics are."""
        return {bundle: endpoint.url.split("//")[1] for bundle, (endpoint, _) in list(self._servers.items())}

    def seen(self) -> tuple[str, dict[str, Seen]]:
        """See `Target`."""
        door = self._door
        if door is None:
            return self._epoch, {}
        return self._epoch, {
            bundle: Seen(
                live=self._traffic(counts.live),
                shadow=self._traffic(counts.shadow),
                paired=Paired(
                    requests=counts.paired.requests,
                    only_promoted=counts.paired.only_serving,
                    only_last_good=counts.paired.only_spare,
                ),
            )
            for bundle, counts in list(door.traffic.items())
        }

    def smoke(self, bundle: str) -> Smoke | None:
        """Golden predictions over the server's own V1; None while it starts. Raises EndpointFailed when it has ended."""
        if bundle not in self._servers:
            return None
        endpoint = self._servers[bundle][0]
        if endpoint.process.poll() is not None:
            endpoint.wait_until_ready(0.1)
        try:
            with Client(endpoint.url, model_name=self._model_name) as client:
                return self._replay(self._find(bundle), client) if client.ready() else None
        except httpx.TransportError:
            return None
        except ClickmillError as error:
            return Smoke(passed=False, words=f"golden predictions were refused: {error}")

    def _replay(self, folder: Path, client: Client) -> Smoke:
        contract = contracts.load(folder / "contract.yaml")
        table = pq.read_table(folder / "golden.parquet")
        rows = golden_requests(table, contract)
        found = np.asarray(client.predict([row for _, row in rows]).pctr, dtype=np.float64)
        wanted = table["pctr"].to_numpy().astype(np.float64)[[at for at, _ in rows]]
        row = int(np.argmax(np.abs(found - wanted)))
        if abs(found[row] - wanted[row]) > TOLERANCE:
            words = f"golden row {rows[row][0]}: {found[row]:.6f}, not {wanted[row]:.6f}"
            return Smoke(passed=False, words=words)
        return Smoke(passed=True, words=f"{len(wanted)} golden predictions came back")

    def _traffic(self, counts: Counts) -> Traffic:
        return Traffic(requests=counts.requests, errors=counts.errors, slow=counts.slower(self._slow))

    def _keep_up(self, bundle: str) -> None:
        if bundle in self._servers:
            if self._servers[bundle][0].process.poll() is None:
                return
            self._stop(bundle)
        own = ExitStack()
        folder = self._home / "servers"
        folder.mkdir(parents=True, exist_ok=True)
        endpoint = own.enter_context(
            running_server(
                self._find(bundle),
                model_name=self._model_name,
                wait=False,
                log_path=folder / f"{bundle[:12]}.log",
                python=_SERVE,
                **self._options,
            )
        )
        self._servers[bundle] = (endpoint, own)

    def _stop(self, bundle: str) -> None:
        self._servers.pop(bundle)[1].close()

    def _open(self, ways: Ways) -> Door:
        """The door on a thread of its own. Raises TargetFailed when its port is taken."""
        door = Door(ways, chooser=self._chooser, timeout_seconds=self._timeout_seconds)
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="door", daemon=True)
        thread.start()

        def within(coroutine: Any) -> Any:
            return asyncio.run_coroutine_threadsafe(coroutine, loop).result(30)

        def end() -> None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

        self._all.callback(end)
        runner = web.AppRunner(door.app, access_log=None)
        within(runner.setup())
        self._all.callback(lambda: within(runner.cleanup()))
        try:
            within(web.TCPSite(runner, self._host, self._port).start())
        except OSError as error:
            raise TargetFailed(
                f"the router can't listen on {self._host}:{self._port} ({error.strerror}); choose another port"
            ) from error
        self._port = runner.addresses[0][1]
        return door


def golden_requests(table: pa.Table, contract: FeatureContract) -> list[tuple[int, dict[str, Any]]]:
    """Golden rows as callers can send them, with their numbers. Golden rows are what the graph gets: a field that was not sent is in them as
    its fill, which need not be a value that may be sent. Rows that lack a required field cannot come as a request and are left out."""
    inputs, found = contract.inputs, []
    for number, row in enumerate(json_rows(table, inputs)):
        unsent = {name for name, value in row.items() if _is_fill(value, inputs[name].fill)}
        if not any(
            inputs[name].required and inputs[name].allowed and inputs[name].default is None for name in unsent
        ):
            found.append((number, {k: v for k, v in row.items() if inputs[k].required or k not in unsent}))
    return found


def _is_fill(value: Any, fill: Any) -> bool:
    return bool((tuple(value) if isinstance(value, list) else value) == fill)


__all__ = ["LocalTarget", "golden_requests"]
