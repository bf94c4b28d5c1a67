"""What a window's folder holds, as artifacts of the step."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from components.pages import html

NOTHING = "No row of the bundle that serves is in the window."


def show(window: Any, place: Path | None, report: Path, evidently: Path) -> tuple[str, dict[str, float]]:
    """Copy the window's pages to the artifacts; returns the verdict and the figures.

    window: `monitoring.drift.WindowDrift` of the bundle that serves, or None. place: its folder.
    """
    for name, target in (("report.html", report), ("evidently.html", evidently)):
        target.parent.mkdir(parents=True, exist_ok=True)
        if place is not None and (place / name).exists():
            shutil.copyfile(place / name, target)
        else:
            target.write_text(html("Drift", NOTHING if window is None else "No report of it was made.", ()))
    if window is None:
        return "unknown", {"rows": 0}
    return str(window.drift), {
        "rows": window.rows,
        "fields": len(window.fields),
        "drifted": sum(field.drift == "drifted" for field in window.fields),
        "broken": sum(field.quality == "broken" for field in window.fields),
    }
