"""Open Bandit Dataset: one CSV row per impression with position, click, propensity and user features.

Beside the columns of the file there are two more to choose from:

    affinity            the user-item affinity of the item that was shown (`user-item_affinity_<item_id>`)
    item_feature_0..3   of the item, joined from the `item_context.csv` that lies beside the log, when there is one

The context belongs to its own log (the hashes differ between policies): `random__men.csv.gz` looks for
`random__item_context.csv.gz` first, then for `item_context.csv`. Saito et al., arXiv:2008.07146.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clickmill.contract import FeatureContract
from clickmill.data.engine import identifier
from clickmill.data.formats.scanned import Scanned, csv_scan, numbered, relation

_AFFINITY = re.compile(r"user-item_affinity_(\d+)")


def scan(con: Any, files: Sequence[Path], contract: FeatureContract, first_row: int = 0) -> Scanned:
    logs = []
    for number, file in enumerate(files):
        plain = csv_scan([file], delimiter=",", header=True)
        columns = relation(con, [file], f"SELECT * FROM {plain}").columns
        log = f"(SELECT *, {number} AS __log__{_shown_affinity(columns)} FROM {plain})"
        logs.append(log)
    union = " UNION ALL BY NAME ".join(f"SELECT * FROM {log}" for log in logs)
    query = numbered(f"({union})", first_row)
    contexts = [(number, item_context(file)) for number, file in enumerate(files)]
    found = [(number, context) for number, context in contexts if context is not None]
    if found:
        # The same item must be found once per log only, or the join would multiply impressions.
        items = " UNION ALL BY NAME ".join(
            f"SELECT DISTINCT ON (item_id) COLUMNS('item_id|item_feature_.*'), {number} AS __log__ "
            f"FROM {csv_scan([context], delimiter=',', header=True)}"
            for number, context in found
        )
        query = f"SELECT * FROM ({query}) LEFT JOIN ({items}) USING (__log__, item_id)"
    return Scanned(relation(con, files, f"SELECT * EXCLUDE (__log__) FROM ({query})"), text=True)


def item_context(log: Path) -> Path | None:
    """The item context file that belongs to a log, or None."""
    prefix = log.name.split("__")[0] + "__" if "__" in log.name else ""
    names = [f"{start}item_context.csv{end}" for start in dict.fromkeys((prefix, "")) for end in ("", ".gz")]
    return next((log.parent / name for name in names if (log.parent / name).is_file()), None)


def _shown_affinity(columns: Sequence[str]) -> str:
    numbered_columns = {int(match[1]): c for c in columns if (match := _AFFINITY.fullmatch(c))}
    if not numbered_columns:
        return ""
    cells = ", ".join(
        identifier(numbered_columns[k]) if k in numbered_columns else "NULL"
        for k in range(max(numbered_columns) + 1)
    )
    return f", ([{cells}])[try_cast(item_id AS BIGINT) + 1] AS affinity"
