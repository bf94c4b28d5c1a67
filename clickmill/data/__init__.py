"""From logs to prepared splits: readers, contract check, click join, time splits, sampling; may import `clickmill.contract`, `clickmill.errors`, `clickmill.progress`."""

from clickmill.data.attribution import JoinReport, join_clicks, read_clicks, read_truth
from clickmill.data.checked import CheckedLogs, check_logs, prepare_checked
from clickmill.data.engine import connect
from clickmill.data.given_splits import prepare_splits
from clickmill.data.online import OnlineFeatures
from clickmill.data.online_logs import online_of_logs
from clickmill.data.options import PrepareOptions
from clickmill.data.preparation import prepare
from clickmill.data.prepared import DatasetMeta, PreparedDataset, SplitInfo
from clickmill.data.quality import Breach, Clock, QualityReport, check
from clickmill.data.reading import read
from clickmill.data.splits import SPLITS, CutTimes, Fractions

__all__ = [
    "SPLITS",
    "Breach",
    "CheckedLogs",
    "Clock",
    "CutTimes",
    "DatasetMeta",
    "Fractions",
    "JoinReport",
    "OnlineFeatures",
    "PrepareOptions",
    "PreparedDataset",
    "QualityReport",
    "SplitInfo",
    "check",
    "check_logs",
    "connect",
    "join_clicks",
    "online_of_logs",
    "prepare",
    "prepare_checked",
    "prepare_splits",
    "read",
    "read_clicks",
    "read_truth",
]
