"""An experiment as a file: who is in it, which arms there are, what is measured, and when enough is known.

name: dcn_against_lr
unit: user_id
arms: {control: {weight: 1}, treatment: {weight: 1, rules: {reserve: 0.5}}}
control: control
start: 2026-03-02T00:00:00Z
primary: ctr
minimal_effect: 0.02
planned_impressions: 2000000
guardrails: {rpm: 0.01}
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from clickmill.errors import UsageError

_SETTINGS = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

USERS = "users"
"""The denominator that counts each user once."""


class Goal(StrEnum):
    """Which way a metric should move."""

    UP = "up"
    DOWN = "down"


class MetricSpec(BaseModel):
    """A ratio of two sums over all users of an arm: users are drawn, impressions are measured."""

    model_config = _SETTINGS

    numerator: str
    """A sum of the log: `clicks`, `revenue`, `impressions`, or any numeric column."""
    denominator: str = "impressions"
    """Another, or `users`."""
    scale: float = Field(default=1.0, gt=0)
    """Factor for people: 1000 for revenue per thousand impressions."""
    goal: Goal = Goal.UP
    """Which way is good."""
    title: str = ""
    """In the report; the metric's name by default."""


CTR = MetricSpec(numerator="clicks", title="Click rate")
RPM = MetricSpec(numerator="revenue", scale=1000, title="Revenue per thousand impressions")
REVENUE_PER_USER = MetricSpec(numerator="revenue", denominator=USERS, title="Revenue per user")
CLICKS_PER_USER = MetricSpec(numerator="clicks", denominator=USERS, title="Clicks per user")
IMPRESSIONS_PER_USER = MetricSpec(numerator="impressions", denominator=USERS, title="Impressions per user")
STANDARD: dict[str, MetricSpec] = {
    "ctr": CTR,
    "rpm": RPM,
    "revenue_per_user": REVENUE_PER_USER,
    "clicks_per_user": CLICKS_PER_USER,
    "impressions_per_user": IMPRESSIONS_PER_USER,
}
"""Metrics that need not be spelt out in a spec."""


HOLDOUT = "holdout"
"""What is logged as the arm of users who are held out, and what their arm is called where they are compared with all others."""
SHIPPED = "shipped"
"""Everybody else in that comparison."""


class Served(BaseModel):
    """What users get."""

    model_config = _SETTINGS

    bundle: str | None = None
    """Digest of the bundle that answers, or its beginning where no other begins so; None for the one that serves anyway. Of several
    bundles `clickmill experiment run` serves each."""
    rules: dict[str, Any] = Field(default_factory=dict)
    """Auction rules that differ from the house's, such as {reserve: 0.5}; and {exploration: {explorer: thompson}} (docs/auctions.md)."""
    description: str = ""
    """For people."""


class ArmSpec(Served):
    """What its users get, and how many they are."""

    weight: float = Field(default=1.0, gt=0)
    """Share of the experiment's users, relative to the other arms'. Fixed while the experiment runs: grow it by `ramp`."""


