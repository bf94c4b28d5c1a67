"""Write every dashboard as JSON and every alerting rule as YAML, for Grafana's file provisioning (dashboards also for its import):
`python -m monitoring.dashboards.write`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from monitoring.dashboards import BOARDS, alert_files

FOLDER = Path(__file__).parent / "json"


def text_of(board: Callable[[], Dashboard]) -> str:
    """The dashboard as Grafana reads it; equal dashboards give equal text."""
    return str(JSONEncoder(sort_keys=True, indent=2).encode(board().build())) + "\n"


def write(folder: Path = FOLDER) -> None:
    """Write all into `folder`."""
    for name, board in BOARDS.items():
        (folder / f"{name}.json").write_text(text_of(board))


if __name__ == "__main__":
    write()
    alert_files.write()

__all__ = ["FOLDER", "text_of", "write"]
