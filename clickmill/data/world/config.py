"""Settings of the simulated market: how large it is, and how strong each reason to click is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator, model_validator

_SETTINGS = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

# users x advertisers exposure counters are float32 and held in memory: 200 M of them are 0.8 GB.
_MAX_EXPOSURE_CELLS = 200_000_000


class Effects(BaseModel):
    """Strength of each reason to click, on the logit scale, before the common factor of `WorldConfig.target_auc`.

    Unless a field says otherwise it is the standard deviation of the effect over its own levels, drawn once per
    world; an effect of 0.3 moves the odds of a click by a factor of 1.35 per standard deviation. With the defaults
    the attributes and their crosses carry most of the signal and the ids little, because 600k rows with 3 % clicks
    hold too few clicks per id to learn much from it.
    """

    model_config = _SETTINGS

    user: float = Field(0.25, ge=0)
    """Each of segment, age bucket, gender, region and device OS, as main effects."""
    user_residual: float = Field(0.1, ge=0)
    """What only the user id tells: people differ in how readily they click."""
    category: float = Field(0.4, ge=0)
    """Main effect of the ad's category."""
    creative_format: float = Field(0.4, ge=0)
    """Main effect of the creative format: a native ad draws more clicks than a banner."""
    advertiser: float = Field(0.15, ge=0)
    """Main effect of the advertiser."""
    ad_residual: float = Field(0.12, ge=0)
    """What only the ad id tells: the quality of this creative."""
    site: float = Field(0.3, ge=0)
    """Main effect of the site or app."""
    context: float = Field(0.2, ge=0)
    """Each of page category and connection type, as main effects."""
    segment_category: float = Field(0.6, ge=0)
    """Cross of user segment and ad category, without main effects: a linear model cannot see it."""
    demography_category: float = Field(0.3, ge=0)
    """Cross of (age bucket, gender) and ad category, without main effects."""
    page_category: float = Field(0.3, ge=0)
    """Cross of page category and ad category (contextual relevance), without main effects."""
    site_format: float = Field(0.35, ge=0)
    """Cross of site and creative format, without main effects."""
    device_format: float = Field(0.25, ge=0)
    """Crosses of creative format with device OS and with connection type, without main effects."""
    taste: float = Field(0.25, ge=0)
    """Inner product of the user's latent taste and the ad's latent topic; partly told by segment and category."""
    price: float = Field(0.35, ge=0)
    """Logit lost per unit of |ln(ad price / user's price affinity)|: a cross of two numbers."""
    banner_blindness: float = Field(0.12, ge=0)
    """Logit lost per unit of ln(1 + impressions the user has seen so far)."""
    history_match: float = Field(2.6, ge=0)
    """Logit won when the whole recent click history is of the ad's category; the click k places back counts
    `history_decay` ** k, so that the order of the history matters."""
    history_decay: float = Field(0.72, gt=0, lt=1)
    """Weight of a click relative to the one that came after it. Not a standard deviation."""
    history_topic: float = Field(0.2, ge=0)
    """Inner product of the ad's topic and the recency-weighted topics of the ads clicked before."""
    transition: float = Field(0.9, ge=0)
    """Logit won when the ad's category is one of the two that people turn to after the category clicked last."""
    clicked_before: float = Field(1.0, ge=0)
    """Logit lost when this very ad is among the recent clicks: nobody needs the same offer twice."""
    fatigue: float = Field(0.3, ge=0)
    """Logit lost per unit of ln(1 + recent exposures of this user to this advertiser)."""
    hour_segment: float = Field(0.25, ge=0)
    """Amplitude of a daily wave whose phase depends on the user's segment."""
    weekend_category: float = Field(0.15, ge=0)
    """Cross of weekend and ad category."""
    trend_per_day: float = Field(0.01, ge=0)
    """Slow trend: logit per day, drawn per category, so that the past is not quite the future."""


class DelayComponent(BaseModel):
    """One log-normal part of the click delay."""

    model_config = _SETTINGS

    share: float = Field(gt=0, le=1)
    """Share of clicks with this kind of delay; the shares add up to 1."""
    median_s: float = Field(gt=0)
    """Median delay in seconds."""
    sigma: float = Field(ge=0)
    """Standard deviation of ln(delay); 1 spreads the middle two thirds over a factor of 7."""


