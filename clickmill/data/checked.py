"""`prepare` in two halves, for pipelines that show the contract check as a step of its own: `check_logs`, then `prepare_checked`.

The two together give the dataset that `prepare` gives; in between the good rows rest on disk.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError

from clickmill.contract import FeatureContract, Role, dumps, load
from clickmill.data import engine, files
from clickmill.data.attribution import join_clicks, join_truth, mature, read_clicks, read_truth
from clickmill.data.formats import ROW
from clickmill.data.preparation import (
    _TEST,
    PrepareOptions,
    _put_in_place,
    _refuse_foreign,
    _Source,
    _sources,
    _task,
    _workplace,
    _write_splits,
)
from clickmill.data.prepared import CONTRACT, DATASET, DatasetMeta, PreparedDataset
from clickmill.data.quality import QualityReport, examine, set_aside
from clickmill.errors import UnreadableData, UsageError
from clickmill.progress import SILENT, Progress

CHECKED, ROWS = "checked.json", "rows.parquet"
QUALITY, BAD_ROWS = "quality.json", "rows.parquet"


class CheckedMeta(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """Content of checked.json."""

    contract_digest: str
    """Digest of the contract the rows keep."""
    data_digest: str
    """sha256 over the content of all source files."""
    quality: QualityReport
    """What the check found."""
    clicks: tuple[str, ...] | None = None
    """The click log; read when it is joined, so it must still be there."""
    truth: tuple[str, ...] | None = None
    """The log of true probabilities; read like the click log."""


@dataclass(frozen=True)
class CheckedLogs:
    """A folder with the rows that keep the contract, the contract, and what the check found."""

    root: Path
    contract: FeatureContract
    meta: CheckedMeta

    @classmethod
    def open(cls, path: Path | str) -> CheckedLogs:
        """Raises UnreadableData when the folder holds no checked logs."""
        root = Path(path)
        try:
            meta = CheckedMeta.model_validate_json((root / CHECKED).read_text())
        except (OSError, ValidationError) as error:
            raise UnreadableData(f"{root}: holds no checked logs ({error}); check the logs again") from error
        return cls(root, load(root / CONTRACT), meta)


def check_logs(
    impressions: files.PathsLike,
    contract: FeatureContract,
    out: Path,
    *,
    quarantine: Path,
    clicks: files.PathsLike | None = None,
    truth: files.PathsLike | None = None,
    test: files.PathsLike | None = None,
    options: PrepareOptions | None = None,
    progress: Progress = SILENT,
) -> CheckedLogs:
    """The first half of `prepare`: every row against the contract, the good ones to `out`, the bad ones to the folder `quarantine`.

    `quarantine/quality.json` is written in any case, also before QuarantineOverflow is raised. Raises as `prepare` does.
    """
    options = options or PrepareOptions()
    if clicks is None and contract.of_role(Role.LABEL) is None:
        raise UsageError(
            f"contract `{contract.name}` has no label field; give the click log (`clicks`), or add a label field"
        )
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
                quarantine.mkdir(parents=True, exist_ok=True)
                (quarantine / QUALITY).write_text(verdict.report.model_dump_json(indent=2))
                quality = set_aside(verdict, quarantine / BAD_ROWS, options.max_quarantine_share)
                (quarantine / QUALITY).write_text(quality.model_dump_json(indent=2))
            good = verdict.good
            if test is not None:
                good = good.mutate(**{_TEST: good[ROW] >= source.first_test_row})
            checked = work / "checked"
            checked.mkdir()
            progress.start("writing the good rows", quality.rows - quality.quarantined, "rows")
            progress.advance(engine.copy_to_parquet(good, checked / ROWS))
            progress.finish()
        finally:
            con.disconnect()
        meta = CheckedMeta(
            contract_digest=contract.digest,
            data_digest=digest.result(),
            quality=quality,
            clicks=None if clicks is None else _texts(clicks),
            truth=None if truth is None else _texts(truth),
        )
        (checked / CONTRACT).write_text(dumps(contract))
        (checked / CHECKED).write_text(meta.model_dump_json(indent=2))
        _put_in_place(checked, out, work)
    return CheckedLogs.open(out)


def prepare_checked(
    checked: CheckedLogs, out: Path, *, options: PrepareOptions | None = None, progress: Progress = SILENT
) -> PreparedDataset:
    """The second half of `prepare`: join, split by time, sample, write. Raises as `prepare` does."""
    options = options or PrepareOptions()
    contract, meta = checked.contract, checked.meta
    _refuse_foreign(out)
    with _workplace(out) as work:
        con = engine.connect(
            memory_limit=options.memory_limit, threads=options.threads, temp_directory=work / "spill"
        )
        try:
            good, join = con.read_parquet(str(checked.root / ROWS)), None
            if meta.clicks is not None:
                with _task(progress, "joining clicks"):
                    log = read_clicks(meta.clicks, contract, con=con)
                    good, join = join_clicks(good, log, contract=contract, window=options.window)
                    if options.mature_only:
                        good = mature(good, contract, join)
            if meta.truth is not None:
                good = join_truth(good, read_truth(meta.truth, contract, con=con), contract)
            dataset = work / "dataset"
            dataset.mkdir()
            splits = _write_splits(good, contract, dataset, options, progress, meta.quality)
        finally:
            con.disconnect()
        prepared = DatasetMeta(
            contract_digest=contract.digest,
            data_digest=meta.data_digest,
            negatives_kept=contract.source.negatives_kept * options.negatives_kept,
            seed=options.seed,
            splits=splits,
            join=join,
            quality=meta.quality,
        )
        (dataset / CONTRACT).write_text(dumps(contract))
        (dataset / DATASET).write_text(prepared.model_dump_json(indent=2))
        _put_in_place(dataset, out, work)
    return PreparedDataset.open(out)


def _texts(paths: files.PathsLike) -> tuple[str, ...]:
    return tuple(map(str, [paths] if isinstance(paths, str | Path) else paths))
