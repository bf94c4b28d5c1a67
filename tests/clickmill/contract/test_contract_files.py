"""Contracts on disk: they come back as they went, and what is wrong is told with path, line, value and remedy."""

from datetime import timedelta
from pathlib import Path

import pytest

from clickmill.contract import (
    Bucketize,
    Compositional,
    ContractField,
    Cross,
    Dtype,
    FeatureContract,
    Format,
    Hash,
    Hour,
    ListOf,
    Range,
    Role,
    Source,
    Standardize,
    Vocabulary,
    Weekday,
    dumps,
    json_schema,
    load,
    loads,
)
from clickmill.errors import ContractError

CONTRACTS = Path(__file__).parents[3] / "contracts"
GOOD = """name: shop
version: 2
description: Impressions of a shop.
source: {format: csv, delimiter: ";"}
fields:
  shown_at:
    role: event_time
    dtype: timestamp
  clicked:
    role: label
    dtype: int64
    required: true
  ad_id:
    role: ad
    dtype: string
    encoding: {kind: vocabulary, min_count: 3}
    owner: ads
  price:
    role: ad
    dtype: float32
    encoding: {kind: bucketize, boundaries: [1, 5, 10]}
    range: {min: 0}
    default: 2.5
    freshness: 15min
  seen:
    role: sequence
    dtype: string_list
    encoding: {kind: list, items: {kind: vocabulary, shares: ad_id}, max_length: 5}
  hour:
    role: context
    encoding: {kind: hour, of: shown_at, utc_offset_hours: 5.5}
"""


def refused(text):
    """The words of the refusal, without the origin's line."""
    with pytest.raises(ContractError) as caught:
        loads(text, origin="shop.yaml")
    words = str(caught.value)
    assert words.startswith("shop.yaml: ")
    return words


def test_every_part_of_a_contract_is_read():
    contract = loads(GOOD)
    assert (contract.name, contract.version, contract.source.format) == ("shop", 2, Format.CSV)
    price = contract.fields["price"]
    assert (price.range, price.fill, price.freshness) == (Range(min=0), 2.5, timedelta(minutes=15))
    assert price.encoding == Bucketize(boundaries=(1, 5, 10))
    assert contract.fields["seen"].encoding == ListOf(items=Vocabulary(shares="ad_id"), max_length=5)
    assert contract.of_role(Role.LABEL) == "clicked"
    assert contract.of_role(Role.BID) is None


def test_inputs_are_what_a_request_carries_and_columns_what_a_table_has():
    contract = loads(GOOD)
    assert list(contract.features) == ["ad_id", "price", "seen", "hour"]
    assert list(contract.inputs) == ["shown_at", "ad_id", "price", "seen"]
    assert list(contract.columns) == ["shown_at", "clicked", "ad_id", "price", "seen"]


def test_a_contract_comes_back_from_yaml_as_it_went():
    contract = loads(GOOD)
    assert loads(dumps(contract)) == contract
    assert loads(dumps(contract)).digest == contract.digest


