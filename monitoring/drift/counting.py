"""Counts the reference and the window into the same cells, so that their distributions can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickmill.contract import FeatureContract, Role
from clickmill.errors import SchemaMismatch
from clickmill.prediction_log import Salt
from monitoring.drift.cells import (
    Cells,
    NumberCells,
    Tally,
    distinct,
    empty,
    learn_categories,
    learn_numbers,
    scaled,
)
from monitoring.drift.even_sample import EvenSample
from monitoring.drift.fields import Kind, Watched, watched
from monitoring.drift.settings import DriftSettings

_COMMON = 0.01
"""A stand-in that is also a real value in more than this share of the rows can't be told from one."""


@dataclass(frozen=True)
class Batch:
    """Consecutive rows of a window."""

    rows: int
    columns: Mapping[str, pa.Array]
    """By field, and `pctr`; a column that the source does not have is left out."""
    requests: int
    """Requests that begin in it; its rows where the source does not name requests."""
    logged: bool = True
    """False: the features were not logged on purpose. Then only `pctr` is counted, and nothing is missing."""
    not_shown: int = 0
    """Rows that stood among them and are left out: without an impression id."""


@dataclass(frozen=True)
class Reference:
    """What the model's world looked like, counted."""

    watched: tuple[Watched, ...]
    cells: Mapping[str, Cells]
    """By name; what can't be counted is left out."""
    tallies: Mapping[str, Tally]
    deviations: Mapping[str, float]
    """Standard deviations of the numbers, on their scale."""
    stand_ins: Mapping[str, Any]
    """Where the window's missing values were filled in: the value by which they are told. A field without one has a default that is a
    common value too: its missing values can't be told."""
    filled: bool
    """Whether missing values of the window come filled in, as in a prediction log."""
    unreadable: Mapping[str, str]
    """Fields that can't be compared, with the reason."""
    rows: int
    requests: int
    sample: pa.Table | None
    """Evenly drawn rows as they were measured; None where nobody reports on them."""


def learn(
    table: pa.Table, contract: FeatureContract, settings: DriftSettings, *, filled: bool, salt: Salt | None
) -> Reference:
    """Cells and tallies of a bundle's reference (columns of the contract, and `pctr`).

    filled: the window's missing values are filled in and its personal values hashed with `salt`, as a prediction log has them: the
    reference is brought into the same form. Without the salt personal fields can't be compared.
    """
    table = table.combine_chunks()
    columns = {name: _plain(table.column(name)) for name in table.column_names}
    things, unreadable, stand_ins = [], {}, {}
    for one in watched(contract, settings.ignored):
        column = columns.get(one.column)
        if filled and one.personal and not one.length:
            if salt is None:
                unreadable[one.name] = (
                    "personal: the log holds salted hashes; give the salt it was written with (CLICKMILL_LOG_SALT)"
                )
            elif column is not None:
                columns[one.column] = salt.hashed(_filled(column, one))
                one = replace(one, kind=Kind.CATEGORY)
                if (told := _stand_in(one, column)) is not None:
                    stand_ins[one.name] = salt.hashed(pa.array([str(told)])).to_pylist()[0]
        elif filled and one.field is not None and not one.is_list and column is not None:
            stand_ins[one.name] = _stand_in(one, column)
            columns[one.column] = _filled(column, one)
        things.append(one)
    stand_ins = {name: value for name, value in stand_ins.items() if value is not None}
    firsts = _first_rows(columns, contract)
    requests = len(table) if firsts is None else len(firsts)
    cells: dict[str, Cells] = {}
    for one in things:
        if one.name in unreadable:
            continue
        found = _learn(one, columns.get(one.column), settings, stand_ins.get(one.name), firsts)
        if found is None:
            unreadable[one.name] = "the reference holds no value of it"
        else:
            cells[one.name] = found
    reference = Reference(
        watched=tuple(things), cells=cells, tallies={}, deviations={}, stand_ins=stand_ins, filled=filled,
        unreadable=unreadable, rows=len(table), requests=requests, sample=None,
    )  # fmt: skip
    counting = Counting(reference, settings)
    counting.add(Batch(len(table), columns, reference.requests))
    deviations = {
        one.name: float(np.std(_numbers(one, columns[one.column], stand_ins.get(one.name))[0]))
        for one in things
        if isinstance(cells.get(one.name), NumberCells)
    }
    return replace(reference, tallies=counting.tallies, deviations=deviations, sample=counting.sample)


