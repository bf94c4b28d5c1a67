"""Learn a feature space from the train split: one DuckDB aggregate per field, each over its own column only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from clickmill.contract import (
    Bucketize,
    ContractField,
    Dtype,
    ListOf,
    Log1p,
    Role,
    Standardize,
    Vocabulary,
)
from clickmill.errors import UnreadableData
from clickmill.features.space import FeatureSpace, Moments

if TYPE_CHECKING:
    from clickmill.data import PreparedDataset

MOST_POSITIONS = 1000
"""Deeper positions share the last bias: nobody scrolls that far often enough to learn from."""


def fit(dataset: PreparedDataset) -> FeatureSpace:
    """Learn vocabularies, bucket edges, moments and the number of positions from the train split.

    Missing values count as the value that stands in for them (`ContractField.fill`), as they will in training and at the endpoint.
    Deterministic: the same rows, in any order, give the same space. Raises UnreadableData when the split has no rows.
    """
    folder = dataset.path("train")
    files = [str(file) for file in dataset.parts("train")]
    if not files:
        raise UnreadableData(f"{folder}: no Parquet file; prepare the dataset first")
    contract = dataset.contract
    vocabularies: dict[str, pa.Array] = {}
    edges: dict[str, tuple[float, ...]] = {}
    moments: dict[str, Moments] = {}
    positions = 0
    with duckdb.connect() as connection:
        rows = connection.read_parquet(files)
        if rows.count("*").fetchall()[0][0] == 0:
            raise UnreadableData(f"{folder}: the train split has no rows, so nothing can be learned")
        for name, f in contract.features.items():
            encoding = f.encoding.items if isinstance(f.encoding, ListOf) else f.encoding
            if isinstance(encoding, Vocabulary) and encoding.shares is None:
                vocabularies[name] = _vocabulary(rows, name, f, encoding)
            elif isinstance(encoding, Bucketize):
                edges[name] = encoding.boundaries or _quantile_edges(rows, name, f, encoding)
            elif isinstance(encoding, Log1p | Standardize):
                moments[name] = _moments(rows, name, f)
        position = contract.of_role(Role.POSITION)
        if position:
            deepest = _one(rows, f"max({_filled(position, contract.fields[position])})")
            positions = max(1, min(int(deepest), MOST_POSITIONS))
    return FeatureSpace(contract, vocabularies, edges, moments, positions)


def _vocabulary(rows: duckdb.DuckDBPyRelation, name: str, f: ContractField, encoding: Vocabulary) -> pa.Array:
    value, string = _filled(name, f), f.dtype not in (Dtype.INT64, Dtype.INT64_LIST)
    if isinstance(f.encoding, ListOf):
        value = f"unnest({value}[-{f.encoding.max_length}:])"
    if string:
        value = f"CAST({value} AS VARCHAR)"
    legal = "value IS NOT NULL"
    if string:
        # Lines of the vocabulary file can hold no line break, and chr(0) stands for the empty string there (space.EMPTY_LINE).
        legal += " AND NOT contains(value, chr(10)) AND NOT contains(value, chr(13)) AND value <> chr(0)"
    if string and isinstance(f.encoding, ListOf):
        legal += " AND value <> ''"  # padding, see clickmill.features.tensors
    counted = rows.project(f"{value} AS value").filter(legal)
    found = counted.aggregate("value, count(*) AS n", "value").filter(f"n >= {encoding.min_count}")
    table = found.order("n DESC, value").limit(encoding.max_size).project("value").to_arrow_table()
    return table["value"].cast(pa.string() if string else pa.int64()).combine_chunks()


def _quantile_edges(
    rows: duckdb.DuckDBPyRelation, name: str, f: ContractField, encoding: Bucketize
) -> tuple[float, ...]:
    assert encoding.quantiles is not None
    shares = [i / encoding.quantiles for i in range(1, encoding.quantiles)]
    quantiles = _one(rows, f"quantile_disc({_filled(name, f)}, {shares})")
    # An edge at the minimum would leave the first bucket empty; equal quantiles (a heavy value) are one edge.
    lowest = _one(rows, f"min({_filled(name, f)})")
    return tuple(sorted({float(q) for q in quantiles} - {float(lowest)}))


def _moments(rows: duckdb.DuckDBPyRelation, name: str, f: ContractField) -> Moments:
    x = f"CAST({_filled(name, f)} AS DOUBLE)"
    if isinstance(f.encoding, Log1p):
        x = f"sign({x}) * ln(1 + abs({x}))"
    # Compensated sums in two passes, then rounded: DuckDB adds up in whatever order its threads come in.
    mean = round_to_12(_one(rows, f"fsum({x}) / count(*)"))
    variance = _one(rows, f"fsum(({x} - {mean!r}) ** 2) / count(*)")
    deviation = round_to_12(float(variance) ** 0.5)
    # A constant column's deviation is rounding dust; dividing by it would blow the dust up.
    return Moments(mean, deviation if deviation > 1e-9 * max(1.0, abs(mean)) else 1.0)


def round_to_12(x: float) -> float:
    """To twelve significant digits."""
    return float(f"{x:.12g}")


def _filled(name: str, f: ContractField) -> str:
    """SQL of the column with its nulls filled."""
    column = '"' + name.replace('"', '""') + '"'
    return f"coalesce({column}, {_literal(f.fill)})"


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, tuple):
        return "[" + ", ".join(_literal(item) for item in value) + "]"
    return repr(value)


def _one(rows: duckdb.DuckDBPyRelation, expression: str) -> Any:
    return rows.aggregate(f"{expression} AS value").fetchall()[0][0]
