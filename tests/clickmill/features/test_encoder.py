"""The encoder against plain Python, and in training against exported."""

import datetime as dt
import math

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from clickmill.contract import loads
from clickmill.features import Encoder, FeatureSpace, Moments, fit, tensors


@pytest.fixture(scope="module")
def fitted(prepared, market, impressions):
    """Space and encoder of one toy market."""
    space = fit(prepared(market, impressions(400)))
    return space, Encoder(space)


def _local_row(space, name, value):
    """Row by the rule in words: 0 unknown, then the vocabulary's order."""
    values = space.vocabularies[name].to_pylist()
    return values.index(value) + 1 if value in values else 0


def test_every_slot_lands_on_the_row_plain_python_says(fitted, market, impressions):
    space, encoder = fitted
    rows = impressions(120, seed=5).to_pylist()
    encoded = encoder.encode(tensors.from_arrow(impressions(120, seed=5), market))
    offset = {slot.name: slot.offset for slot in space.slots}
    column = {
        slot.name: encoded["slots"][:, i].numpy() - offset[slot.name] for i, slot in enumerate(space.slots)
    }
    for i, row in enumerate(rows):
        moment = row["event_time"]
        ad = row["ad"] if row["ad"] is not None else 0
        quality = np.float32(row["quality"] or 0.0)
        premium = str(bool(row["premium"])).lower()
        local = moment + dt.timedelta(hours=5.5)
        assert column["user"][i] == _local_row(space, "user", row["user"] or "")
        assert column["ad"][i] == _local_row(space, "ad", ad)
        assert column["next_ad"][i] == _local_row(space, "ad", row["next_ad"])
        assert column["premium"][i] == _local_row(space, "premium", premium)
        assert column["quality"][i] == (
            0 if quality < np.float32(0.3) else 1 if quality < np.float32(0.7) else 2
        )
        assert column["hour"][i] == local.hour
        assert column["weekday"][i] == moment.weekday()
        assert 0 <= column["page"][i] < 50
        assert 0 <= column["user_ad"][i] < 97


def test_numerics_are_standardized_after_the_logarithm(fitted, market, impressions):
    space, encoder = fitted
    table = impressions(50, seed=6)
    numerics = encoder.encode(tensors.from_arrow(table, market))["numerics"].numpy()
    assert space.numerics == ("age", "price")
    for i, row in enumerate(table.to_pylist()):
        age = 40 if row["age"] is None else row["age"]
        price = np.float32(row["price"] or 0.0)
        mean, deviation = space.moments["age"]
        assert numerics[i, 0] == pytest.approx((age - mean) / deviation, abs=1e-6)
        mean, deviation = space.moments["price"]
        log = math.copysign(math.log1p(abs(float(price))), price)
        assert numerics[i, 1] == pytest.approx((log - mean) / deviation, abs=1e-6)


def test_lists_keep_their_last_items_in_order(fitted, market, impressions):
    space, encoder = fitted
    table = impressions(80, seed=7)
    encoded = encoder.encode(tensors.from_arrow(table, market))
    by_name = {slot.name: slot for slot in space.lists}
    for name, owner, length in (("history", "ad", 3), ("tags", "tags", 4)):
        rows = encoded[f"list/{name}"].numpy()
        assert rows.shape == (80, length)
        for i, row in enumerate(table.to_pylist()):
            wanted = [by_name[name].offset + _local_row(space, owner, v) for v in (row[name] or [])[-length:]]
            assert rows[i].tolist() == wanted + [0] * (length - len(wanted))


def test_lists_longer_or_shorter_than_agreed_are_cut_or_padded_in_the_graph(fitted, market, impressions):
    _, encoder = fitted
    raw = tensors.from_arrow(impressions(1, seed=8), market)
    pad = tensors.PAD_INT64
    long = encoder.encode({**raw, "history": np.array([[1, 2, 3, 4, 5, pad]])})["list/history"].numpy()
    agreed = encoder.encode({**raw, "history": np.array([[3, 4, 5]])})["list/history"].numpy()
    assert long.tolist() == agreed.tolist()
    assert encoder.encode({**raw, "history": np.array([[3]])})["list/history"].numpy()[0, 1:].tolist() == [
        0,
        0,
    ]
    empty = np.empty((1, 0), np.int64)
    assert encoder.encode({**raw, "history": empty})["list/history"].numpy().tolist() == [[0, 0, 0]]


