"""CSV in any layout: the contract names the columns, the delimiter is guessed unless it says so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clickmill.contract import FeatureContract
from clickmill.data.formats.scanned import Scanned, csv_scan, numbered, relation


def scan(con: Any, files: Sequence[Path], contract: FeatureContract, first_row: int = 0) -> Scanned:
    """With `source.header: false` the columns are taken in the order of the contract's fields."""
    source = contract.source
    names = None if source.header else [field.column or name for name, field in contract.logged.items()]
    text = csv_scan(files, delimiter=source.delimiter, header=source.header, names=names)
    return Scanned(relation(con, files, numbered(text, first_row)), text=True)
