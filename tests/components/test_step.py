"""What a step tells whoever watches it."""

import os
import signal
from pathlib import Path

import pytest

from clickmill.errors import QuarantineOverflow
from components import step as steps
from components.step import RECORD_VARIABLE, read_records, step


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "steps.jsonl"
    monkeypatch.setenv(RECORD_VARIABLE, str(path))
    return path


def test_a_step_that_ends_well_leaves_what_it_noted(record: Path) -> None:
    with step("preprocess") as running:
        running.note("12 rows")
    (told,) = read_records(record)
    assert (told.step, told.outcome, told.notes, told.reason) == ("preprocess", "done", ("12 rows",), "")


def test_an_error_of_ours_is_recorded_with_its_class_and_words_and_goes_on(record: Path) -> None:
    with pytest.raises(QuarantineOverflow, match="37 of 100 rows"), step("validate_data"):
        raise QuarantineOverflow("37 of 100 rows break the contract")
    (told,) = read_records(record)
    assert (told.outcome, told.kind, told.expected) == ("failed", "QuarantineOverflow", True)
    assert told.reason == "37 of 100 rows break the contract"


def test_a_bug_is_told_apart_from_an_error_of_ours(record: Path) -> None:
    with pytest.raises(KeyError), step("train lr"):
        raise KeyError("loss")
    assert read_records(record)[0].expected is False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_eviction_is_an_interrupt_even_where_the_signal_was_inherited_ignored(
    record: Path, number: int
) -> None:
    kept = signal.signal(number, signal.SIG_IGN)
    try:
        with pytest.raises(KeyboardInterrupt), step("train lr"):
            os.kill(os.getpid(), number)
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, kept)
    assert read_records(record)[0].outcome == "interrupted"


def test_in_a_pod_the_reason_is_the_termination_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "termination-log"
    log.touch()
    monkeypatch.setattr(steps, "TERMINATION_LOG", log)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    with pytest.raises(QuarantineOverflow), step("validate_data"):
        raise QuarantineOverflow("x" * 5000)
    text = log.read_text()
    assert text.startswith("validate_data: QuarantineOverflow: xxx")
    assert len(text) == 4096


def test_without_a_watcher_nothing_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RECORD_VARIABLE, raising=False)
    with step("deploy") as running:
        running.note("version 3")
    assert running.notes == ["version 3"]