def test_positions_become_rows_from_zero_and_the_deepest_is_shared(fitted, market, impressions):
    space, encoder = fitted
    raw = tensors.from_arrow(impressions(4, seed=8), market)
    encoded = encoder.encode({**raw, "position": np.array([1, 3, 5, 99])})
    assert encoded["position"].numpy().tolist() == [0, 2, 4, 4]
    assert space.positions == 5


def test_crosses_tell_apart_what_joined_text_would_not():
    contract = loads(
        "name: x\nfields:\n  a: {role: user, dtype: string, encoding: {kind: hash, buckets: 9}}\n"
        "  b: {role: ad, dtype: string, encoding: {kind: hash, buckets: 9}}\n"
        "  ab: {role: cross, encoding: {kind: cross, of: [a, b], buckets: 100000000}}\n"
    )
    encoder = Encoder(FeatureSpace(contract))
    pairs = [("ab", "c"), ("a", "bc"), ("1:a", "b"), ("1", ":ab"), ("", "1:"), ("1:", "")]
    raw = {"a": tf.constant([p[0] for p in pairs]), "b": tf.constant([p[1] for p in pairs])}
    assert len(set(encoder(raw)["slots"][:, 2].numpy().tolist())) == len(pairs)


@pytest.mark.parametrize("buckets", [5, 10, 97, 100_000_000])
@pytest.mark.parametrize("dtype", ["string", "int64"])
def test_a_compositional_value_takes_quotient_and_remainder_of_its_hash(dtype, buckets):
    contract = loads(
        f"name: x\nfields:\n  whole: {{role: ad, dtype: {dtype}, encoding: {{kind: hash, buckets: {buckets}}}}}\n"
        f"  ad: {{role: ad, dtype: {dtype}, encoding: {{kind: compositional, buckets: {buckets}}}}}\n"
    )
    encoder = Encoder(FeatureSpace(contract))
    ids = [-7, 0, 1, 2**62, *range(1000, 1400)]
    values = tf.constant(ids, tf.int64) if dtype == "int64" else tf.constant([f"ad{i}" for i in ids])
    got = encoder.encode({"whole": values, "ad": values})["slots"].numpy()
    m = math.ceil(math.sqrt(buckets))
    for whole, quotient, remainder in got.tolist():
        assert divmod(whole - 1, m) == (
            quotient - 1 - buckets,
            remainder - 1 - buckets - math.ceil(buckets / m),
        )


def test_a_billion_ids_are_told_apart_by_two_small_tables():
    contract = loads(
        "name: x\nfields:\n  ad: {role: ad, dtype: int64, encoding: {kind: compositional, buckets: 1000000000}}\n"
        "  y: {role: label, dtype: int64}\n"
    )
    space = FeatureSpace(contract)
    slots = Encoder(space).encode({"ad": tf.range(2000, dtype=tf.int64)})["slots"].numpy()
    assert space.table_rows == 1 + 2 * 31_623
    for column, slot in zip(slots.T, space.slots, strict=True):
        assert column.min() >= slot.offset
        assert column.max() < slot.offset + slot.rows
        assert (
            len(set(column.tolist())) > 1900
        )  # 2,000 draws from 31,623 rows leave about 1,938 different ones
    assert (
        len({tuple(pair) for pair in slots.tolist()}) == 2000
    )  # of 1e9, 2,000 draws collide once in 500 times


def test_unknown_values_share_the_first_row(fitted, market, impressions):
    space, encoder = fitted
    raw = tensors.from_arrow(impressions(1, seed=1), market)
    strange = {**raw, "user": np.array(["nobody"], object), "ad": np.array([10**12])}
    slots = dict(zip([s.name for s in space.slots], encoder.encode(strange)["slots"].numpy()[0], strict=True))
    offset = {s.name: s.offset for s in space.slots}
    assert slots["user"] == offset["user"]
    assert slots["ad"] == offset["ad"]


