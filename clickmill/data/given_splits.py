"""A prepared dataset from files that were split by whoever published them: nothing is cut, sampled or joined."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

from clickmill.contract import FeatureContract, Role, dumps
from clickmill.data import files
from clickmill.data.formats import ROW
from clickmill.data.options import PrepareOptions
from clickmill.data.partition import describe_split, require_both_classes, write_in_order
from clickmill.data.preparation import connection, judge
from clickmill.data.prepared import CONTRACT, DATASET, DatasetMeta, PreparedDataset
from clickmill.data.quality import QualityReport, set_aside
from clickmill.data.source import Logs
from clickmill.data.whole_folder import put_in_place, refuse_foreign, workplace
from clickmill.errors import UsageError
from clickmill.progress import SILENT, Progress


def prepare_splits(
    splits: Mapping[str, files.PathsLike],
    contract: FeatureContract,
    out: Path | str,
    *,
    options: PrepareOptions | None = None,
    progress: Progress = SILENT,
) -> PreparedDataset:
    """Check each split's files against the contract and write them as a dataset at `out`, in the order of the source; atomic.

    splits: name to files; `train` and `validation` are what training asks for. Bad rows of a split go to
    `<out>.quarantine.<split>.parquet`. Of the options only `max_quarantine_share`, `latest`, `memory_limit` and `threads` count.

    Raises UsageError without a train split or a label field, and what `prepare` raises for unreadable data and broken rows.
    """
    options, out = options or PrepareOptions(), Path(out)
    refuse_foreign(out, DATASET)
    if "train" not in splits:
        raise UsageError(f"no files for the train split; given were {', '.join(splits) or 'none'}")
    logs = {name: Logs(paths) for name, paths in splits.items()}
    logs["train"].require_label(contract)
    sources = [(name, files.resolve(paths, contract.source.format)) for name, paths in splits.items()]
    label, clock = contract.of_role(Role.LABEL), contract.of_role(Role.EVENT_TIME) or ROW
    assert label is not None
    written, reports = {}, []
    with workplace(out) as work, ThreadPoolExecutor(1) as aside, connection(options, work) as con:
        digest = aside.submit(files.digest, sources)
        dataset = work / "dataset"
        for name, log in logs.items():
            (work / name).mkdir()
            (dataset / name).mkdir(parents=True)
            verdict = judge(log, contract, con, work / name, options, progress)
            quarantine = out.with_name(f"{out.name}.quarantine.{name}.parquet")
            reports.append(set_aside(verdict, quarantine, options.max_quarantine_share))
            path = dataset / name / "part-00000.parquet"
            write_in_order(verdict.good, list(contract.columns), clock, path, in_order=False)
            written[name] = describe_split(
                con, path, label, contract.of_role(Role.EVENT_TIME), contract.source.negatives_kept
            )
            require_both_classes(name, written[name])
        meta = DatasetMeta(
            contract_digest=contract.digest,
            data_digest=digest.result(),
            negatives_kept=contract.source.negatives_kept,
            seed=options.seed,
            splits=written,
            quality=QualityReport(
                origin=files.describe([file for _, group in sources for file in group]),
                rows=sum(report.rows for report in reports),
                quarantined=sum(report.quarantined for report in reports),
                breaches=tuple(chain.from_iterable(report.breaches for report in reports)),
            ),
        )
        (dataset / CONTRACT).write_text(dumps(contract))
        (dataset / DATASET).write_text(meta.model_dump_json(indent=2))
        put_in_place(dataset, out, work)
    return PreparedDataset.open(out)
