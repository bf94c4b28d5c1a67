"""The source files of a dataset, and their impressions as one table cheap enough to be read several times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis

from clickmill.contract import FeatureContract, Role
from clickmill.data import engine, files
from clickmill.data.files import PathsLike
from clickmill.data.formats import ROW, TEST
from clickmill.data.quality import Breach, stage
from clickmill.data.reading import read
from clickmill.errors import UsageError


@dataclass(frozen=True)
class Logs:
    """Where the rows of a dataset come from."""

    impressions: PathsLike
    clicks: PathsLike | None = None
    """Click log; the label comes from it, else from the contract's label field."""
    truth: PathsLike | None = None
    """True click probabilities of a simulated market, by impression key."""
    test: PathsLike | None = None
    """Separate test files."""

    def files(self, contract: FeatureContract) -> list[tuple[str, Sequence[Path]]]:
        """All files by kind, as `files.digest` takes them; raises UnreadableData for what is absent or empty."""
        layout = contract.source.format
        named: list[tuple[str, Sequence[Path]]] = [("impressions", files.resolve(self.impressions, layout))]
        if self.test is not None:
            named.append(("test", files.resolve(self.test, layout)))
        for name, log in (("clicks", self.clicks), ("truth", self.truth)):
            if log is not None:
                named.append((name, files.resolve(log, files.side_format(log))))
        return named

    def require_label(self, contract: FeatureContract) -> None:
        """Raises UsageError when neither a click log nor the contract says what was clicked."""
        if self.clicks is None and contract.of_role(Role.LABEL) is None:
            raise UsageError(
                f"contract `{contract.name}` has no label field; give the click log (`clicks`), or add a label field"
            )

    def rows(
        self, contract: FeatureContract, con: Any, work: Path
    ) -> tuple[ibis.Table, Sequence[Breach], str]:
        """The impressions with `__row__` (and `__test__` when there are test files), lines no table can hold, and a name for
        messages. Text is parsed once, to Parquet in `work`."""
        table, rejects, origin = self._part(self.impressions, contract, con, work / "main.parquet", 0)
        if self.test is None:
            return table, rejects, origin
        last = engine.one_row(table.aggregate(last=table[ROW].max()))["last"]
        first_row = 0 if last is None else last + 1
        other, more, name = self._part(self.test, contract, con, work / "test.parquet", first_row)
        both = ibis.union(*_same_columns(table.mutate(**{TEST: False}), other.mutate(**{TEST: True})))
        return both, (*rejects, *more), f"{origin} and {name}"

    def _part(
        self, paths: PathsLike, contract: FeatureContract, con: Any, staging: Path, first_row: int
    ) -> tuple[ibis.Table, Sequence[Breach], str]:
        elsewhere = {Role.LABEL, Role.CLICK_TIME} if self.clicks is not None else set()
        elsewhere |= {Role.TRUTH} if self.truth is not None else set()
        fields = [name for name, field in contract.logged.items() if field.role not in elsewhere]
        origin = files.describe(files.resolve(paths, contract.source.format))
        table = read(paths, contract, fields=fields, first_row=first_row, con=con)
        with engine.engine_errors(origin):
            table, rejects = stage(table, contract, staging)
        return table, rejects, origin


def _same_columns(left: ibis.Table, right: ibis.Table) -> tuple[ibis.Table, ibis.Table]:
    for name in left.columns:
        if name not in right.columns:
            right = right.mutate(**{name: ibis.null(left[name].type())})
    for name in right.columns:
        if name not in left.columns:
            left = left.mutate(**{name: ibis.null(right[name].type())})
    return left, right.select(left.columns)
