"""Smoothed click rates of each ad and of all ads, which an endpoint answers with when the model cannot be asked.

    n_i    impressions of ad i, each counted as r(its slot), the click rate of that slot over the rate of the slot asked for
    p      clicks of all ads / n of all ads
    ctr_i  (clicks of i + s p) / (n_i + s)

Without r, ads that stood at the top would pass for better ones (clicks over expected clicks: Zhang and Jones, "Comparing click logs and
editorial labels", WWW 2007 workshop). s is fitted: rates of ads are taken to be Beta(s p, s (1 - p)), whose spread shows in

    E[sum n_i (c_i / n_i - p)^2] = p (1 - p) (k - 1 + g sum (1 - n_i / N)(n_i - 1)),     g = 1 / (s + 1)

(moments, Kleinman, "Proportions with extraneous variance", JASA 1973): the less ads differ, the more the whole says of each.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clickmill.bundle.judged_rows import labels, weights
from clickmill.bundle.novelty import id_field
from clickmill.contract import Role
from clickmill.errors import BundleCorrupt

if TYPE_CHECKING:
    from clickmill.data import PreparedDataset

PRIORS = "priors.parquet"
SPLITS = ("train", "validation", "calibration")
"""Not the test split: what a fallback is worth can then be told on it."""
MOST_ADS = 200_000
"""Those with the most impressions; the rest get the rate of all, which is near theirs. In an endpoint they take about 30 MB."""
WEAKEST, STRONGEST = 1.0, 1e6
"""Bounds of s: below, one lucky click would make a rate; above, nothing tells the ads apart."""

_HEAD = b"clickmill"


@dataclass(frozen=True, eq=False)
class Priors:
    """Click rates at the slot that a request without one is asked for."""

    click_rate: float
    """Of all ads together."""
    ad_field: str | None
    """Name of the field that says which ad it is; None where the contract has none."""
    by_ad: Mapping[str, float]
    """Smoothed rate by the id's text."""
    user_field: str | None = None
    """Name of the field that says who it is; None where the contract has none."""
    strength: float = STRONGEST
    """s: how many impressions the rate of all weighs in that of an ad."""
    impressions: Mapping[str, float] = field(default_factory=dict)
    """n_i by the id's text; empty in a bundle older than it."""

    def expected_clicks(self, ids: Sequence[str | None]) -> np.ndarray | None:
        """(n,) float64: clicks that the training log should hold of n ads, n_i ctr_i, 0 for one that it never showed. They say how well an ad
        is known, whatever luck it had. None where the bundle does not say: no field names an ad, or it is an older one."""
        if self.ad_field is None or not self.impressions:
            return None
        seen = np.array([0.0 if i is None else self.impressions.get(i, 0.0) for i in ids])
        return seen * self.of(ids)[0]

    def of(self, ids: Sequence[str | None]) -> tuple[np.ndarray, np.ndarray]:
        """Rates (n,) float64 of n ads by the text of their ids, and which of them (n,) bool are the ad's own."""
        found = [self.by_ad.get(i) if i is not None else None for i in ids]
        known = np.fromiter((rate is not None for rate in found), bool, len(found))
        rates = np.fromiter((self.click_rate if rate is None else rate for rate in found), float, len(found))
        return rates, known


def estimate(
    ads: pa.Array | None, clicks: np.ndarray, impressions: np.ndarray, *, ad_field: str | None = None
) -> Priors:
    """Rates of n impressions. ads: (n,) ids, or None; clicks: (n,) weighted clicks; impressions: (n,) what each counts as.

    Raises nothing for a log without clicks: its rate is 0.
    """
    total = float(impressions.sum())
    rate = float(clicks.sum()) / total if total > 0 else 0.0
    if ads is None:
        return Priors(rate, None, {})
    table = pa.table({"ad": ads, "c": clicks, "n": impressions}).group_by("ad")
    sums = table.aggregate([("c", "sum"), ("n", "sum")])
    sums = sums.filter(pc.and_(pc.is_valid(sums["ad"]), pc.greater(sums["n_sum"], 0)))
    c, n = sums["c_sum"].to_numpy(), sums["n_sum"].to_numpy()
    s = _strength(c, n, rate)
    smoothed = (c + s * rate) / (n + s)
    most = np.argsort(-n, kind="stable")[:MOST_ADS]
    ids = sums["ad"].cast(pa.string()).take(pa.array(most)).to_pylist()
    by_ad = dict(zip(ids, smoothed[most].tolist(), strict=True))
    return Priors(
        rate, ad_field, by_ad, strength=s, impressions=dict(zip(ids, n[most].tolist(), strict=True))
    )