class Counting:
    """A window under way: batches in, tallies out. Memory does not grow with the rows."""

    def __init__(self, reference: Reference, settings: DriftSettings) -> None:
        self._reference = reference
        self.tallies: dict[str, Tally] = {name: empty(cells) for name, cells in reference.cells.items()}
        self.rows = self.requests = self.unlogged = self.not_shown = 0
        self.absent: dict[str, int] = {}
        """Rows that came without the column, by column."""
        self._sample = (
            EvenSample(settings.sample_rows, settings.seed) if settings.report == "evidently" else None
        )

    @property
    def sample(self) -> pa.Table | None:
        """Evenly drawn rows as they were measured; None where nobody reports on them."""
        return None if self._sample is None else self._sample.rows

    def add(self, batch: Batch) -> None:
        """Count a batch. Raises SchemaMismatch for a column whose values can't be counted as the contract says."""
        here = self._reference
        for one in here.watched:
            if one.name not in here.cells or not (batch.logged or one.field is None):
                continue
            column = batch.columns.get(one.column)
            if column is None:
                self.absent[one.column] = self.absent.get(one.column, 0) + (0 if one.length else batch.rows)
            try:
                found = _tally(one, here.cells[one.name], column, batch.rows, here.stand_ins.get(one.name))
            except (pa.ArrowException, TypeError, ValueError) as error:
                kind = None if column is None else column.type
                raise SchemaMismatch(
                    f"field {one.column}: its values come as {kind} and can't be counted as the {one.kind} that the contract of the "
                    f"bundle makes of it: {str(error).splitlines()[0]}. Was the file written by another contract? Move it out of the log."
                ) from error
            self.tallies[one.name] = self.tallies[one.name] + found
        self.unlogged += 0 if batch.logged else batch.rows
        self.rows += batch.rows
        self.not_shown += batch.not_shown
        self.requests += batch.requests
        if self._sample is not None:
            self._sample.add(batch.rows, lambda places: self._measured(batch, places))

    def _measured(self, batch: Batch, places: np.ndarray) -> pa.Table:
        """Some rows as they were measured: numbers on their scale, categories as the label of their cell. Lists by their length only."""
        at, columns = pa.array(places), {}
        for one in self._reference.watched:
            cells = self._reference.cells.get(one.name)
            if cells is None or (one.is_list and not one.length):
                continue
            column = batch.columns.get(one.column)
            taken = None if column is None else column.take(at)
            columns[one.name] = _row_by_row(
                one, cells, taken, len(places), self._reference.stand_ins.get(one.name)
            )
        return pa.table(columns)


def _learn(
    one: Watched,
    column: pa.Array | None,
    settings: DriftSettings,
    stand_in: Any,
    firsts: np.ndarray | None,
) -> Cells | None:
    """firsts: the first row of each request, where requests are known."""
    if column is None:
        return None
    if one.kind is Kind.NUMBER:
        values, *_ = _numbers(one, column, stand_in)
        return learn_numbers(values, settings.bins) if len(values) else None
    values, counts, _ = _categories(one, column, stand_in)
    if not counts.sum():
        return None
    draws = counts
    if one.shared and firsts is not None:
        # The candidates of a request bring its user again and again: what came once is counted in requests.
        _, draws, _ = _categories(one, column.take(pa.array(firsts)), stand_in)
    # So many cells that the reference itself can tell a drift of half the threshold from chance (`measures.most_variance`, a window as large).
    rows = len(column) if firsts is None else len(firsts)
    most = 1 + int(settings.jensen_shannon**2 * rows)
    kept = min(1.0, most / (settings.top + settings.buckets))
    return learn_categories(
        values,
        counts,
        once=float((draws == 1).sum() / max(draws.sum(), 1)),
        categories=min(settings.categories, most),
        top=max(1, int(settings.top * kept)),
        buckets=max(1, int(settings.buckets * kept)),
    )


def _tally(one: Watched, cells: Cells, column: pa.Array | None, rows: int, stand_in: Any) -> Tally:
    if column is None:
        return replace(empty(cells), rows=rows, missing=rows)
    if isinstance(cells, NumberCells):
        values, missing, not_finite, illegal = _numbers(one, column, stand_in)
        counts, sums = cells.tally(values)
        return Tally(counts, sums, rows, missing, not_finite, illegal)
    texts, how_often, missing = _categories(one, column, stand_in)
    counts, new = cells.tally(texts, how_often)
    return Tally(
        counts, np.zeros(cells.count), rows, missing, illegal=_forbidden(one, texts, how_often), new=new
    )


