"""Grouped AUC (GAUC): ranking inside each user or request, which is the ranking an auction makes.

    GAUC = sum_g W_g AUC_g / sum_g W_g       over groups g with both a click and a non-click; W_g weight of impressions

Zhou et al., "Deep Interest Network", KDD 2018, eq. 7. Range [0, 1], 0.5 is chance, higher is better. It cannot be
raised by knowing which users click more, as AUC can. Groups of one class say nothing and are left out, as are rows
without an id; `coverage` is the share of impressions that remain. Undefined when no group has both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clickmill.errors import UndefinedMetric
from clickmill.evaluation.rows import Floats, Rows, check_rows, codes_of, dot


@dataclass(frozen=True)
class GroupedAuc:
    """The value, the share of impressions (by weight) in judged groups, and how many groups were judged."""

    value: float
    coverage: float
    groups: int


def gauc(
    y: npt.ArrayLike, p: npt.ArrayLike, group: npt.ArrayLike, weight: npt.ArrayLike | None = None
) -> GroupedAuc:
    """Arguments: (n,); `group` holds ids of any type, None or NaN for none. Raises UndefinedMetric when no group has both classes.

    User "a" is ranked right, user "b" wrong on twice as many rows, user "c" never clicked:

    >>> gauc([0, 1, 0, 0, 1, 1, 0], [0.1, 0.2, 0.5, 0.6, 0.3, 0.4, 0.9], ["a", "a", "b", "b", "b", "b", "c"])
    GroupedAuc(value=0.3333333333333333, coverage=0.8571428571428571, groups=2)
    """
    rows = check_rows(y, p, weight)
    value, mass = auc_by_group(rows, group)
    if not len(value):
        raise UndefinedMetric("GAUC needs a group with both clicks and non-clicks, got none")
    return GroupedAuc(dot(value, mass) / float(mass.sum()), float(mass.sum() / rows.weight.sum()), len(value))


def auc_by_group(rows: Rows, group: npt.ArrayLike) -> tuple[Floats, Floats]:
    """AUC and weight of impressions of each group that has both classes; one sort, no loop over groups.

    The groups come in the order of their first appearance and depend on labels and weights only, never on `p`: two
    models on the same rows get the same groups, so their values can be subtracted.
    """
    codes = codes_of("group", group, len(rows.y))
    if codes.min() < 0:
        rows, codes = rows.take(codes >= 0), codes[codes >= 0]
        if not len(codes):
            return np.empty(0), np.empty(0)
    order = np.lexsort((rows.p, codes))
    code, p = codes[order], rows.p[order]
    weight = rows.weight[order]
    clicks = weight * rows.y[order]
    new_group = np.r_[True, code[1:] != code[:-1]]
    tie_starts = np.flatnonzero(new_group | np.r_[True, p[1:] != p[:-1]])
    clicks = np.add.reduceat(clicks, tie_starts)
    mass = np.add.reduceat(weight, tie_starts)
    rest = np.add.reduceat(weight * (1 - rows.y[order]), tie_starts)

    group_starts = np.flatnonzero(new_group[tie_starts])
    length = np.diff(np.r_[group_starts, len(tie_starts)])
    clicks_of_group = np.add.reduceat(clicks, group_starts)
    rest_of_group = np.add.reduceat(rest, group_starts)
    before_group = np.cumsum(rest_of_group) - rest_of_group
    below = np.cumsum(rest) - rest / 2 - np.repeat(before_group, length)
    pairs = clicks_of_group * rest_of_group
    both = pairs > 0
    value = np.add.reduceat(clicks * below, group_starts)[both] / pairs[both]
    return value, np.add.reduceat(mass, group_starts)[both]
