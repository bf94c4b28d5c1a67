"""Laws of contracts, over whatever hypothesis can think of."""

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from clickmill.contract import (
    Bucketize,
    Compositional,
    ContractField,
    Cross,
    Dtype,
    FeatureContract,
    Hash,
    Hour,
    ListOf,
    Log1p,
    Range,
    Role,
    Source,
    Standardize,
    Vocabulary,
    dumps,
    loads,
)

# Words that YAML likes to take for something else are the interesting ones.
words = st.sampled_from(
    ["yes", "no", "null", "1", "1e3", "~", "a: b", "'", "# x", "ß", "2026-01-01", " ", "-"]
) | st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12)
names = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True) | st.sampled_from(
    ["yes", "no", "on", "null", "y"]
)
listed = st.builds(Vocabulary, min_count=st.integers(1, 99), max_size=st.integers(1, 10**6)) | st.builds(
    Hash, buckets=st.integers(2, 10**6)
)
compositional = st.builds(Compositional, buckets=st.integers(4, 10**9))
categorical = listed | compositional
edges = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5, unique=True).map(lambda e: tuple(sorted(e)))
numeric = (
    st.just(Log1p())
    | st.just(Standardize())
    | st.builds(Bucketize, boundaries=edges)
    | st.builds(Bucketize, quantiles=st.integers(2, 100))
)
common = {
    "owner": st.none() | words,
    "description": words,
    "personal": st.booleans(),
    "freshness": st.none() | st.integers(1, 10**7).map(lambda s: timedelta(seconds=s)),
}
strings = st.builds(
    ContractField,
    role=st.sampled_from([Role.USER, Role.AD, Role.CONTEXT]),
    dtype=st.just(Dtype.STRING),
    encoding=categorical,
    default=st.none() | words,
    **common,
)
floats = st.builds(
    ContractField,
    role=st.sampled_from([Role.USER, Role.AD, Role.CONTEXT]),
    dtype=st.just(Dtype.FLOAT32),
    encoding=numeric,
    range=st.none() | st.builds(Range, min=st.floats(-10, 0), max=st.none() | st.floats(0, 10)),
    required=st.booleans(),
    **common,
)
lists = st.builds(
    ContractField,
    role=st.just(Role.SEQUENCE),
    dtype=st.sampled_from([Dtype.STRING_LIST, Dtype.INT64_LIST]),
    encoding=st.builds(ListOf, items=listed, max_length=st.integers(1, 50)),
    default=st.none(),
    **common,
)


@st.composite
def contracts(draw):
    fields = draw(st.dictionaries(names, strings | floats, min_size=1, max_size=5))
    sequence = draw(st.none() | lists)
    if sequence is not None:
        fields["the_history"] = sequence
    fields["the_time"] = ContractField(role=Role.EVENT_TIME, dtype=Dtype.TIMESTAMP)
    fields["the_hour"] = ContractField(
        role=Role.CONTEXT,
        encoding=Hour(of="the_time", utc_offset_hours=draw(st.sampled_from([-3.5, 0, 5.5]))),
    )
    plain = [name for name, field in fields.items() if field.dtype is Dtype.STRING]
    if len(plain) >= 2:
        fields["the_cross"] = ContractField(role=Role.CROSS, encoding=Cross(of=tuple(plain[:2]), buckets=10))
    source = draw(
        st.builds(
            Source, delimiter=st.none() | st.sampled_from([",", "\t", "|"]), negatives_kept=st.floats(0.01, 1)
        )
    )
    return FeatureContract(
        name=draw(st.sampled_from(["a", "ctr-model", "x_1"])),
        fields=fields,
        source=source,
        description=draw(words),
    )


@settings(max_examples=40)
@given(contracts())
def test_every_contract_comes_back_from_yaml_equal_and_with_its_digest(contract):
    again = loads(dumps(contract))
    assert again == contract
    assert list(again.fields) == list(contract.fields)
    assert again.digest == contract.digest


@settings(max_examples=40)
@given(contracts())
def test_inputs_columns_and_features_fit_together(contract):
    assert set(contract.inputs) <= set(contract.columns)
    assert not any(field.is_derived for field in contract.inputs.values())
    for name, field in contract.features.items():
        assert (name in contract.inputs) is not field.is_derived
        if isinstance(field.encoding, Hour):
            assert field.encoding.of in contract.inputs
        if isinstance(field.encoding, Cross):
            assert set(field.encoding.of) <= set(contract.inputs)


@given(compositional)
def test_quotients_and_remainders_number_every_bucket_and_are_about_as_many(encoding):
    quotients, remainders = encoding.quotients, encoding.remainders
    assert (encoding.buckets - 1) // remainders == quotients - 1  # the last bucket takes the last quotient
    assert (remainders - 1) ** 2 < encoding.buckets <= remainders**2
    assert quotients <= remainders <= quotients + 2


@given(st.builds(Range, min=st.floats(-10, 0), max=st.floats(0, 10)), st.floats(-20, 20))
def test_a_range_holds_its_ends_and_what_is_between(bounds, value):
    assert bounds.holds(bounds.min)
    assert bounds.holds(bounds.max)
    assert bounds.holds(value) is (bounds.min <= value <= bounds.max)
