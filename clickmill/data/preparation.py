"""From logs to a prepared dataset: read, check, join, split by time, sample, write; all of it or nothing.

`prepare` does it in one go. Pipelines that show the contract check as a step of its own call the halves in `checked`.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ibis

from clickmill.contract import FeatureContract, dumps
from clickmill.data import engine, files
from clickmill.data.aggregates import CLICKED_AT, events_of, with_aggregates
from clickmill.data.attribution import JoinReport, join_clicks, join_truth, read_clicks, read_truth
from clickmill.data.delay import Ripeness
from clickmill.data.online import end_of, write_online
from clickmill.data.options import PrepareOptions
from clickmill.data.partition import write_splits
from clickmill.data.prepared import CONTRACT, DATASET, ONLINE_FOLDER, DatasetMeta, PreparedDataset
from clickmill.data.quality import QualityReport, Verdict, examine
from clickmill.data.quality import set_aside as set_aside_bad_rows
from clickmill.data.ripening import refuse_without_clicks, ripeness_of, waited
from clickmill.data.source import Logs
from clickmill.data.whole_folder import put_in_place, refuse_foreign, workplace
from clickmill.progress import SILENT, Progress


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
    test: separate test files; the others then hold train, validation and calibration (only train and validation where the
        contract says that they were sampled: calibration is then the beginning of the test files).
    quarantine: Parquet file for the bad rows; default `<out>.quarantine.parquet`, beside `out`.

    A dataset that stands at `out` is replaced when the new one is whole. Whatever fails, `out` stays as it was.
    Raises UnreadableData, SchemaMismatch, QuarantineOverflow, DegenerateLabels, DataError (too few instants to split,
    test files from the past, no room on disk), ContractError, UsageError.
    """
    options = options or PrepareOptions()
    out = Path(out)
    refuse_foreign(out, DATASET)
    logs = Logs(impressions, clicks, truth, test)
    logs.require_label(contract)
    quarantine = quarantine or out.with_name(out.name + ".quarantine.parquet")
    with workplace(out) as work, ThreadPoolExecutor(1) as aside:
        # Hashing and parsing read the same files at the same time, so that the disk is read once.
        digest = aside.submit(files.digest, logs.files(contract))
        with connection(options, work) as con:
            verdict = judge(logs, contract, con, work, options, progress)
            quality = set_aside_bad_rows(verdict, quarantine, options.max_quarantine_share)
            dataset = assemble(
                verdict.good, logs, contract, con, work, options, progress, quality, digest.result
            )
        put_in_place(dataset, out, work)
    return PreparedDataset.open(out)


@contextmanager
def connection(options: PrepareOptions, work: Path) -> Iterator[Any]:
    """A connection of its own that spills into `work`."""
    con = engine.connect(
        memory_limit=options.memory_limit, threads=options.threads, temp_directory=work / "spill"
    )
    try:
        with engine.interruptible():
            yield con
    finally:
        con.disconnect()


def judge(
    logs: Logs, contract: FeatureContract, con: Any, work: Path, options: PrepareOptions, progress: Progress
) -> Verdict:
    """Read the impressions and check every row against the contract."""
    with task(progress, "reading"):
        table, rejects, origin = logs.rows(contract, con, work)
    with task(progress, "checking the contract"):
        verdict = examine(table, contract, rejects=rejects, latest=options.latest, origin=origin)
        progress.advance(verdict.report.rows)
    return verdict


def assemble(
    good: ibis.Table,
    logs: Logs,
    contract: FeatureContract,
    con: Any,
    work: Path,
    options: PrepareOptions,
    progress: Progress,
    quality: QualityReport,
    data_digest: Any,
) -> Path:
    """Join, cut, sample and write the good rows as a dataset folder inside `work`; returns that folder.

    data_digest: called when all else is done, since the digest is made meanwhile.
    """
    join: JoinReport | None = None
    ripeness: Ripeness | None = None
    if logs.clicks is None:
        refuse_without_clicks(options)
    else:
        with task(progress, "joining clicks"):
            log = read_clicks(logs.clicks, contract, con=con)
            good, join = join_clicks(
                good,
                log,
                contract=contract,
                window=options.window,
                time_column=CLICKED_AT,
                as_of=options.as_of,
            )
            ripeness = ripeness_of(good, contract, join, options)
            progress.advance(join.clicks)
    if logs.truth is not None:
        good = join_truth(good, read_truth(logs.truth, contract, con=con), contract)
    dataset = work / "dataset"
    dataset.mkdir()
    if contract.entities:
        with task(progress, "features of the past"):
            # Of all good rows: what sampling or `wait` leaves out of the splits is no less the past.
            events = events_of(good, contract, options.window)
            write_online(good, events, contract, dataset / ONLINE_FOLDER, as_of=end_of(events))
            good = with_aggregates(good, events, contract)
    if join is not None:
        good = waited(good, contract, join, options)
    splits = write_splits(
        good,
        contract,
        dataset,
        options,
        progress,
        quality.rows - quality.quarantined,
        ripeness=ripeness,
        in_order=quality.clock.backward_steps == 0,
    )
    meta = DatasetMeta(
        contract_digest=contract.digest,
        data_digest=data_digest(),
        negatives_kept=contract.source.negatives_kept * options.negatives_kept,
        seed=options.seed,
        splits=splits,
        join=join,
        ripeness=ripeness,
        quality=quality,
    )
    (dataset / CONTRACT).write_text(dumps(contract))
    (dataset / DATASET).write_text(meta.model_dump_json(indent=2))
    return dataset


@contextmanager
def task(progress: Progress, name: str) -> Iterator[None]:
    """One task without a known length."""
    progress.start(name, None, "rows")
    yield
    progress.finish()


__all__ = ["PrepareOptions", "prepare"]
