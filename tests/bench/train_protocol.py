"""How the bench talks to its sides: each is a process of its own environment that does what a line on stdin says.

    {"do": "train", "steps": 20}   ->  {"seconds": 1.3, "samples": 81920}
    {"do": "epoch"}                ->  {"seconds": 9.1, "samples": 500000, "auc": 0.71}     one pass, judged on the held-out rows
    {"do": "input", "steps": 20}   ->  {"seconds": 0.1, "samples": 81920}                   the same batches, and nothing done with them
    {"do": "memory"}               ->  {"now": 1.1e9, "peak": 1.3e9}                        resident bytes
    {"do": "quit"}

Needs numpy only: it runs in the peers' environments too.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TextIO

import numpy as np
import train_data


class Side(Protocol):
    """One library with its model and its data."""

    def train(self, steps: int) -> None:
        """So many steps of a full batch."""
        ...

    def epoch(self) -> None:
        """One pass over the train rows."""
        ...

    def score(self, rows: Mapping[str, np.ndarray]) -> np.ndarray:
        """Anything that rises with the probability of a click, (n,)."""
        ...


class SideFailed(Exception):
    """A side's process ended; the message has the last it said."""


class Process:
    """A side as the bench sees it."""

    def __init__(self, command: list[str], environment: Mapping[str, str], log: Path) -> None:
        self._log = log
        answers, sink = os.pipe()
        with log.open("w") as said:
            self._process = subprocess.Popen(
                [*command, str(sink)],
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=said,
                text=True,
                env={**os.environ, **environment},
                pass_fds=[sink],
            )
        os.close(sink)
        self._answers = os.fdopen(answers)

    def ask(self, do: str, **more: int) -> dict[str, Any]:
        """What the side answers. Raises SideFailed."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **more}) + "\n")
            self._process.stdin.flush()
            line = self._answers.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            last = self._log.read_text().strip().splitlines()[-15:]
            raise SideFailed(f"exit status {self._process.wait()}:\n" + "\n".join(last))
        return json.loads(line)

    def close(self) -> None:
        """End the side: its input ends, and it follows, or is made to."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._answers.close()


def serve(side: Side, held_out: Mapping[str, np.ndarray], rows: int, lines: TextIO, answers: TextIO) -> None:
    """Do what `lines` say until they end or say quit; `rows` is the length of an epoch."""
    for line in lines:
        command = json.loads(line)
        do = command.pop("do")
        if do == "quit":
            return
        began = time.perf_counter()
        if do == "train":
            side.train(command["steps"])
            told = {"samples": command["steps"] * train_data.BATCH}
        elif do == "input":
            side.input(command["steps"])  # type: ignore[attr-defined]
            told = {"samples": command["steps"] * train_data.BATCH}
        elif do == "epoch":
            side.epoch()
            told = {"samples": rows}
        elif do == "memory":
            told = resident()
        else:
            raise ValueError(f"no side knows how to {do!r}")
        told["seconds"] = time.perf_counter() - began
        if do == "epoch":
            told["auc"] = train_data.auc(held_out["label"], side.score(held_out))
        answers.write(json.dumps(told) + "\n")
        answers.flush()


def resident() -> dict[str, float]:
    """Bytes in memory now and at most."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    now = pages * os.sysconf("SC_PAGE_SIZE")
    # The kernel counts the peak in strides and may lag behind by some pages.
    return {"now": now, "peak": max(now, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)}


def main(make: Callable[[Mapping[str, np.ndarray], int, str], Side]) -> None:
    """Run a side: `make` gets the train rows, the ids per field and the variant.

    Answers have a pipe of their own: libraries print what they like to stdout.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("ids", type=int)
    parser.add_argument("variant")
    parser.add_argument("answers", type=int)
    args = parser.parse_args()
    train = train_data.read(args.data, "train")
    side = make(train, args.ids, args.variant)
    with os.fdopen(args.answers, "w") as answers:
        serve(side, train_data.read(args.data, "held_out"), len(train["label"]), sys.stdin, answers)
