"""How rankings are answered: where their features come from, what is remembered, and what happens when the model is not there."""

from __future__ import annotations

from pydantic import BaseModel, Field

from clickmill.experiment.exploration import ColdAdSettings


class RankerSettings(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """Of one endpoint."""

    fallback: bool = True
    """Whether a ranking that the model cannot answer gets one from click rates. An ad server has to show something: no answer is an
    empty slot. A request says otherwise with `x-clickmill-on-failure: error`."""
    recent_seconds: float = Field(default=600.0, ge=0)
    """Age up to which a user's last scores serve as a fallback; 0 keeps none. In ten minutes a click probability changes less than from
    one ad to the next."""
    recent_scores: int = Field(default=200_000, ge=0)
    """Most scores remembered for it, about 30 MB."""
    feature_wait_ms: float = Field(default=5.0, gt=0)
    """Most time a ranking waits for the feature store; what is not there by then is the contract's default. Half of a promise of 10 ms;
    where the caller gives less, half of what is left."""
    feature_cache_seconds: float = Field(default=5.0, ge=0)
    """Age up to which a row read from Redis is used again; 0 remembers none. One page asks for several slots within a second or two, and
    features that may be hours old lose nothing by five seconds. A file is read quicker than it is remembered."""
    feature_cache_rows: int = Field(default=100_000, ge=0)
    """Most rows remembered, users and ads together: some 50 MB."""
    score_cache_seconds: float = Field(default=0.0, ge=0)
    """Age up to which the score of an equal question by the same bundle is used again; 0, the default, computes each. A score costs some
    ten microseconds and is seldom asked for twice; where pages ask again (a refresh, a retry) 30 s help."""
    score_cache_scores: int = Field(default=200_000, ge=1)
    """Most scores remembered."""
    exploration: ColdAdSettings | None = None
    """How ads that the bundle hardly knows are tried (docs/auctions.md); None, the default, ranks by the model alone. An arm of an experiment
    says otherwise under `rules: {exploration: ...}`."""
