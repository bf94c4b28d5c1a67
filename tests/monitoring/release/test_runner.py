"""The loop over a target in memory: a good bundle goes through, bad ones come back, restarts forget nothing."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from clickmill.release import (
    Decision,
    Journal,
    Paired,
    Phase,
    Release,
    ReleasePolicy,
    Seen,
    Smoke,
    TargetFailed,
    Traffic,
    propose,
)
from monitoring.live import LabelJoin, LiveSettings
from monitoring.release import Inbox, Observations, Runner
from tests.monitoring.live import logs
from tests.monitoring.release.test_inbox import body, told

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
GOOD, NEW = "a" * 64, "b" * 64
LIVE = LiveSettings(attribution_seconds=10, lateness_seconds=0, windows_seconds=(60,), keep_seconds=36_000)
POLICY = ReleasePolicy(
    steps=(20, 100),
    step_seconds=30,
    min_requests=100,
    cool_down_seconds=60,
    ne_margin=0.05,
    planned_impressions=20_000,
)


class Market:
    """A target in memory, with callers: 4,000 impressions every ten seconds, logged and clicked on."""

    def __init__(self, folder, *, times=1.0, errors=0.0, smoke=True, starts=True):
        self.folder, self.times, self.errors, self.starts = folder, times, errors, starts
        self.answer = Smoke(passed=smoke, words="replayed")
        self.split, self.counts, self.epoch, self.number = None, {}, "one", 0
        self.stalls, self.paired, self.taken = 0.0, Paired(), False
        self.rng = np.random.default_rng(4)
        (folder / "clicks").mkdir(parents=True, exist_ok=True)

    def carry_out(self, split):
        if not self.starts and NEW in (*split.percent, split.shadow, *split.warm):
            raise TargetFailed("the server of bundle bbbb ended with exit status 1", bundle=NEW)
        if self.taken:
            raise TargetFailed("the router can't listen on 127.0.0.1:8080")
        self.split = split

    def seen(self):
        return self.epoch, {
            b: Seen(live=live, shadow=shadow, paired=self.paired if b == NEW else Paired())
            for b, (live, shadow) in self.counts.items()
        }

    def smoke(self, bundle):
        return self.answer

    def restart(self):
        self.epoch, self.counts, self.paired = self.epoch + "'", {}, Paired()

    def ten_seconds(self, now):
        for bundle, share in self.split.percent.items():
            beside = self.split.spare if self.split.settled else None
            self._answer(bundle, 40 * share, now, shadowed=self.split.shadow or beside)

    def _answer(self, bundle, count, now, shadowed):
        own = int(self.rng.binomial(count, self.errors)) if bundle == NEW else 0
        errors = own + int(self.rng.binomial(count - own, self.stalls))  # a stall stops both of a pair
        if bundle == NEW and self.split.settled:
            self.paired = Paired(
                requests=self.paired.requests + 100,
                only_promoted=self.paired.only_promoted + round(100 * self.errors),
            )
        self._count(bundle, 0, Traffic(requests=count, errors=errors))
        first, self.number = self.number, self.number + count
        table, clicked, times = logs.predictions(
            self.rng, count, first=first, bundle=bundle, start=now - timedelta(seconds=10), seconds=9,
            times=self.times if bundle == NEW else 1.0,
        )  # fmt: skip
        logs.write_predictions(self.folder / "log", table, writer=bundle[0])
        logs.write_clicks(
            self.folder / "clicks", f"{first}.parquet", *logs.clicks_of(clicked, times, first=first, delay=1)
        )
        if shadowed:
            self._count(shadowed, 1, Traffic(requests=count))
            times = self.times if shadowed == NEW else 1 / self.times
            pctr = np.clip(table["pctr"].to_numpy() * times, 0, 0.95).astype(np.float32)
            copy = table.set_column(table.column_names.index("pctr"), "pctr", [pctr])
            copy = copy.set_column(copy.column_names.index("bundle"), "bundle", [[shadowed] * count])
            logs.write_predictions(self.folder / "log", copy, writer="shadow")

    def _count(self, bundle, role, more):
        pair = list(self.counts.get(bundle, (Traffic(), Traffic())))
        pair[role] = Traffic(
            requests=pair[role].requests + more.requests, errors=pair[role].errors + more.errors
        )
        self.counts[bundle] = tuple(pair)


class House:
    """Runner, market and clock."""

    def __init__(self, folder, **how):
        self.folder, self.now, self.way = folder, NOON, []
        self.market = Market(folder, **how)
        self.journal = Journal(folder / "ctr.jsonl")
        self.journal.begin(Release.first("ctr", GOOD, NOON), by="ann", reason="first")
        self.inbox = Inbox(folder / "alerts.json")
        self.joined = LabelJoin(folder / "live.duckdb", LIVE)
        self.start()

    def start(self):
        self.runner = Runner(
            self.journal, Observations(self.folder / "seen.json", watch_seconds=600), self.market, POLICY,
            inbox=self.inbox, joined=self.joined, logs=(self.folder / "log", self.folder / "clicks"),
        )  # fmt: skip

    def go(self, steps=60, *, restarts=False):
        decision = None
        for _ in range(steps):
            decision = self.runner.step(self.now)
            state = decision.next
            if not self.way or self.way[-1] != (str(state.phase), state.percent):
                self.way.append((str(state.phase), state.percent))
            if state.stable != GOOD or state.phase is Phase.ROLLED_BACK:
                break
            if restarts:
                self.market.restart()
                self.start()
            self.now += timedelta(seconds=10)
            self.market.ten_seconds(self.now)
        return decision

    def propose(self):
        self.journal.append(
            propose(self.journal.state, NEW, now=self.now, by="ann", reason="daily"), self.now
        )


@pytest.fixture
def house(tmp_path):
    made = []

    def make(**how):
        made.append(House(tmp_path, **how))
        return made[-1]

    yield make
    for one in made:
        one.joined.close()


def test_a_good_bundle_goes_through_shadow_and_canary_on_real_evidence(house):
    one = house()
    one.runner.step(one.now)
    one.propose()
    found = one.go()
    assert one.way == [("smoke", None), ("shadow", None), ("canary", 20), ("canary", 100), ("promoted", None)]
    assert one.market.split.percent == {NEW: 100}
    assert one.market.split.warm == (GOOD,)
    assert [entry.by for entry in one.journal.entries[:2]] == ["ann", "ann"]
    assert "NE" in found.reason


def test_a_restart_of_both_at_any_time_changes_nothing(house):
    one = house()
    one.runner.step(one.now)
    one.propose()
    one.go(restarts=True)
    assert one.way[-1] == ("promoted", None)
    spells = Observations(one.folder / "seen.json", watch_seconds=600).spells
    assert (
        sum(s.live[NEW].requests for s in spells if s.percent == 20) % 800 == 0
    )  # every request counted, none twice


@pytest.mark.parametrize(
    ("how", "phase", "words"),
    [
        ({"times": 3.0}, "shadow", "shadow_calibration"),
        ({"errors": 0.2}, "canary", "canary_errors"),
        ({"smoke": False}, "smoke", "smoke: replayed"),
        ({"starts": False}, "smoke", "ended with exit status 1"),
    ],
)
def test_a_bad_bundle_is_taken_back_where_it_shows(house, how, phase, words):
    one = house(**how)
    one.runner.step(one.now)
    one.propose()
    found = one.go()
    assert one.way[-2][0] == phase
    assert one.way[-1] == ("rolled_back", None)
    assert words in found.reason
    assert one.market.split.percent == {GOOD: 100}


def test_an_alert_about_the_promoted_bundle_brings_the_last_good_one_back_in_one_step(house):
    one = house()
    one.runner.step(one.now)
    one.propose()
    one.go()
    assert one.runner.step(one.now).next.phase is Phase.PROMOTED
    one.inbox.take(body(told(bundle=GOOD[:12])))
    assert one.runner.step(one.now).next.phase is Phase.PROMOTED  # about the other one
    one.inbox.take(body(told("f9", bundle=NEW[:12])))
    assert one.runner.step(one.now).next.phase is Phase.ROLLED_BACK
    assert one.market.split.percent == {GOOD: 100}


def test_a_bundle_that_came_is_proposed_once(house):
    one = house(times=3.0)
    assert one.runner.offer(NEW, one.now)
    assert not one.runner.offer("c" * 64, one.now)
    one.runner.step(one.now)
    one.go()
    assert one.journal.state.phase is Phase.ROLLED_BACK
    assert not one.runner.offer(NEW, one.now)
    assert one.runner.offer("c" * 64, one.now)


def promoted_by_hand(one):
    """Past all checks; the good bundle stays warm."""
    state = one.journal.state
    changes = {"phase": Phase.PROMOTED, "since": one.now, "stable": NEW, "last_good": GOOD}
    forced = Release.model_validate(state.model_dump() | changes)
    one.journal.append(Decision(next=forced, reason="in a hurry", by="ann"), one.now)


def watched(one, steps):
    for _ in range(steps):
        decision = one.runner.step(one.now)
        if decision.next.phase is Phase.ROLLED_BACK:
            break
        one.now += timedelta(seconds=10)
        one.market.ten_seconds(one.now)
    return decision


def test_a_promoted_bundle_whose_clicks_do_not_come_goes_back_without_any_alert(house):
    one = house(times=3.0)
    one.runner.step(one.now)
    promoted_by_hand(one)
    found = watched(one, 10)
    assert found.next.phase is Phase.ROLLED_BACK
    assert found.reason.startswith("watch_ne: NE +")
    assert one.market.split.percent == {GOOD: 100}


def test_a_machine_that_stalls_takes_no_promoted_bundle_back_and_one_that_fails_by_itself_goes(house):
    one = house()
    one.runner.step(one.now)
    promoted_by_hand(one)
    one.market.stalls = 0.4
    found = watched(one, 8)
    assert found.next.phase is Phase.PROMOTED
    assert "requests failed; 1 % may; of 700 that the last good bundle got" in found.reason
    one.market.stalls = 0.0
    one.market.errors = 0.5
    found = watched(one, 2)
    assert found.next.phase is Phase.ROLLED_BACK
    assert "50 failed here only and 0 there only" in found.reason


def test_a_promoted_bundle_is_watched_by_its_last_minutes_only(tmp_path):
    """Ten hours of good service, then nothing but failures: the sums must not have the ten hours in them."""
    release = Release(endpoint="ctr", phase=Phase.PROMOTED, since=NOON, stable=NEW, last_good=GOOD)
    watch = Observations(tmp_path / "seen.json", watch_seconds=600)
    for minute in range(600):
        now = NOON + timedelta(minutes=minute)
        pairs = Paired(requests=600 * minute)
        watch.note(release, "one", {NEW: Seen(live=Traffic(requests=1_000 * minute), paired=pairs)}, now)
    kept = watch.spells
    assert sum(spell.live[NEW].requests for spell in kept) in (10_000, 11_000)
    assert sum(spell.paired[NEW].requests for spell in kept) in (6_000, 6_600)
    assert kept[0].since >= now - timedelta(minutes=11)
    again = Observations(tmp_path / "seen.json", watch_seconds=600)
    assert again.spells == kept


def test_a_port_that_is_taken_is_not_the_candidates_fault_and_is_said_once(house, caplog):
    one = house(smoke=True)
    one.runner.step(one.now)
    one.propose()
    one.market.taken, one.market.answer = True, None
    for _ in range(5):
        assert one.runner.step(one.now).next.phase is Phase.SMOKE
    assert caplog.text.count("can't listen") == 1
    one.market.taken, one.market.answer = False, Smoke(passed=True, words="replayed")
    assert one.runner.step(one.now).next.phase is Phase.SHADOW
