"""How a local run starts, watches and interrupts its steps."""

import inspect
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from pipelines.local_steps import LocalSteps, StepEvent
from tests.waiting import until


class Bar:
    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def start(self, task: str, total: int | None, unit: str) -> None:
        self.calls.append(("start", task, total, unit))

    def advance(self, n: int = 1, **figures: float) -> None:
        self.calls.append(("advance", n, figures))

    def finish(self) -> None:
        self.calls.append(("finish",))


def request(folder: Path, **values: Any) -> str:
    return json.dumps(
        {
            "inputs": {"parameterValues": values},
            "outputs": {"outputFile": str(folder / "executor_output.json")},
        }
    )


def command(folder: Path, component: str, code: str, **values: Any) -> list[str]:
    return [
        "sh",
        "-ec",
        'code="$0"; "$PYTHON" -c "$code"\n:',
        code,
        "--executor_input",
        request(folder / component, **values),
        "--function_to_execute",
        component,
    ]


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalSteps:
    monkeypatch.setenv("PYTHON", sys.executable)
    (tmp_path / "scratch").mkdir()
    events: list[StepEvent] = []
    made = LocalSteps(
        record=tmp_path / "steps.jsonl", scratch=tmp_path / "scratch", progress=Bar(), watch=events.append
    )
    made.events = events  # type: ignore[attr-defined]
    return made


def test_kfp_still_starts_its_steps_by_the_function_we_replace() -> None:
    from kfp.local import subprocess_task_handler

    assert list(inspect.signature(subprocess_task_handler.run_local_subprocess).parameters) == [
        "full_command",
        "env_vars",
    ]
    body = inspect.getsource(subprocess_task_handler.SubprocessTaskHandler.run)
    assert (
        "run_local_subprocess(\n                full_command=full_command,\n                env_vars=self.env_vars,"
        in body
    )


def test_what_a_step_prints_goes_to_its_log_and_its_progress_to_the_bar(
    steps: LocalSteps, tmp_path: Path
) -> None:
    code = textwrap.dedent(
        """
        from components import progress
        bar = progress.of_step("train lr")
        bar.start("epoch 1", 8, "samples"); bar.advance(8, loss=0.5); bar.finish()
        print("hello")
        """
    )
    assert steps.start(command(tmp_path, "train", code, model="lr")) == 0
    assert (tmp_path / "train" / "log.txt").read_text() == "hello\n"
    assert steps.progress.calls == [
        ("start", "epoch 1", 8, "samples"),
        ("advance", 8, {"loss": 0.5}),
        ("finish",),
    ]  # type: ignore[attr-defined]
    assert [(e.step, e.state) for e in steps.events] == [("train lr", "started"), ("train lr", "done")]  # type: ignore[attr-defined]


def test_after_a_failure_only_the_report_is_started(steps: LocalSteps, tmp_path: Path) -> None:
    assert steps.start(command(tmp_path, "train", "raise SystemExit(3)")) == 3
    assert steps.start(command(tmp_path, "calibrate", "print('never')")) == 1
    assert steps.start(command(tmp_path, "report", "print('told')")) == 0
    assert [e.component for e in steps.executions] == ["train", "report"]
    assert not (tmp_path / "calibrate").exists()
    assert steps.failed is not None
    assert steps.failed.component == "train"


def test_ctrl_c_reaches_the_step_which_saves_its_work_and_nothing_is_started_after_it(tmp_path: Path) -> None:
    step = textwrap.dedent(
        """
        import pathlib, signal, time
        signal.signal(signal.SIGINT, signal.default_int_handler)
        pathlib.Path("ready").touch()
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            time.sleep(0.5)
            pathlib.Path("saved").touch()
            raise
        """
    )
    runner = textwrap.dedent(
        f"""
        import json, pathlib, sys, signal
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from clickmill.progress import SILENT
        from pipelines.local_steps import LocalSteps
        here = pathlib.Path.cwd()
        steps = LocalSteps(here / "steps.jsonl", here, SILENT, lambda event: print(event.step, event.state, flush=True))
        def command(name):
            request = {{"outputs": {{"outputFile": str(here / name / "o.json")}}}}
            return ["sh", "-ec", 'code="$0"; "$PYTHON" -c "$code"\\n:', {step!r}, "--executor_input", json.dumps(request), "--function_to_execute", name]
        with steps.installed():
            try:
                steps.start(command("train"))
            except KeyboardInterrupt:
                try:
                    steps.start(command("calibrate"))
                except KeyboardInterrupt:
                    print("refused")
        """
    )
    environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-c", runner], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    )
    until((tmp_path / "ready").exists)
    process.send_signal(signal.SIGINT)  # to the runner alone, as a service manager would
    said, _ = process.communicate(timeout=30)
    assert (tmp_path / "saved").exists()
    assert said.splitlines() == ["train started", "train interrupted", "refused"]
