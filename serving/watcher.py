"""Hot reload: looks at a folder, loads what is newer beside what serves, proves it, warms it, swaps it in.

A bundle goes in service only after its bytes are those of its manifest, its golden predictions come out, and every shape of
the warm-up has run. One that fails is reported, remembered by the state of its files and left alone until they change; what
served goes on. In a store the newest version that passes is served, so removing a version goes back to the one before.
"""

from __future__ import annotations

import gc
import logging
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from clickmill.errors import BundleCorrupt, BundleError, ClickmillError, ContractError, GoldenMismatch
from serving.predictor import BundleModel, Raw, Scorer

if TYPE_CHECKING:
    from clickmill.bundle import Priors

log = logging.getLogger(__name__)

WARM_UP_ROWS = (1, 8, 32, 256)
"""Sizes run before a bundle serves: one candidate, a page, a slate, a full auction."""

Stamp = tuple[tuple[str, int, int, int], ...]
"""Path, size, modification time and inode of each file: equal means unchanged."""


@dataclass(frozen=True)
class Candidate:
    """A folder that may hold a bundle. `version` is None outside a store."""

    path: Path
    version: int | None
    stamp: Stamp


@dataclass(frozen=True)
class Loaded:
    """What `load` brings: the bundle, and rows to warm it with."""

    scorer: Scorer
    rows: Raw
    priors: Priors | None = None
    engines: Mapping[str, str] = field(default_factory=dict)
    """What runs the graph for small and for large requests."""


def version_of(candidate: Candidate, digest: str) -> str:
    """What requests see of a bundle: its number in the store, or the first 12 digits of its digest."""
    return digest[:12] if candidate.version is None else str(candidate.version)


class Source(Protocol):
    """Where bundles come from, newest first."""

    def candidates(self) -> list[Candidate]: ...


@dataclass(frozen=True)
class BundleFolder:
    """One bundle at one path; serves what is there, again when its files change."""

    path: Path

    def candidates(self) -> list[Candidate]:
        return [Candidate(self.path, None, stamp_of(self.path))]


@dataclass(frozen=True)
class StoreFolder:
    """A `clickmill.bundle.Store`: bundles under rising integers."""

    root: Path

    def candidates(self) -> list[Candidate]:
        from clickmill.bundle.store import Store

        store = Store(self.root)
        found = []
        for version in reversed(store.versions()):
            path = store.path(version)
            found.append(Candidate(path, version, stamp_of(path)))
        return found


def source_at(path: str | Path) -> Source:
    """A folder with a manifest is a bundle, any other a store (which may still be empty)."""
    path = Path(path)
    return BundleFolder(path) if (path / "manifest.json").is_file() else StoreFolder(path)


def stamp_of(folder: Path) -> Stamp:
    """State of the files under a folder; files that vanish while we look are left out."""
    found = []
    for where, _, files in os.walk(folder):
        for name in files:
            path = os.path.join(where, name)
            try:
                stat = os.lstat(path)
            except FileNotFoundError:
                continue
            found.append((path, stat.st_size, stat.st_mtime_ns, stat.st_ino))
    return tuple(sorted(found))


def warm(loaded: Loaded, sizes: tuple[int, ...] = WARM_UP_ROWS, repeats: int = 3) -> None:
    """Run every size a few times, by rows and by request: the first run of a shape traces, plans buffers and picks kernels."""
    from clickmill.bundle.requests import one_request

    if not loaded.rows:  # whose graph is elsewhere
        return
    have = len(next(iter(loaded.rows.values())))
    for size in sizes:
        rows = {name: values[np.arange(size) % have] for name, values in loaded.rows.items()}
        asked = one_request(rows, loaded.scorer.contract) if loaded.scorer.ranks else None
        for _ in range(repeats):
            loaded.scorer.predict(rows)
            if asked is not None:
                loaded.scorer.rank(asked)


