"""How rankings are answered: where their features come from, what is remembered, and what happens when the model is not there."""

from __future__ import annotations

from pydantic import BaseModel, Field


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
