"""The estimate of a model's size against the real model."""

import numpy as np
import pyarrow as pa
import pytest

from clickmill.contract import loads
from clickmill.errors import UsageError
from clickmill.features import FeatureSpace
from clickmill.features.bound import largest_space
from clickmill.models import MODELS, build
from clickmill.models.size import estimate, in_bytes

SETTINGS = {
    "dcn_v2 of experts": ("dcn_v2", {"rank": 3, "experts": 2, "dim": 5}),
    "din with dice": ("din", {"activation": "dice", "attention_units": [6, 4]}),
    "wide tower": ("wide_deep", {"dim": 3, "units": [30]}),
}
MARKET = """
name: market
fields:
  user: {role: user, dtype: string, encoding: {kind: vocabulary, max_size: 10000000}}
  ad: {role: ad, dtype: int64, encoding: {kind: compositional, buckets: 100000000}}
  page: {role: context, dtype: string, encoding: {kind: hash, buckets: 500}}
  device: {role: context, dtype: string, encoding: {kind: vocabulary}, allowed: [phone, desktop], required: true}
  format: {role: context, dtype: string, encoding: {kind: vocabulary}, allowed: [banner, video]}
  premium: {role: ad, dtype: bool, encoding: {kind: vocabulary}}
  age: {role: user, dtype: int64, encoding: {kind: bucketize, quantiles: 10}}
  quality: {role: ad, dtype: float32, encoding: {kind: bucketize, boundaries: [0.5]}}
  page_device: {role: cross, encoding: {kind: cross, of: [page, device], buckets: 1000}}
  price: {role: ad, dtype: float32, encoding: {kind: log1p}}
  history: {role: sequence, dtype: string_list, encoding: {kind: list, items: {kind: vocabulary, shares: user}, max_length: 5}}
  words: {role: ad, dtype: string_list, encoding: {kind: list, items: {kind: hash, buckets: 70}, max_length: 5}}
  position: {role: position, dtype: int64, range: {min: 1, max: 8}}
  label: {role: label, dtype: int64}
"""


@pytest.mark.parametrize("name", [*MODELS, *SETTINGS])
def test_the_estimate_is_the_count_of_the_built_model(name, any_space):
    model, config = SETTINGS.get(name, (name, None))
    built = build(model, any_space, config)
    found = estimate(any_space, model, config)
    assert found.parameters == built.count_params()
    assert found.weight_bytes == sum(np.asarray(weight).nbytes for weight in built.get_weights())
    assert found.table_parameters + found.dense_parameters == sum(
        int(np.prod(w.shape)) for w in built.trainable_weights
    )


def test_every_row_but_the_padding_has_an_owner(any_space):
    found = estimate(any_space, "fm", {"dim": 6})
    assert 1 + sum(field.rows for field in found.fields) == found.table_rows == any_space.table_rows
    assert sum(field.parameters for field in found.fields) + sum(found.widths) == found.table_parameters


def test_an_upper_bound_follows_from_the_contract_alone():
    found = estimate(largest_space(loads(MARKET)), "lr")
    assert {field.field: (field.kind, field.rows) for field in found.fields} == {
        "user": ("vocabulary", 10_000_001),
        "ad#quotient": ("compositional", 10_000),
        "ad#remainder": ("compositional", 10_000),
        "page": ("hash", 500),
        "device": ("vocabulary", 3),
        "format": ("vocabulary", 4),  # a missing value counts as the empty string
        "premium": ("vocabulary", 3),
        "age": ("bucketize", 10),
        "quality": ("bucketize", 2),
        "page_device": ("cross", 1000),
        "words": ("list of hash", 70),
    }
    # one weight per row and padding, one per numeric, the bias, eight positions
    assert found.parameters == (10_021_593 + 1) + 1 + 1 + 8


def test_ten_million_users_and_a_hundred_million_ads_fit_in_two_gibibytes():
    found = estimate(largest_space(loads(MARKET)), "dcn_v2", {"dim": 16})
    assert found.table_parameters == 16 * 10_021_594
    assert found.weight_bytes == pytest.approx(4 * 16 * 10_021_594, rel=0.01)
    assert found.training_bytes < 2 * 1024**3


def test_vocabulary_files_are_counted_as_they_are_written(tmp_path):
    contract = loads(
        "name: x\nfields:\n  ad: {role: ad, dtype: int64, encoding: {kind: vocabulary}}\n"
        "  user: {role: user, dtype: string, encoding: {kind: vocabulary}}\n"
        "  none: {role: user, dtype: string, encoding: {kind: vocabulary}}\n"
    )
    values = {
        "ad": pa.array([5, -1234]),
        "user": pa.array(["", "ß", "abc"]),
        "none": pa.array([], pa.string()),
    }
    space = FeatureSpace(contract, values)
    space.save(tmp_path)
    found = estimate(space, "lr")
    assert found.vocabulary_bytes == sum(file.stat().st_size for file in tmp_path.glob("vocabulary-*"))
    assert found.export_bytes == found.weight_bytes + found.vocabulary_bytes


def test_the_message_says_it_in_a_line(space):
    # rows: padding, 12 users and 9 ads with their unknowns, 20 pages; a vector of 2 and a weight each; 2 numerics, bias, 4 positions
    rows = 1 + 13 + 10 + 20
    found = estimate(space, "fm", {"dim": 2})
    assert found.dense_parameters == found.parameters - 3 * rows
    assert found.message.startswith(f"fm: {rows} rows of width ")
    assert found.message.endswith(
        f"{in_bytes(found.training_bytes)} in training, {in_bytes(found.export_bytes)} exported"
    )
    assert set(found.widths) == {2, 1}


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536 * 1024, "1.5 MiB"),
        (300 * 1024**3, "300 GiB"),
        (2**45, "32 TiB"),
    ],
)
def test_bytes_are_told_in_binary_units(count, told):
    assert in_bytes(count) == told


def test_an_unknown_setting_is_refused(space):
    with pytest.raises(UsageError, match="configuration of model `lr`: dim"):
        estimate(space, "lr", {"dim": 4})
