"""Values without a row of their own: spread by hash, or placed by what they are like; known values notice nothing."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from clickmill.contract import FeatureContract, dumps, loads
from clickmill.errors import ContractError
from clickmill.features import Encoder, FeatureSpace, tensors
from clickmill.features.growth import grown, origins
from clickmill.features.sides import shared_fields

FIELDS = """
name: toy
fields:
  user: {{role: user, dtype: string, encoding: {{kind: vocabulary, unseen: {{buckets: 4}}}}}}
  ad: {{role: ad, dtype: int64, encoding: {{kind: vocabulary, unseen: {ad}}}}}
  advertiser: {{role: ad, dtype: string, encoding: {{kind: vocabulary}}}}
  premium: {{role: ad, dtype: bool, encoding: {{kind: vocabulary}}}}
  price: {{role: ad, dtype: float32, encoding: {{kind: log1p}}}}
  site: {{role: context, dtype: string, encoding: {{kind: hash, buckets: 3}}}}
  next_ad: {{role: ad, dtype: int64, encoding: {{kind: vocabulary, shares: ad}}}}
  seen: {{role: sequence, dtype: int64_list, encoding: {{kind: list, items: {{kind: vocabulary, shares: ad}}, max_length: 4}}}}
  label: {{role: label, dtype: int64}}
