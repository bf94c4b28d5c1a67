"""`prepare` in two halves, for pipelines that show the contract check as a step of its own: `check_logs`, then `prepare_checked`.

The two together give the dataset that `prepare` gives; in between the good rows rest on disk.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError

from clickmill.contract import FeatureContract, dumps, load
from clickmill.data import engine, files
from clickmill.data.options import PrepareOptions
from clickmill.data.preparation import assemble, connection, judge
from clickmill.data.prepared import CONTRACT, DATASET, PreparedDataset
from clickmill.data.quality import QualityReport, set_aside
from clickmill.data.source import Logs
from clickmill.data.whole_folder import put_in_place, refuse_foreign, workplace
from clickmill.errors import UnreadableData
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
    refuse_foreign(out, CHECKED)
    logs = Logs(impressions, clicks, truth, test)
    logs.require_label(contract)
    with workplace(out) as work, ThreadPoolExecutor(1) as aside:
        digest = aside.submit(files.digest, logs.files(contract))
        with connection(options, work) as con:
            verdict = judge(logs, contract, con, work, options, progress)
            quarantine.mkdir(parents=True, exist_ok=True)
            (quarantine / QUALITY).write_text(verdict.report.model_dump_json(indent=2))
            quality = set_aside(verdict, quarantine / BAD_ROWS, options.max_quarantine_share)
            (quarantine / QUALITY).write_text(quality.model_dump_json(indent=2))
            checked = work / "checked"
            checked.mkdir()
            progress.start("writing the good rows", quality.rows - quality.quarantined, "rows")
            progress.advance(engine.copy_to_parquet(verdict.good, checked / ROWS))
            progress.finish()
        meta = CheckedMeta(
            contract_digest=contract.digest,
            data_digest=digest.result(),
            quality=quality,
            clicks=None if clicks is None else _texts(clicks),
            truth=None if truth is None else _texts(truth),
        )
        (checked / CONTRACT).write_text(dumps(contract))
        (checked / CHECKED).write_text(meta.model_dump_json(indent=2))
        put_in_place(checked, out, work)
    return CheckedLogs.open(out)


def prepare_checked(
    checked: CheckedLogs, out: Path, *, options: PrepareOptions | None = None, progress: Progress = SILENT
) -> PreparedDataset:
    """The second half of `prepare`: join, split by time, sample, write. Raises as `prepare` does."""
    options = options or PrepareOptions()
    contract, meta = checked.contract, checked.meta
    refuse_foreign(out, DATASET)
    logs = Logs((), clicks=meta.clicks, truth=meta.truth)
    with workplace(out) as work:
        with connection(options, work) as con:
            good = con.read_parquet(str(checked.root / ROWS))
            dataset = assemble(
                good, logs, contract, con, work, options, progress, meta.quality, lambda: meta.data_digest
            )
        put_in_place(dataset, out, work)
    return PreparedDataset.open(out)


def _texts(paths: files.PathsLike) -> tuple[str, ...]:
    return tuple(map(str, [paths] if isinstance(paths, str | Path) else paths))
