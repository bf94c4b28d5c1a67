"""Offline scoring has no quarantine, so a cell that is not of its type must stop it and be named."""

import pyarrow as pa
import pytest

from clickmill.command.predict import _refuse_unreadable
from clickmill.errors import DataError


def rows(cells: list[dict[str, str | None] | None]) -> pa.Table:
    kind = pa.struct([("age", pa.string()), ("price", pa.string())])
    return pa.table(
        {"__row__": pa.array(range(100, 100 + len(cells))), "__unparsed__": pa.array(cells, kind)}
    )


def test_rows_whose_cells_were_all_read_pass() -> None:
    _refuse_unreadable(rows([None, {"age": None, "price": None}, None]))
    _refuse_unreadable(pa.table({"age": [1, 2]}))


def test_the_first_unreadable_cell_is_named_by_row_field_and_text() -> None:
    cells = [None, {"age": None, "price": "abc"}, {"age": "old", "price": None}]
    with pytest.raises(
        DataError, match=r"row 101, field `price`: 'abc' is not of the contract's type; mend the row"
    ):
        _refuse_unreadable(rows(cells))


def test_of_two_unreadable_cells_of_one_row_the_first_field_is_named() -> None:
    with pytest.raises(DataError, match=r"row 100, field `age`: 'old'"):
        _refuse_unreadable(rows([{"age": "old", "price": "abc"}]))
