"""The prediction log: what was answered, to whom, by which bundle. Written by the endpoint, joined with clicks by the monitors.

May import `clickmill.features`, `clickmill.contract` and `clickmill.errors`; pyarrow and numpy. Who writes and when is the endpoint's business.
"""

from clickmill.prediction_log.files import LogFolder, log_files
from clickmill.prediction_log.personal import Salt
from clickmill.prediction_log.rows import Answered, Chances, Kept, check_salt, to_table
from clickmill.prediction_log.sampling import is_kept

__all__ = [
    "Answered",
    "Chances",
    "Kept",
    "LogFolder",
    "Salt",
    "check_salt",
    "is_kept",
    "log_files",
    "to_table",
]
