"""The local model folder: bundles under rising integers, `deploy` adds to it, the server watches it.

root/1/   root/2/   root/3/      each a bundle; the highest that verifies is the champion
root/.3.1f0c2a77.partial/        an addition under way, or what a killed one left: nobody reads it
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from clickmill.bundle import manifest as manifests
from clickmill.bundle.durable import whole_folder
from clickmill.bundle.manifest import Manifest
from clickmill.errors import BundleCorrupt, BundleError

log = logging.getLogger(__name__)

_Stamp = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True)
class Deployed:
    """One version of the store."""

    version: int
    path: Path
    manifest: Manifest


class Store:
    """Versions of one model in a folder, on a disk that renames atomically.

    Safe for many readers and writers at once, in threads and in processes of one machine.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self._verified: dict[int, tuple[_Stamp, Manifest]] = {}

    def versions(self) -> list[int]:
        """Version numbers in the folder, ascending; not yet verified. An absent folder has none."""
        if not self.root.is_dir():
            return []
        names = (entry.name for entry in os.scandir(self.root) if entry.is_dir(follow_symlinks=False))
        # "007" is not a version: TF Serving and we would disagree about which folder is 7
        return sorted(
            int(name) for name in names if name.isascii() and name.isdigit() and str(int(name)) == name
        )

    def path(self, version: int) -> Path:
        """Folder of a version, whether or not it exists."""
        return self.root / str(version)

    def latest(self) -> Path | None:
        """Folder of the newest version that verifies, or None. Broken ones are logged and passed over."""
        newest = self.latest_deployed()
        return newest.path if newest else None

    def latest_deployed(self) -> Deployed | None:
        """Like `latest`, with version and manifest."""
        for version in reversed(self.versions()):
            try:
                return Deployed(version, self.path(version), self.verified(version))
            except BundleError as error:
                log.error("version %d is passed over: %s", version, error)
        return None

    def verified(self, version: int) -> Manifest:
        """The manifest of a version, all bytes checked; again only when a file's size or times changed.

        Raises BundleCorrupt, or BundleError when there is no such version.
        """
        folder = self.path(version)
        if not folder.is_dir():
            known = ", ".join(map(str, self.versions())) or "none"
            raise BundleError(f"{self.root}: has no version {version}; it has: {known}.")
        stamp = _stamp(folder)
        known_stamp = self._verified.get(version)
        if known_stamp is not None and known_stamp[0] == stamp:
            return known_stamp[1]
        manifest = manifests.verify(folder)
        self._verified[version] = (stamp, manifest)
        return manifest

    def lineage(self) -> list[Deployed]:
        """Every version whose manifest can be read, oldest first: the history of the endpoint."""
        found = []
        for version in self.versions():
            try:
                found.append(Deployed(version, self.path(version), manifests.read(self.path(version))))
            except BundleError as error:
                log.error("version %d is passed over: %s", version, error)
        return found

    def find(self, digest: str) -> int | None:
        """Newest version with this digest, or None."""
        return next((d.version for d in reversed(self.lineage()) if d.manifest.digest == digest), None)

    def add(self, bundle_path: str | Path) -> int:
        """Copy a bundle in as the next version and return its number; the same digest again changes nothing.

        The source is verified before and the copy after, so what is served is what was written. Raises BundleCorrupt
        for a source that does not verify, BundleError when the disk is full (nothing half is left).
        """
        source = Path(bundle_path)
        manifest = manifests.verify(source)
        with self._locked():
            present = self._sound_version_of(manifest.digest)
            if present is not None:
                return present
            while True:
                version = max(self.versions(), default=0) + 1
                try:
                    with whole_folder(self.path(version)) as temp:
                        _copy(source, temp, manifest)
                        manifests.verify(temp)
                except BundleError as error:
                    # someone who does not know our lock (rsync, kubectl cp) took the number meanwhile
                    if getattr(error.__cause__, "errno", None) in (errno.ENOTEMPTY, errno.EEXIST):
                        continue
                    raise
                return version

    def _sound_version_of(self, digest: str) -> int | None:
        version = self.find(digest)
        if version is None:
            return None
        try:
            self.verified(version)
        except BundleCorrupt as error:
            log.error("version %d has this digest but is broken; a new version is added: %s", version, error)
            return None
        return version

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.root / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
        except OSError as error:
            raise BundleError(
                f"{self.root}: cannot hold bundles: {error.strerror}. Choose a folder you may write to."
            ) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _copy(source: Path, target: Path, manifest: Manifest) -> None:
    for name in (*manifest.files, manifests.MANIFEST):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name, follow_symlinks=False)


def _stamp(folder: Path) -> _Stamp:
    found = []
    for where, _, names in os.walk(folder):
        for name in sorted(names):
            stat = os.lstat(os.path.join(where, name))
            found.append((os.path.join(where, name), stat.st_size, stat.st_mtime_ns, stat.st_ino))
    return tuple(sorted(found))
