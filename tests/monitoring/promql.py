"""As much of PromQL as says which series and labels an expression reads."""

from __future__ import annotations

import re

_STRING = re.compile(r'"(?:\\.|[^"\\])*"')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_SELECTOR = re.compile(r"\{([^}]*)\}")
_RANGE = re.compile(r"\[[^\]]*\]")
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_WORDS = {
    "and",
    "or",
    "unless",
    "bool",
    "offset",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def metrics(expression: str) -> set[str]:
    """Names of the series.

    >>> sorted(metrics('sum by (a) (rate(x_total{b="y"}[5m] offset 1h)) > 2 * z:y:rate5m'))
    ['x_total', 'z:y:rate5m']
    """
    bare = _STRING.sub("", expression)
    for pattern in (_SELECTOR, _RANGE):
        bare = pattern.sub(" ", bare)
    bare = _GROUPING.sub(" ", bare)
    bare = re.sub(r"\boffset\s+\w+", " ", bare)
    found = set()
    for match in _NAME.finditer(bare):
        called = bare[match.end() :].lstrip().startswith("(")
        number = match.start() and bare[match.start() - 1].isdigit()
        if not called and not number and match[0] not in _WORDS:
            found.add(match[0])
    return found


def labels(expression: str) -> set[str]:
    """Names of the labels in selectors and groupings."""
    bare = _STRING.sub('""', expression)
    found = {name.strip() for inner in _GROUPING.findall(bare) for name in inner.split(",")}
    for inner in _SELECTOR.findall(bare):
        found |= {match[1] for match in re.finditer(r"(\w+)\s*[!=]=?~?\s*\"", inner)}
    return found - {""}


def seconds(duration: str) -> int:
    """Of a duration such as 73h10m.

    >>> seconds("73h10m")
    263400
    """
    return sum(int(n) * _UNITS[unit] for n, unit in re.findall(r"(\d+)([smhd])", duration))
