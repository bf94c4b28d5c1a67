"""The difference in normalized entropy of two models in closed form, for many slices at any confidence level.

    D = sum w (ll_b - ll_a) / sum w,   c = sum w y / sum w,   difference = D / H(c)

By the delta method each row moves it by [(d_i - D) - (D / H) H'(c) (y_i - c)] / H with H'(c) = ln((1 - c) / c); the root of
the sum of their weighted squares is the standard error, and a normal interval is as good at a level of 99.9 % as at 95 %,
where 200 bootstrap draws have no such quantile. Agrees with `paired_bootstrap` (tested).
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from clickmill.errors import UndefinedMetric
from clickmill.evaluation.estimate import Estimate
from clickmill.evaluation.rows import check_rows, cluster_codes, dot, row_loss


def normalized_entropy_difference(
    y: npt.ArrayLike,
    p_champion: npt.ArrayLike,
    p_challenger: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    *,
    cluster: npt.ArrayLike | None = None,
    level: float = 0.95,
) -> Estimate:
    """NE of the challenger minus NE of the champion, all arrays (n,). Raises UndefinedMetric with one class only.

    >>> print(normalized_entropy_difference([0, 1], [0.4, 0.6], [0.4, 0.6]))
    0.0000 [0.0000, 0.0000]
    """
    champion, challenger = check_rows(y, p_champion, weight), check_rows(y, p_challenger, weight)
    w = champion.weight
    total = float(w.sum())
    rate = dot(w, champion.y) / total
    if not 0 < rate < 1 - 1e-12:
        raise UndefinedMetric("normalized entropy needs both clicks and non-clicks, got one class only")
    entropy = -(rate * math.log(rate) + (1 - rate) * math.log1p(-rate))
    gap = row_loss(challenger.y, challenger.p) - row_loss(champion.y, champion.p)
    mean = dot(w, gap) / total
    slope = mean / entropy * math.log((1 - rate) / rate)
    influence = w * ((gap - mean) - slope * (champion.y - rate)) / (entropy * total)
    if cluster is not None:
        codes, count = cluster_codes(cluster, len(w))
        influence = np.bincount(codes, influence, minlength=count).astype(np.float64)
    half = NormalDist().inv_cdf((1 + level) / 2) * math.sqrt(dot(influence, influence))
    return Estimate(value=mean / entropy, low=mean / entropy - half, high=mean / entropy + half)
