"""A pipeline's JSON parameter as the typed settings of the library, with an error that names every wrong key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from clickmill.errors import UsageError

Settings = TypeVar("Settings", bound=BaseModel)

NULL = "null"
"""How null travels: kfp.local refuses a JSON null, so the text stands for it, in any setting."""


def typed_settings(
    topic: str, kind: type[Settings], given: Mapping[str, Any], own: Mapping[str, Any] | None = None
) -> Settings:
    """`given` as a `kind`; `own` are fields that the pipeline has as parameters of their own, None to forbid one here.

    kfp hands every number over as a float; pydantic takes whole ones as integers. Raises UsageError.
    """
    own = own or {}
    doubled = sorted(set(own) & set(given))
    if doubled:
        raise UsageError(
            f"{topic}: {', '.join(doubled)} is a parameter of the pipeline itself; give it there, not in `{topic}`"
        )
    fixed = {name: value for name, value in own.items() if value is not None}
    try:
        return kind(**restored(given), **fixed)
    except ValidationError as error:
        told = "\n".join(
            f"  {topic}.{'.'.join(map(str, e['loc']))}: {e['msg']}; got {e['input']!r}"
            for e in error.errors()
        )
        known = ", ".join(name for name in kind.model_fields if name not in own)
        raise UsageError(
            f"{topic}: {error.error_count()} settings are wrong; known are {known}\n{told}"
        ) from error


def portable(value: Any) -> Any:
    """A JSON value without null, for kfp."""
    return _map(value, lambda leaf: NULL if leaf is None else leaf)


def restored(value: Any) -> Any:
    """The value that `portable` was given."""
    return _map(value, lambda leaf: None if leaf == NULL else leaf)


def _map(value: Any, leaf: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _map(item, leaf) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_map(item, leaf) for item in value]
    return leaf(value)
