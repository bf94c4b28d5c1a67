"""How one step of a local run is started, watched, logged and interrupted.

kfp.local starts each step by `kfp.local.subprocess_task_handler.run_local_subprocess`, which prints the child's lines and knows no
cancellation: after Ctrl-C it would start the next model of the loop, and after a failure too. `LocalSteps.installed()` puts
`LocalSteps.start` in its place for the time of a run (kfp is pinned to 2.17; a test holds the signature).

    step folder    <run>/<step>/log.txt      everything the child wrote
    environment    CLICKMILL_RECORD, CLICKMILL_PROGRESS, TMPDIR, PYTHONPATH
    Ctrl-C         once: SIGINT to the child, which saves its checkpoint; twice: SIGTERM; three times: SIGKILL
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from unittest import mock

from clickmill.progress import Progress
from components.progress import VARIABLE as PROGRESS_VARIABLE
from components.progress import replay
from components.step import RECORD_VARIABLE

EXIT_STEP = "report"
"""Runs whatever happened before it; all others are not started after a failure."""


State = Literal["started", "done", "failed", "cached", "interrupted"]


@dataclass(frozen=True)
class StepEvent:
    """What happens to a step of a local run, told as it happens."""

    step: str
    """Name of the step, with the model's name where a step runs once per model."""
    state: State
    seconds: float = 0.0
    """Wall time of the process, start of Python included."""
    log: Path | None = None
    """Everything the step wrote."""


Watch = Callable[[StepEvent], None]


@dataclass(frozen=True)
class Execution:
    """One step as it was run: what kfp asked for and how the process ended."""

    step: str
    component: str
    folder: Path
    request: dict[str, Any]
    """kfp's ExecutorInput: the parameter values, and the artifacts with their paths."""
    exit_code: int

    @property
    def log(self) -> Path:
        return self.folder / "log.txt"

    def inputs(self, name: str) -> list[dict[str, Any]]:
        """The input artifacts called `name`: uri and metadata each."""
        return self.request["inputs"].get("artifacts", {}).get(name, {}).get("artifacts", [])

    def output(self, name: str) -> Path:
        """Path of the output artifact called `name`."""
        return Path(self.request["outputs"]["artifacts"][name]["artifacts"][0]["uri"])

    def value(self, name: str) -> Any:
        """The output parameter called `name`, or None when the step gave none."""
        written = Path(self.request["outputs"]["outputFile"])
        if not written.exists():
            return None
        return json.loads(written.read_text()).get("parameterValues", {}).get(name)


@dataclass
class LocalSteps:
    """Starts the steps of one run, one after another, and remembers how each ended."""

    record: Path
    """File in which the steps say how they ended (components.step)."""
    scratch: Path
    """Folder for the temporary files of all steps."""
    progress: Progress
    watch: Watch
    executions: list[Execution] = field(default_factory=list)
    interrupts: int = 0
    _running: subprocess.Popen[str] | None = None
    _turn: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """kfp.local starts its steps here; Ctrl-C goes to the step, and after it the run ends with KeyboardInterrupt."""
        from kfp.local import subprocess_task_handler

        main = threading.current_thread() is threading.main_thread()
        kept = signal.signal(signal.SIGINT, self._interrupted) if main else None
        try:
            with mock.patch.object(subprocess_task_handler, "run_local_subprocess", self.start):
                yield
        finally:
            if main:
                signal.signal(signal.SIGINT, kept)

    @property
    def failed(self) -> Execution | None:
        """The step that ended the run, if one did."""
        return next((e for e in self.executions if e.exit_code != 0), None)

    def start(self, full_command: list[str], env_vars: dict[str, str] | None = None) -> int:
        """Run a step to its end; returns its exit code. Stands in for kfp's `run_local_subprocess`."""
        request = json.loads(full_command[full_command.index("--executor_input") + 1])
        component = full_command[full_command.index("--function_to_execute") + 1]
        # Two threads of kfp's loop would print into each other and train side by side on the same cores.
        with self._turn:
            if self.interrupts:
                raise KeyboardInterrupt
            if self.failed and component != EXIT_STEP:
                return 1
            folder = Path(request["outputs"]["outputFile"]).parent
            folder.mkdir(parents=True, exist_ok=True)
            model = _model_of(request)
            step = f"{component} {model}" if model else component
            return self._run(full_command, env_vars or {}, request, component, step, folder)

    def _run(
        self,
        command: list[str],
        variables: dict[str, str],
        request: dict[str, Any],
        component: str,
        step: str,
        folder: Path,
    ) -> int:
        log = folder / "log.txt"
        began = time.monotonic()
        self.watch(StepEvent(step, "started", log=log))
        # A session of its own: the terminal's Ctrl-C reaches only us, and we pass it on, so that it comes once.
        self._running = process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=self._environment(variables),
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            with log.open("a") as file:
                for line in process.stdout:
                    if not replay(line, self.progress):
                        file.write(line)
                        file.flush()
            code = process.wait()
        finally:
            self._running = None
            process.stdout.close()
            if (
                process.poll() is None
            ):  # whoever draws the progress failed: the step must not live on unwatched
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        seconds = time.monotonic() - began
        self.executions.append(Execution(step, component, folder, request, code))
        state: State = "interrupted" if self.interrupts else "failed" if code else "done"
        self.watch(StepEvent(step, state, seconds, log))
        if self.interrupts:
            raise KeyboardInterrupt
        return code

    def _environment(self, variables: dict[str, str]) -> dict[str, str]:
        rooms = str(Path(__file__).parents[1])
        inherited = os.environ.get("PYTHONPATH")
        ours = {
            RECORD_VARIABLE: str(self.record),
            PROGRESS_VARIABLE: "lines",
            "TMPDIR": str(self.scratch),
            "PYTHONPATH": f"{rooms}{os.pathsep}{inherited}" if inherited else rooms,
            "PYTHONUNBUFFERED": "1",
            "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2"),
        }
        return {**os.environ, **ours, **variables}

    def _interrupted(self, number: int, frame: Any) -> None:
        self.interrupts += 1
        process = self._running
        if process is None:
            return
        how = {1: signal.SIGINT, 2: signal.SIGTERM}.get(self.interrupts, signal.SIGKILL)
        # The group, because the shell that kfp puts around Python may be gone before Python has saved its checkpoint.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, how)


def _model_of(request: dict[str, Any]) -> str | None:
    inputs = request.get("inputs", {})
    named = inputs.get("parameterValues", {}).get("model")
    trained = inputs.get("artifacts", {}).get("trained", {}).get("artifacts", [])
    return named or next((a.get("metadata", {}).get("model") for a in trained), None)