class Watcher:
    """Keeps the newest good bundle of a source in service. `load` is the seam: tests bring their own."""

    def __init__(
        self,
        model: BundleModel,
        source: Source,
        *,
        every_seconds: float = 2.0,
        load: Callable[[Path], Loaded],
        on_first: Callable[[Exception | None], None] = lambda error: None,
    ) -> None:
        self._model, self._source, self._load = model, source, load
        self._every = every_seconds
        self._on_first = on_first
        self._serving: Candidate | None = None
        self._contract_name: str | None = None
        self._refused: dict[Path, Stamp] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bundle-watcher", daemon=True)
        self.last_error: Exception | None = None

    @property
    def path(self) -> Path | None:
        """Folder of the bundle in service."""
        return self._serving.path if self._serving else None

    def start(self) -> None:
        """Look once now and then every few seconds, in a thread of its own."""
        self._thread.start()

    def stop(self, timeout: float | None = 5.0) -> None:
        """Look no more. A load under way is not waited for longer than `timeout`; the thread is a daemon."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def look(self) -> bool:
        """Compare the source with what serves; True when a bundle was swapped in."""
        for candidate in self._source.candidates():
            if self._serving is not None and candidate == self._serving:
                return False
            if not candidate.stamp or self._refused.get(candidate.path) == candidate.stamp:
                continue
            if self._try(candidate):
                return True
        return False

    def _try(self, candidate: Candidate) -> bool:
        try:
            loaded = self._load(candidate.path)
            self._check_name(loaded.scorer)
            warm(loaded)
        except Exception as error:  # noqa: BLE001 - whatever a bundle does to the loader, the old one serves on
            self._refuse(candidate, error)
            return False
        digest = loaded.scorer.digest
        self._model.swap(loaded.scorer, version_of(candidate, digest), loaded.priors)
        self._model.metrics.show_engines(self._model.name, loaded.engines)
        self._contract_name = loaded.scorer.contract.name
        self._serving = candidate
        self._refused.pop(candidate.path, None)
        self.last_error = None
        log.info("in service: %s, digest %s, run by %s", candidate.path, digest, dict(loaded.engines))
        del loaded
        gc.collect()  # a SavedModel is a web of cycles: the former one goes now, not at some request
        return True

    def _check_name(self, scorer: Scorer) -> None:
        name = scorer.contract.name
        if self._contract_name is not None and name != self._contract_name:
            raise BundleError(
                f"the bundle is of contract `{name}`, this endpoint serves `{self._contract_name}`; "
                "deploy it to a folder of its own"
            )

    def _refuse(self, candidate: Candidate, error: Exception) -> None:
        self._refused[candidate.path] = candidate.stamp
        self.last_error = error
        reason = _reason(error)
        self._model.metrics.refused.labels(self._model.name, reason).inc()
        unexpected = not isinstance(error, ClickmillError)
        goes_on = "the bundle in service goes on" if self._serving else "nothing is in service yet"
        log.error(
            "refused bundle %s (%s), %s: %s",
            candidate.path,
            reason,
            goes_on,
            error,
            exc_info=error if unexpected else None,
        )

    def _run(self) -> None:
        first = True
        while not self._stop.is_set():
            try:
                self.look()
            except Exception as error:  # a folder out of reach (NFS, permissions) must not end the watch
                self.last_error = error
                log.error("cannot look for bundles: %s", error, exc_info=error)
            if first:
                first = False
                self._on_first(None if self._serving else self.last_error)
            self._stop.wait(self._every)


def _reason(error: Exception) -> str:
    """Label of the refusal metric."""
    kinds: tuple[tuple[type[Exception], str], ...] = (
        (BundleCorrupt, "corrupt"),
        (GoldenMismatch, "golden"),
        (ContractError, "contract"),
        (BundleError, "unusable"),
    )
    return next((label for kind, label in kinds if isinstance(error, kind)), "error")
