"""Targets and reward models that know an ad and its place, nothing of the user: all that counts can give."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from clickmill.errors import DataError
from clickmill.experiment.off_policy.log import Floats


@dataclass(frozen=True, eq=False)
class Shares:
    """How often a policy shows each ad in each place."""

    table: pd.Series
    """Share by (place, ad); those of a place add up to 1."""

    @classmethod
    def uniform(cls, place: npt.ArrayLike, ad: npt.ArrayLike) -> Shares:
        """Each ad that occurs is equally likely in every place that occurs. place, ad: (n,)."""
        places, ads = pd.unique(np.asarray(place)), pd.unique(np.asarray(ad))
        index = pd.MultiIndex.from_product([places, ads], names=["place", "ad"])
        return cls(pd.Series(1 / len(ads), index=index))

    def of(self, place: npt.ArrayLike, ad: npt.ArrayLike) -> Floats:
        """(n,) chance of each ad in its place; 0 for one this policy never shows there."""
        index = pd.MultiIndex.from_arrays([np.asarray(place), np.asarray(ad)])
        return self.table.reindex(index, fill_value=0.0).to_numpy(np.float64)

    def expected(self, place: npt.ArrayLike, rate: pd.Series) -> Floats:
        """(n,) sum over ads of chance times `rate`, itself by (place, ad); an ad without a rate counts as 0."""
        by_place = (self.table * rate.reindex(self.table.index, fill_value=0.0)).groupby(level=0).sum()
        return by_place.reindex(pd.Index(np.asarray(place)), fill_value=0.0).to_numpy(np.float64)


def shares(place: npt.ArrayLike, ad: npt.ArrayLike) -> Shares:
    """Shares of a log (n,), (n,): the chances of a policy of which there are only rows. Reads no reward, so a value from that log is not
    in what its own estimate is made of. A policy that changed over time is taken at its average, weighted by its impressions."""
    frame = pd.DataFrame({"place": np.asarray(place), "ad": np.asarray(ad)})
    if frame.empty:
        raise DataError("the log of the target policy has no rows: its shares are unknown")
    count = frame.value_counts(sort=False).rename("share")
    return Shares(count / count.groupby(level="place").transform("sum"))


def cell_rates(
    reward: Floats,
    place: npt.ArrayLike,
    ad: npt.ArrayLike,
    target: Shares,
    *,
    folds: int = 5,
    prior: float = 100.0,
    seed: int = 0,
) -> tuple[Floats, Floats]:
    """A reward model made of counts, cross-fitted: (n,) q of what was shown, (n,) q of what `target` would show.

    q = (rewards of the ad in the place + prior x mean) / (rows + prior), from the rows of the other folds only, so that no row has
    taught the model that judges it (Chernozhukov et al., Econometrics Journal 2018). `prior` is in rows: at a click rate of 0.5 % a
    hundred rows hold half a click, less says nothing about an ad.
    """
    frame = pd.DataFrame({"place": np.asarray(place), "ad": np.asarray(ad), "reward": reward})
    fold = np.random.default_rng(seed).permutation(len(frame)) % folds
    shown, wanted = np.empty(len(frame)), np.empty(len(frame))
    for k in range(folds):
        inside = fold == k
        seen = frame[~inside]
        mean = float(seen["reward"].mean()) if len(seen) else 0.0
        cells = seen.groupby(["place", "ad"])["reward"].agg(["sum", "size"])
        cells = cells.reindex(cells.index.union(target.table.index), fill_value=0)
        rate = (cells["sum"] + prior * mean) / (cells["size"] + prior)
        here = frame[inside]
        index = pd.MultiIndex.from_frame(here[["place", "ad"]])
        shown[inside] = rate.reindex(index, fill_value=mean).to_numpy(np.float64)
        wanted[inside] = target.expected(here["place"], rate)
    return shown, wanted
