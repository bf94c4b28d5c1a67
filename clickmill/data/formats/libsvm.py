"""libsvm with one active id per slot (iPinYou and its kin): `label id:1 id:1 ...`, always `source.slots` ids, no clock.

The k-th id of a row becomes the field `f01`, `f02`, ...; the label may be 0/1 or -1/1. A line with another number of
ids, or with a value other than 1, is malformed: such values would need a format that says what they measure.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clickmill.contract import FeatureContract
from clickmill.data.engine import quoted
from clickmill.data.formats.scanned import MALFORMED, Scanned, line_scan, numbered, relation
from clickmill.errors import ContractError

BINARY_LABEL = "CASE WHEN {0} IN ('-1', '-1.0') THEN '0' WHEN {0} IN ('+1', '+1.0') THEN '1' ELSE {0} END"
"""SQL that turns the -1/1 of support vector machines into 0/1 and leaves all else for the check to judge."""


def scan(con: Any, files: Sequence[Path], contract: FeatureContract, first_row: int = 0) -> Scanned:
    slots = contract.source.slots
    if slots is None:
        raise ContractError(
            "source.slots: is required for format libsvm; say how many active ids each row has (iPinYou: 16)"
        )
    shape = rf"\s*\S+(\s+[0-9]+:1(\.0*)?){{{slots}}}\s*"
    ids = ", ".join(f"split_part(parts[{k + 1}], ':', 1) AS f{k:02d}" for k in range(1, slots + 1))
    query = (
        f"(SELECT {BINARY_LABEL.format('parts[1]')} AS label, {ids}, "
        f"CASE WHEN NOT regexp_full_match(line, {quoted(shape)}) THEN line END AS {MALFORMED} "
        f"FROM (SELECT line, string_split_regex(trim(line), '\\s+') AS parts FROM {line_scan(files)}))"
    )
    return Scanned(relation(con, files, numbered(query, first_row)), text=True, clockless=True)
