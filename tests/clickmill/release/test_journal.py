"""The audit log: what was decided is there after a crash, and what was not decided is not."""

import multiprocessing
from datetime import UTC, datetime

import pytest

from clickmill.errors import DataError, UsageError
from clickmill.release import Journal, Phase, Release, ReleasePolicy, freeze, propose, resume, roll_back

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture
def journal(tmp_path):
    found = Journal(tmp_path / "releases" / "ctr.jsonl")
    found.begin(Release.first("ctr", "good", NOON), by="ann", reason="first bundle")
    return found


def test_the_last_line_is_the_state_and_every_line_says_who_and_why(journal):
    started = propose(journal.state, "new", now=NOON, by="ann", reason="daily run")
    assert journal.append(started, NOON)
    back = roll_back(started.next, ReleasePolicy(), now=NOON, by="bob", reason="revenue fell")
    assert journal.append(back, NOON)
    assert journal.state == back.next
    assert [(entry.by, entry.reason, entry.state.phase) for entry in journal.entries] == [
        ("ann", "first bundle", Phase.PROMOTED),
        ("ann", "daily run", Phase.CANDIDATE),
        ("bob", "revenue fell", Phase.ROLLED_BACK),
    ]


def test_waiting_leaves_no_line(journal):
    frozen = freeze(journal.state, now=NOON, by="ann", reason="holiday")
    assert journal.append(frozen, NOON)
    assert not journal.append(frozen, NOON)
    assert len(journal.entries) == 2


@pytest.mark.parametrize("left", [0, 1, 40, -1])
def test_a_line_that_a_crash_cut_short_was_not_decided(journal, left):
    whole = journal.path.read_bytes()
    journal.append(propose(journal.state, "new", now=NOON, by="ann", reason="daily run"), NOON)
    line = journal.path.read_bytes()[len(whole) :]
    journal.path.write_bytes(whole + line[:left])
    assert journal.state.phase is Phase.PROMOTED
    journal.append(freeze(journal.state, now=NOON, by="ann", reason="holiday"), NOON)
    assert [entry.reason for entry in journal.entries] == ["first bundle", "holiday"]


def test_a_line_that_was_altered_is_named(journal):
    text = journal.path.read_text()
    journal.path.write_text(text + text.replace('"promoted"', '"canary"'))
    with pytest.raises(DataError, match=r"ctr.jsonl:2: not an entry of a release journal: state .*canary"):
        _ = journal.state


def test_a_second_beginning_and_no_journal_are_refused(journal, tmp_path):
    with pytest.raises(UsageError, match="has a release already: ctr, promoted"):
        journal.begin(Release.first("ctr", "other", NOON), by="bob", reason="x")
    with pytest.raises(UsageError, match="no release journal at"):
        _ = Journal(tmp_path / "none.jsonl").state


def _flip(path):
    journal = Journal(path)
    for _ in range(25):
        with journal.hold():
            state = journal.state
            journal.append(
                resume(state, by="p", reason="flip")
                if state.freeze
                else freeze(state, now=NOON, by="p", reason="flip"),
                NOON,
            )


def test_two_processes_never_decide_from_the_same_state(journal):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_flip, args=(journal.path,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    states = [entry.state.freeze is not None for entry in journal.entries]
    assert states == [bool(number % 2) for number in range(51)]
