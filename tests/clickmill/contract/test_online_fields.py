"""Fields with a past and fields that are looked up: what may be said of them, and how errors read."""

from datetime import timedelta

import pytest

from clickmill.contract import FeatureContract, Measure, dumps, loads
from clickmill.errors import ContractError

TEXT = """
name: t
fields:
  at: {role: event_time, dtype: timestamp}
  label: {role: label, dtype: bool}
  user_id: {role: user, dtype: int64, encoding: {kind: vocabulary}}
  ad_id: {role: ad, dtype: string, encoding: {kind: vocabulary}}
  ad_ctr: {role: ad, dtype: float32, encoding: {kind: log1p}, default: 0.03, freshness: 2h, aggregate: {of: ctr, by: ad_id, window: 7d, smoothing: 5}}
  shown: {role: user, dtype: int64, encoding: {kind: log1p}, aggregate: {of: impressions, by: user_id, window: 90min}}
  brand: {role: ad, dtype: string, encoding: {kind: vocabulary}, lookup_by: ad_id}
  hour: {role: context, encoding: {kind: hour, of: at}}
"""


def test_an_aggregate_is_a_column_and_an_input_but_is_not_in_the_log():
    contract = loads(TEXT)
    assert {"ad_ctr", "shown"} <= contract.columns.keys() & contract.inputs.keys() & contract.features.keys()
    assert list(contract.logged) == ["at", "label", "user_id", "ad_id", "brand"]
    aggregate = contract.fields["shown"].aggregate
    assert (aggregate.of, aggregate.by, aggregate.window) == (
        Measure.IMPRESSIONS,
        "user_id",
        timedelta(minutes=90),
    )


def test_the_store_keeps_fields_by_the_id_they_are_looked_up_by():
    kept = loads(TEXT).entities
    assert {by: list(fields) for by, fields in kept.items()} == {
        "ad_id": ["ad_ctr", "brand"],
        "user_id": ["shown"],
    }


def test_it_comes_back_from_yaml_equal_on_one_line():
    contract = loads(TEXT)
    assert loads(dumps(contract)) == contract
    assert (
        FeatureContract.model_validate_json(contract.model_dump_json()) == contract
    )  # as a feature space keeps it
    assert "    aggregate: {of: ctr, by: ad_id, window: 604800s, smoothing: 5.0}\n" in dumps(contract)


def test_a_contract_without_these_fields_keeps_its_digest():
    plain = "name: t\nfields:\n  at: {role: event_time, dtype: timestamp}\n  a: {role: ad, dtype: string, encoding: {kind: vocabulary}}\n"
    # taken before the fields `aggregate` and `lookup_by` existed
    assert loads(plain).digest == "369cf6f6213622da5d731ed3c0a7a57670afecfd5470803e01b8fe3169140885"


@pytest.mark.parametrize(
    ("line", "instead", "words"),
    [
        ("window: 7d", "window: 0s", "fields.ad_ctr.aggregate.window (line 8): got \"0s\"; must be longer than nothing"),
        ("window: 7d", "window: week", "is not a duration; write for example '15min', '24h' or '7d'"),
        ("of: ctr", "of: rate", "fields.ad_ctr.aggregate.of (line 8): got \"rate\"; must be one of 'ctr', 'clicks' or 'impressions'"),
        ("smoothing: 5", "smoothing: 0", "fields.ad_ctr.aggregate.smoothing (line 8): got 0; input should be greater than 0"),
        ("90min", "90min, smoothing: 3", "`smoothing` belongs to `of: ctr`; `impressions` is a plain count: remove it"),
        ("by: ad_id", "by: adid", "fields.ad_ctr.aggregate.by (line 8): got \"adid\"; no field of this name; known: at, label"),
        ("by: ad_id", "by: brand", "must name an id: a feature of dtype string or int64 that is in the request itself"),
        ("by: ad_id", "by: user_id", "has role `user`, which is the same for all ads of a request; make this field's role user"),
        ("by: user_id", "by: ad_id", "differs from ad to ad, but role `user` is one value for a whole request; make the role ad"),
        ("lookup_by: ad_id", "lookup_by: label", "fields.brand.lookup_by (line 10): got \"label\"; must name an id"),
        ("default: 0.03, ", "", "fields.ad_ctr.default (line 8): got null; give the click rate to expect of an id without a past"),
        ("default: 0.03", "default: 1.0", "above 0 and below 1"),
        ("dtype: int64, encoding: {kind: log1p}", "dtype: float32, encoding: {kind: log1p}", "an aggregate of `impressions` is int64"),
        ("of: ctr, by: ad_id, window: 7d, smoothing: 5", "of: clicks, by: ad_id, window: 7d", "an aggregate of `clicks` is int64"),
        ("{kind: log1p}, aggregate", "{kind: log1p}, default: 3, aggregate", "an id without a past has 0 of them; remove the default"),
        ("{kind: log1p}, aggregate", "{kind: log1p}, column: n, aggregate", "an aggregate is computed, not read; remove `column`"),
        ("{kind: log1p}, aggregate", "{kind: log1p}, lookup_by: ad_id, aggregate", "is kept under its `by` already; remove `lookup_by`"),
        ("lookup_by: ad_id", "lookup_by: ad_id, required: true", "a field with `lookup_by` takes its default where nothing is known"),
        ("{kind: hour, of: at}", "{kind: hour, of: at}, lookup_by: ad_id", "this one is derived inside the graph"),
        ("label: {role: label, dtype: bool", "label: {role: label, dtype: bool, lookup_by: ad_id", "this one has role `label`"),
        ("{role: event_time", "{role: metadata", "needs to know when impressions were shown; add a field of role event_time"),
    ],
)  # fmt: skip
def test_what_has_no_meaning_is_refused_with_path_value_and_remedy(line, instead, words):
    assert line in TEXT
    with pytest.raises(ContractError) as caught:
        loads(TEXT.replace(line, instead, 1))
    assert words in str(caught.value)
