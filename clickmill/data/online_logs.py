"""Online features straight from logs, for publishing more often than data sets are prepared."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from clickmill.contract import FeatureContract
from clickmill.data import files
from clickmill.data.aggregates import CLICKED_AT, events_of
from clickmill.data.attribution import join_clicks, read_clicks
from clickmill.data.online import OnlineFeatures, end_of, write_online
from clickmill.data.options import PrepareOptions
from clickmill.data.preparation import connection, judge, task
from clickmill.data.quality import QualityReport, set_aside
from clickmill.data.source import Logs
from clickmill.data.whole_folder import workplace
from clickmill.errors import UsageError
from clickmill.progress import SILENT, Progress


def online_of_logs(
    impressions: files.PathsLike,
    contract: FeatureContract,
    out: Path,
    *,
    clicks: files.PathsLike | None = None,
    as_of: datetime | None = None,
    options: PrepareOptions | None = None,
    progress: Progress = SILENT,
) -> tuple[OnlineFeatures, QualityReport]:
    """Check, join with the clicks, and write to the folder `out` (made here) what was known of every id strictly before `as_of`.

    as_of: with a zone; default right after the last impression. The bad rows are left out, and stand in `<out>.quarantine.parquet`.
    Rows are as `prepare` would have them, so that the values are those of its data set when the logs and `as_of` are.
    Raises UsageError when the contract has nothing to keep, and what `prepare` raises about logs.
    """
    options = options or PrepareOptions()
    if not contract.entities:
        raise UsageError(
            f"contract `{contract.name}` has no field that an online store keeps; give a field `aggregate` or `lookup_by`"
        )
    logs = Logs(impressions, clicks)
    logs.require_label(contract)
    logs.files(contract)
    with workplace(out) as work, connection(options, work) as con:
        verdict = judge(logs, contract, con, work, options, progress)
        quality = set_aside(
            verdict, out.with_name(out.name + ".quarantine.parquet"), options.max_quarantine_share
        )
        good = verdict.good
        if clicks is not None:
            with task(progress, "joining clicks"):
                log = read_clicks(clicks, contract, con=con)
                good, join = join_clicks(
                    good, log, contract=contract, window=options.window, time_column=CLICKED_AT
                )
                progress.advance(join.clicks)
        with task(progress, "features of the past"):
            events = events_of(good, contract, options.window)
            made = write_online(good, events, contract, work / "online", as_of=as_of or end_of(events))
        made.root.rename(out)
    return OnlineFeatures.open(out), quality
