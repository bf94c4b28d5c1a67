"""No calibration beyond the prior correction: the logit as it is."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from clickmill.calibration.logits import Floats


class Identity(BaseModel):
    """Leaves the logit alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["none"] = "none"

    def __call__(self, logit: npt.ArrayLike) -> Floats:
        """(n,) to (n,), float64.

        >>> Identity()([1.5]).tolist()
        [1.5]
        """
        return np.asarray(logit, dtype=np.float64)