def test_a_vocabulary_without_values_knows_only_the_unknown():
    contract = loads(
        "name: x\nfields:\n  a: {role: user, dtype: string, encoding: {kind: vocabulary}}\n  y: {role: label, dtype: int64}\n"
    )
    encoder = Encoder(FeatureSpace(contract, {"a": pa.array([], pa.string())}))
    assert encoder({"a": tf.constant(["b", ""])})["slots"].numpy().tolist() == [[1], [1]]


@pytest.mark.parametrize(("offset", "hour", "weekday"), [(0, 23, 2), (5.5, 5, 3), (-14, 9, 2)])
def test_time_parts_follow_the_local_clock_before_1970_too(offset, hour, weekday):
    contract = loads(
        "name: x\nfields:\n  t: {role: event_time, dtype: timestamp}\n"
        f"  h: {{role: context, encoding: {{kind: hour, of: t, utc_offset_hours: {offset}}}}}\n"
        f"  w: {{role: context, encoding: {{kind: weekday, of: t, utc_offset_hours: {offset}}}}}\n"
    )
    space = FeatureSpace(contract)
    moment = dt.datetime(1969, 12, 31, 23, 59, 59, tzinfo=dt.UTC)  # a Wednesday
    slots = Encoder(space)({"t": tf.constant([int(moment.timestamp())], tf.int64)})["slots"].numpy()[0]
    assert [slots[i] - s.offset for i, s in enumerate(space.slots)] == [hour, weekday]


def test_a_float_on_an_edge_belongs_to_the_bucket_it_opens():
    contract = loads(
        "name: x\nfields:\n  a: {role: ad, dtype: float32, encoding: {kind: bucketize, boundaries: [0.1, 0.7]}}\n  y: {role: label, dtype: int64}\n"
    )
    encoder = Encoder(FeatureSpace(contract, edges={"a": (0.1, 0.7)}))
    slots = encoder({"a": tf.constant([0.0, 0.1, 0.69, 0.7], tf.float32)})["slots"]
    assert slots.numpy()[:, 0].tolist() == [1, 2, 2, 3]


def test_large_integers_keep_their_digits():
    contract = loads(
        "name: x\nfields:\n  a: {role: ad, dtype: int64, encoding: {kind: standardize}}\n  y: {role: label, dtype: int64}\n"
    )
    encoder = Encoder(FeatureSpace(contract, moments={"a": Moments(2.0**40, 1.0)}))
    assert encoder({"a": tf.constant([2**40 + 3], tf.int64)})["numerics"].numpy().tolist() == [[3.0]]


def test_saved_and_loaded_spaces_encode_like_the_one_trained_with(fitted, market, impressions, tmp_path):
    space, encoder = fitted
    space.save(tmp_path / "space")
    raw = tensors.from_arrow(impressions(100, seed=9), market)
    _assert_same(Encoder(FeatureSpace.load(tmp_path / "space")).encode(raw), encoder.encode(raw))


def test_the_exported_encoder_carries_its_vocabularies_and_encodes_alike(
    fitted, market, impressions, tmp_path
):
    space, _ = fitted
    encoder = Encoder(space)
    raw = tensors.from_arrow(impressions(100, seed=10), market)
    expected = encoder.encode(raw)
    tf.saved_model.save(encoder, str(tmp_path / "model"), signatures=encoder.encode)
    encoder._folder.cleanup()  # the export must not read the training machine's files
    moved = (tmp_path / "model").rename(tmp_path / "moved")
    assert len(list((moved / "assets").iterdir())) == len(space.vocabularies)
    served = tf.saved_model.load(str(moved)).signatures["serving_default"]
    _assert_same(served(**{name: tf.constant(value) for name, value in raw.items()}), expected)


def _assert_same(got, expected):
    assert got.keys() == expected.keys()
    for key in expected:
        np.testing.assert_array_equal(got[key].numpy(), expected[key].numpy(), err_msg=key)