class ExperimentSpec(BaseModel):
    """One experiment. A user's arm depends on the salt, the layer and the user alone."""

    model_config = _SETTINGS

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,60}$")
    """Of the experiment; also its salt unless one is given."""
    question: str = ""
    """What is to be found out, for the report."""
    unit: str = "user_id"
    """Field by which users are told apart: what is assigned, and what is counted as one observation."""
    salt: str | None = None
    """Makes the split independent of all others. Never that of an earlier experiment: its winners' arm would meet again."""
    layer: str = "default"
    """Experiments of one layer share no user; those of different layers are independent of each other."""
    share: tuple[float, float] = (0.0, 1.0)
    """The part of its layer that this experiment owns, from and to; the parts of a layer must not overlap."""
    ramp: float = Field(default=1.0, ge=0, le=1)
    """Share of those users who are in now. Growing it lets users in and moves nobody; shrinking it sends the last ones out."""
    holdout: float = Field(default=0.0, ge=0, le=0.5)
    """Share of all users who are in no experiment, the same ones for all: what all experiments together have changed is read off them."""
    holdout_gets: Served = Served()
    """What they get: name the bundle and the rules from before all of them, or what is shipped reaches the holdout as well."""
    arms: dict[str, ArmSpec]
    """By name, at least two; the order and the weights stay as they are while the experiment runs."""
    control: str
    """The arm that the others are compared with."""
    start: AwareDatetime | None = None
    """Before it nobody is assigned."""
    end: AwareDatetime | None = None
    """From then on nobody is."""

    metrics: dict[str, MetricSpec] = Field(default_factory=dict)
    """More metrics than the standard ones (ctr, rpm, revenue_per_user, clicks_per_user, impressions_per_user)."""
    primary: str = "ctr"
    """The metric that decides."""
    secondary: tuple[str, ...] = ()
    """Metrics that are told and do not decide."""
    guardrails: dict[str, float] = Field(default_factory=dict)
    """Metric to the relative harm that is tolerated: {rpm: 0.01} refuses an arm unless it is shown to lose less than 1 %."""
    minimal_effect: float = Field(default=0.01, gt=0)
    """The least relative lift of the primary metric that is worth shipping. A lift shown to be smaller than this answers no."""
    planned_impressions: int = Field(default=1_000_000, gt=0)
    """Impressions in all arms at which the always-valid intervals are narrowest compared with what they could be there. Chosen before."""
    alpha: float = Field(default=0.05, gt=0, lt=1)
    """Chance of calling equal arms different, ever, over all looks, arms and guardrails."""
    srm_alpha: float = Field(default=0.001, gt=0, lt=1)
    """Chance of calling a sound split broken, over all looks."""
    min_clicks: int = Field(default=100, ge=1)
    """Clicks an arm needs before anything is said: below it a normal approximation is not to be trusted."""
    slices: tuple[str, ...] = ()
    """Columns by whose values the effect is told apart."""
    pre_days: float = Field(default=0.0, ge=0)
    """Days before `start` whose log explains away differences that were there before (CUPED); 0 for none."""

    @property
    def seed(self) -> str:
        """What the split is salted with."""
        return self.salt or self.name

    def metric(self, name: str) -> MetricSpec:
        """A metric by its name. Raises UsageError for one that there is not."""
        found = self.metrics.get(name) or STANDARD.get(name)
        if found is None:
            raise UsageError(
                f"metric {name!r}: there is none; define it under `metrics`, or take {', '.join(STANDARD)}"
            )
        return found

    @property
    def judged(self) -> tuple[str, ...]:
        """All metrics by name, the primary first, each once."""
        return tuple(dict.fromkeys((self.primary, *self.guardrails, *self.secondary)))

    @property
    def without_bundles(self) -> ExperimentSpec:
        """The same split and the same rules, for a ranker that serves one bundle behind something that knows the others."""
        arms = {name: arm.model_copy(update={"bundle": None}) for name, arm in self.arms.items()}
        held = self.holdout_gets.model_copy(update={"bundle": None})
        return self.model_copy(update={"arms": arms, "holdout_gets": held})

    @property
    def of_holdout(self) -> ExperimentSpec:
        """Everybody else beside the holdout, as an experiment of two arms: what all that was shipped since `start` has changed.

        Raises UsageError when nobody is held out.
        """
        if not self.holdout:
            raise UsageError(
                f"experiment {self.name}: holds nobody out; `holdout: 0.05` keeps a twentieth of the users from all changes"
            )
        arms = {
            HOLDOUT: ArmSpec(weight=self.holdout, **self.holdout_gets.model_dump()),
            SHIPPED: ArmSpec(weight=1 - self.holdout, description="all who are not held out"),
        }
        changed = {"question": "What has all that was shipped changed, beside users who got none of it?"}
        left_out = {"holdout", "holdout_gets", "arms", "control", "question", "ramp", "share"}
        return ExperimentSpec.model_validate(
            self.model_dump(exclude=left_out) | changed | {"arms": arms, "control": HOLDOUT}
        )

    @property
    def treatments(self) -> tuple[str, ...]:
        """All arms but the control."""
        return tuple(name for name in self.arms if name != self.control)

    @property
    def weights(self) -> dict[str, float]:
        """Share of the experiment's users by arm; they add up to 1."""
        total = sum(arm.weight for arm in self.arms.values())
        return {name: arm.weight / total for name, arm in self.arms.items()}

    @field_validator("arms")
    @classmethod
    def _two(cls, arms: dict[str, ArmSpec]) -> dict[str, ArmSpec]:
        if len(arms) < 2:
            raise ValueError(f"needs at least two arms; got {', '.join(arms) or 'none'}")
        return arms

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.control not in self.arms:
            raise ValueError(f"control: no arm {self.control!r}; arms: {', '.join(self.arms)}")
        if self.holdout and HOLDOUT in self.arms:
            raise ValueError(
                f"arms: {HOLDOUT!r} is what users outside of all experiments are logged as; call the arm something else"
            )
        low, high = self.share
        if not 0 <= low < high <= 1:
            raise ValueError(f"share: must be from and to within 0 and 1; got {list(self.share)}")
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise ValueError(f"end: must come after start; got {self.start} to {self.end}")
        if self.pre_days and self.start is None:
            raise ValueError("pre_days: needs a start, or there is no before")
        for name in self.judged:
            if name not in self.metrics and name not in STANDARD:
                raise ValueError(
                    f"metric {name!r}: there is none; define it under `metrics`, or take {', '.join(STANDARD)}"
                )
        wrong = {name: harm for name, harm in self.guardrails.items() if harm <= 0}
        if wrong:
            raise ValueError(f"guardrails: the harm tolerated must be above 0; got {wrong}")
        return self


