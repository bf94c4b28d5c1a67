"""From logs to a prepared dataset: read, check, join, split by time, sample, write; all of it or nothing."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import ibis
from pydantic import BaseModel, Field

from clickmill.contract import FeatureContract, Role, dumps
from clickmill.data import engine, files
from clickmill.data.attribution import (
    join_clicks,
    join_truth,
    label_of,
    mature,
    read_clicks,
    read_truth,
)
from clickmill.data.formats import ROW
from clickmill.data.prepared import CONTRACT, DATASET, DatasetMeta, PreparedDataset, SplitInfo
from clickmill.data.quality import Breach, QualityReport, examine, set_aside, stage
from clickmill.data.reading import read
from clickmill.data.sampling import keep_negatives
from clickmill.data.splits import SPLITS, CutTimes, Fractions, starts_by_share
from clickmill.errors import DataError, DegenerateLabels, UsageError
from clickmill.progress import SILENT, Progress

_TEST = "__test__"
"""True on the rows of separate test files."""


class PrepareOptions(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """How logs become a dataset."""

    window: timedelta = timedelta(hours=24)
    """Attribution window: a click later than this after its impression does not count."""
    mature_only: bool = False
    """Leave out impressions whose window was still open when the click log ended. Off by default: a click log usually ends
    within minutes of the impressions, most clicks come within minutes too, and a day less would empty the test split of
    a short log. The report counts these impressions in any case."""
    fractions: Fractions = Fractions()
    """Shares of the rows per split, in order of time."""
    cut_times: CutTimes | None = None
    """Explicit cut times; they win over the fractions."""
    allow_overlap: bool = False
    """Accept separate test files that begin before calibration ends: for comparing policies, not for judging a model."""
    negatives_kept: float = Field(default=1.0, gt=0, le=1)
    """Share of the non-clicks kept in train and validation. Calibration and test are never sampled."""
    seed: int = Field(default=0, ge=0)
    """Seed of the negative sampling."""
    max_quarantine_share: float = Field(default=0.01, ge=0, le=1)
    """Share of bad rows above which nothing goes on."""
    latest: datetime | None = None
    """Newest legal event time; default one day from now, since no log knows the future."""
    memory_limit: str = engine.DEFAULT_MEMORY
    """What DuckDB holds before it spills to a folder beside the output."""
    threads: int | None = Field(default=None, ge=1)
    """Threads of DuckDB; default the cores this process may use."""


def prepare(
    impressions: files.PathsLike,
    contract: FeatureContract,
    out: Path | str,
    *,
    clicks: files.PathsLike | None = None,
    truth: files.PathsLike | None = None,
    test: files.PathsLike | None = None,
    options: PrepareOptions | None = None,
    quarantine: Path | None = None,
    progress: Progress = SILENT,
) -> PreparedDataset:
    """Read, check, join, split by time, sample and write a dataset at `out`; atomic, and the same bytes for the same input.

    clicks: a click log; the label comes from it (within `options.window`), else from the contract's label field.
    truth: true click probabilities of a simulated market by impression key, for the contract's truth field.
    test: separate test files; the others then hold train, validation and calibration only.
    quarantine: Parquet file for the bad rows; default `<out>.quarantine.parquet`, beside `out`.

    A dataset that stands at `out` is replaced when the new one is whole. Whatever fails, `out` stays as it was.
    Raises UnreadableData, SchemaMismatch, QuarantineOverflow, DegenerateLabels, DataError (too few instants to split,
    test files from the past, no room on disk), ContractError, UsageError.
    """
    options = options or PrepareOptions()
    out = Path(out)
    _refuse_foreign(out)
    if clicks is None and contract.of_role(Role.LABEL) is None:
        raise UsageError(
            f"contract `{contract.name}` has no label field; give the click log (`clicks`), or add a label field"
        )
    quarantine = quarantine or out.with_name(out.name + ".quarantine.parquet")
    with _workplace(out) as work, ThreadPoolExecutor(1) as aside:
        digest = aside.submit(files.digest, _sources(contract, impressions, clicks, truth, test))
        con = engine.connect(
            memory_limit=options.memory_limit, threads=options.threads, temp_directory=work / "spill"
        )
        try:
            source = _Source(con, contract, work, joined=clicks is not None, with_truth=truth is not None)
            with _task(progress, "reading"):
                table, rejects, origin = source.rows(impressions, test)
            with _task(progress, "checking the contract"):
                verdict = examine(table, contract, rejects=rejects, latest=options.latest, origin=origin)
                quality = set_aside(verdict, quarantine, options.max_quarantine_share)
            good, join = verdict.good, None
            if test is not None:
                good = good.mutate(**{_TEST: good[ROW] >= source.first_test_row})
            if clicks is not None:
                with _task(progress, "joining clicks"):
                    log = read_clicks(clicks, contract, con=con)
                    good, join = join_clicks(good, log, contract=contract, window=options.window)
                    if options.mature_only:
                        good = mature(good, contract, join)
            if truth is not None:
                good = join_truth(good, read_truth(truth, contract, con=con), contract)
            dataset = work / "dataset"
            dataset.mkdir()
            splits = _write_splits(good, contract, dataset, options, progress, quality)
        finally:
            con.disconnect()
        meta = DatasetMeta(
            contract_digest=contract.digest,
            data_digest=digest.result(),
            negatives_kept=contract.source.negatives_kept * options.negatives_kept,
            seed=options.seed,
            splits=splits,
            join=join,
            quality=quality,
        )
        (dataset / CONTRACT).write_text(dumps(contract))
        (dataset / DATASET).write_text(meta.model_dump_json(indent=2))
        _put_in_place(dataset, out, work)
    return PreparedDataset.open(out)


@dataclass
class _Source:
    """The impressions as one table cheap enough to be read several times."""

    con: Any
    contract: FeatureContract
    work: Path
    joined: bool
    """Label and click time come from a click log, the impressions need not have them."""
    with_truth: bool
    first_test_row: int = 0

    def rows(
        self, impressions: files.PathsLike, test: files.PathsLike | None
    ) -> tuple[ibis.Table, Sequence[Breach], str]:
        table, rejects, origin = self._part(impressions, "main", 0)
        if test is None:
            return table, rejects, origin
        self.first_test_row = int(table.aggregate(n=table[ROW].max()).to_pyarrow()["n"][0].as_py() or 0) + 1
        other, more, name = self._part(test, "test", self.first_test_row)
        # Columns for broken rows depend on the physical types of a file, so that one of the two may lack them.
        both = ibis.union(*_same_columns(table, other))
        return both, (*rejects, *more), f"{origin} and {name}"

    def _part(
        self, paths: files.PathsLike, name: str, first_row: int
    ) -> tuple[ibis.Table, Sequence[Breach], str]:
        without = set()
        if self.joined:
            without |= {self.contract.of_role(Role.LABEL), self.contract.of_role(Role.CLICK_TIME)}
        if self.with_truth:
            without.add(self.contract.of_role(Role.TRUTH))
        fields = [field for field in self.contract.columns if field not in without]
        table = read(paths, self.contract, fields=fields, first_row=first_row, con=self.con)
        origin = files.describe(files.resolve(paths, self.contract.source.format))
        with engine.engine_errors(origin):
            table, rejects = stage(table, self.contract, self.work / f"{name}.parquet")
        return table, rejects, origin


def _same_columns(left: ibis.Table, right: ibis.Table) -> tuple[ibis.Table, ibis.Table]:
    for name in left.columns:
        if name not in right.columns:
            right = right.mutate(**{name: ibis.null(left[name].type())})
    for name in right.columns:
        if name not in left.columns:
            left = left.mutate(**{name: ibis.null(right[name].type())})
    return left, right.select(left.columns)


def _write_splits(
    good: ibis.Table,
    contract: FeatureContract,
    dataset: Path,
    options: PrepareOptions,
    progress: Progress,
    quality: QualityReport,
) -> dict[str, SplitInfo]:
    event_time = contract.of_role(Role.EVENT_TIME)
    clock = event_time or ROW
    label = label_of(contract)
    columns = list(contract.columns)
    columns += [label] if label not in columns else []
    key = contract.of_role(Role.IMPRESSION_ID) or ROW
    splits: dict[str, SplitInfo] = {}
    parts = _split_tables(good, contract, clock, options)
    progress.start("writing", quality.rows - quality.quarantined, "rows")
    for name, rows in parts.items():
        share = options.negatives_kept if name in ("train", "validation") else 1.0
        rows = keep_negatives(rows, label, rows[key], share, options.seed)
        ordered = rows.order_by([clock] if clock == ROW else [clock, ROW])
        path = dataset / name / "part-00000.parquet"
        path.parent.mkdir()
        written = engine.copy_to_parquet(ordered.select(columns), path)
        kept = share * _kept_by_source(name, contract, separate_test=_TEST in good.columns)
        splits[name] = _describe(good.get_backend(), path, label, event_time, kept)
        progress.advance(written)
        _require_both_classes(name, splits[name])
    progress.finish()
    _require_order(splits, options)
    return splits


def _split_tables(
    good: ibis.Table, contract: FeatureContract, clock: str, options: PrepareOptions
) -> Mapping[str, ibis.Table]:
    if _TEST not in good.columns:
        return _cut(good, clock, options, SPLITS)
    main, test = good.filter(~good[_TEST]), good.filter(good[_TEST])
    if contract.source.negatives_kept < 1:
        # The train files were sampled by whoever made them. A calibrator must see the true rate, which only the
        # test files have: calibration is their beginning.
        return {**_cut(main, clock, options, SPLITS[:2]), **_cut(test, clock, options, SPLITS[2:])}
    return {**_cut(main, clock, options, SPLITS[:3]), "test": test}


def _cut(
    table: ibis.Table, clock: str, options: PrepareOptions, names: Sequence[str]
) -> dict[str, ibis.Table]:
    """`names` in order of time, each from its start to the start of the next."""
    starts = _starts(table, clock, options, names)
    parts: dict[str, ibis.Table] = {}
    for name, following in zip(names, [*names[1:], None], strict=True):
        rows = table
        if name in starts:
            rows = rows.filter(rows[clock] >= starts[name])
        if following is not None:
            rows = rows.filter(rows[clock] < starts[following])
        parts[name] = rows
    return parts


def _starts(table: ibis.Table, clock: str, options: PrepareOptions, names: Sequence[str]) -> dict[str, Any]:
    cuts = options.cut_times
    if cuts is None:
        shares = {name: getattr(options.fractions, name) for name in names}
        if not all(shares.values()):
            raise UsageError("fractions.test is 0 and there are no separate test files; give one of the two")
        return starts_by_share(
            table, clock, {name: share / sum(shares.values()) for name, share in shares.items()}
        )
    if clock == ROW:
        raise UsageError("cut times need a field of role event_time in the contract; use fractions")
    times = {name: getattr(cuts, name) for name in names[1:]}
    if None in times.values():
        raise UsageError("cut_times.test is absent; say where test begins, or give separate test files")
    return {name: time if time.tzinfo else time.replace(tzinfo=UTC) for name, time in times.items()}


def _kept_by_source(name: str, contract: FeatureContract, *, separate_test: bool) -> float:
    from_test_files = separate_test and name in ("calibration", "test")
    return 1.0 if from_test_files else contract.source.negatives_kept


def _describe(con: Any, path: Path, label: str, event_time: str | None, kept: float) -> SplitInfo:
    table = con.read_parquet(str(path))
    figures = {"rows": table.count(), "clicks": table[label].cast("int64").sum()}
    if event_time is not None:
        figures |= {"start": table[event_time].min(), "end": table[event_time].max()}
    found = engine.one_row(table.aggregate(**figures))
    return SplitInfo(**{**found, "clicks": found["clicks"] or 0}, negatives_kept=kept)


def _require_both_classes(name: str, split: SplitInfo) -> None:
    if 0 < split.clicks < split.rows:
        return
    span = (
        f" ({split.start:%Y-%m-%d %H:%M} to {split.end:%Y-%m-%d %H:%M} UTC)"
        if split.start and split.end
        else ""
    )
    what = "no rows" if split.rows == 0 else "no click" if split.clicks == 0 else "nothing but clicks"
    raise DegenerateLabels(
        f"split {name}: {what} in {split.rows:,} rows with {split.clicks:,} clicks{span}; nothing can be learned or judged "
        "on one class. Check that the label (or the click log and its window) is the right one, give a longer log, or "
        "move the cuts."
    )


def _require_order(splits: Mapping[str, SplitInfo], options: PrepareOptions) -> None:
    test, calibration = splits["test"], splits["calibration"]
    if (
        options.allow_overlap
        or test.start is None
        or calibration.end is None
        or test.start >= calibration.end
    ):
        return
    raise DataError(
        f"the test files begin at {test.start:%Y-%m-%d %H:%M:%S} UTC, before calibration ends "
        f"({calibration.end:%Y-%m-%d %H:%M:%S} UTC): a model would be judged on a past it has learned from. Give later test "
        "files, or say `allow_overlap` if that is meant."
    )


def _sources(
    contract: FeatureContract,
    impressions: files.PathsLike,
    clicks: files.PathsLike | None,
    truth: files.PathsLike | None,
    test: files.PathsLike | None,
) -> list[tuple[str, Sequence[Path]]]:
    layout = contract.source.format
    named = [("impressions", files.resolve(impressions, layout))]
    named += [("test", files.resolve(test, layout))] if test is not None else []
    for name, log in (("clicks", clicks), ("truth", truth)):
        if log is not None:
            named.append((name, files.resolve(log, files.side_format(log))))
    return list(named)


@contextmanager
def _workplace(out: Path) -> Iterator[Path]:
    """A hidden folder beside `out`, on the same file system, gone afterwards whatever happens."""
    out.parent.mkdir(parents=True, exist_ok=True)
    work = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.partial")
    work.mkdir()
    try:
        yield work
    except OSError as error:
        raise DataError(
            f"{out}: could not be written ({error.strerror or error}). Free some space and run again; nothing was left behind."
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _refuse_foreign(out: Path) -> None:
    if out.is_file() or (out.is_dir() and not (out / DATASET).is_file() and any(out.iterdir())):
        raise UsageError(f"{out}: exists and is no prepared dataset; name another folder or remove it")


def _put_in_place(dataset: Path, out: Path, work: Path) -> None:
    if out.is_dir():
        out.rename(work / "replaced")
    dataset.rename(out)


@contextmanager
def _task(progress: Progress, name: str) -> Iterator[None]:
    progress.start(name, None, "rows")
    yield
    progress.finish()


__all__ = ["PrepareOptions", "prepare"]
