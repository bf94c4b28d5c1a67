"""Users and ads of a split by what the train split knew of them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa

from clickmill.bundle.card_tables import shown_slices
from clickmill.bundle.novelty import novelty
from clickmill.contract import loads
from clickmill.evaluation.slices import evaluate_slices

CONTRACT = loads("""
name: toy
fields:
  user: {role: user, dtype: string, encoding: {kind: vocabulary, min_count: 3}}
  segment: {role: user, dtype: string, encoding: {kind: vocabulary}}
  ad: {role: ad, dtype: int64, encoding: {kind: hash, buckets: 9}}
  label: {role: label, dtype: int64}
""")
TABLES = {
    "train": {"user": ["a", "a", "a", "b", None, None, None], "segment": ["x"] * 7, "ad": [1, 1, 1, 2, 3, 3, 3]},
    "test": {"user": ["a", "b", "c", None, "a"], "segment": ["x", "y", "x", "x", "x"], "ad": [1, 2, 4, None, 3]},
}  # fmt: skip


def dataset(tables: dict) -> SimpleNamespace:
    def columns(split: str, names: list[str]) -> pa.Table:
        kinds = {"user": pa.string(), "segment": pa.string(), "ad": pa.int64()}
        return pa.table({name: pa.array(tables[split][name], kinds[name]) for name in names})

    return SimpleNamespace(contract=CONTRACT, columns=columns, root=Path())


def test_users_below_min_count_are_rare_and_a_missing_one_is_the_value_that_stands_in():
    found = novelty(dataset(TABLES), "test", least_values=1)
    assert found["user in train"].tolist() == ["known", "rare", "new", "known", "known"]


def test_a_hashed_ad_is_known_once_it_was_there():
    found = novelty(dataset(TABLES), "test", least_values=1)
    # the missing ad is 0, which train never had
    assert found["ad in train"].tolist() == ["known", "known", "new", "new", "known"]


def test_the_id_is_the_field_of_most_values_and_a_segment_is_none():
    assert set(novelty(dataset(TABLES), "test", least_values=1)) == {"user in train", "ad in train"}
    assert novelty(dataset(TABLES), "test", least_values=4) == {}, "three users and three ads are segments"


def test_what_train_knows_throughout_is_left_out():
    same = {"train": TABLES["train"], "test": {**TABLES["train"], "user": ["a"] * 7}}
    assert novelty(dataset(same), "test", least_values=0) == {}


def test_the_card_shows_the_new_ones_first_and_in_any_case():
    rng = np.random.default_rng(0)
    y, p = rng.random(4000) < 0.5, np.full(4000, 0.5)
    columns = {"site": rng.choice(list("abcdefgh"), 4000), "ad in train": rng.choice(["new", "known"], 4000)}
    scored = evaluate_slices(y, p, columns, resamples=20)
    shown = shown_slices(scored, 5)
    assert {s.value for s in shown[:2]} == {"new", "known"}
    assert len(shown) == 5
    assert all(s.column == "site" for s in shown[2:])
