"""Drafting a contract from a file: what is guessed, that it says why, and that it reads the file it came from."""

import gzip

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clickmill.contract import Dtype, Role, dumps, loads
from clickmill.data import prepare, read
from clickmill.data.draft import draft
from clickmill.errors import ContractError, UnreadableData

N = 2000
RNG = np.random.default_rng(3)
LOG = pd.DataFrame(
    {
        "": range(N),
        "impression_id": [f"{k:032x}" for k in range(N)],
        "timestamp": pd.date_range("2026-01-05", periods=N, freq="min", tz="UTC"),
        "click": RNG.integers(0, 2, N),
        "slot_position": RNG.integers(1, 5, N),
        "bid_price": RNG.random(N).astype("float32"),
        "user_id": [f"u{k}" for k in RNG.integers(0, 300, N)],
        "age": RNG.integers(18, 1500, N),
        "ad_id": RNG.integers(0, 50, N),
        "price": np.round(np.exp(RNG.normal(0, 2, N)), 2),
        "site-domain": [f"s{k}" for k in RNG.integers(0, 9, N)],
        "score": RNG.normal(size=N),
        "constant": 7,
        "note": [f"free text {k}" for k in range(N)],
        "propensity": RNG.random(N),
    }
)


@pytest.fixture(scope="module")
def drafted(tmp_path_factory):
    path = tmp_path_factory.mktemp("draft") / "My-Log.2026.csv.gz"
    with gzip.open(path, "wt") as stream:
        LOG.to_csv(stream, index=False)
    return path, draft(path)


def test_roles_come_from_names_that_agree_with_the_values(drafted):
    _, contract = drafted
    assert {name: field.role for name, field in contract.columns.items()} == {
        "impression_id": Role.IMPRESSION_ID,
        "timestamp": Role.EVENT_TIME,
        "click": Role.LABEL,
        "slot_position": Role.POSITION,
        "bid_price": Role.BID,
        "user_id": Role.USER,
        "age": Role.USER,
        "ad_id": Role.AD,
        "price": Role.AD,
        "site_domain": Role.CONTEXT,
        "score": Role.CONTEXT,
        "constant": Role.METADATA,
        "note": Role.METADATA,
        "propensity": Role.METADATA,
    }
    assert contract.fields["user_id"].personal
    assert contract.fields["site_domain"].column == "site-domain"


def test_encodings_come_from_the_values(drafted):
    _, contract = drafted
    kinds = {name: field.encoding.kind for name, field in contract.features.items()}
    assert kinds == {
        "user_id": "vocabulary",
        "age": "standardize",
        "ad_id": "vocabulary",
        "price": "log1p",
        "site_domain": "vocabulary",
        "score": "standardize",
        "hour": "hour",
        "weekday": "weekday",
    }


def test_every_guess_says_why_and_the_row_number_is_left_out_by_name(drafted):
    _, contract = drafted
    assert all(field.description for field in contract.fields.values())
    assert "a row number" in contract.description
    assert "Always '7'" in contract.fields["constant"].description
    assert contract.name == "my-log"


def test_a_draft_survives_the_yaml_and_prepares_its_own_file(drafted, tmp_path):
    path, contract = drafted
    assert loads(dumps(contract)) == contract
    dataset = prepare(path, contract, tmp_path / "out")
    assert dataset.meta.quality.quarantined == 0
    assert sum(split.clicks for split in dataset.meta.splits.values()) == LOG["click"].sum()


def test_parquet_types_are_kept_and_lists_are_histories(tmp_path):
    table = pa.table(
        {
            "event_time": pa.array(1767571200 + np.arange(100) * 60, pa.int64()),
            "clicked": pa.array(np.arange(100) % 2 == 0),
            "history": pa.array([[f"a{k % 7}"] * (k % 3) for k in range(100)]),
            "device": pa.array(["ios", "android"] * 50).dictionary_encode(),
            "where": pa.array([{"lat": 1.0}] * 100),
        }
    )
    pq.write_table(table, tmp_path / "log.parquet")
    contract = draft(tmp_path / "log.parquet", "shop")
    assert contract.name == "shop"
    assert contract.source.timestamp_format == "epoch_s"
    assert contract.fields["clicked"].dtype is Dtype.BOOL
    assert contract.fields["history"].role is Role.SEQUENCE
    assert "where (a contract has no type for STRUCT" in contract.description
    rows = read(tmp_path / "log.parquet", contract).to_pyarrow().to_pylist()
    assert rows[1]["event_time"].isoformat() == "2026-01-05T00:01:00+00:00"


def test_a_log_without_label_or_time_says_so(tmp_path):
    pd.DataFrame({"user_id": ["a", "b"] * 50, "position": [0, 1] * 50}).to_csv(
        tmp_path / "log.csv", index=False
    )
    contract = draft(tmp_path / "log.csv")
    assert "give a click log, or name the label" in contract.description
    assert "splits go by the order of the rows" in contract.description
    assert contract.fields["position"].range.min == 0
    assert "Counts from 0 here" in contract.fields["position"].description


@pytest.mark.parametrize(
    ("name", "line", "words"),
    [
        ("a.txt", "1 4:1 70:1", "is of format libsvm"),
        ("a.txt", "-1 0:4:1 1:70:0.5", "is of format libffm"),
        ("a.txt", "\t".join(["0"] + ["1"] * 39), "is of format criteo"),
        ("a.dat", "1::1193::5::978300760", "is of format movielens"),
    ],
)
def test_published_layouts_point_at_their_ready_contract(tmp_path, name, line, words):
    (tmp_path / name).write_text(f"{line}\n{line}\n")
    with pytest.raises(UnreadableData, match=words) as caught:
        draft(tmp_path / name)
    assert "contracts/" in str(caught.value)


def test_a_file_without_rows_or_features_makes_no_contract(tmp_path):
    (tmp_path / "empty.csv").write_text("user_id,click\n")
    with pytest.raises(UnreadableData, match="holds no rows"):
        draft(tmp_path / "empty.csv")
    pd.DataFrame({"click": [0, 1] * 10}).to_parquet(tmp_path / "label.parquet")
    with pytest.raises(ContractError, match="no column looks like a feature"):
        draft(tmp_path / "label.parquet")
