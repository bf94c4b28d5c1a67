"""Any supported log as one lazy table with the contract's columns."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import ibis

from clickmill.contract import FeatureContract
from clickmill.data import engine, files
from clickmill.data.conform import conform
from clickmill.data.formats import READERS


def read(
    paths: files.PathsLike,
    contract: FeatureContract,
    *,
    fields: Collection[str] | None = None,
    trace: bool = True,
    first_row: int = 0,
    con: Any = None,
) -> ibis.Table:
    """The rows of files, globs or folders as a lazy ibis table, named and typed by the contract; nothing is read yet.

    fields: names of the contract's columns to read; default all. `click_time`, the truth and aggregates are null where they
        are absent.
    trace: also give `__row__` (int64, from `first_row`, in file order), and where the format can fail to parse
        `__unparsed__` (struct of texts by field) and `__malformed__`: `check` needs them to say which row is bad and
        why. Without it a cell that cannot be parsed is just null.
    con: the connection (`engine.connect()`); default the shared one of this process.

    Formats without a clock (criteo, libsvm, libffm) get `event_time` = 1970-01-01 + row number seconds.
    Raises UnreadableData (absent, empty, truncated) and SchemaMismatch (missing column, impossible type).
    """
    source = contract.source
    found = files.resolve(paths, source.format)
    con = engine.shared() if con is None else con
    scanned = READERS[source.format](con, found, contract, first_row)
    columns = {n: f for n, f in contract.columns.items() if fields is None or n in fields}
    table = conform(scanned, contract, columns, files.describe(found))
    return table if trace else table.select(*columns)
