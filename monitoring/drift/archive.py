"""The archive of drift windows: one folder each, with our measures, our page, and Evidently's page and JSON.

FOLDER/20261124T150000Z-0123456789ab/   end of the window, first digits of the bundle
    drift.json       what was found (WindowDrift)
    report.html      the same for people, with Evidently's page one click away
    evidently.html   evidently.json
"""

from __future__ import annotations

import logging
import re
import shutil
from datetime import UTC
from pathlib import Path

from pydantic import ValidationError

from clickmill.disk import replace_text
from clickmill.errors import UnreadableData
from monitoring.drift import evidently_report
from monitoring.drift.counting import Reference
from monitoring.drift.examine import Examined, WindowDrift
from monitoring.drift.page import page
from monitoring.drift.settings import DriftSettings

log = logging.getLogger(__name__)

FOUND = "drift.json"
PAGE = "report.html"
_NAME = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{12}")


def keep(folder: Path, examined: Examined, reference: Reference, settings: DriftSettings) -> Path:
    """Write the window's folder, with Evidently's report where there are rows for one, and return it. Raises OSError."""
    found = examined.found
    place = _place(folder, found)
    sampled = 0
    both = (examined.reference_sample, examined.window_sample)
    if settings.report == "evidently" and both[0] is not None and both[1] is not None:
        evidently_report.write(place, reference, *both, settings)
        sampled = len(both[1])
    _write(place, found, settings, sampled)
    return place


def keep_words(folder: Path, found: WindowDrift, settings: DriftSettings) -> Path:
    """Write the folder of a window of which nothing but words can be told."""
    place = _place(folder, found)
    _write(place, found, settings, 0)
    return place


def _place(folder: Path, found: WindowDrift) -> Path:
    place = folder / f"{found.end.astimezone(UTC):%Y%m%dT%H%M%SZ}-{found.bundle[:12]}"
    place.mkdir(parents=True, exist_ok=True)
    return place


def _write(place: Path, found: WindowDrift, settings: DriftSettings, sampled: int) -> None:
    (place / PAGE).write_text(page(found, settings, sampled=sampled))
    # The last of the files: a folder without it is not finished.
    replace_text(place / FOUND, found.model_dump_json(indent=1) + "\n")


def windows(folder: Path) -> list[Path]:
    """Finished windows, oldest first."""
    return sorted(p.parent for p in folder.glob(f"*/{FOUND}") if _NAME.fullmatch(p.parent.name))


def read(place: Path) -> WindowDrift:
    """What was found. Raises UnreadableData when it was written by another version or altered."""
    try:
        return WindowDrift.model_validate_json((place / FOUND).read_bytes())
    except (OSError, ValidationError) as error:
        raise UnreadableData(f"{place / FOUND}: not what this version keeps of a window: {error}") from error


def newest(folder: Path) -> dict[str, WindowDrift]:
    """The last window of each bundle, by digest; what another version kept is passed over."""
    found: dict[str, WindowDrift] = {}
    seen: set[str] = set()
    for place in reversed(windows(folder)):
        short = place.name.rpartition("-")[2]
        if short in seen:
            continue
        try:
            window = read(place)
        except UnreadableData as error:
            log.warning("a window of drift is passed over: %s", error)
            continue
        found[window.bundle] = window
        seen.add(short)
    return found


def history(folder: Path, bundle: str, most: int) -> list[WindowDrift]:
    """The last windows of a bundle, oldest first."""
    places = [place for place in windows(folder) if place.name.endswith(bundle[:12])]
    return [read(place) for place in places[-most:]]


def forget(folder: Path, keep_windows: int) -> None:
    """Remove all but the newest `keep_windows`."""
    for place in windows(folder)[:-keep_windows]:
        shutil.rmtree(place)


__all__ = ["forget", "history", "keep", "keep_words", "newest", "read", "windows"]