"""
LIKE = "{buckets: 1000, like: [advertiser, premium]}"


def contract(ad: str = LIKE) -> FeatureContract:
    return loads(FIELDS.format(ad=ad))


def space(ad: str = LIKE, ads: tuple[int, ...] = (7, 8)) -> FeatureSpace:
    from clickmill.features import Moments

    values = {"user": ["ann", "bob"], "advertiser": ["acme"], "premium": []}
    known = {name: pa.array(v, pa.string()) for name, v in values.items()}
    return FeatureSpace(
        contract(ad), {**known, "ad": pa.array(ads, pa.int64())}, {}, {"price": Moments(0.0, 1.0)}
    )


def encoded(found: FeatureSpace, **columns: list) -> dict[str, np.ndarray]:
    """Local rows by field (lists by name too) of rows given by some of their columns."""
    n = len(next(iter(columns.values())))
    defaults = {"user": "ann", "ad": 7, "advertiser": "acme", "premium": True, "price": 1.0, "site": "s", "next_ad": 7, "seen": []}  # fmt: skip
    table = pa.table({name: columns.get(name, [value] * n) for name, value in defaults.items()})
    table = table.set_column(table.column_names.index("price"), "price", table["price"].cast(pa.float32()))
    table = table.set_column(
        table.column_names.index("seen"), "seen", table["seen"].cast(pa.list_(pa.int64()))
    )
    out = Encoder(found).encode(tensors.from_arrow(table, found.contract))
    rows = {slot.name: out["slots"].numpy()[:, i] - slot.offset for i, slot in enumerate(found.slots)}
    offset = found.lists[0].offset
    return rows | {"seen": np.where(out["list/seen"] == 0, -1, out["list/seen"] - offset)}


def test_unseen_values_are_spread_over_the_first_rows_and_known_ones_follow():
    users = [f"stranger {i}" for i in range(200)]
    rows = encoded(space(), user=[*users, "ann", "bob"])["user"]
    assert rows[-2:].tolist() == [4, 5]
    counts = np.bincount(rows[:-2], minlength=4)
    assert len(counts) == 4
    assert counts.min() > 25, "200 over four rows: fifty each, give or take"
    assert encoded(space(), user=users)["user"].tolist() == rows[:-2].tolist(), "always the same"


def test_an_unseen_ad_takes_the_row_of_its_attributes_and_a_known_one_its_own():
    rows = encoded(
        space(), ad=[100, 200, 300, 400, 7, 8], advertiser=["acme", "acme", "acme", "new", "acme", "new"],
        premium=[True, True, False, True, True, False],
    )["ad"]  # fmt: skip
    assert rows[0] == rows[1], "another id of the same advertiser and class"
    assert len({rows[0], rows[2], rows[3]}) == 3
    assert all(1 <= row <= 1000 for row in rows[:4])
    assert rows[4:].tolist() == [1001, 1002]


def test_an_item_of_a_list_brings_no_attributes_along_and_takes_the_first_row():
    rows = encoded(space(), seen=[[7, 100, 8]], next_ad=[100])
    assert rows["seen"].tolist() == [[1001, 0, 1002, -1]]
    assert rows["next_ad"].tolist() == [0]


def test_by_hash_an_item_of_a_list_and_the_ad_itself_are_one_row():
    rows = encoded(space("{buckets: 50}"), ad=[100], seen=[[100, 7]], next_ad=[100])
    assert rows["ad"][0] == rows["seen"][0, 0] == rows["next_ad"][0] < 50
    assert rows["seen"][0, 1] == 50


def test_a_request_gives_the_rows_of_its_candidates_asked_one_by_one():
    found = space()
    shared = shared_fields(found.contract)
    table = pa.table(
        {
            "user": ["zoe"] * 3, "ad": [7, 100, 200], "advertiser": ["acme", "acme", "new"], "premium": [True, False, True],
            "price": pa.array([1.0, 2.0, 3.0], pa.float32()), "site": ["s"] * 3, "next_ad": [7, 8, 9],
            "seen": pa.array([[7, 100]] * 3, pa.list_(pa.int64())),
        }
    )  # fmt: skip
    raw, encoder = tensors.from_arrow(table, found.contract), Encoder(found)
    whole = encoder.encode(raw)["slots"].numpy()
    once = encoder.request({name: tf.constant(v[:1] if name in shared else v) for name, v in raw.items()})
    names = [slot.name for slot in found.slots]
    candidate = [i for i, name in enumerate(names) if name not in shared]
    assert np.array_equal(once["slots/candidate"].numpy(), whole[:, candidate])
    assert np.array_equal(
        once["slots/shared"].numpy(), whole[:1, [i for i in range(len(names)) if i not in candidate]]
    )


def test_the_table_has_the_rows_and_estimates_count_them():
    from clickmill.models.size import owned_rows

    assert {label: rows for label, _, rows in owned_rows(space())}["ad"] == 1001 + 2
    assert {label: rows for label, _, rows in owned_rows(space())}["user"] == 4 + 2


def test_a_grown_space_continues_the_row_where_the_champion_looked_the_value_up():
    champion = space("{buckets: 50}")
    (bucket,) = encoded(champion, ad=[100])["ad"]
    now = grown(space("{buckets: 50}", ads=(100, 7)), champion)
    start = next(slot.offset for slot in now.slots if slot.name == "ad")
    rows, new = origins(now, champion)
    assert now.vocabularies["ad"].to_pylist() == [7, 8, 100]
    assert rows[start : start + 53].tolist() == [*range(start, start + 52), start + bucket]
    assert np.flatnonzero(new).tolist() == [start + 52]
    # other buckets mean other values: all of them begin with the champion's first
    wider = grown(space("{buckets: 60}"), champion)
    rows, new = origins(wider, champion)
    assert rows[start : start + 62].tolist() == [start] * 60 + [start + 50, start + 51]
    assert new[start : start + 62].tolist() == [True] * 60 + [False] * 2


def test_the_contract_comes_back_as_it_went():
    assert loads(dumps(contract())) == contract()


@pytest.mark.parametrize(
    ("unseen", "words"),
    [
        ("{like: [advertiser]}", r"ad\.encoding\.(vocabulary\.)?unseen\.buckets.*"),
        ("{buckets: 1}", "greater than or equal to 2"),
        ("{buckets: 9, like: [ad]}", "an unseen value is not like itself"),
        ("{buckets: 9, like: [brand]}", "no field of this name; known: user, ad"),
        ("{buckets: 9, like: [price]}", "must be a feature with a column of strings, integers or flags"),
        ("{buckets: 9, like: [seen]}", "must be a feature with a column of strings, integers or flags"),
        ("{buckets: 9, like: [site]}", r"`ad` is of the candidate \(role ad\) and `site` of the request \(role context\)"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(unseen, words):
    with pytest.raises(ContractError, match=words):
        contract(unseen)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("kind: vocabulary, shares: ad}}, max", "kind: vocabulary, shares: ad, unseen: {{buckets: 9}}}}, max", "the rows are those of `ad`"),
        ("{{kind: vocabulary}}}}\n  price", "{{kind: vocabulary, unseen: {{buckets: 9}}}}}}\n  price", "a bool has no unseen values"),
        ("kind: vocabulary, shares: ad}}, max", "kind: vocabulary, unseen: {{buckets: 9, like: [site]}}}}, max", "items of a list have no attributes"),
    ],
)  # fmt: skip
def test_where_it_has_no_meaning_it_is_refused(before, after, words):
    assert before in FIELDS
    with pytest.raises(ContractError, match=words):
        loads(FIELDS.replace(before, after).format(ad=LIKE))
