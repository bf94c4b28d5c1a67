"""The label join: predictions and clicks in a DuckDB file that ingests each file of either log once and forgets old rows.

A file goes in with its name in one transaction, so that a restart, a kill or a file seen twice counts nothing twice. Labels are not
stored: the join is made when it is asked for, so a click that arrives late corrects what was measured before by itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from clickmill.data.engine import identifier, quoted
from clickmill.errors import UsageError
from clickmill.prediction_log import log_files
from clickmill.release import Compared, Labelled
from monitoring.live.settings import LiveSettings

log = logging.getLogger(__name__)

ALL = ""
"""Slice that holds everything."""
MISSING = "(missing)"
"""Value of a slice where the log has none."""
BINS_PER_LOGIT = 32
"""Resolution of the histogram of scores behind AUC. Scores within one bin count as ties: 1/32 of a logit is 3 % of a probability."""
# Columns of text files are read as text: a sniffed type would rewrite ids (a UUID in capitals, an integer past 63 bits).
_JSON = "read_json({}, columns = {{impression_id: 'VARCHAR', click_time: 'VARCHAR'}})"
_READERS = {
    ".parquet": "read_parquet({})",
    ".csv": "read_csv({}, all_varchar = true)",
    ".jsonl": _JSON,
    ".json": _JSON,
}
"""Table of a click file, by its suffix."""
_JUDGED = (
    "WITH first AS (SELECT key, min(time) AS time FROM clicks GROUP BY key), seen AS ("
    "  SELECT i.*, greatest(least(i.pctr::DOUBLE, 1 - 1e-7), 1e-7) AS p,"
    "    (f.time >= i.time - to_microseconds($skew) AND f.time <= i.time + to_microseconds($window)) IS TRUE AS clicked,"
    "    epoch(f.time) - epoch(i.time) AS after"
    "  FROM impressions i LEFT JOIN first f USING (key) WHERE i.time > $since AND i.time <= $until"
    "), judged AS (SELECT *, clicked::INTEGER AS y, CASE WHEN clicked THEN after END AS delay,"
    "    -CASE WHEN clicked THEN ln(p) ELSE ln(1 - p) END AS loss FROM seen)"
)
_SUMS = "count(*)::BIGINT, sum(y)::BIGINT, sum(p), sum((p - y) ** 2), sum(loss), sum(loss ** 2)"
"""The fields of `Labelled`, in their order."""


@dataclass(frozen=True)
class SliceSums:
    """Sums over the impressions of one bundle in one slice whose attribution window is over."""

    bundle: str
    field: str
    """Field of the slice, `ALL` for everything."""
    value: str
    """Its value."""
    labelled: Labelled
    """Sums over them."""
    scores: tuple[tuple[int, int, int], ...]
    """(bin of the score, impressions, clicks), ascending."""
    delays: tuple[float, float] | None
    """Median and 90th percentile of the seconds from prediction to click; None without a click."""


@dataclass(frozen=True)
class Ingested:
    """What the new files held."""

    impressions: int = 0
    without_impression: int = 0
    """Predictions with no impression id: scored, but not known to be shown."""
    fallbacks: int = 0
    """Impressions that click rates ranked because the model could not be asked: they say nothing about a bundle."""
    clicks: int = 0
    incomplete_clicks: int = 0
    """Clicks without an impression id or a time."""
    unreadable: tuple[str, ...] = ()
    """Files that could not be read, with the reason."""


class LabelJoin:
    """The state of one endpoint's live quality. One process at a time: DuckDB locks the file."""

    def __init__(self, path: Path, settings: LiveSettings) -> None:
        """Open or make it. Raises UsageError when another process has it, or it is no such file."""
        self.settings = settings
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = duckdb.connect(str(path), config={"memory_limit": "500MB", "threads": 2})
        except (duckdb.IOException, duckdb.Error) as error:
            raise UsageError(f"{path}: cannot be opened as the state of live quality ({error})") from error
        self._told: set[str] = set()
        self._db.execute("SET TimeZone = 'UTC'")
        self._db.execute("SET enable_progress_bar = false")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS files (name VARCHAR PRIMARY KEY, read TIMESTAMPTZ);"
            "CREATE TABLE IF NOT EXISTS impressions (key VARCHAR, bundle VARCHAR, time TIMESTAMPTZ, pctr FLOAT);"
            "CREATE TABLE IF NOT EXISTS clicks (key VARCHAR, time TIMESTAMPTZ);"
        )
        for name in settings.slices:
            self._db.execute(f"ALTER TABLE impressions ADD COLUMN IF NOT EXISTS {_slice(name)} VARCHAR")

    def __enter__(self) -> LabelJoin:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Write what is open and let go of the file."""
        self._db.close()

    def ingest(self, predictions: Path, clicks: Path, now: datetime) -> Ingested:
        """Read the files of both folders that were not read before, and forget what is too old to matter.

        predictions: folder of a prediction log. clicks: folder of Parquet, CSV or JSON-lines files with `impression_id` and `click_time`
        (UTC); a file must appear whole (written aside, then renamed). A file that can't be read is named, and tried again next time.
        """
        known = {name for (name,) in self._db.execute("SELECT name FROM files").fetchall()}
        files: dict[str, tuple[Path, Callable[[Path], Ingested]]] = {}
        for path in log_files(predictions):
            files[f"p/{path.name}"] = (path, self._predictions)
        for path in click_files(clicks):
            files[f"c/{path.name}"] = (path, self._clicks)
        found = Ingested()
        for name, (path, read) in files.items():
            if name not in known:
                found = _plus(found, self._once(path, name, now, read))
        self._forget(now, files.keys())
        return found

    def ripe(self, now: datetime) -> datetime:
        """Predictions up to here can be judged: their attribution window, and the lateness of the log, are over."""
        return now - timedelta(seconds=self.settings.attribution_seconds + self.settings.lateness_seconds)

    def newest(self, now: datetime) -> dict[str, datetime | None]:
        """Time of the newest prediction and click; None before the first. One from the future, by a wrong clock, would hide a log that stalls."""
        ((prediction, click),) = self._db.execute(
            "SELECT (SELECT max(time) FROM impressions WHERE time <= $until), (SELECT max(time) FROM clicks WHERE time <= $until)",
            {"until": (now + timedelta(seconds=self.settings.skew_seconds)).astimezone(UTC)},
        ).fetchall()
        return {"prediction": prediction, "click": click}

    def labelled(self, since: datetime, until: datetime, *, slices: bool = True) -> list[SliceSums]:
        """Sums over the impressions predicted after `since` and up to `until`, by bundle and, if asked for, slice: of each field the values
        that are most frequent over all bundles."""
        fields = (ALL, *self.settings.slices) if slices else (ALL,)
        sums = self._rows(
            since,
            until,
            fields,
            f"{_SUMS}, quantile_cont(delay, 0.5), quantile_cont(delay, 0.9)",
        )
        bins: dict[tuple[str, str, str], list[tuple[int, int, int]]] = {}
        place = f"floor({BINS_PER_LOGIT} * ln(p / (1 - p)))::INTEGER"
        for *where, at, n, y in self._rows(
            since, until, fields, f"{place} AS bin, count(*)::BIGINT, sum(y)::BIGINT"
        ):
            bins.setdefault(tuple(where), []).append((at, n, y))
        return [
            SliceSums(
                bundle=bundle,
                field=field,
                value=value,
                labelled=_labelled(sums_of_slice),
                scores=tuple(sorted(bins[(bundle, field, value)])),
                delays=None if median is None else (median, ninetieth),
            )
            for bundle, field, value, *sums_of_slice, median, ninetieth in sums
        ]

    def by_bundle(self, since: datetime, until: datetime) -> dict[str, Labelled]:
        """Only the sums of `labelled`, of everything: what a release is judged by, at every step of its loop."""
        return {bundle: _labelled(sums) for bundle, _, _, *sums in self._rows(since, until, (ALL,), _SUMS)}

    def differences(
        self, candidate: str, stable: str, since: datetime, until: datetime
    ) -> tuple[float, float]:
        """Sum and sum of squares of the candidate's log loss minus the stable bundle's, over the impressions that both predicted:
        what a shadow is judged by."""
        ((total, squares),) = self._db.execute(
            _JUDGED + " SELECT coalesce(sum(a.loss - b.loss), 0), coalesce(sum((a.loss - b.loss) ** 2), 0)"
            " FROM judged a JOIN judged b USING (key) WHERE a.bundle = $candidate AND b.bundle = $stable",
            {**self._between(since, until), "candidate": candidate, "stable": stable},
        ).fetchall()
        return total, squares

    def compared(self, promoted: str, last_good: str, since: datetime, until: datetime) -> Compared:
        """Sums over the impressions that both predicted: what a promoted bundle is watched by."""
        where = {**self._between(since, until), "promoted": promoted, "last_good": last_good}
        rows = self._db.execute(
            _JUDGED + ", these AS (SELECT * FROM judged WHERE bundle IN ($promoted, $last_good)),"
            " shared AS (SELECT key FROM these GROUP BY key HAVING count(*) = 2)"
            f" SELECT bundle, {_SUMS} FROM these SEMI JOIN shared USING (key) GROUP BY bundle",
            where,
        ).fetchall()
        found = {bundle: _labelled(sums) for bundle, *sums in rows}
        difference, squares = self.differences(promoted, last_good, since, until)
        return Compared(
            promoted=found.get(promoted, Labelled()),
            last_good=found.get(last_good, Labelled()),
            difference=difference,
            difference_squares=squares,
        )

    def pairs(self, since: datetime, until: datetime) -> dict[tuple[str, str], tuple[float, float, float]]:
        """Of each two bundles that predicted the same impressions, (one, other): by how much the log loss of the one was above the
        other's, below it, and squared, nats."""
        rows = self._db.execute(
            _JUDGED + ", differences AS (SELECT a.bundle AS one, b.bundle AS other, a.loss - b.loss AS d"
            "  FROM judged a JOIN judged b USING (key) WHERE a.bundle <> b.bundle)"
            " SELECT one, other, sum(greatest(d, 0)), sum(greatest(-d, 0)), sum(d ** 2) FROM differences GROUP BY ALL ORDER BY ALL",
            self._between(since, until),
        ).fetchall()
        return {(one, other): (worse, better, squares) for one, other, worse, better, squares in rows}

    def _once(self, path: Path, name: str, now: datetime, read: Callable[[Path], Ingested]) -> Ingested:
        self._db.execute("BEGIN")
        try:
            counts = read(path)
            self._db.execute("INSERT INTO files VALUES (?, ?)", [name, now])
            self._db.execute("COMMIT")
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            self._db.execute("ROLLBACK")
            reason = f"{path}: {str(error).splitlines()[0]}"
            if reason not in self._told:  # it is tried again at every look
                log.warning("live quality passes over a file it can't read: %s", reason)
                self._told.add(reason)
            return Ingested(unreadable=(reason,))
        return counts

    def _predictions(self, path: Path) -> Ingested:
        schema = pq.read_schema(path)
        features = schema.field("features").type if "features" in schema.names else pa.struct([])
        has = {features.field(i).name for i in range(features.num_fields)}
        columns = [
            f"features.{identifier(name)}::VARCHAR" if name in has else "NULL"
            for name in self.settings.slices
        ]
        # logs of before there was the column hold no fallbacks
        fell_back = "fallback IS NOT NULL" if "fallback" in schema.names else "false"
        names = ["key", "bundle", "time", "pctr", *map(_slice, self.settings.slices)]
        values = ["impression_id", "new.bundle", "new.time", "new.pctr", *columns]
        # A caller that asks a bundle again for the same impression is answered twice, and still shows it once.
        self._db.execute(
            f"INSERT INTO impressions ({', '.join(names)}) SELECT {', '.join(values)} "
            f"FROM read_parquet({quoted(path)}, hive_partitioning = false) AS new "
            "ANTI JOIN impressions AS old ON old.key = new.impression_id AND old.bundle = new.bundle "
            f"WHERE impression_id IS NOT NULL AND NOT {fell_back} AND isfinite(new.pctr) "
            "QUALIFY row_number() OVER (PARTITION BY impression_id, new.bundle ORDER BY new.time) = 1"
        )
        ((rows, without, fallbacks),) = self._db.execute(
            "SELECT count(*), count(*) FILTER (WHERE impression_id IS NULL), "
            f"count(*) FILTER (WHERE impression_id IS NOT NULL AND {fell_back}) "
            f"FROM read_parquet({quoted(path)}, hive_partitioning = false)"
        ).fetchall()
        return Ingested(
            impressions=rows - without - fallbacks, without_impression=without, fallbacks=fallbacks
        )

    def _clicks(self, path: Path) -> Ingested:
        source = _READERS[path.suffix].format(quoted(path))
        self._db.execute(
            f"INSERT INTO clicks SELECT impression_id::VARCHAR, click_time::TIMESTAMPTZ FROM {source} "
            "WHERE impression_id IS NOT NULL AND click_time IS NOT NULL"
        )
        ((rows, whole),) = self._db.execute(
            f"SELECT count(*), count(*) FILTER (WHERE impression_id IS NOT NULL AND click_time IS NOT NULL) FROM {source}"
        ).fetchall()
        return Ingested(clicks=whole, incomplete_clicks=rows - whole)

    def _forget(self, now: datetime, files: Collection[str]) -> None:
        """Rows that no window reaches, and names of files that are gone: read so long ago that they would bring nothing back."""
        oldest = now - timedelta(seconds=self.settings.horizon_seconds)
        self._db.execute("DELETE FROM impressions WHERE time < ?", [oldest])
        self._db.execute(
            "DELETE FROM clicks WHERE time < ?", [oldest - timedelta(seconds=self.settings.skew_seconds)]
        )
        old = self._db.execute("SELECT name FROM files WHERE read < ?", [oldest]).fetchall()
        seen = {
            name[0] for name in files
        }  # a folder without any file may be a volume that is not mounted now
        gone = [name for (name,) in old if name not in files and name[0] in seen]
        if gone:
            self._db.execute("DELETE FROM files WHERE name IN (SELECT unnest(?))", [gone])

    def _rows(
        self, since: datetime, until: datetime, fields: Sequence[str], wanted: str
    ) -> list[tuple[Any, ...]]:
        """`wanted` aggregates by (bundle, field, value) for each of the fields."""
        found: list[tuple[Any, ...]] = []
        for name in fields:
            value = f"coalesce({_slice(name)}, '{MISSING}')" if name else "''"
            # A field may have millions of values: those that are not shown never leave the database.
            query = (
                f", sliced AS (SELECT *, {value} AS value FROM judged), frequent AS (SELECT value FROM sliced GROUP BY value"
                f"  ORDER BY count(*) DESC, value LIMIT {self.settings.slice_top})"
                f" SELECT bundle, {quoted(name)} AS field, value, {wanted} FROM sliced SEMI JOIN frequent USING (value)"
                " GROUP BY ALL ORDER BY ALL"
            )
            found += self._db.execute(_JUDGED + query, self._between(since, until)).fetchall()
        return found

    def _between(self, since: datetime, until: datetime) -> dict[str, Any]:
        return {
            "window": round(self.settings.attribution_seconds * 1e6),
            "skew": round(self.settings.skew_seconds * 1e6),
            "since": since.astimezone(UTC),
            "until": until.astimezone(UTC),
        }


def click_files(folder: Path) -> list[Path]:
    """Files of a click log, by name: those directly in the folder whose suffix is known. Hidden ones are being written."""
    return sorted(path for path in folder.glob("*") if path.suffix in _READERS and path.name[0] != ".")


def _labelled(sums: Sequence[Any]) -> Labelled:
    """From the columns of `_SUMS`."""
    return Labelled(**dict(zip(Labelled.model_fields, sums, strict=True)))


def _slice(name: str) -> str:
    return identifier(f"slice_{name}")


def _plus(one: Ingested, two: Ingested) -> Ingested:
    return Ingested(*(getattr(one, name) + getattr(two, name) for name in Ingested.__dataclass_fields__))


__all__ = ["ALL", "BINS_PER_LOGIT", "MISSING", "Ingested", "LabelJoin", "SliceSums", "click_files"]
