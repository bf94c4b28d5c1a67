"""Lengths of time on the command line: `10ms`, `0.5s`, `250us`."""

from __future__ import annotations

import re

from clickmill.errors import UsageError

_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "min": 6e4}
_FORM = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(us|ms|s|min)\s*\Z")


def milliseconds(text: str, option: str) -> float:
    """`text` in milliseconds. Raises UsageError that names `option` for anything but a positive number with its unit.

    >>> milliseconds("10ms", "--p99"), milliseconds("0.5s", "--p99")
    (10.0, 500.0)
    """
    found = _FORM.match(text)
    if not found or float(found[1]) == 0:
        raise UsageError(
            f"{option} {text}: write a number above 0 with its unit, such as 10ms, 0.5s or 250us"
        )
    return float(found[1]) * _UNITS[found[2]]
