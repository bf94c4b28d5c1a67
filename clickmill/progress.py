"""How long work reports where it is: a narrow seam between the library and whoever draws the bar."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """One task at a time; `figures` are shown beside the bar (loss=0.13, ne=0.84)."""

    def start(self, task: str, total: int | None, unit: str) -> None: ...
    def advance(self, n: int = 1, **figures: float) -> None: ...
    def finish(self) -> None: ...


class _Silent:
    def start(self, task: str, total: int | None, unit: str) -> None:
        return None

    def advance(self, n: int = 1, **figures: float) -> None:
        return None

    def finish(self) -> None:
        return None


SILENT: Progress = _Silent()
"""Reports nothing: the default of every library function."""
