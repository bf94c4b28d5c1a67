"""Golden predictions: rows with the answers the graph gave when it was exported.

Whoever loads a bundle (another machine, library version, kernel) asks the graph again and refuses it when the answers
moved. The rows go where transforms break: real rows, each field unknown, all defaults, the ends of every number and
time, empty and full lists, every position.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clickmill.bundle.export import LOGIT, PCTR
from clickmill.contract import ContractField, Dtype, FeatureContract, Role
from clickmill.errors import BundleError, GoldenMismatch
from clickmill.features.raw import LIST_PADDING, Raw, concat, length, max_length, take, to_arrow

GOLDEN = "golden.parquet"
CASE = "__case__"
"""Column that says why a row is in the file: real, all defaults, unknown ad_id, position 3, ..."""
REAL_ROWS = 64
MAX_ROWS = 256
TOLERANCE = 1e-5
"""Largest |pctr - golden|, and largest |logit - golden| relative to max(1, |golden|). float32 sums in another order
differ by about 1e-6."""

SURE = 50.0
"""Logits beyond it are compared as if they were it: sigmoid(50) is 1 to the last bit, and numbers far outside the training data
can drive a deep model to logits of millions, of which float32 keeps the sign and little else."""

Predict = Callable[[Raw], Mapping[str, np.ndarray]]

_UNKNOWN_STRING = "☃ never seen in training"
_UNKNOWN_INT = -987_654_321_012_345
_TIMES = (0, -1, 1_709_251_199, 4_102_444_799)
"""Epoch, the second before it (floor division of negatives), the end of a leap day, the end of the century."""


def pick(real: Mapping[str, np.ndarray], contract: FeatureContract, *, seed: int) -> tuple[Raw, list[str]]:
    """Choose 64 to 256 rows around real ones, and say of each why it is there.

    `real`: raw rows, any number but none at all; at most 64 are drawn. Where there are fewer than 64 they repeat.
    """
    n = length(real)
    if n == 0:
        raise BundleError("no real row to write golden predictions from: the split is empty; give it rows.")
    rng = np.random.default_rng(seed)
    drawn = rng.choice(n, size=min(n, REAL_ROWS), replace=False)
    base = take(real, drawn)
    made = list(_made_rows(contract, base))[: MAX_ROWS - len(drawn)]
    names = ["real"] * len(drawn) + [case for case, _ in made]
    rows = concat([base, *(row for _, row in made)])
    short = REAL_ROWS - len(names)
    if short > 0:
        rows = concat([rows, take(base, np.arange(short) % len(drawn))])
        names += ["real, again"] * short
    return rows, names


def write(
    folder: Path, raw: Mapping[str, np.ndarray], cases: list[str], contract: FeatureContract, predict: Predict
) -> None:
    """Ask the exported graph and keep its answers. Raises BundleError when an answer is no probability."""
    answers = predict(dict(raw))
    pctr, logit = (np.asarray(answers[name], np.float32) for name in (PCTR, LOGIT))
    sound = np.isfinite(logit) & (pctr >= 0) & (pctr <= 1)
    if not sound.all():
        at = int(np.argmin(sound))
        raise BundleError(
            f"the graph answers pctr {pctr[at]} and logit {logit[at]} for the row `{cases[at]}`: "
            f"{_show(to_arrow(take(raw, slice(at, at + 1)), contract))}. A legal request must get a probability: bound "
            "the field with `range` in the contract, or bucketize it."
        )
    table = to_arrow(raw, contract).append_column(CASE, pa.array(cases))
    table = table.append_column(PCTR, pa.array(pctr)).append_column(LOGIT, pa.array(logit))
    pq.write_table(table, folder / GOLDEN)


def read(folder: Path, contract: FeatureContract) -> Raw:
    """The golden rows, without their answers."""
    from clickmill.features import tensors

    return tensors.from_arrow(pq.read_table(folder / GOLDEN, columns=list(contract.inputs)), contract)


def check(folder: Path, contract: FeatureContract, predict: Predict, *, tolerance: float = TOLERANCE) -> int:
    """Ask the graph for its golden rows again; returns how many there are.

    Raises GoldenMismatch naming how many rows moved, and the worst with what was expected and what came.
    """
    table = pq.read_table(folder / GOLDEN)
    answers = predict(read(folder, contract))
    moved = np.zeros(len(table))
    for name, scale in ((PCTR, 1.0), (LOGIT, np.maximum(1.0, np.abs(table[LOGIT].to_numpy())))):
        got = np.asarray(answers[name], np.float64)
        if got.shape != (len(table),):
            raise GoldenMismatch(f"{folder}: `{name}` has shape {got.shape}, expected ({len(table)},).")
        expected = table[name].to_numpy().astype(np.float64)
        difference = np.abs(np.clip(got, -SURE, SURE) - np.clip(expected, -SURE, SURE)) / scale
        moved = np.maximum(moved, np.where(np.isnan(difference), np.inf, difference))
    if (moved > tolerance).any():
        at = int(np.argmax(moved))
        row = table.slice(at, 1)
        pairs = ", ".join(
            f"{name} expected {row[name][0].as_py():.7g}, got {float(np.asarray(answers[name])[at]):.7g}"
            for name in (PCTR, LOGIT)
        )
        raise GoldenMismatch(
            f"{folder}: {int((moved > tolerance).sum())} of {len(table)} golden predictions moved by more than "
            f"{tolerance:g}; the worst is row {at} ({row[CASE][0].as_py()}): {pairs}.\n"
            f"  {_show(row.select(list(contract.inputs)))}\n"
            "Do not serve this graph here: compare the library versions with those in manifest.json."
        )
    return len(table)


def _made_rows(contract: FeatureContract, base: Raw) -> Iterator[tuple[str, Raw]]:
    """Rows no log holds, the most telling first: the file has room for about 190 of them."""
    inputs = contract.inputs
    default = {name: _cell(field, field.fill) for name, field in inputs.items()}
    yield "all defaults", default
    unknown = {n: v for n, f in inputs.items() if (v := _unknown(f)) is not None}
    yield "all unknown", {**default, **unknown}
    ends = {name: _ends(field) for name, field in inputs.items() if not _is_position(field)}
    for which in (0, -1):
        cells = {n: _cell(inputs[n], values[which]) for n, values in ends.items() if values}
        yield f"all numbers at their {'least' if which == 0 else 'greatest'}", {**default, **cells}
    for name, field in inputs.items():
        if _is_position(field):
            if field.at_inference == "average":
                yield "position not known", {**take(base, slice(0, 1)), name: _cell(field, field.fill)}
            for position in _positions(field, base[name]):
                yield f"position {position}", {**take(base, slice(0, 1)), name: _cell(field, position)}
    n = length(base)
    for i, (name, field) in enumerate(inputs.items()):
        row = take(base, slice(i % n, i % n + 1))
        assert field.dtype is not None, "inputs are never derived"
        if field.dtype.is_list:
            yield f"empty {name}", {**row, name: _cell(field, ())}
            full = [_list_item(base[name], LIST_PADDING[field.dtype], field)] * max_length(field)
            yield f"full {name}", {**row, name: _cell(field, tuple(full))}
        if name in unknown:
            yield f"unknown {name}", {**row, name: unknown[name]}
        for value in ends.get(name, ()):
            yield f"{name} = {value}", {**row, name: _cell(field, value)}


def _cell(field: ContractField, value: object) -> np.ndarray:
    """One value as a raw array of one row."""
    dtype = field.dtype
    assert dtype is not None, "inputs are never derived"
    if dtype.is_list:
        assert isinstance(value, tuple), "the fill of a list is a tuple"
        width = max_length(field)
        items = [v.encode() if isinstance(v, str) else v for v in value][-width:]
        kind: type = object if dtype is Dtype.STRING_LIST else np.int64
        cell: np.ndarray = np.full((1, width), LIST_PADDING[dtype], dtype=kind)
        cell[0, : len(items)] = items
        return cell
    if dtype is Dtype.STRING:
        assert isinstance(value, str), "the value of a string field is text"
        return np.array([value.encode()], dtype=object)
    kinds = {
        Dtype.INT64: np.int64,
        Dtype.FLOAT32: np.float32,
        Dtype.BOOL: np.bool_,
        Dtype.TIMESTAMP: np.int64,
    }
    return np.array([value]).astype(kinds[dtype])


def _unknown(field: ContractField) -> np.ndarray | None:
    """A value training has not seen, where the contract lets one through."""
    if field.allowed is not None or field.range is not None or _is_position(field):
        return None
    kind = field.encoding.kind if field.encoding else None
    if field.dtype is Dtype.STRING:
        return _cell(field, _UNKNOWN_STRING)
    if field.dtype is Dtype.INT64 and kind in ("vocabulary", "hash", "compositional"):
        return _cell(field, _UNKNOWN_INT)
    if field.dtype is Dtype.STRING_LIST:
        return _cell(field, (_UNKNOWN_STRING,))
    if field.dtype is Dtype.INT64_LIST:
        return _cell(field, (_UNKNOWN_INT,))
    return None


def _ends(field: ContractField) -> tuple[object, ...]:
    """The least and greatest legal value of a number (that its type holds, where the contract sets no range) with 0 between
    them; some of a time, flag or set."""
    if field.dtype is Dtype.TIMESTAMP:
        return _TIMES
    if field.dtype is Dtype.BOOL:
        return (False, True)
    assert field.dtype is not None, "inputs are never derived"
    if field.allowed is not None and not field.dtype.is_list:
        return (field.allowed[0], field.allowed[-1])
    if not field.dtype.is_number:
        return ()
    bounds = field.range
    low, high = (bounds.min, bounds.max) if bounds else (None, None)
    if field.dtype is Dtype.INT64:
        holds = np.iinfo(np.int64)
        ends: tuple[float, float] = (
            holds.min if low is None else math.ceil(low),
            holds.max if high is None else math.floor(high),
        )
    else:
        most = float(np.finfo(np.float32).max)
        low, high = -most if low is None else low, most if high is None else high
        ends = (_float32_inside(low, low, high), _float32_inside(high, low, high))
    between = [0] if ends[0] < 0 < ends[1] else []
    return (ends[0], *between, ends[1])


def _float32_inside(value: float, least: float, greatest: float) -> float:
    """The nearest float32 that does not step over the end of the range: float32(0.1) is above 0.1."""
    rounded = np.float32(value)
    if float(rounded) > greatest:
        rounded = np.nextafter(rounded, np.float32(-np.inf))
    elif float(rounded) < least:
        rounded = np.nextafter(rounded, np.float32(np.inf))
    return float(rounded)


def _positions(field: ContractField, seen: np.ndarray) -> range:
    greatest = field.range.max if field.range and field.range.max is not None else int(seen.max()) + 1
    least = field.range.min if field.range and field.range.min is not None else 1
    return range(int(least), min(int(greatest), int(least) + 31) + 1)


def _list_item(values: np.ndarray, padding: object, field: ContractField) -> object:
    """The most recent item of some real list, else an unknown one."""
    items = values[values != padding]
    if len(items):
        return items[-1]
    return _UNKNOWN_STRING if field.dtype is Dtype.STRING_LIST else _UNKNOWN_INT


def _is_position(field: ContractField) -> bool:
    return field.role is Role.POSITION


def _show(row: pa.Table) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in row.to_pylist()[0].items())
