"""One drift check: every bundle that answered in the window is compared with its own reference, and the result is archived."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from clickmill import bundle as bundles
from clickmill.bundle import Bundle, Store
from clickmill.bundle.reference import REFERENCE
from clickmill.data.files import PathsLike
from clickmill.errors import BundleError, UsageError
from clickmill.prediction_log import Salt
from monitoring.drift import archive
from monitoring.drift.counting import Reference, learn
from monitoring.drift.examine import WindowDrift, examine
from monitoring.drift.settings import DriftSettings
from monitoring.drift.verdict import Drift, Quality
from monitoring.drift.window import impression_batches, log_batches, logged_bundles


class Bundles:
    """The bundles there are: those of a model store, or one. Reads manifests only, until a reference is asked for."""

    def __init__(self, path: Path) -> None:
        """path: a model store or a bundle. Raises UsageError when it is no folder."""
        if not path.is_dir():
            raise UsageError(f"{path}: no such folder; give a model store or a bundle")
        self.path = path
        self._single = (path / "manifest.json").is_file()

    def serving(self) -> str | None:
        """Digest of the bundle that serves: the store's newest version; None for an empty store. Raises BundleError for a bundle that
        can't be read."""
        if self._single:
            return bundles.read_manifest(self.path).digest
        champion = Store(self.path).latest_deployed()
        return None if champion is None else champion.manifest.digest

    def of(self, digest: str) -> Bundle | None:
        """A bundle by its digest; None where it is not here. Raises BundleCorrupt when its files are not what was written."""
        if self._single:
            return bundles.load(self.path) if bundles.read_manifest(self.path).digest == digest else None
        version = Store(self.path).find(digest)
        return None if version is None else bundles.load(Store(self.path).path(version))


@dataclass
class DriftChecker:
    """Checks one prediction log, or impression files, for drift as often as it is asked; a bundle's reference is read once, and forgotten
    with its rows."""

    bundles: Bundles
    settings: DriftSettings
    folder: Path
    """Where windows are kept."""
    salt: Salt | None = None
    _references: dict[tuple[str, bool], Reference] = field(default_factory=dict)

    def check_log(self, folder: Path, now: datetime) -> list[WindowDrift]:
        """Every bundle with rows in the window that ends now, in the order of their digests. One without a reference is UNKNOWN, with
        the reason.

        Raises SchemaMismatch or UnreadableData for files that can't be used.
        """
        start = now - timedelta(hours=self.settings.window_hours)
        found = []
        logged = logged_bundles(folder, start, now)
        self._references = {key: known for key, known in self._references.items() if key[0] in logged}
        for digest, files in sorted(logged.items()):
            try:
                bundle = self._bundle(digest)
            except BundleError as error:
                untold = _unknown(digest, start, now, str(error))
                archive.keep_words(self.folder, untold, self.settings)
                found.append(untold)
                continue
            reference = self._reference(bundle, filled=True)
            batches = log_batches(
                files, reference.watched, start=start, end=now, shown_only=self.settings.shown_only
            )
            examined = examine(
                reference, batches, self.settings, bundle=digest, model=bundle.name, start=start, end=now
            )
            # A file may begin a day before its last row: the rows of a bundle that was replaced can all be older than the window.
            if examined.found.rows or examined.found.not_shown:
                archive.keep(self.folder, examined, reference, self.settings)
                found.append(examined.found)
        return found

    def check_impressions(self, paths: PathsLike, now: datetime) -> list[WindowDrift]:
        """All rows of the files against the bundle that serves, without its prediction.

        Raises BundleError for a bundle without a reference, and what `clickmill.data.read` raises.
        """
        digest = self.bundles.serving()
        if digest is None:
            raise BundleError(f"{self.bundles.path} holds no bundle: nothing to hold the impressions against")
        bundle = self._bundle(digest)
        settings = self.settings.model_copy(update={"ignored": (*self.settings.ignored, "pctr")})
        reference = self._reference(bundle, filled=False, settings=settings)
        examined = examine(
            reference, impression_batches(paths, bundle.contract, reference.watched), settings,
            bundle=digest, model=bundle.name, start=None, end=now,
        )  # fmt: skip
        archive.keep(self.folder, examined, reference, settings)
        return [examined.found]

    def _bundle(self, digest: str) -> Bundle:
        found = self.bundles.of(digest)
        if found is None:
            raise BundleError(
                f"bundle {digest[:12]} answered, and is not in {self.bundles.path}; give the model store that the endpoint watches, or that bundle"
            )
        if REFERENCE not in found.manifest.files:
            raise BundleError(
                f"{found.path}: holds no drift reference ({REFERENCE}): it was written without one. Train and deploy again; "
                "every bundle that `clickmill run` writes has one."
            )
        return found

    def _reference(self, bundle: Bundle, *, filled: bool, settings: DriftSettings | None = None) -> Reference:
        key = (bundle.digest, filled)
        if key not in self._references:
            self._references[key] = learn(
                bundle.reference(), bundle.contract, settings or self.settings, filled=filled, salt=self.salt
            )
        return self._references[key]


def _unknown(digest: str, start: datetime, end: datetime, reason: str) -> WindowDrift:
    return WindowDrift(
        bundle=digest, model="", start=start, end=end, rows=0, requests=0, reference_rows=0,
        drift=Drift.UNKNOWN, quality=Quality.UNKNOWN, reasons=(reason,), fields=(),
    )  # fmt: skip


__all__ = ["Bundles", "DriftChecker"]
