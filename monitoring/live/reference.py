"""Reads from each bundle's manifest its metrics on its own test data, which live quality is compared with."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from clickmill import metric_names as names
from clickmill.bundle import Manifest, Store, read_manifest
from clickmill.errors import BundleError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reference:
    """Of one bundle. None: it was written without an evaluation."""

    digest: str
    created: datetime
    normalized_entropy: float | None
    """NE on its test split."""
    mean_pctr: float | None
    """Mean prediction there."""


def references(path: Path) -> list[Reference]:
    """Of every bundle in a store, oldest first, or of the one bundle at `path`. Reads manifests only.

    Raises BundleError for a folder that is one bundle and can't be read; in a store such a version is logged and passed over.
    """
    if (path / "manifest.json").is_file():
        return [_reference(read_manifest(path))]
    return [_reference(deployed.manifest) for deployed in Store(path).lineage()]


class ReferenceCollector(Collector):
    """Shows the figures of the bundles that are in the folder now."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[tuple[str, int], ...] | None = None
        self._found: list[Reference] = []

    def collect(self) -> Iterator[Metric]:
        """Snapshot for a scrape; a figure that the manifest lacks has no series. A broken bundle is logged: live quality is shown all the same."""
        entropy = GaugeMetricFamily(names.BUNDLE_NE, "NE on its own test data.", labels=[names.BUNDLE])
        pctr = GaugeMetricFamily(
            names.BUNDLE_PCTR, "Mean predicted click probability on its own test data.", labels=[names.BUNDLE]
        )
        created = GaugeMetricFamily(names.BUNDLE_CREATED, "When it was written.", labels=[names.BUNDLE])
        # A store may hold a digest twice: taken back, and deployed again. A series may come only once.
        for bundle, reference in {reference.digest[:12]: reference for reference in self._now()}.items():
            created.add_metric([bundle], reference.created.timestamp())
            if reference.normalized_entropy is not None:
                entropy.add_metric([bundle], reference.normalized_entropy)
            if reference.mean_pctr is not None:
                pctr.add_metric([bundle], reference.mean_pctr)
        yield from (entropy, pctr, created)

    def _now(self) -> list[Reference]:
        """Read again only when a manifest came, went or changed: a broken one is then told once, and not at every scrape."""
        stamp = _stamp(self._path)
        if stamp != self._stamp:
            try:
                self._found = references(self._path)
            except BundleError as error:
                log.error("no reference of %s: %s", self._path, error)
                self._found = []
            self._stamp = stamp
        return self._found

    def describe(self) -> Iterator[Metric]:
        """Nothing, so that registering reads nothing."""
        return iter(())


def _stamp(folder: Path) -> tuple[tuple[str, int], ...]:
    found = []
    for path in sorted((*folder.glob("manifest.json"), *folder.glob("*/manifest.json"))):
        with contextlib.suppress(FileNotFoundError):  # a version that is taken out while we look
            found.append((str(path), path.stat().st_mtime_ns))
    return tuple(found)


def _reference(manifest: Manifest) -> Reference:
    rate = manifest.metrics.get("click_rate")
    ratio = manifest.metrics.get("calibration_ratio")
    return Reference(
        digest=manifest.digest,
        created=manifest.created,
        normalized_entropy=manifest.metrics.get("normalized_entropy"),
        # predicted over real clicks, times clicks over impressions
        mean_pctr=None if rate is None or ratio is None else rate * ratio,
    )


__all__ = ["Reference", "ReferenceCollector", "references"]
