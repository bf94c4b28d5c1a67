"""A space grows by what the new split knows besides; old values keep their rows' meaning, a changed meaning is refused."""

from __future__ import annotations

import pyarrow as pa
import pytest

from clickmill.contract import FeatureContract, loads
from clickmill.errors import ContractError
from clickmill.features import FeatureSpace, Moments
from clickmill.features.growth import grown, origins

FIELDS = {
    "user": "{role: user, dtype: string, encoding: {kind: vocabulary, max_size: 5}}",
    "site": "{role: context, dtype: string, encoding: {kind: hash, buckets: 3}}",
    "ad": "{role: ad, dtype: int64, encoding: {kind: vocabulary}}",
    "age": "{role: user, dtype: int64, encoding: {kind: bucketize, quantiles: 3}}",
    "price": "{role: ad, dtype: float32, encoding: {kind: standardize}}",
    "seen": "{role: sequence, dtype: int64_list, encoding: {kind: list, items: {kind: vocabulary, shares: ad}, max_length: 3}}",
    "mix": "{role: cross, encoding: {kind: cross, of: [user, site], buckets: 4}}",
}


def contract(**changed: str | None) -> FeatureContract:
    """The contract of FIELDS with some of them written otherwise, added, or (None) left out."""
    fields = {name: text for name, text in {**FIELDS, **changed}.items() if text is not None}
    lines = [f"  {name}: {text}" for name, text in fields.items()]
    return loads("\n".join(["name: toy", "fields:", *lines, "  label: {role: label, dtype: int64}"]))


def space(
    users: list[str], ads: list[int], *, edges=(20.0, 30.0), mean=1.0, positions=2, **changed
) -> FeatureSpace:
    return FeatureSpace(
        contract(**changed),
        {"user": pa.array(users, pa.string()), "ad": pa.array(ads, pa.int64())},
        {"age": edges},
        {"price": Moments(mean, 1.0)},
        positions,
    )


CHAMPION = space(["ann", "bob", "cid"], [7, 8])


def test_new_values_follow_the_old_ones_which_keep_their_order():
    found = grown(space(["dan", "bob"], [9, 8, 7]), CHAMPION)
    assert found.vocabularies["user"].to_pylist() == ["ann", "bob", "cid", "dan"]
    assert found.vocabularies["ad"].to_pylist() == [7, 8, 9]


def test_values_that_are_gone_make_room_when_the_vocabulary_is_full():
    # max_size is 5: three new and bob take four rows, so one of ann and cid can stay: ann, the more frequent once
    found = grown(space(["dan", "eve", "fay", "bob"], [7]), CHAMPION)
    assert found.vocabularies["user"].to_pylist() == ["ann", "bob", "dan", "eve", "fay"]


def test_units_and_intervals_are_the_champions_and_positions_the_deeper():
    found = grown(space(["ann"], [7], edges=(25.0, 35.0), mean=9.0, positions=5), CHAMPION)
    assert found.edges == {"age": (20.0, 30.0)}
    assert found.moments == {"price": Moments(1.0, 1.0)}
    assert found.positions == 5
    assert grown(space(["ann"], [7], positions=1), CHAMPION).positions == 2


def test_rows_continue_by_field_and_value():
    found = grown(space(["dan", "bob"], [9]), CHAMPION)
    rows, new = origins(found, CHAMPION)
    # champion: 0 padding; user 1 unknown, 2 ann, 3 bob, 4 cid; site 5-7; ad 8 unknown, 9 and 10; age 11-13; mix 14-17
    assert CHAMPION.table_rows == 18
    assert rows.tolist() == [0, 1, 2, 3, 4, 1, 5, 6, 7, 8, 9, 10, 8, 11, 12, 13, 14, 15, 16, 17]
    assert [i for i, fresh in enumerate(new) if fresh] == [5, 12], "dan and ad 9"


def test_a_field_the_champion_did_not_have_has_no_origin():
    extra = "{role: context, dtype: string, encoding: {kind: hash, buckets: 2}}"
    found = grown(space(["ann"], [7], device=extra), CHAMPION)
    rows, new = origins(found, CHAMPION)
    assert rows[-2:].tolist() == [-1, -1]
    assert new[-2:].all()
    assert (rows[:-2] >= 0).all()


def test_growing_by_nothing_changes_nothing():
    found = grown(CHAMPION, CHAMPION)
    assert found == CHAMPION
    rows, new = origins(found, CHAMPION)
    assert rows.tolist() == list(range(CHAMPION.table_rows))
    assert not new.any()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"site": None}, r"fields.site: is no feature any more"),
        ({"site": FIELDS["site"].replace("3", "4")}, r"fields.site.encoding.buckets: is 4, and was 3"),
        ({"user": FIELDS["user"].replace("vocabulary, max_size: 5", "hash, buckets: 9")}, r"fields.user.encoding.kind: is 'hash'"),
        ({"age": FIELDS["age"].replace("int64", "float32")}, r"fields.age.dtype: is float32, and was int64"),
        ({"age": FIELDS["age"].replace("quantiles: 3", "quantiles: 4")}, r"fields.age.encoding.quantiles: is 4, and was 3"),
        ({"mix": FIELDS["mix"].replace("[user, site]", "[site, user]")}, r"fields.mix.encoding.of: is \['site', 'user'\]"),
    ],
)  # fmt: skip
def test_a_field_of_another_meaning_is_refused_by_name_and_rule(changed, words):
    if changed.get("site", "") is None:
        changed["mix"] = FIELDS["mix"].replace("site", "ad")
    other = FeatureSpace(contract(**changed), CHAMPION.vocabularies, CHAMPION.edges, CHAMPION.moments, 2)
    with pytest.raises(ContractError, match=words) as refused:
        grown(other, CHAMPION)
    assert "train from scratch (no warm start)" in str(refused.value)


def test_another_order_of_the_fields_is_refused():
    swapped = {name: FIELDS[name] for name in ["site", "user", "ad", "age", "price", "seen", "mix"]}
    lines = [f"  {name}: {text}" for name, text in swapped.items()]
    other = loads("\n".join(["name: toy", "fields:", *lines, "  label: {role: label, dtype: int64}"]))
    with pytest.raises(ContractError, match=r"fields\.site: stands where the champion had `user`"):
        grown(FeatureSpace(other, CHAMPION.vocabularies, CHAMPION.edges, CHAMPION.moments, 2), CHAMPION)


@pytest.mark.parametrize(
    ("now", "then", "words"),
    [
        ("", "{role: position, dtype: int64}", r"fields\.slot\.role: was position for the champion"),
        ("{role: position, dtype: int64}", "", r"fields\.slot\.role: is position, and the champion"),
        ("{role: position, dtype: int64, at_inference: average}", "{role: position, dtype: int64}", r"slot\.at_inference: is not the champion's"),
    ],
)  # fmt: skip
def test_a_position_that_came_went_or_is_asked_for_otherwise_is_refused(now, then, words):
    ours, theirs = (space(["ann"], [7], **({"slot": text} if text else {})) for text in (now, then))
    with pytest.raises(ContractError, match=words):
        grown(ours, theirs)


def test_what_may_change_is_which_values_get_rows():
    changed = {
        "user": "{role: user, dtype: string, default: ann, encoding: {kind: vocabulary, min_count: 9, max_size: 50}}",
        "seen": FIELDS["seen"].replace("max_length: 3", "max_length: 8"),
        "price": FIELDS["price"].replace("}}", "}, range: {min: 0}}"),
    }
    assert grown(space(["ann"], [7], **changed), CHAMPION).contract == contract(**changed)
