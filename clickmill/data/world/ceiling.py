"""How good the best possible model is: the true probabilities judged against the clicks they produced."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from clickmill.data.world.population import Floats

# Bins of the logit between -16 and 16: 0.001 wide, so that ties within a bin move the AUC by less than 1e-5.
_BINS = 32_768
_REACH = 16.0


class Ceiling(BaseModel):
    """What a model that knows the truth would reach on these impressions."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    impressions: int
    """Rows."""
    clicks: int
    """Impressions that were clicked; each counts once."""
    expected_clicks: float
    """Sum of the true probabilities; differs from `clicks` by chance alone."""
    ctr: float | None
    """clicks / impressions; None without impressions."""
    auc: float | None
    """Area under the ROC curve of the true probability; None when all or none were clicked."""
    ne: float | None
    """Normalized entropy of the true probability (He et al., 2014); None when all or none were clicked."""


class CeilingTally:
    """Sums from which a Ceiling follows; constant memory, tallies add up."""

    def __init__(self) -> None:
        self._shown = np.zeros(_BINS, dtype=np.int64)
        self._clicked = np.zeros(_BINS, dtype=np.int64)
        self._expected = 0.0
        self._log_loss = 0.0

    def add(self, pctr: Floats, clicked: NDArray[np.bool_]) -> None:
        """Count impressions; both (n,). Probabilities must lie strictly between 0 and 1."""
        logit = np.log(pctr) - np.log1p(-pctr)
        at = np.clip(((logit + _REACH) * (_BINS / (2 * _REACH))).astype(np.int64), 0, _BINS - 1)
        self._shown += np.bincount(at, minlength=_BINS)
        self._clicked += np.bincount(at[clicked], minlength=_BINS)
        self._expected += float(pctr.sum())
        self._log_loss -= float(np.log(np.where(clicked, pctr, 1 - pctr)).sum())

    def merge(self, other: CeilingTally) -> None:
        """Add all that `other` has counted."""
        self._shown += other._shown
        self._clicked += other._clicked
        self._expected += other._expected
        self._log_loss += other._log_loss

    def ceiling(self) -> Ceiling:
        """The verdict on everything counted so far."""
        n, clicks = int(self._shown.sum()), int(self._clicked.sum())
        auc = ne = None
        if 0 < clicks < n:
            missed = self._shown - self._clicked
            below = np.cumsum(missed) - missed
            auc = float((self._clicked * (below + 0.5 * missed)).sum() / (clicks * (n - clicks)))
            ctr = clicks / n
            ne = float(self._log_loss / n / -(ctr * np.log(ctr) + (1 - ctr) * np.log1p(-ctr)))
        return Ceiling(
            impressions=n,
            clicks=clicks,
            expected_clicks=self._expected,
            ctr=clicks / n if n else None,
            auc=auc,
            ne=ne,
        )