def _numbers(one: Watched, column: pa.Array, stand_in: Any) -> tuple[np.ndarray, int, int, int]:
    """Finite values on the field's scale; how many are missing, not finite, outside of the contract's range."""
    if one.length:
        column = pc.fill_null(pc.list_value_length(column), 0)
    missing = column.null_count
    values = np.asarray(column.drop_null() if missing else column).astype(np.float64, copy=False)
    if stand_in is not None:
        there = values != stand_in
        missing += len(values) - int(there.sum())
        values = values[there]
    finite = np.isfinite(values)
    not_finite = len(values) - int(finite.sum())
    if not_finite:
        values = values[finite]
    low, high = _legal(one)
    illegal = int(np.count_nonzero((values < low) | (values > high)))
    return scaled(values, one.scale), missing, not_finite, illegal


def _legal(one: Watched) -> tuple[float, float]:
    """Bounds of the values themselves, not of their scale."""
    if one.field is None:
        return 0.0, 1.0  # a probability
    bounds = None if one.length else one.field.range
    low, high = (None, None) if bounds is None else (bounds.min, bounds.max)
    return -np.inf if low is None else low, np.inf if high is None else high


def _categories(one: Watched, column: pa.Array, stand_in: Any) -> tuple[pa.Array, np.ndarray, int]:
    """Distinct values as text, how often each came, and how many rows have none."""
    if one.is_list:
        lengths = pc.fill_null(pc.list_value_length(column), 0)
        texts, counts = distinct(column.flatten())
        return texts, counts, int(pc.sum(pc.equal(lengths, 0)).as_py() or 0)
    missing = column.null_count
    texts, counts = distinct(column)
    if stand_in is not None:
        filled_in = np.asarray(pc.equal(texts, _text(stand_in)))
        missing += int(counts[filled_in].sum())
        counts = np.where(filled_in, 0, counts)
    there = counts > 0
    return texts.filter(pa.array(there)), counts[there], missing


def _forbidden(one: Watched, texts: pa.Array, counts: np.ndarray) -> int:
    if one.field is None or one.field.allowed is None or one.personal:
        return 0
    legal = pc.is_in(texts, value_set=pa.array([_text(value) for value in one.field.allowed], pa.string()))
    return int(counts[~np.asarray(legal)].sum())


def _row_by_row(one: Watched, cells: Cells, column: pa.Array | None, rows: int, stand_in: Any) -> pa.Array:
    if column is None:
        return pa.nulls(rows, pa.float64() if isinstance(cells, NumberCells) else pa.string())
    if isinstance(cells, NumberCells):
        if one.length:
            column = pc.fill_null(pc.list_value_length(column), 0)
        values = np.asarray(column.cast(pa.float64()).fill_null(float("nan")))
        if stand_in is not None:
            values = np.where(values == stand_in, np.nan, values)
        return pa.array(scaled(values, one.scale), from_pandas=True)
    coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    texts = coded.dictionary.cast(pa.string())
    labels = np.array([*cells.labels(), None], object)
    place, _ = cells.place(texts)
    if stand_in is not None:
        place[np.asarray(pc.equal(texts, _text(stand_in)))] = -1
    at = np.asarray(coded.indices.fill_null(len(texts)))
    return pa.array(labels[np.append(place, -1)[at]], pa.string())


def _stand_in(one: Watched, column: pa.Array) -> Any:
    """The contract's stand-in for missing values, or None where it is common among the values that are there."""
    assert one.field is not None
    if one.is_list:
        return None
    fill = pa.scalar(one.field.fill, column.type)
    there = column.drop_null()
    if len(there) and (pc.sum(pc.equal(there, fill)).as_py() or 0) > _COMMON * len(there):
        return None
    return fill.as_py()


def _filled(column: pa.Array, one: Watched) -> pa.Array:
    assert one.field is not None
    if one.is_list or not column.null_count:
        return column
    return column.fill_null(pa.scalar(one.field.fill, column.type))


def _text(value: Any) -> str:
    """As Arrow casts it to text."""
    return value if isinstance(value, str) else pa.scalar(value).cast(pa.string()).as_py()


def _plain(column: pa.ChunkedArray) -> pa.Array:
    whole = column.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = pa.concat_arrays(whole.chunks) if whole.num_chunks else pa.array([], whole.type)
    return whole.dictionary_decode() if pa.types.is_dictionary(whole.type) else whole


def _first_rows(columns: Mapping[str, pa.Array], contract: FeatureContract) -> np.ndarray | None:
    """The first row of each request, or None where the reference does not name requests."""
    name = contract.of_role(Role.REQUEST_ID)
    if name is None or name not in columns or columns[name].null_count:
        return None
    coded = np.asarray(columns[name].dictionary_encode().indices)
    _, found = np.unique(coded, return_index=True)
    return np.sort(found)


__all__ = ["Batch", "Counting", "Reference", "learn"]