@pytest.mark.parametrize("path", sorted(CONTRACTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_contract_of_the_repository_loads_and_comes_back(path):
    contract = load(path)
    assert contract.name == path.stem
    assert contract.description
    assert loads(dumps(contract)) == contract
    for name, field in contract.fields.items():
        assert field.description or field.is_derived, f"{path.name}: {name} has no description"


def test_every_named_format_has_a_contract():
    formats = {load(path).source.format for path in CONTRACTS.glob("*.yaml")}
    assert formats >= set(Format) - {Format.CSV, Format.PARQUET}


def test_the_digest_ignores_how_a_contract_is_written_but_not_what_it_says():
    spaced = GOOD.replace("  clicked:\n    role: label\n", "  clicked:  # the label\n    role:   label\n")
    assert loads(spaced).digest == loads(GOOD).digest
    assert loads(GOOD.replace("min_count: 3", "min_count: 4")).digest != loads(GOOD).digest


def test_a_file_that_is_not_there_is_told_by_name(tmp_path):
    with pytest.raises(ContractError, match=r"nothing\.yaml: cannot be read \(No such file or directory\)"):
        load(tmp_path / "nothing.yaml")


def test_what_is_no_yaml_or_no_mapping_is_told():
    assert "not valid YAML" in refused("name: [")
    assert "must be a mapping with `name` and `fields`; got list" in refused("- a\n- b")


def test_a_key_given_twice_is_refused_where_it_stands_the_second_time():
    words = refused(GOOD + "  price:\n    role: ad\n")
    assert "key 'price' is given twice; keep one" in words
    assert "line 32" in words


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (("role: label", "role: lable"), 'fields.clicked.role (line 10): got "lable"; must be one of \'user\', \'ad\''),
        (("name: shop", "name: Shop!"), 'name (line 1): got "Shop!"; must be lower case letters, digits'),
        (("owner: ads", "boss: ads"), 'fields.ad_id.boss (line 17): got "ads"; unknown key; remove it or correct'),
        (("    dtype: timestamp\n", ""), "fields.shown_at.dtype (line 6): got null; give a dtype: one of string, int64"),
        (("kind: vocabulary, min", "kind: vocab, min"), "fields.ad_id.encoding (line 16): unknown kind 'vocab'; must be one"),
        (("kind: vocabulary, min", "min"), "fields.ad_id.encoding (line 16): say `kind`: one of bucketize, compositional, cross"),
        (("min_count: 3", "min_count: 0"), "fields.ad_id.encoding.min_count (line 16): got 0; input should be greater"),
        (("[1, 5, 10]", "[1, 10, 5]"), "fields.price.encoding (line 21): `boundaries` must ascend strictly"),
        (("boundaries: [1, 5, 10]", "quantiles: 4, boundaries: [1]"), "give either `boundaries` or `quantiles`"),
        (("{min: 0}", "{min: 3, max: 1}"), "fields.price.range (line 22): `min` 3 is above `max` 1; swap them"),
        (("{min: 0}", "{}"), "fields.price.range (line 22): give `min`, `max` or both"),
        (("default: 2.5", "default: -1.0"), "fields.price.default (line 23): got -1.0; lies outside the field's own range"),
        (("default: 2.5", "default: cheap"), 'fields.price.default (line 23): got "cheap"; must be of type float32'),
        (("15min", "soon"), "'soon' is not a duration; write for example '15min', '24h' or '7d'"),
        (("shares: ad_id", "shares: ad"), 'fields.seen.encoding.items.shares (line 28): got "ad"; no field of this name; known'),
        (("of: shown_at", "of: clicked"), 'fields.hour.encoding.of (line 31): got "clicked"; must be a timestamp'),
        (("of: shown_at", "of: later"), 'fields.hour.encoding.of (line 31): got "later"; no field of this name; known: shown_at'),
        (("format: csv", "format: xls"), 'source.format (line 4): got "xls"; must be one of \'parquet\''),
        (("version: 2", "version: two"), 'version (line 2): got "two"; input should be a valid integer'),
    ],
    ids=lambda value: value[1][:30] if isinstance(value, tuple) else "",
)  # fmt: skip
def test_a_mistake_is_told_with_its_path_line_value_and_remedy(change, line):
    text = GOOD.replace(*change)
    assert text != GOOD
    assert line in refused(text)


def test_all_mistakes_are_told_at_once():
    words = refused(GOOD.replace("name: shop", "name: 7up").replace("min_count: 3", "min_count: x"))
    assert "2 problems" in words
    assert "name (line 1)" in words
    assert "fields.ad_id.encoding.min_count (line 16)" in words


def fields(**extra):
    base = {
        "label": ContractField(role=Role.LABEL, dtype=Dtype.INT64),
        "ad": ContractField(role=Role.AD, dtype=Dtype.STRING, encoding=Vocabulary()),
    }
    return base | extra


