"""Criteo Display Advertising Challenge: TSV without a header, the label, 13 counts, 26 hashed categories, no clock.

Columns get the names `label`, `i01` to `i13`, `c01` to `c26`. Counts are whole numbers, some of them negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clickmill.contract import FeatureContract
from clickmill.data.formats.scanned import Scanned, csv_scan, numbered, relation

COLUMNS = ("label", *(f"i{k:02d}" for k in range(1, 14)), *(f"c{k:02d}" for k in range(1, 27)))


def scan(con: Any, files: Sequence[Path], contract: FeatureContract, first_row: int = 0) -> Scanned:
    text = csv_scan(files, delimiter="\t", header=False, names=COLUMNS, quote="")
    return Scanned(relation(con, files, numbered(text, first_row)), text=True, clockless=True)
