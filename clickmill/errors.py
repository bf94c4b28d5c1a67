"""Every error Clickmill raises on purpose. Each says what is wrong, where, and what to do.

    ClickmillError                      exit 1
    ├── UsageError                      exit 2   the caller's words are off
    ├── ContractError                   exit 2   the contract file itself is wrong
    ├── DataError                       exit 1   the data cannot be used
    │   ├── UnreadableData              empty, truncated, or not of the format
    │   ├── SchemaMismatch              a column is missing or has another type than the contract says
    │   ├── QuarantineOverflow          more rows broke the contract than the run tolerates
    │   └── DegenerateLabels            a split has no clicks, or nothing but clicks
    ├── UndefinedMetric                 exit 1   a metric has no value on these rows
    ├── TrainingError                   exit 1   training cannot go on (NaN loss, checkpoint of another run)
    ├── BundleError                     exit 1   the bundle cannot be used
    │   ├── BundleCorrupt               a file is missing, foreign or altered
    │   └── GoldenMismatch              the graph no longer gives its golden predictions
    ├── GateRefused                     exit 3   the challenger is not better than the champion
    └── RequestError                    exit 1   a request is malformed (HTTP 400, gRPC INVALID_ARGUMENT)
        └── RequestTooLarge             (HTTP 413, gRPC RESOURCE_EXHAUSTED)

Exit codes are attributes of the classes, so that the command's table cannot drift from the tree.
"""

from __future__ import annotations

from typing import ClassVar


class ClickmillError(Exception):
    """Base of all errors raised on purpose; catching it never hides a bug."""

    exit_code: ClassVar[int] = 1


class UsageError(ClickmillError):
    """The caller asked for something that has no meaning; nothing was done."""

    exit_code = 2


class ContractError(ClickmillError):
    """The contract file is wrong. The message names the YAML path, the value and the remedy."""

    exit_code = 2


class DataError(ClickmillError):
    """The data cannot be used as they are."""


class UnreadableData(DataError):
    """A file is absent, empty, truncated or not of the declared format."""


class SchemaMismatch(DataError):
    """A column of the contract is missing from the data or cannot be read as its type."""


class QuarantineOverflow(DataError):
    """More rows broke the contract than `max_quarantine_share` allows; the run stops, nothing is trained."""


class DegenerateLabels(DataError):
    """A split holds no click or no non-click, so nothing can be learned or judged on it."""


class UndefinedMetric(ClickmillError):
    """A metric has no value on these rows (one class only, no rows, zero weight)."""


class TrainingError(ClickmillError):
    """Training cannot go on."""


class BundleError(ClickmillError):
    """The bundle cannot be used."""


class BundleCorrupt(BundleError):
    """A file of the bundle is missing, altered or foreign."""


class GoldenMismatch(BundleError):
    """The loaded graph does not reproduce the golden predictions written at export."""


class GateRefused(ClickmillError):
    """The gate kept the champion."""

    exit_code = 3


class RequestError(ClickmillError):
    """A prediction request is malformed; names the field, the row and the rule.

    For programs the place stands beside the words: `field`, `row` and `item` (of a list; both 0-based), and `path`, where that is in
    the body as it was sent (`instances[3].user_id`), which only the protocol knows. None where the problem has no such place.
    """

    def __init__(
        self,
        words: str,
        *,
        field: str | None = None,
        row: int | None = None,
        item: int | None = None,
        path: str | None = None,
    ) -> None:
        super().__init__(words)
        self.field, self.row, self.item, self.path = field, row, item, path


class RequestTooLarge(RequestError):
    """A prediction request exceeds a size limit; names the limit."""
