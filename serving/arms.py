"""A running experiment at the ranker: which arm a ranking's user is in, and by which auction rules that arm is sold."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from clickmill.auction import AuctionRules
from clickmill.contract import FeatureContract
from clickmill.errors import UsageError
from clickmill.experiment import ExperimentSpec, assign
from clickmill.experiment.exploration import ColdAdSettings
from clickmill.experiment.spec import HOLDOUT, load

HEADER_ARM = "x-clickmill-arm"
"""Of an answer whose user is in an experiment."""


_EXPLORATION = "exploration"


class _Exploration(BaseModel):
    """The part of an arm's rules that is no rule of the auction."""

    exploration: ColdAdSettings | None


def _now() -> datetime:
    return datetime.now(UTC)


class Arms:
    """Of one experiment. The arm is a hash of the user: every replica of the ranker says the same, and none remembers anything."""

    def __init__(self, spec: ExperimentSpec, house: AuctionRules, now: Callable[[], datetime] = _now) -> None:
        """house: the rules that an arm's own go over. Raises UsageError for rules that are none, and for an arm with a bundle of its own:
        one ranker has one bundle in service, and `clickmill experiment run` (serving.router.experiment_target) one for each."""
        self.spec, self._now = spec, now
        self._rules: dict[str, AuctionRules] = {}
        self._exploration: dict[str, ColdAdSettings | None] = {}
        places = {f"arms.{name}": (name, arm) for name, arm in spec.arms.items()}
        if spec.holdout:
            places["holdout_gets"] = (HOLDOUT, spec.holdout_gets)
        for place, (name, arm) in places.items():
            if arm.bundle is not None:
                raise UsageError(
                    f"experiment {spec.name}, {place}.bundle: a ranker serves one bundle; `clickmill experiment run SPEC STORE` serves each "
                    "arm's and sends every user to their own"
                )
            rules = dict(arm.rules)
            try:
                if _EXPLORATION in rules:
                    given = {_EXPLORATION: rules.pop(_EXPLORATION)}
                    self._exploration[name] = _Exploration.model_validate(given).exploration
                self._rules[name] = AuctionRules.model_validate(house.model_dump() | rules)
            except ValidationError as error:
                told = "; ".join(
                    f"{'.'.join(map(str, e['loc']))}: {e['msg']} (got {e['input']!r})" for e in error.errors()
                )
                raise UsageError(f"experiment {spec.name}, {place}.rules: {told}") from error

    @classmethod
    def opened(cls, path: Path, house: AuctionRules) -> Arms:
        """From the spec's file."""
        return cls(load(path), house)

    def user_of(self, payload: Any) -> str | None:
        """Whom a decoded ranking is for; None for one that names no user."""
        if not isinstance(payload, dict):
            return None
        for part in ("user", "context"):
            fields = payload.get(part)
            user = fields.get(self.spec.unit) if isinstance(fields, dict) else None
            if isinstance(user, str | int) and str(user):
                return str(user)
        return None

    def arm_of(self, payload: Any) -> str | None:
        """The arm of a decoded ranking, `holdout` for users who are held out; None for a user who is in none, and for a request that names no user."""
        user = self.user_of(payload)
        return None if user is None else assign(self.spec, user, self._now()).logged

    def rules_of(self, arm: str) -> AuctionRules:
        """What holds in an arm where the request names no rule of its own."""
        return self._rules[arm]

    @property
    def names(self) -> tuple[str, ...]:
        """All arms, `holdout` among them where users are held out."""
        return tuple(self._rules)

    def exploration_of(self, arm: str, house: ColdAdSettings | None) -> ColdAdSettings | None:
        """How an arm tries ads that are hardly known: as its rules say (null: not at all), else as the house does."""
        return self._exploration.get(arm, house)


def check_fields(spec: ExperimentSpec, contract: FeatureContract) -> None:
    """Raises UsageError when a contract knows nothing of the users or of a slice: nobody would ever be in an arm, and no one would notice."""
    for field in (spec.unit, *spec.slices):
        if field not in contract.inputs:
            what = "users are told apart" if field == spec.unit else "a slice is asked for"
            raise UsageError(
                f"experiment {spec.name}: contract {contract.name!r} has no input {field!r}, by which {what}; "
                f"inputs: {', '.join(contract.inputs)}"
            )


def impression_ids(request_id: str | None, shown: list[int], rows: int) -> list[str | None] | None:
    """(rows,) ids under which a click log refers to the candidates that were sold, `REQUEST:CANDIDATE`; None where nobody can name the request."""
    if request_id is None:
        return None
    sold = set(shown)
    return [f"{request_id}:{at}" if at in sold else None for at in range(rows)]


__all__ = ["HEADER_ARM", "Arms", "check_fields", "impression_ids"]
