"""Where the rows of a window come from: a prediction log, or impressions."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clickmill import data
from clickmill.contract import FeatureContract, Role
from clickmill.data.files import PathsLike
from clickmill.errors import SchemaMismatch, UnreadableData
from clickmill.prediction_log import log_files
from monitoring.drift.counting import Batch
from monitoring.drift.fields import PREDICTION, Watched

log = logging.getLogger(__name__)

ROWS = 1 << 17
"""Rows of a batch: 30 columns of them are some ten megabytes."""
_LATEST_WRITE = timedelta(days=1)
"""A file of the log may begin this long before its last row; far more than an endpoint ever waits."""
_FALLBACK = "fallback"
_NEEDED = ("time", "bundle", "impression_id", PREDICTION)


def logged_bundles(folder: Path, start: datetime, end: datetime) -> dict[str, list[Path]]:
    """Files of a prediction log with rows between start and end, by the digest of the bundle that answered, oldest first.

    A file that can't be read is logged and passed over: live quality counts and alerts on those. Raises SchemaMismatch for one that is
    Parquet, but of no prediction log.
    """
    found: dict[str, list[Path]] = {}
    for path in log_files(folder):
        if not _may_hold(path, start, end):
            continue
        try:
            with pq.ParquetFile(path) as file:
                _check(path, file.schema_arrow)
                first = next(file.iter_batches(batch_size=1, columns=["bundle"]), None)
        except (pa.ArrowException, OSError) as error:
            log.warning("drift passes over a file it can't read: %s: %s", path, str(error).splitlines()[0])
            continue
        if first is not None and len(first):
            found.setdefault(first.column(0)[0].as_py(), []).append(path)
    return found


def log_batches(
    files: Sequence[Path],
    watched: Sequence[Watched],
    *,
    start: datetime,
    end: datetime,
    shown_only: bool,
    rows: int = ROWS,
) -> Iterator[Batch]:
    """Rows of files of one bundle's prediction log, predicted after `start` and up to `end`; none that a fallback answered, whose features
    were not looked up and whose probabilities are no model's.

    shown_only: only those with an impression id; the others are but counted. Raises UnreadableData for a file that is damaged.
    """
    wanted = {one.column for one in watched if one.field is not None}
    for path in files:
        try:
            with pq.ParquetFile(path) as file:
                logged, there = _features(file.schema_arrow)
                columns = [*_NEEDED, *(f"features.{name}" for name in sorted(wanted & there))]
                # a log of another writer may lack them, one of before fallbacks were logged has the first
                columns += [name for name in ("request_id", _FALLBACK) if name in file.schema_arrow.names]
                for part in file.iter_batches(batch_size=rows, columns=columns):
                    part = _within(part, start, end)
                    shown = _shown(part) if shown_only else part
                    if len(part):
                        yield _batch(shown, wanted & there, logged, len(part) - len(shown))
        except (pa.ArrowException, OSError) as error:
            raise UnreadableData(
                f"{path}: cannot be read: {str(error).splitlines()[0]}. The file is damaged; move it out of the log."
            ) from error


def impression_batches(
    paths: PathsLike, contract: FeatureContract, watched: Sequence[Watched], *, rows: int = ROWS
) -> Iterator[Batch]:
    """Rows of impression files as the contract reads them; they carry no prediction.

    Raises UnreadableData and SchemaMismatch, as `clickmill.data.read` does.
    """
    request = contract.of_role(Role.REQUEST_ID)
    wanted = {one.column for one in watched if one.field is not None}
    # Aggregates are computed from the log's past; in the files they are no columns.
    names = [n for n in contract.logged if n in wanted or n == request]
    table = data.read(paths, contract, fields=names, trace=False)
    for part in table.to_pyarrow_batches(chunk_size=rows):
        columns = {name: part.column(name) for name in part.schema.names if name in wanted}
        requests = len(part) if request is None else _changes(part.column(request))
        yield Batch(len(part), columns, requests)


def _may_hold(path: Path, start: datetime, end: datetime) -> bool:
    """By the time in its name, that of its first row; a name of another form is looked into."""
    try:
        first = datetime.strptime(path.name.split("-")[0], "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC)
    except ValueError:
        return True
    return start - _LATEST_WRITE < first <= end


def _check(path: Path, schema: pa.Schema) -> None:
    lacking = [name for name in _NEEDED if name not in schema.names]
    if lacking:
        raise SchemaMismatch(
            f"{path}: no file of a prediction log: it lacks {', '.join(lacking)} and has {', '.join(schema.names)}. "
            "Give the folder that clickmill serve --prediction-log writes."
        )


def _features(schema: pa.Schema) -> tuple[bool, frozenset[str]]:
    """Whether values of the features were logged, and which."""
    if "features" not in schema.names:
        return False, frozenset()
    kind = schema.field("features").type
    return True, frozenset(kind.field(i).name for i in range(kind.num_fields))


def _within(part: pa.RecordBatch, start: datetime, end: datetime) -> pa.RecordBatch:
    at = part.column("time")
    moments = (pa.scalar(moment.astimezone(UTC), at.type) for moment in (start, end))
    keep = pc.and_(pc.greater(at, next(moments)), pc.less_equal(at, next(moments)))
    if _FALLBACK in part.schema.names:
        keep = pc.and_(keep, pc.is_null(part.column(_FALLBACK)))
    return part if pc.all(keep).as_py() else part.filter(keep)


def _shown(part: pa.RecordBatch) -> pa.RecordBatch:
    ids = part.column("impression_id")
    return part.filter(pc.is_valid(ids)) if ids.null_count else part


def _batch(part: pa.RecordBatch, names: Collection[str], logged: bool, not_shown: int) -> Batch:
    columns: dict[str, pa.Array] = {PREDICTION: part.column(PREDICTION)}
    if names:
        features = part.column("features")
        columns |= {name: features.field(name) for name in names}
    named = "request_id" in part.schema.names
    requests = _changes(part.column("request_id")) if named else len(part)
    return Batch(len(part), columns, requests, logged, not_shown)


def _changes(ids: pa.Array) -> int:
    """Requests in consecutive rows: the rows of one stand together, so each change of the id begins another."""
    if ids.null_count == len(ids):
        return len(ids)
    coded = np.asarray(ids.dictionary_encode().indices.fill_null(-1))
    return 1 + int(np.count_nonzero(coded[1:] != coded[:-1])) if len(coded) else 0


__all__ = ["impression_batches", "log_batches", "logged_bundles"]