class ClickDelay(BaseModel):
    """Time from an impression to the moment its click is known."""

    model_config = _SETTINGS

    components: tuple[DelayComponent, ...] = (
        DelayComponent(share=0.82, median_s=45, sigma=1.1),
        DelayComponent(share=0.13, median_s=5_400, sigma=1.0),
        DelayComponent(share=0.05, median_s=72_000, sigma=0.8),
    )
    """Most clicks are heard of within minutes; a batch upload of mobile clients makes the tail of hours to days."""
    max_s: float = Field(7 * 86_400, gt=0)
    """Longest delay in seconds; later clicks are cut to it, so that a log has an end."""

    @field_validator("components")
    @classmethod
    def _shares_add_up(cls, components: tuple[DelayComponent, ...]) -> tuple[DelayComponent, ...]:
        total = sum(component.share for component in components)
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the shares of the delay components must add up to 1. Got {total:g} instead.")
        return components


class Dirt(BaseModel):
    """What is wrong in real logs. Only what a correct join removes is on by default."""

    model_config = _SETTINGS

    duplicate_share: float = Field(0.005, ge=0, le=1)
    """Share of clicks that are logged twice, the second time a few seconds later."""
    orphan_share: float = Field(0.001, ge=0, le=1)
    """Clicks on impressions that are in no log, as a share of all clicks."""
    missing_share: float = Field(0.0, ge=0, lt=1)
    """Share of impressions whose gender, and of others whose connection type, was not logged (null). Off by default:
    the user still acts by it, so that the true probability is no longer a function of what was logged."""


class LoggingPolicy(BaseModel):
    """How the ads in the log came to be shown, and in which order."""

    model_config = _SETTINGS

    candidates: int = Field(12, ge=2)
    """Ads that compete for the slots of one request. At least twice `slots_max`."""
    skill: float = Field(0.55, ge=0)
    """Weight of the true logit in the ranking score. Above 0, good ads stand in good positions and position is
    confounded with relevance, as in every real log."""
    noise: float = Field(0.8, gt=0)
    """Standard deviation of the noise in the ranking score; without it no log could tell position from relevance."""
    bid_weight: float = Field(0.5, ge=0)
    """Weight of ln(bid) in the ranking score; 1 would be pure expected revenue."""


