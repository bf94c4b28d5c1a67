"""How a run that went wrong is told."""

import signal
from pathlib import Path
from typing import Any

import pytest

from clickmill.errors import ClickmillError, GoldenMismatch
from clickmill.progress import SILENT
from components.step import RECORD_VARIABLE, step
from pipelines.local_outcome import failure, interruption
from pipelines.local_steps import Execution, LocalSteps


@pytest.fixture
def ended(tmp_path: Path) -> Any:
    """A run whose step `train lr` ended with the given exit code."""

    def make(code: int, log: str = "") -> LocalSteps:
        folder = tmp_path / "train"
        folder.mkdir()
        (folder / "log.txt").write_text(log)
        execution = Execution("train lr", "train", folder, {"inputs": {}, "outputs": {}}, code)
        return LocalSteps(tmp_path / "steps.jsonl", tmp_path, SILENT, lambda event: None, [execution])

    return make


def told(steps: LocalSteps) -> ClickmillError:
    return failure(steps, steps.record, Path("kfp.log"))


def test_the_error_is_of_the_step_s_own_class_with_its_exit_code(
    ended: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = ended(1)
    monkeypatch.setenv(RECORD_VARIABLE, str(steps.record))
    with pytest.raises(GoldenMismatch), step("calibrate lr"):
        raise GoldenMismatch("row 3 moved by 0.01")
    error = told(steps)
    assert type(error) is GoldenMismatch
    assert str(error).startswith("step calibrate lr: row 3 moved by 0.01\n  log: ")


def test_a_bug_says_that_it_is_one_and_where_the_traceback_is(
    ended: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = ended(1)
    monkeypatch.setenv(RECORD_VARIABLE, str(steps.record))
    with pytest.raises(ZeroDivisionError), step("train lr"):
        raise ZeroDivisionError("division by zero")
    error = told(steps)
    assert type(error) is ClickmillError
    assert "failed in a way nobody foresaw: ZeroDivisionError: division by zero" in str(error)
    assert str(error).endswith("traceback: " + str(steps.executions[0].log))


@pytest.mark.parametrize("code", [-signal.SIGKILL, 128 + signal.SIGKILL])
def test_a_step_killed_for_memory_is_told_as_such(code: int, ended: Any) -> None:
    assert "step train lr: was killed (SIGKILL), most likely because memory ran out" in str(told(ended(code)))


def test_another_signal_is_named(ended: Any) -> None:
    assert "was ended by SIGSEGV" in str(told(ended(-signal.SIGSEGV)))


def test_a_step_that_could_not_even_begin_shows_its_last_lines(ended: Any) -> None:
    log = "\n".join(f"line {k}" for k in range(40)) + "\nModuleNotFoundError: No module named 'duckdb'"
    words = str(told(ended(1, log)))
    assert "ended with exit code 1 before it could say why" in words
    assert "  | ModuleNotFoundError: No module named 'duckdb'" in words
    assert "line 20" not in words


def test_an_interruption_names_the_step_and_the_way_on(ended: Any) -> None:
    assert (
        str(interruption(ended(130), Path("out/run")))
        == "in step train lr; the same run in out/run goes on from there"
    )
