"""libffm: `label field:index:value ...`, one contract field per field number, no clock.

The number at the end of a field's column (or name) is its field number: `f07` reads the items `7:...`. A float32 field
takes the item's value, any other its index, a list field all its indices; a field without an item is missing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clickmill.contract import Dtype, FeatureContract
from clickmill.data.engine import identifier, quoted
from clickmill.data.formats.libsvm import BINARY_LABEL
from clickmill.data.formats.scanned import MALFORMED, Scanned, line_scan, numbered, relation

_NUMBER = r"[+-]?[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?"
_SHAPE = rf"\s*\S+(?:\s+[0-9]+:[0-9]+:{_NUMBER})*\s*"


def scan(con: Any, files: Sequence[Path], contract: FeatureContract, first_row: int = 0) -> Scanned:
    columns = []
    for name, field in contract.logged.items():
        source = field.column or name
        digits = re.search(r"(\d+)$", source)
        if digits is None or source == "label":
            continue
        assert field.dtype is not None
        columns.append(f"{_item(int(digits[1]), field.dtype)} AS {identifier(source)}")
    label = BINARY_LABEL.format(r"regexp_extract(line, '^\s*(\S+)', 1)")
    query = (
        f"(SELECT {label} AS label, {', '.join(columns) or 'NULL AS nothing'}, "
        f"CASE WHEN NOT regexp_full_match(line, {quoted(_SHAPE)}) THEN line END AS {MALFORMED} "
        f"FROM {line_scan(files)})"
    )
    return Scanned(relation(con, files, numbered(query, first_row)), text=True, clockless=True)


def _item(number: int, dtype: Dtype) -> str:
    if dtype is Dtype.FLOAT32:
        return f"nullif(regexp_extract(line, '\\s{number}:[0-9]+:(\\S+)', 1), '')"
    index = quoted(rf"\s{number}:([0-9]+):")
    if dtype.is_list:
        return f"regexp_extract_all(line, {index}, 1)"
    return f"nullif(regexp_extract(line, {index}, 1), '')"
