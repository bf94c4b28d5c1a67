"""Prior correction: undo in closed form what negative sampling and a weighted loss did to the odds.

Negative sampling. Of the non-clicks a share w is kept, of the clicks all. By Bayes the odds on the sample are

    q / (1 - q) = [p / (1 - p)] / w                   so  logit p = logit q + ln w

He et al., "Practical Lessons from Predicting Clicks on Ads at Facebook", ADKDD 2014, section 6.3: p = q / (q + (1 - q) / w);
King & Zeng, "Logistic Regression in Rare Events Data", Political Analysis 2001, eq. 7, is the same shift for case-control samples.

Weighted loss. With clicks weighted w+ the expected loss at one point is -[w+ p ln q + (1 - p) ln(1 - q)]; its derivative
vanishes at

    q / (1 - q) = w+ p / (1 - p)                      so  logit p = logit q - ln w+

Both are shifts of the logit and add up. They are exact for a model that fits its training distribution; what it misses is the
calibrator's work.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from clickmill.calibration.logits import Floats


class PriorCorrection(BaseModel):
    """The shift that brings a raw logit back to the click rate of unsampled, unweighted traffic."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    negatives_kept: float = Field(default=1.0, gt=0, le=1)
    """Share of the non-clicks that was kept for training; 1 is all."""
    positive_weight: float = Field(default=1.0, gt=0)
    """Weight of a click in the training loss against 1 for a non-click; 1 is the plain loss."""

    @property
    def shift(self) -> float:
        """ln(negatives_kept) - ln(positive_weight), added to the raw logit."""
        return math.log(self.negatives_kept) - math.log(self.positive_weight)

    def __call__(self, logit: npt.ArrayLike) -> Floats:
        """Raw logits (n,) to logits of unsampled traffic (n,), float64.

        Half of a sample that kept 1 % of the non-clicks are clicks; in traffic that is 1 in 101:

        >>> from clickmill.calibration.logits import sigmoid
        >>> round(1 / sigmoid(PriorCorrection(negatives_kept=0.01)([0.0]))[0], 6).item()
        101.0
        """
        return np.asarray(logit, dtype=np.float64) + self.shift
