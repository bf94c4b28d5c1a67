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
    place = _made(folder, found)
    sampled = 0
    both = (examined.reference_sample, examined.window_sample)
    if settings.report == "evidently" and both[0] is not None and both[1] is not None:
        evidently_report.write(place, reference, *both, settings)
        sampled = len(both[1])
    _write(place, found, settings, sampled)
    return place


def keep_words(folder: Path, found: WindowDrift, settings: DriftSettings) -> Path:
    """Write the folder of a window of which nothing but words can be told."""
    place = _made(folder, found)
    _write(place, found, settings, 0)
    return place


def place_of(folder: Path, found: WindowDrift) -> Path:
    """The folder of a window that was kept under `folder`."""
    return folder / f"{found.end.astimezone(UTC):%Y%m%dT%H%M%SZ}-{found.bundle[:12]}"


def _made(folder: Path, found: WindowDrift) -> Path:
    place = place_of(folder, found)
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


def history(folder: Path, bundle: str, most: int) -> list[WindowDrift]:
    """The last windows of a bundle, oldest first, back to one that another version kept: what was in a row with it is not known."""
    found: list[WindowDrift] = []
    for place in [place for place in windows(folder) if place.name.endswith(bundle[:12])][: -most - 1 : -1]:
        try:
            found.append(read(place))
        except UnreadableData as error:
            log.warning("this window of drift and those before are passed over: %s", error)
            break
    return found[::-1]


def forget(folder: Path, keep_windows: int) -> None:
    """Remove all but the newest `keep_windows`."""
    for place in windows(folder)[:-keep_windows]:
        shutil.rmtree(place)


__all__ = ["forget", "history", "keep", "keep_words", "place_of", "read", "windows"]
