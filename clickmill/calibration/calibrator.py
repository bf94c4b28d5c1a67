"""The calibrators as one type, and the record that a bundle carries as calibration.json.

pctr = sigmoid(calibrator(raw logit + ln negatives_kept - ln positive_weight))
"""

from __future__ import annotations

from typing import Annotated

import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from clickmill.calibration.identity import Identity
from clickmill.calibration.isotonic import Isotonic
from clickmill.calibration.logits import Floats, sigmoid
from clickmill.calibration.platt import Platt
from clickmill.calibration.prior import PriorCorrection

Calibrator = Annotated[Identity | Platt | Isotonic, Field(discriminator="kind")]
"""What `kind` names. Each maps logits (n,) to calibrated logits (n,)."""


class Calibration(BaseModel):
    """Prior correction, then calibrator. The same arithmetic as in the exported graph (`graph.apply`)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    negatives_kept: float = Field(default=1.0, gt=0, le=1)
    """Share of the non-clicks that was kept for training; 1 is all."""
    positive_weight: float = Field(default=1.0, gt=0)
    """Weight of a click in the training loss against 1 for a non-click; 1 is the plain loss."""
    calibrator: Calibrator = Identity()
    """Fitted on rows the model has not seen, after the prior correction."""

    @property
    def prior(self) -> PriorCorrection:
        """What sampling and weighted loss did to the odds, undone in closed form."""
        return PriorCorrection(negatives_kept=self.negatives_kept, positive_weight=self.positive_weight)

    def __call__(self, raw_logit: npt.ArrayLike) -> Floats:
        """Logits (n,) of the model as trained to calibrated logits (n,), float64.

        >>> import math
        >>> kept_half = Calibration(negatives_kept=0.5)
        >>> bool(kept_half([math.log(2)])[0] == 0)
        True
        """
        return self.calibrator(self.prior(raw_logit))

    def pctr(self, raw_logit: npt.ArrayLike) -> Floats:
        """Calibrated click probability (n,), float64."""
        return sigmoid(self(raw_logit))
