"""A drift and its budget: the decision by hand and as a law, the record over restarts, and who is started."""

import subprocess
import sys
from datetime import timedelta
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clickmill.errors import DataError
from monitoring.drift import (
    Drift,
    Event,
    KubeflowTrainer,
    LocalTrainer,
    Quality,
    Retraining,
    RetrainingPolicy,
    RetrainingRecord,
    WindowDrift,
    decide,
    trigger_retraining,
)
from monitoring.drift.trainers import Ended, NotStarted
from tests.monitoring.drift.market import NOON
from tests.waiting import until

HOUR = timedelta(hours=1)
POLICY = RetrainingPolicy()
A = "a" * 64


def window(drift=Drift.DRIFTED, quality=Quality.SOUND, at=NOON):
    return WindowDrift(
        bundle=A, model="shop", start=None, end=at, rows=9, requests=9, reference_rows=9, drift=drift,
        quality=quality, reasons=("device moved",), fields=(),
    )  # fmt: skip


def line(event, hours, run="r1"):
    return Retraining(at=NOON + hours * HOUR, event=event, bundle=A, reason="", run=run)


DRIFTED = [window(), window()]


class Twin:
    """A trainer that starts nothing and ends when told."""

    def __init__(self, fails=False):
        self.started, self.over, self.fails = [], {}, fails

    def start(self, run):
        if self.fails:
            raise NotStarted("nobody there")
        self.started.append(run)
        return "here"

    def ended(self, run):
        return self.over.get(run)


@pytest.mark.parametrize(
    ("windows", "record", "cause"),
    [
        ([], [], "unknown"),
        ([window(), window(Drift.UNKNOWN)], [], "unknown"),
        ([window(), window(Drift.SAME)], [], "same"),
        ([window(), window(quality=Quality.BROKEN)], [], "broken"),
        ([window()], [], "unconfirmed"),
        ([window(Drift.SAME), window()], [], "unconfirmed"),
        ([window(Drift.UNKNOWN), window()], [], "unconfirmed"),
        (DRIFTED, [line(Event.STARTED, -11)], "under_way"),
        (DRIFTED, [line(Event.STARTED, -13)], "budget"),
        (DRIFTED, [line(Event.STARTED, -30), line(Event.ENDED, -2)], "cool_down"),
        (DRIFTED, [line(Event.STARTED, -23), line(Event.FAILED, -20)], "budget"),
        (DRIFTED, [line(Event.STARTED, -1), line(Event.NOT_STARTED, -1)], "cool_down"),
        (DRIFTED, [line(Event.STARTED, -4), line(Event.NOT_STARTED, -4)], "drifted"),
        (DRIFTED, [line(Event.STARTED, -25), line(Event.ENDED, -20)], "drifted"),
        (DRIFTED, [], "drifted"),
    ],
)
def test_a_training_starts_only_when_everything_says_so(windows, record, cause):
    decision = decide(windows, record, POLICY, NOON)
    assert decision.cause == cause
    assert decision.start is (cause == "drifted")
    assert decision.reason


def test_a_refusal_says_from_when_on():
    told = decide(DRIFTED, [line(Event.STARTED, -20), line(Event.ENDED, -19)], POLICY, NOON).reason
    assert told == "1 started in 24 h, 1 allowed; the next from 2026-11-24 16:00 UTC"


@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.sampled_from(["drifted", "same", "end", "fail", "unreachable"])),
        max_size=60,
    ),
    st.integers(1, 3),
    st.integers(1, 48),
)
def test_never_more_trainings_than_the_budget_whatever_happens(tmp_path_factory, steps, most, hours):
    policy = RetrainingPolicy(most=most, per_hours=hours, cool_down_hours=1, windows=1)
    record = RetrainingRecord(tmp_path_factory.mktemp("record") / "r.jsonl")
    trainer, now, starts = Twin(), NOON, []
    for wait, what in steps:
        now += timedelta(hours=wait, minutes=1)
        if what in ("end", "fail"):
            trainer.over = {run: Ended(what == "end", what) for run in trainer.started}
        trainer.fails = what == "unreachable"
        drift = Drift.SAME if what == "same" else Drift.DRIFTED
        if trigger_retraining([window(drift)], record, trainer, policy, now).start:
            starts.append(now)
    assert len(starts) == len(trainer.started)
    for begin in starts:
        assert sum(begin <= at < begin + timedelta(hours=hours) for at in starts) <= most


def test_the_record_outlives_the_monitor_and_names_its_reasons(tmp_path):
    path, trainer = tmp_path / "out" / "retrainings.jsonl", Twin()
    assert trigger_retraining(DRIFTED, RetrainingRecord(path), trainer, POLICY, NOON).start
    for minutes in (10, 20):  # a monitor that was started anew
        assert not trigger_retraining(
            DRIFTED, RetrainingRecord(path), Twin(), POLICY, NOON + timedelta(minutes=minutes)
        ).start
    lines = RetrainingRecord(path).lines()
    assert [(one.event, one.cause) for one in lines] == [(Event.STARTED, None), (Event.REFUSED, "under_way")]
    assert lines[0].reason == "device moved"
    trainer.over = {lines[0].run: Ended(False, "exit status 1")}
    trigger_retraining(DRIFTED, RetrainingRecord(path), trainer, POLICY, NOON + HOUR)
    assert [(one.event, one.reason) for one in RetrainingRecord(path).lines()][2] == (
        Event.FAILED,
        "exit status 1",
    )


