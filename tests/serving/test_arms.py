"""A ranking is split by the experiment that runs: by its user alone, sold by the arm's rules, logged under the arm."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from clickmill.auction import AuctionRules
from clickmill.errors import UsageError
from clickmill.experiment import ExperimentSpec, Place, assign
from serving.arms import HEADER_ARM, Arms, check_fields, impression_ids
from serving.fallback import HEADER_FALLBACK
from serving.lanes import Lanes
from serving.ranker import Ranker
from serving.ranker_settings import RankerSettings
from serving.ranking import HOUSE_RULES
from serving.scheduler import Scheduler
from tests.serving.small_bundle import CONTRACT, PRIORS
from tests.serving.test_prediction_log import logged_rows, served_with_log

NOW = datetime(2026, 3, 3, tzinfo=UTC)


def spec(**changed: Any) -> ExperimentSpec:
    given = {
        "name": "one-slot",
        "arms": {"control": {}, "treatment": {"rules": {"slots": 1}}},
        "control": "control",
        "start": "2026-03-02T00:00:00Z",
    }
    return ExperimentSpec.model_validate(given | changed)


def users_of(chosen: ExperimentSpec) -> dict[str, str]:
    """A user in each arm."""
    found: dict[str, str] = {}
    for number in range(100):
        found.setdefault(str(assign(chosen, f"u{number}").arm), f"u{number}")
    return found


def ask(user: Any, **more: Any) -> bytes:
    candidates = [{"ad_id": "a1", "bid": 1}, {"ad_id": "a2", "bid": 9}]
    return orjson.dumps({"request_id": "r1", "user": {"user_id": user}, "candidates": candidates, **more})


def test_each_arm_is_sold_by_its_rules_and_logged_under_its_name(small_scorer: Any, tmp_path: Any) -> None:
    chosen, users = spec(), users_of(spec())
    model = served_with_log(small_scorer, tmp_path)
    ranker = Ranker(model, Scheduler(model, Lanes(0)), arms=Arms(chosen, HOUSE_RULES, lambda: NOW))
    for arm, sold in (("control", 2), ("treatment", 1)):
        answer = asyncio.run(ranker.answer(ask(users[arm]), None))
        assert answer.headers[HEADER_ARM] == arm
        assert len(orjson.loads(answer.body)["ranked"]) == sold
    rows = logged_rows(model, tmp_path)
    assert [row["arm"] for row in rows] == ["control"] * 2 + ["treatment"] * 2
    # what was sold has a name that clicks refer to; what nobody saw has none
    assert [row["impression_id"] for row in rows] == ["r1:0", "r1:1", None, "r1:1"]


def test_a_fallback_is_the_arms_answer_too(small_scorer: Any, tmp_path: Any) -> None:
    """Else an arm that overloads its endpoint would lose its worst impressions."""
    chosen, users = spec(), users_of(spec())
    model = served_with_log(small_scorer, tmp_path)
    model.swap(small_scorer, "7", PRIORS)
    ranker = Ranker(
        model, Scheduler(model, Lanes(0)), RankerSettings(recent_scores=0), arms=Arms(chosen, HOUSE_RULES, lambda: NOW)
    )  # fmt: skip
    for arm, sold in (("control", 2), ("treatment", 1)):
        answer = asyncio.run(ranker.answer(ask(users[arm]), deadline=0.0))
        assert (answer.headers[HEADER_FALLBACK], answer.headers[HEADER_ARM]) == ("deadline", arm)
        assert len(orjson.loads(answer.body)["ranked"]) == sold
    rows = logged_rows(model, tmp_path)
    assert [(row["arm"], row["fallback"], row["candidate"], row["impression_id"]) for row in rows] == [
        ("control", "deadline", 1, "r1:1"),
        ("control", "deadline", 0, "r1:0"),
        ("treatment", "deadline", 1, "r1:1"),
    ]
    assert rows[2]["features"]["user_id"] == users["treatment"]


def test_a_request_that_names_a_rule_keeps_it(small_scorer: Any, tmp_path: Any) -> None:
    model = served_with_log(small_scorer, tmp_path)
    ranker = Ranker(model, Scheduler(model, Lanes(0)), arms=Arms(spec(), HOUSE_RULES, lambda: NOW))
    answer = asyncio.run(ranker.answer(ask(users_of(spec())["treatment"], slots=2), None))
    assert len(orjson.loads(answer.body)["ranked"]) == 2


@pytest.mark.parametrize(
    "payload",
    [
        {"user": {}},
        {"user": {"user_id": None}},
        {"user": {"user_id": ""}},
        {"user": "u1"},
        {"user": {"user_id": ["u1"]}},
        [],
        None,
    ],
)
def test_a_request_without_a_user_is_in_no_arm(payload: Any) -> None:
    assert Arms(spec(), HOUSE_RULES, lambda: NOW).arm_of(payload) is None


def test_nobody_is_in_an_arm_before_the_start_and_the_user_may_stand_in_the_context() -> None:
    before = datetime(2026, 3, 1, tzinfo=UTC)
    assert Arms(spec(), HOUSE_RULES, lambda: before).arm_of({"user": {"user_id": "u1"}}) is None
    assert (
        Arms(spec(), HOUSE_RULES, lambda: NOW).arm_of({"context": {"user_id": 7}}) == assign(spec(), "7").arm
    )


def test_an_experiment_that_the_ranker_cannot_run_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"arms.treatment.rules: slots: .*greater than or equal to 1 \(got 0\)"
    ):
        Arms(spec(arms={"control": {}, "treatment": {"rules": {"slots": 0}}}), AuctionRules())
    with pytest.raises(
        UsageError, match=r"arms.treatment.bundle: a ranker serves one bundle; `clickmill experiment run"
    ):
        Arms(spec(arms={"control": {}, "treatment": {"bundle": "abc"}}), AuctionRules())
    with pytest.raises(UsageError, match=r"holdout_gets.rules: slots"):
        Arms(spec(holdout=0.1, holdout_gets={"rules": {"slots": 0}}), AuctionRules())


def test_before_the_start_what_is_sold_has_names_but_no_arm(small_scorer: Any, tmp_path: Any) -> None:
    """Or the days before could not explain anything away. Who is unknown is asked for nothing."""
    model = served_with_log(small_scorer, tmp_path)
    before = datetime(2026, 3, 1, tzinfo=UTC)
    ranker = Ranker(model, Scheduler(model, Lanes(0)), arms=Arms(spec(), HOUSE_RULES, lambda: before))
    assert HEADER_ARM not in asyncio.run(ranker.answer(ask("u1"), None)).headers
    asyncio.run(ranker.answer(ask(""), None))
    rows = logged_rows(model, tmp_path)
    assert [row["arm"] for row in rows] == [None] * 4
    assert [row["impression_id"] for row in rows] == ["r1:0", "r1:1", None, None]


def test_the_holdout_is_sold_by_its_own_rules_at_all_times_and_logged_as_such(
    small_scorer: Any, tmp_path: Any
) -> None:
    chosen = spec(holdout=0.5, holdout_gets={"rules": {"slots": 1}})
    held = next(u for u in map("u{}".format, range(100)) if assign(chosen, u).place is Place.HOLDOUT)
    model = served_with_log(small_scorer, tmp_path)
    for now in (datetime(2026, 3, 1, tzinfo=UTC), NOW):
        ranker = Ranker(
            model, Scheduler(model, Lanes(0)), arms=Arms(chosen, HOUSE_RULES, lambda now=now: now)
        )
        answer = asyncio.run(ranker.answer(ask(held), None))
        assert answer.headers[HEADER_ARM] == "holdout"
        assert len(orjson.loads(answer.body)["ranked"]) == 1
    assert {row["arm"] for row in logged_rows(model, tmp_path)} == {"holdout"}


def test_a_unit_that_the_contract_does_not_know_is_refused_since_nobody_would_be_in_an_arm() -> None:
    check_fields(spec(slices=("device",)), CONTRACT)
    with pytest.raises(
        UsageError, match="has no input 'userid', by which users are told apart; inputs: user_id"
    ):
        check_fields(spec(unit="userid"), CONTRACT)


def test_without_a_request_id_nothing_can_be_named() -> None:
    assert impression_ids(None, [0], 2) is None
    assert impression_ids("r", [1], 3) == [None, "r:1", None]
