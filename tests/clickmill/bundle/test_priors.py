"""Click rates of ads: what the log says, shrunk towards the whole, with the slots they stood in taken out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from clickmill.bundle import Bundle, Priors, priors
from clickmill.contract import loads
from clickmill.errors import BundleCorrupt


def test_an_ad_unknown_or_unnamed_gets_the_rate_of_all():
    found, own = Priors(0.02, "ad", {"7": 0.1}).of(["7", "8", None])
    assert found.tolist() == [0.1, 0.02, 0.02]
    assert own.tolist() == [True, False, False]


def test_rates_are_shrunk_by_as_much_as_ads_are_alike():
    """Beta-binomial ads of known strength: it is found again, and the rates are the posterior means by it."""
    rng = np.random.default_rng(3)
    strength, rate, ads, each = 50.0, 0.05, 3000, 400
    true = rng.beta(strength * rate, strength * (1 - rate), ads)
    ad = np.repeat(np.arange(ads), each)
    y = (rng.random(ads * each) < true[ad]).astype(float)
    found = priors.estimate(pa.array(ad), y, np.ones(len(y)), ad_field="ad")
    assert found.click_rate == pytest.approx(y.mean())
    assert found.strength == pytest.approx(strength, rel=0.1)
    clicks = y[ad == 17].sum()
    expected = (clicks + found.strength * y.mean()) / (each + found.strength)
    assert found.by_ad["17"] == pytest.approx(expected)
    error = np.mean([(found.by_ad[str(i)] - true[i]) ** 2 for i in range(ads)])
    raw = np.mean((np.bincount(ad, y) / each - true) ** 2)
    assert error < raw, "shrunk rates are nearer the truth than the raw ones"


def test_where_ads_do_not_differ_each_is_the_whole():
    rng = np.random.default_rng(0)
    y = (rng.random(20_000) < 0.1).astype(float)
    found = priors.estimate(pa.array(rng.integers(0, 50, len(y))), y, np.ones(len(y)), ad_field="ad")
    assert max(found.by_ad.values()) - min(found.by_ad.values()) < 0.02
    assert found.strength > 1000


def test_an_ad_is_known_by_the_clicks_that_its_impressions_should_have_brought():
    log = pa.array(["a"] * 30 + ["b"] * 10)
    found = priors.estimate(log, np.ones(40) * 0.1, np.ones(40) * 0.5, ad_field="ad")
    # Every impression counts as half a one; rates of all are alike, 0.2.
    assert found.expected_clicks(["b", "a", "new", None]).tolist() == pytest.approx([1.0, 3.0, 0.0, 0.0])
    assert Priors(0.02, "ad", {"a": 0.1}).expected_clicks(["a"]) is None, "older bundles do not say"
    assert priors.estimate(None, np.zeros(3), np.ones(3)).expected_clicks([None]) is None


def test_a_log_without_clicks_or_without_ads_has_a_rate_all_the_same():
    assert priors.estimate(None, np.zeros(3), np.ones(3)).click_rate == 0.0
    found = priors.estimate(pa.array(["a", "b", None]), np.array([1.0, 0, 0]), np.ones(3), ad_field="ad")
    assert found.click_rate == pytest.approx(1 / 3)
    assert set(found.by_ad) == {"a", "b"}


def test_impressions_count_by_what_their_slot_is_worth():
    slots = np.array([1, 1, 1, 1, 2, 2, 2, 2])
    clicks = np.array([1.0, 1, 0, 0, 1, 0, 0, 0])
    weight = np.ones(8)
    assert priors.slot_chances(slots, clicks, weight, 1).tolist() == [1.0] * 4 + [0.5] * 4
    average = priors.slot_chances(slots, clicks, weight, 0)  # slot 0 is the average one: 3 of 8
    assert average.tolist() == pytest.approx([0.5 / 0.375] * 4 + [0.25 / 0.375] * 4)


CONTRACT = loads("""
name: toy
fields:
  user: {role: user, dtype: string, encoding: {kind: hash, buckets: 9}}
  ad: {role: ad, dtype: int64, encoding: {kind: hash, buckets: 9}}
  slot: {role: position, dtype: int64, range: {min: 1, max: 9}}
  label: {role: label, dtype: int64}
""")


def dataset(tables: dict[str, dict[str, list[int]]], kept: dict[str, float]) -> SimpleNamespace:
    def columns(split: str, names: list[str]) -> pa.Table:
        rows = {**tables[split], "user": ["u"] * len(tables[split]["ad"])}
        return pa.table({name: rows[name] for name in names})

    splits = {name: SimpleNamespace(negatives_kept=kept.get(name, 1.0)) for name in tables}
    meta = SimpleNamespace(splits=splits, ripeness=None)
    return SimpleNamespace(contract=CONTRACT, columns=columns, meta=meta, label="label", root=Path())


def test_a_dataset_tells_its_rates_with_sampling_and_slots_undone_and_the_test_split_left_alone():
    train = {"ad": [1, 1, 2, 2], "slot": [1, 2, 1, 2], "label": [1, 1, 0, 0]}  # half of the non-clicks
    calibration = {"ad": [1, 1, 2, 2], "slot": [1, 2, 1, 2], "label": [0, 0, 0, 0]}
    hidden = {"ad": [2] * 50, "slot": [1] * 50, "label": [1] * 50}
    found = priors.of_dataset(
        dataset({"train": train, "calibration": calibration, "test": hidden}, {"train": 0.5})
    )
    # each ad stood in each slot with the same weights, so r is 1: 2 clicks in 2 + 2/0.5 + 4 impressions
    assert found.click_rate == pytest.approx(2 / 10)
    assert (found.ad_field, found.user_field) == ("ad", "user")
    s = found.strength
    assert found.by_ad["1"] == pytest.approx((2 + s * 0.2) / (4 + s))
    assert found.by_ad["2"] == pytest.approx((0 + s * 0.2) / (6 + s))


def test_what_is_written_is_read_back(tmp_path: Path):
    one = Priors(0.03, "ad", {"a": 0.1, "ü": 0.2}, user_field="user", strength=12.5)
    for given in (one, replace(one, impressions={"a": 40.0, "ü": 7.5})):
        priors.write(tmp_path, given)
        assert vars(priors.read(tmp_path)) == vars(given)
    (tmp_path / priors.PRIORS).write_bytes(b"no parquet")
    with pytest.raises(BundleCorrupt, match="cannot be read as click rates"):
        priors.read(tmp_path)
    (tmp_path / priors.PRIORS).unlink()
    assert priors.read(tmp_path) is None


def test_a_real_bundle_knows_which_of_its_ads_are_good(bundle: Bundle):
    found = bundle.priors
    assert found is not None
    assert (found.ad_field, found.user_field) == ("ad_id", "user_id")
    assert priors.PRIORS in bundle.manifest.files
    assert len(found.by_ad) == 20
    assert 0.1 < found.click_rate < 0.9