@pytest.mark.parametrize(
    ("extra", "path", "remedy"),
    [
        (
            {"y": ContractField(role=Role.LABEL, dtype=Dtype.BOOL)},
            "fields.y.role",
            "`label` has this role already",
        ),
        (
            {"n": ContractField(role=Role.USER, dtype=Dtype.INT64)},
            "fields.n.encoding",
            "say how it is encoded",
        ),
        (
            {"n": ContractField(role=Role.BID, dtype=Dtype.FLOAT32, encoding=Standardize())},
            "fields.n.encoding",
            "role `bid` is never a model input",
        ),
        (
            {"n": ContractField(role=Role.USER, dtype=Dtype.STRING, encoding=Standardize())},
            "fields.n.dtype",
            "encoding `standardize` reads float32 or int64",
        ),
        (
            {"n": ContractField(role=Role.USER, dtype=Dtype.BOOL, encoding=Compositional(buckets=9))},
            "fields.n.dtype",
            "encoding `compositional` reads int64 or string",
        ),
        (
            {"n": ContractField(role=Role.POSITION, dtype=Dtype.FLOAT32)},
            "fields.n.dtype",
            "role `position` needs int64",
        ),
        (
            {
                "n": ContractField(
                    role=Role.USER, dtype=Dtype.STRING, encoding=Vocabulary(), range=Range(min=0)
                )
            },
            "fields.n.range",
            "only int64 and float32 have a range; use `allowed`",
        ),
        (
            {"n": ContractField(role=Role.USER, dtype=Dtype.BOOL, encoding=Vocabulary(), allowed=("a",))},
            "fields.n.allowed",
            "only string and int64 have allowed values",
        ),
        (
            {
                "n": ContractField(
                    role=Role.USER, dtype=Dtype.STRING, encoding=Vocabulary(), default="a", required=True
                )
            },
            "fields.n.default",
            "a required field never takes its default",
        ),
        (
            {
                "n": ContractField(
                    role=Role.USER, dtype=Dtype.STRING, encoding=Vocabulary(), default="c", allowed=("a",)
                )
            },
            "fields.n.default",
            "is not among the field's own allowed values",
        ),
        (
            {"n": ContractField(role=Role.USER, dtype=Dtype.STRING, encoding=Vocabulary(), column="ad")},
            "fields.n.column",
            "field `ad` reads this column already",
        ),
        (
            {
                "n": ContractField(
                    role=Role.CROSS, dtype=Dtype.STRING, encoding=Cross(of=("ad", "ad"), buckets=10)
                )
            },
            "fields.n.dtype",
            "a derived field has no column",
        ),
        (
            {"n": ContractField(role=Role.CROSS, encoding=Cross(of=("ad", "label"), buckets=10))},
            "fields.n.encoding.of",
            "a cross combines plain feature columns",
        ),
        (
            {
                "n": ContractField(
                    role=Role.SEQUENCE, dtype=Dtype.INT64_LIST, encoding=ListOf(items=Vocabulary(shares="ad"))
                )
            },
            "fields.n.encoding.items.shares",
            "holds string, this field holds int64: they can't share rows",
        ),
    ],
)
def test_rules_across_fields_name_the_field_at_fault(extra, path, remedy):
    with pytest.raises(ValueError) as caught:
        FeatureContract(name="t", fields=fields(**extra))
    problem = caught.value.errors()[0]["ctx"]["error"]
    assert problem.path == path
    assert remedy in problem.remedy


def test_a_contract_without_features_is_refused():
    with pytest.raises(ValueError, match="no field has a feature role"):
        FeatureContract(
            name="t",
            fields={"label": fields()["label"], "b": ContractField(role=Role.BID, dtype=Dtype.FLOAT32)},
        )


@pytest.mark.parametrize(
    ("dtype", "role", "fill"),
    [
        (Dtype.STRING, Role.METADATA, ""),
        (Dtype.INT64, Role.METADATA, 0),
        (Dtype.FLOAT32, Role.METADATA, 0.0),
        (Dtype.BOOL, Role.METADATA, False),
        (Dtype.TIMESTAMP, Role.METADATA, 0),
        (Dtype.STRING_LIST, Role.METADATA, ()),
        (Dtype.INT64, Role.POSITION, 1),
    ],
)
def test_a_missing_value_takes_the_neutral_one_of_its_type_and_the_top_position(dtype, role, fill):
    assert ContractField(role=role, dtype=dtype).fill == fill


def test_the_json_schema_describes_every_setting_and_refuses_what_the_model_refuses():
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    for name, model in (("Source", Source), ("ContractField", ContractField)):
        described = schema["$defs"][name]
        assert described["additionalProperties"] is False
        for field in model.model_fields:
            assert described["properties"][field]["description"], f"{name}.{field} has no description"
    kinds = schema["$defs"]["ContractField"]["properties"]["encoding"]["anyOf"][0]["discriminator"]["mapping"]
    assert set(kinds) == {
        encoding.model_fields["kind"].default
        for encoding in (
            Vocabulary,
            Hash,
            Compositional,
            Bucketize,
            Cross,
            Hour,
            Weekday,
            ListOf,
            Standardize,
        )
    } | {"log1p"}