class WorldConfig(BaseModel):
    """One simulated market. The same settings give the same logs, byte for byte.

    >>> WorldConfig(impressions=1000).days
    10
    """

    model_config = _SETTINGS

    seed: int = Field(7, ge=0)
    """Seed of everything random. Traffic, policy and clicks draw from separate streams per hour: two worlds that differ
    only in their policy see the same users at the same times."""
    impressions: int = Field(1_000_000, ge=1)
    """Rows of the impression log; met exactly."""
    start: AwareDatetime = datetime(2026, 1, 5, tzinfo=UTC)
    """First hour of the log, on the full hour; a Monday by default. Kept in UTC."""
    days: int = Field(10, ge=1, le=366)
    """Length of the impression log. Ten days leave seven to train (each weekday once), one to calibrate, two to test."""
    n_users: int = Field(20_000, ge=10)
    """Users, with Zipf popularity. Histories are worth having when impressions x CTR / users is above one."""
    n_ads: int = Field(2_000, ge=20)
    """Ads, with Zipf popularity."""
    n_advertisers: int = Field(150, ge=2)
    """Advertisers; each has a home category and runs one campaign per about four ads."""
    n_sites: int = Field(40, ge=2)
    """Sites and apps. Each has its own number of slots."""
    slots_min: int = Field(3, ge=1)
    """Fewest ads per request."""
    slots_max: int = Field(5, ge=1)
    """Most ads per request."""
    examination: tuple[float, ...] = (1.0, 0.72, 0.55, 0.44, 0.36)
    """P(the user looks at the slot), by position from 1. P(click) = examination x relevance. Not steeper than eye tracking
    shows; position 1 at 1 makes relevance the click probability at the top."""
    target_ctr: float = Field(0.036, gt=0, lt=0.5)
    """Clicks per impression to aim at. The intercept is fitted to it on a pilot; expect it within 15 %, since histories sharpen as the log runs."""
    target_auc: float | None = Field(0.832, gt=0.5, lt=1)
    """AUC of the true probability to aim at: all effects are scaled by one factor fitted on the same pilot, so that one
    seed is as hard as the next. Histories sharpen while the log runs; expect up to 0.01 more. None takes the effects as
    they are."""
    user_zipf: float = Field(0.8, ge=0)
    """Exponent of user popularity: weight of rank r is (r + user_zipf_head) ** -exponent."""
    user_zipf_head: float = Field(20.0, ge=0)
    """Flattens the head of user popularity: without it the first of 20,000 users alone would make 1.5 % of all requests,
    more than a person can."""
    ad_zipf: float = Field(0.8, ge=0)
    """Exponent of ad popularity."""
    new_user_share: float = Field(0.1, ge=0, lt=1)
    """Users who first appear while the log runs (cold start)."""
    new_ad_share: float = Field(0.25, ge=0, lt=1)
    """Ads that enter while the log runs (cold start)."""
    history_length: int = Field(20, ge=1, le=200)
    """Clicks that the log keeps per user and shows with an impression, latest last."""
    warm_clicks: float = Field(6.0, ge=0)
    """Mean number of clicks a user brings along from before the log; 0 starts everybody with an empty history."""
    effects: Effects = Effects()
    """Why people click."""
    policy: LoggingPolicy = LoggingPolicy()
    """Which ads were shown where."""
    click_delay: ClickDelay = ClickDelay()
    """When the click log hears of a click."""
    dirt: Dirt = Dirt()
    """Duplicates, orphans, nulls."""
    shift_day: float | None = Field(None, ge=0)
    """Day (from the start) at which tastes change at once, for drift drills; none by default."""
    shift_strength: float = Field(0.7, ge=0, le=1)
    """How much of the segment x category preferences is redrawn at `shift_day`; 1 is all of it."""

    @field_validator("start")
    @classmethod
    def _full_hour(cls, start: datetime) -> datetime:
        start = start.astimezone(UTC)
        if start != start.replace(minute=0, second=0, microsecond=0):
            raise ValueError(f"start must be on the full hour. Got {start.isoformat()} instead.")
        return start

    @field_validator("examination")
    @classmethod
    def _probabilities(cls, curve: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 < probability <= 1 for probability in curve):
            raise ValueError(f"examination probabilities must be in (0, 1]. Got {curve} instead.")
        return curve

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.slots_min > self.slots_max:
            raise ValueError(f"slots_min ({self.slots_min}) must not exceed slots_max ({self.slots_max}).")
        if len(self.examination) < self.slots_max:
            raise ValueError(
                f"examination needs a probability for each of the slots_max={self.slots_max} positions. "
                f"Got {len(self.examination)} instead."
            )
        if self.policy.candidates < 2 * self.slots_max:
            raise ValueError(
                f"policy.candidates must be at least twice slots_max={self.slots_max}, so that no request runs out of "
                f"distinct ads. Got {self.policy.candidates} instead."
            )
        if self.n_ads * (1 - self.new_ad_share) < 2 * self.policy.candidates:
            raise ValueError(
                f"n_ads x (1 - new_ad_share) must be at least twice policy.candidates={self.policy.candidates}. "
                f"Got n_ads={self.n_ads}, new_ad_share={self.new_ad_share} instead."
            )
        if self.n_users * self.n_advertisers > _MAX_EXPOSURE_CELLS:
            raise ValueError(
                f"n_users x n_advertisers must not exceed {_MAX_EXPOSURE_CELLS:,} (one counter each is held in memory). "
                f"Got {self.n_users:,} x {self.n_advertisers:,} instead; lower one of them."
            )
        return self

    @property
    def hours(self) -> int:
        """Hours of the impression log; the click log goes on for up to `click_delay.max_s` longer."""
        return 24 * self.days

    @property
    def end(self) -> datetime:
        """First instant after the impression log."""
        return self.start + timedelta(days=self.days)
