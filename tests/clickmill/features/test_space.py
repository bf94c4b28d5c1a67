"""A feature space on disk."""

import json

import pytest

from clickmill.contract import loads
from clickmill.errors import UnreadableData
from clickmill.features import FeatureSpace, Slot, fit


@pytest.fixture(scope="module")
def space(prepared, market, impressions):
    return fit(prepared(market, impressions(400)))


def test_load_gives_back_what_save_wrote(space, tmp_path):
    space.save(tmp_path / "space")
    loaded = FeatureSpace.load(tmp_path / "space")
    assert loaded == space
    assert loaded.contract == space.contract
    assert loaded.slots == space.slots
    assert loaded.lists == space.lists
    assert loaded.moments == space.moments
    assert {n: v.to_pylist() for n, v in loaded.vocabularies.items()} == {
        n: v.to_pylist() for n, v in space.vocabularies.items()
    }


def test_the_empty_string_survives_the_vocabulary_file(space, tmp_path):
    assert "" in space.vocabularies["user"].to_pylist()  # a tenth of the users are missing
    space.save(tmp_path)
    assert FeatureSpace.load(tmp_path).vocabularies["user"] == space.vocabularies["user"]


def test_a_vocabulary_cut_short_is_refused(space, tmp_path):
    space.save(tmp_path)
    file = tmp_path / space.vocabulary_files()["user"]
    file.write_text("\n".join(file.read_text().split("\n")[:-2]))
    with pytest.raises(UnreadableData, match=r"space\.json says"):
        FeatureSpace.load(tmp_path)


def test_a_missing_file_is_named(space, tmp_path):
    space.save(tmp_path)
    (tmp_path / space.vocabulary_files()["tags"]).unlink()
    with pytest.raises(UnreadableData, match=r"vocabulary-\d+-tags.txt"):
        FeatureSpace.load(tmp_path)


def test_another_format_is_refused(space, tmp_path):
    space.save(tmp_path)
    document = json.loads((tmp_path / "space.json").read_text())
    (tmp_path / "space.json").write_text(json.dumps(document | {"format": 99}))
    with pytest.raises(UnreadableData, match="format 99"):
        FeatureSpace.load(tmp_path)


def test_another_vocabulary_is_another_digest(space):
    fewer = {**space.vocabularies, "user": space.vocabularies["user"].slice(1)}
    other = FeatureSpace(space.contract, fewer, space.edges, space.moments, space.positions)
    assert other.digest != space.digest
    assert other != space


def test_a_compositional_field_is_two_slots_side_by_side_and_comes_back_from_disk(tmp_path):
    contract = loads(
        "name: x\nfields:\n  page: {role: context, dtype: string, encoding: {kind: hash, buckets: 9}}\n"
        "  ad: {role: ad, dtype: int64, encoding: {kind: compositional, buckets: 100000000}}\n"
        "  hour: {role: context, encoding: {kind: hour, of: t}}\n  t: {role: event_time, dtype: timestamp}\n"
    )
    space = FeatureSpace(contract)
    assert space.slots == (
        Slot("page", 9, 1, "page"),
        Slot("ad", 10_000, 10, "ad", "quotient"),
        Slot("ad", 10_000, 10_010, "ad", "remainder"),
        Slot("hour", 24, 20_010, "hour"),
    )
    assert [slot.label for slot in space.slots] == ["page", "ad#quotient", "ad#remainder", "hour"]
    assert space.table_rows == 20_034
    space.save(tmp_path)
    assert FeatureSpace.load(tmp_path).slots == space.slots
