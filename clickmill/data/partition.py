"""The rows of a dataset cut by time into splits, sampled, sorted and written; each split judged for both classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ibis

from clickmill.contract import FeatureContract, Role
from clickmill.data import engine
from clickmill.data.attribution import label_of
from clickmill.data.delay import DelayedClicks, Ripeness
from clickmill.data.formats import ROW, TEST
from clickmill.data.options import PrepareOptions
from clickmill.data.prepared import SplitInfo
from clickmill.data.ripening import with_fake_negatives
from clickmill.data.sampling import keep_negatives
from clickmill.data.splits import SPLITS, starts_by_share
from clickmill.errors import DataError, DegenerateLabels, UsageError
from clickmill.progress import Progress


def write_splits(
    good: ibis.Table,
    contract: FeatureContract,
    dataset: Path,
    options: PrepareOptions,
    progress: Progress,
    rows: int,
    *,
    ripeness: Ripeness | None = None,
    in_order: bool = False,
) -> dict[str, SplitInfo]:
    """Write a folder of Parquet per split below `dataset`; `rows` is about how many there are, for the progress.

    ripeness: with fake negatives, clicked impressions of train and validation are written twice (`with_fake_negatives`).
    in_order: the rows come in order of time, so that no sort is needed; believed only when the written file shows it.

    Raises DegenerateLabels for a split without clicks or without anything else, DataError when test begins before calibration
    ends or when time is too coarse to cut, UsageError for cuts that do not fit.
    """
    event_time = contract.of_role(Role.EVENT_TIME)
    clock = event_time or ROW
    label = label_of(contract)
    columns = list(contract.columns)
    columns += [label] if label not in columns else []
    key = contract.of_role(Role.IMPRESSION_ID) or ROW
    splits: dict[str, SplitInfo] = {}
    parts = _split_tables(good, contract, clock, options)
    progress.start("writing", rows, "rows")
    twice = ripeness is not None and ripeness.treatment is DelayedClicks.FAKE_NEGATIVES
    for name, part in parts.items():
        doubled = twice and name in ("train", "validation")
        if doubled:
            part = with_fake_negatives(part, contract)
        share = options.negatives_kept if name in ("train", "validation") else 1.0
        kept_rows = keep_negatives(part, label, part[key], share, options.seed)
        path = dataset / name / "part-00000.parquet"
        path.parent.mkdir()
        written = write_in_order(kept_rows, columns, clock, path, in_order=in_order and not doubled)
        kept = share * _kept_by_source(name, contract, separate_test=TEST in good.columns)
        splits[name] = describe_split(good.get_backend(), path, label, event_time, kept)
        progress.advance(written)
        require_both_classes(name, splits[name])
    progress.finish()
    _require_order(splits, options)
    return splits


def write_in_order(
    rows: ibis.Table, columns: Sequence[str], clock: str, path: Path, *, in_order: bool
) -> int:
    """One Parquet file in order of `clock`, ties in the order of the source; returns the rows written."""
    if in_order and clock != ROW:
        # DuckDB keeps the order of the probe side of a join and of a file it copies, but a plan may turn a join around.
        written = engine.copy_to_parquet(rows.select(columns), path)
        if _is_ordered(engine.backend_of(rows), path, clock):
            return written
    ordered = rows.order_by([clock] if clock == ROW else [clock, ROW])
    return engine.copy_to_parquet(ordered.select(columns), path)


def _is_ordered(con: Any, path: Path, clock: str) -> bool:
    time = engine.identifier(clock)
    steps = con.raw_sql(
        f"SELECT count(*) FROM (SELECT {time} AS t, lag({time}) OVER () AS before FROM read_parquet({engine.quoted(path)})) "
        "WHERE t < before"
    ).fetchall()
    return bool(steps[0][0] == 0)


def _split_tables(
    good: ibis.Table, contract: FeatureContract, clock: str, options: PrepareOptions
) -> Mapping[str, ibis.Table]:
    if options.as_of is not None:
        return _cut_as_of(good, clock, options)
    if TEST not in good.columns:
        return _cut(good, clock, options, SPLITS)
    main, test = good.filter(~good[TEST]), good.filter(good[TEST])
    if contract.source.negatives_kept < 1:
        # The train files were sampled by whoever made them. A calibrator must see the true rate, which only the
        # test files have: calibration is their beginning.
        return {**_cut(main, clock, options, SPLITS[:2]), **_cut(test, clock, options, SPLITS[2:])}
    return {**_cut(main, clock, options, SPLITS[:3]), "test": test}


def _cut_as_of(good: ibis.Table, clock: str, options: PrepareOptions) -> Mapping[str, ibis.Table]:
    """What was shown before the moment of learning, and the test split from then on."""
    if TEST in good.columns:
        raise UsageError(
            "preparation.as_of makes the test split of what was shown later; give no separate test files with it"
        )
    cuts = options.cut_times
    if cuts is not None and cuts.test is not None:
        raise UsageError("preparation.as_of is where test begins; leave cut_times.test out")
    moment = ibis.literal(options.as_of)
    return {
        **_cut(good.filter(good[clock] < moment), clock, options, SPLITS[:3]),
        "test": good.filter(good[clock] >= moment),
    }


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
    return times


def _kept_by_source(name: str, contract: FeatureContract, *, separate_test: bool) -> float:
    from_test_files = separate_test and name in ("calibration", "test")
    return 1.0 if from_test_files else contract.source.negatives_kept


def describe_split(con: Any, path: Path, label: str, event_time: str | None, kept: float) -> SplitInfo:
    """Rows, clicks and times of a split as it was written to `path`."""
    table = con.read_parquet(str(path))
    figures = {"rows": table.count(), "clicks": table[label].cast("int64").sum()}
    if event_time is not None:
        figures |= {"start": table[event_time].min(), "end": table[event_time].max()}
    found = engine.one_row(table.aggregate(**figures))
    return SplitInfo(**{**found, "clicks": found["clicks"] or 0}, negatives_kept=kept)


def require_both_classes(name: str, split: SplitInfo) -> None:
    """Raises DegenerateLabels for a split without clicks or without anything else."""
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