def test_the_budget_is_spent_before_anything_starts(tmp_path):
    """A crash while starting leaves the line; nothing is started twice."""
    record = RetrainingRecord(tmp_path / "r.jsonl")

    class Crash(Twin):
        def start(self, run):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trigger_retraining(DRIFTED, record, Crash(), POLICY, NOON)
    assert [one.event for one in record.lines()] == [Event.STARTED]
    assert trigger_retraining(DRIFTED, record, Twin(), POLICY, NOON + HOUR).cause == "under_way"


def test_a_line_cut_short_was_not_written_and_an_altered_one_stops_everything(tmp_path):
    path = tmp_path / "r.jsonl"
    record = RetrainingRecord(path)
    record.append(line(Event.STARTED, -30))
    with path.open("ab") as file:
        file.write(b'{"at": "2026')
    assert [one.event for one in record.lines()] == [Event.STARTED]
    record.append(line(Event.ENDED, -29))
    assert [one.event for one in record.lines()] == [Event.STARTED, Event.ENDED]
    path.write_text("{}\n" + path.read_text())
    with pytest.raises(DataError, match=r"r.jsonl:1: .*Nothing is started until it can be read"):
        trigger_retraining(DRIFTED, record, Twin(), POLICY, NOON)


@pytest.mark.parametrize(
    ("code", "ended"),
    [
        (0, (True, "deployed a new bundle")),
        (3, (True, "the gate kept the champion")),
        (1, (False, "exit status 1; see ")),
    ],
)
def test_a_local_training_is_a_process_that_is_heard_of(tmp_path, code, ended):
    program = f"import sys; print(sys.argv[1:]); sys.exit({code})"
    trainer = LocalTrainer(["logs", "--contract", "c.yaml"], tmp_path, (sys.executable, "-c", program))
    assert str(tmp_path / "one.log") in trainer.start("one")
    found = until(lambda: trainer.ended("one"))
    assert (found.well, found.words[: len(ended[1])]) == ended
    assert "['run', 'logs', '--contract', 'c.yaml']" in (tmp_path / "one.log").read_text()
    assert trainer.ended("one") is None  # heard of once


def test_the_words_of_a_local_training_are_those_of_clickmill_run(tmp_path):
    command = LocalTrainer(["--help"], tmp_path)._command
    found = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert found.returncode == 0
    assert "Train on a log and deploy the result if it may replace the champion." in found.stdout


def test_a_program_that_is_not_there_starts_nothing(tmp_path):
    with pytest.raises(NotStarted, match="could not be started"):
        LocalTrainer([], tmp_path, ("/nowhere/clickmill",)).start("one")


class Kubeflow:
    """As much of kfp.Client as is asked for."""

    def __init__(self):
        self.calls, self.runs = [], []

    def create_run_from_pipeline_package(self, package, **words):
        self.calls.append((package, words))
        made = SimpleNamespace(run_id="id-1", display_name=words["run_name"], state="RUNNING")
        self.runs.append(made)
        return made

    def get_experiment(self, experiment_name):
        return SimpleNamespace(experiment_id=f"e-{experiment_name}")

    def list_runs(self, experiment_id, sort_by, page_size):
        assert experiment_id == "e-ads"
        return SimpleNamespace(runs=self.runs)


def test_a_training_on_kubeflow_is_a_run_found_again_by_its_name(tmp_path):
    client = Kubeflow()
    words = {"contract": "c.yaml", "store": "/mnt/store"}
    trainer = KubeflowTrainer(tmp_path / "ctr.yaml", words, experiment="ads", client=client)
    assert trainer.start("drift-1") == "run id-1 of Kubeflow Pipelines"
    [(package, given)] = client.calls
    assert package == str(tmp_path / "ctr.yaml")
    assert (given["arguments"], given["run_name"], given["enable_caching"]) == (words, "drift-1", False)
    after_restart = KubeflowTrainer(tmp_path / "ctr.yaml", words, experiment="ads", client=client)
    assert after_restart.ended("drift-1") is None
    assert after_restart.ended("another") is None
    for state, well in (("SUCCEEDED", True), ("FAILED", False), ("CANCELED", False)):
        client.runs[0].state = state
        assert after_restart.ended("drift-1").well is well


def test_the_words_we_say_to_kfp_are_those_it_takes():
    import inspect

    import kfp

    for method, words in {
        "create_run_from_pipeline_package": {
            "pipeline_file",
            "arguments",
            "run_name",
            "experiment_name",
            "enable_caching",
        },
        "get_experiment": {"experiment_name"},
        "list_runs": {"experiment_id", "sort_by", "page_size"},
    }.items():
        assert words <= set(inspect.signature(getattr(kfp.Client, method)).parameters), method


def test_an_api_that_does_not_answer_starts_nothing_and_is_asked_again(tmp_path):
    class Down:
        def __getattr__(self, name):
            raise ConnectionError("refused")

    trainer = KubeflowTrainer(tmp_path / "ctr.yaml", {}, client=Down())
    with pytest.raises(NotStarted, match="took no run: refused"):
        trainer.start("drift-1")
    assert trainer.ended("drift-1") is None