def load(path: Path) -> ExperimentSpec:
    """Read a spec. Raises UsageError naming the file and each wrong field, its value and the rule."""
    try:
        return loads(path.read_text(), origin=str(path))
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read ({error.strerror}); give the YAML file of an experiment"
        ) from error


def loads(text: str, *, origin: str = "experiment") -> ExperimentSpec:
    """A spec from its YAML. Raises UsageError as `load` does; `origin` is what to call it."""
    try:
        given = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{origin}: cannot be read as the YAML of an experiment ({error})") from error
    if not isinstance(given, dict):
        raise UsageError(f"{origin}: must hold a mapping such as `name: ...`, `arms: ...`, `control: ...`")
    try:
        return ExperimentSpec.model_validate(given)
    except ValidationError as error:
        told = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'experiment'}: {e['msg']} (got {e['input']!r:.80})"
            for e in error.errors()
        )
        raise UsageError(f"{origin}: {told}") from error


def dumps(spec: ExperimentSpec) -> str:
    """As YAML that `load` reads."""
    text: str = yaml.safe_dump(spec.model_dump(mode="json", exclude_defaults=True), sort_keys=False)
    return text


def check_layers(specs: Sequence[ExperimentSpec]) -> None:
    """Raises UsageError when two experiments would split the same users: overlapping shares of a layer, one salt, or two holdouts."""
    for number, one in enumerate(specs):
        for other in specs[:number]:
            if one.seed == other.seed:
                raise UsageError(
                    f"experiments {other.name} and {one.name} have the same salt: their arms are the same users"
                )
            if one.holdout != other.holdout:
                raise UsageError(
                    f"experiments {other.name} and {one.name} hold out {other.holdout} and {one.holdout}; the holdout is one for all"
                )
            overlap = min(one.share[1], other.share[1]) > max(one.share[0], other.share[0])
            if one.layer == other.layer and overlap:
                raise UsageError(
                    f"experiments {other.name} {list(other.share)} and {one.name} {list(one.share)} overlap in layer {one.layer!r}; "
                    "give them parts that do not, or another layer"
                )


__all__ = [
    "CTR",
    "HOLDOUT",
    "RPM",
    "SHIPPED",
    "STANDARD",
    "USERS",
    "ArmSpec",
    "ExperimentSpec",
    "Goal",
    "MetricSpec",
    "Served",
    "check_layers",
    "dumps",
    "load",
    "loads",
]
