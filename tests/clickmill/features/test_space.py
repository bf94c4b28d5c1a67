"""A feature space on disk."""

import json

import pytest

from clickmill.errors import UnreadableData
from clickmill.features import FeatureSpace, fit


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
