"""Where the command writes: results on stdout, words and bars on stderr, one JSON document with `--json`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

words = Console(stderr=True, highlight=False)
"""For people: what is happening, warnings, progress."""
result = Console(highlight=False)
"""For people or pipes: what was asked for."""

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON document on stdout.")]


def print_json(document: Any) -> None:
    """One JSON document on stdout, for machines: no colour, no wrapping."""
    sys.stdout.write(json.dumps(document, indent=2, default=str) + "\n")


def print_facts(title: str, facts: Mapping[str, Any]) -> None:
    """A title, then names and values in two columns; long values are never broken, so that a path can be copied."""
    result.print(Text(title, style="bold"), soft_wrap=True)
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        first, *rest = show(value).splitlines() or [""]
        result.print(Text.assemble((f"  {name:<{width}}  ", "cyan"), first), soft_wrap=True)
        for line in rest:
            result.print(Text(" " * (width + 4) + line), soft_wrap=True)


def show(value: Any) -> str:
    """A value as people read it: thousands separated, floats to four digits that count."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value)


class Bars:
    """The command's `clickmill.progress.Progress`: a bar for the running task, and a line for each that has ended."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("  {task.description:<26}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[done]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[figures]}", style="dim"),
            console=words,
            transient=True,
        )
        self._task: TaskID | None = None
        self._unit = ""

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def start(self, task: str, total: int | None, unit: str) -> None:
        self._drop()
        self._unit = unit
        self._task = self._progress.add_task(task, total=total, done="", figures="")

    def advance(self, n: int = 1, **figures: float) -> None:
        if self._task is None:
            return
        self._progress.advance(self._task, n)
        task = self._running()
        total = "" if task.total is None else f" of {task.total:,.0f}"
        self._progress.update(self._task, done=f"{task.completed:,.0f}{total} {self._unit}")
        if figures:
            shown = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
            self._progress.update(self._task, figures=shown)

    def finish(self) -> None:
        if self._task is None:
            return
        task = self._running()
        words.print(
            f"[dim]  {task.description:<26} {task.completed:>12,.0f} {self._unit:<12} {task.elapsed or 0:6.1f} s  "
            f"{task.fields['figures']}[/]",
            soft_wrap=True,
        )
        self._drop()

    def _running(self) -> Task:
        return next(task for task in self._progress.tasks if task.id == self._task)

    def _drop(self) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = None
