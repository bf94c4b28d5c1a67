"""From logs to prepared splits: readers, contract check, click join, time splits, sampling; may import `clickmill.contract`, `clickmill.errors`, `clickmill.progress`."""

from clickmill.data.attribution import JoinReport, join_clicks, read_clicks, read_truth
from clickmill.data.engine import connect
from clickmill.data.preparation import PrepareOptions, prepare
from clickmill.data.prepared import DatasetMeta, PreparedDataset, SplitInfo
from clickmill.data.quality import Breach, Clock, QualityReport, check
from clickmill.data.reading import read
from clickmill.data.splits import SPLITS, CutTimes, Fractions

__all__ = [
    "SPLITS",
    "Breach",
    "Clock",
    "CutTimes",
    "DatasetMeta",
    "Fractions",
    "JoinReport",
    "PrepareOptions",
    "PreparedDataset",
    "QualityReport",
    "SplitInfo",
    "check",
    "connect",
    "join_clicks",
    "prepare",
    "read",
    "read_clicks",
    "read_truth",
]
