"""An experiment whose arms are bundles: who answers a request is decided by the arm of its user, not by shares that may move.

Door and rankers ask the same function of the same spec and the same body, so that the arm that is logged is the arm whose bundle was
asked. Where that one had no answer and the other gave it, the log has the arm that the user is in and the bundle that answered: users
count where they were sent, or an arm that fails its users would be judged by those it did not fail.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import orjson

from clickmill.experiment import ExperimentSpec, assign
from clickmill.experiment.spec import HOLDOUT
from clickmill.release import Split
from serving.arms import Arms
from serving.ranking import HOUSE_RULES


def bundles_of(spec: ExperimentSpec, find: Callable[[str], str], newest: str) -> dict[str, str]:
    """Arm to the digest of the bundle that answers its users, and that of the holdout.

    find: the whole digest of one that a spec names, or its refusal. newest: digest of the bundle that serves where the control names
    none. Who names none gets the control's.
    """
    named = spec.arms[spec.control].bundle
    house = newest if named is None else find(named)
    places = {**spec.arms, **({HOLDOUT: spec.holdout_gets} if spec.holdout else {})}
    return {name: house if place.bundle is None else find(place.bundle) for name, place in places.items()}


def split_of(spec: ExperimentSpec, bundles: Mapping[str, str]) -> Split:
    """Whom a target has to keep up, with the shares of all users that each bundle will have; the control's answers where another can't."""
    house = bundles[spec.control]
    inside = (1 - spec.holdout) * (spec.share[1] - spec.share[0]) * spec.ramp
    shares = dict.fromkeys([house, *bundles.values()], 0.0)
    for arm, weight in spec.weights.items():
        shares[bundles[arm]] += inside * weight
    if spec.holdout:
        shares[bundles[HOLDOUT]] += spec.holdout
    others = {bundle: max(round(100 * share), 1) for bundle, share in shares.items() if bundle != house}
    return Split(percent={house: 100 - sum(others.values()), **others}, spare=house)


class ByArm:
    """Chooses at the door: by the user of a ranking's body, or else by the one that the header names; without either the control's bundle."""

    def __init__(
        self,
        spec: ExperimentSpec,
        bundles: Mapping[str, str],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._spec, self._bundles, self._now = spec, dict(bundles), now
        self._arms = Arms(spec.without_bundles, HOUSE_RULES, now)

    def __call__(self, split: Split, user: str | None, body: bytes) -> str:
        """Digest of the bundle that answers."""
        try:
            known = self._arms.user_of(orjson.loads(body)) or user
        except orjson.JSONDecodeError:
            known = user  # a tensor in binary, or what the server will refuse
        arm = None if known is None else assign(self._spec, known, self._now()).logged
        return self._bundles[self._spec.control if arm is None else arm]


__all__ = ["ByArm", "bundles_of", "split_of"]