def of_dataset(dataset: PreparedDataset) -> Priors:
    """Rates of a prepared dataset's earlier splits, negative sampling and importance weights undone."""
    contract = dataset.contract
    field = id_field(dataset, SPLITS[0], Role.AD)
    slot = contract.of_role(Role.POSITION)
    names = [name for name in (field, slot) if name]
    ads, slots, clicked, weight = [], [], [], []
    for split in SPLITS:
        if split not in dataset.meta.splits:
            continue
        y = labels(dataset, split)
        given = weights(dataset, split)
        clicked.append(y)
        weight.append(np.ones(len(y)) if given is None else given)
        if names:
            table = dataset.columns(split, names)
            if field:
                ads.append(table[field].cast(pa.string()))
            if slot:
                slots.append(
                    pc.fill_null(table[slot].cast(pa.int64()), contract.fields[slot].fill).to_numpy()
                )
    w, y = np.concatenate(weight), np.concatenate(clicked)
    asked_for = int(contract.fields[slot].fill) if slot else 0  # type: ignore[arg-type]
    chances = slot_chances(np.concatenate(slots), y * w, w, asked_for) if slots else np.ones(len(y))
    column = pa.concat_arrays([chunk for a in ads for chunk in a.chunks]) if ads else None
    found = estimate(column, y * w, w * chances, ad_field=field)
    return replace(found, user_field=id_field(dataset, SPLITS[0], Role.USER))


def slot_chances(slots: np.ndarray, clicks: np.ndarray, weight: np.ndarray, asked_for: int) -> np.ndarray:
    """r of each impression (n,): the click rate of its slot over that of `asked_for`; over that of all slots where `asked_for` is
    none of them (0 is the average) or was never clicked."""
    places, at = np.unique(slots, return_inverse=True)
    rates = np.bincount(at, clicks) / np.maximum(np.bincount(at, weight), 1e-12)
    there = np.flatnonzero(places == asked_for)
    base = rates[there[0]] if len(there) else 0.0
    if base == 0:
        base = clicks.sum() / max(weight.sum(), 1e-12)
    chances = rates / base if base > 0 else np.ones(len(rates))
    found: np.ndarray = chances[at]
    return found


def write(folder: Path, priors: Priors) -> None:
    """Keep rates in a bundle's folder."""
    head = {
        "click_rate": priors.click_rate,
        "ad_field": priors.ad_field,
        "user_field": priors.user_field,
        "strength": priors.strength,
    }
    table = pa.table(
        {
            "ad": pa.array(list(priors.by_ad), pa.string()),
            "ctr": pa.array(list(priors.by_ad.values()), pa.float64()),
            "impressions": pa.array([priors.impressions.get(ad) for ad in priors.by_ad], pa.float64()),
        },
    ).replace_schema_metadata({_HEAD: json.dumps(head)})
    pq.write_table(table, folder / PRIORS, compression="zstd")


def read(folder: Path) -> Priors | None:
    """Rates of a bundle; None for one that was written before bundles had any. Raises BundleCorrupt."""
    path = folder / PRIORS
    if not path.exists():
        return None
    try:
        table = pq.read_table(path)
        head = json.loads(table.schema.metadata[_HEAD])
        ads = table["ad"].to_pylist()
        by_ad = dict(zip(ads, table["ctr"].to_pylist(), strict=True))
        counts = table["impressions"].to_pylist() if "impressions" in table.column_names else []
        seen = {ad: n for ad, n in zip(ads, counts, strict=False) if n is not None}
        return Priors(head["click_rate"], head["ad_field"], by_ad, head["user_field"], head["strength"], seen)
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise BundleCorrupt(f"{path}: cannot be read as click rates: {error}") from error


def _strength(c: np.ndarray, n: np.ndarray, rate: float) -> float:
    if len(n) < 2 or not 0 < rate < 1:
        return STRONGEST
    spread = float((n * (c / n - rate) ** 2).sum()) / (rate * (1 - rate))
    g = (spread - (len(n) - 1)) / max(float(((1 - n / n.sum()) * (n - 1)).sum()), 1e-12)
    return STRONGEST if g <= 1 / (STRONGEST + 1) else max(1 / min(g, 1.0) - 1, WEAKEST)
