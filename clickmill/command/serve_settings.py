"""The file between `clickmill serve --tune`, `clickmill serve --settings` and `clickmill capacity --measured`.

serve: {threads: 2, batch_rows: 512}      options of `clickmill serve`, by their names with underscores
measured: {...}                           what they were chosen by (clickmill.capacity.Measured)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
import yaml

from clickmill.errors import UsageError

if TYPE_CHECKING:
    from clickmill.capacity import Measured

_TOPICS = ("serve", "measured")


def take_settings(ctx: typer.Context, path: Path | None) -> Path | None:
    """Callback of --settings: the file's values stand where the command line says nothing. Raises UsageError."""
    if path is None or ctx.resilient_parsing:
        return path
    given = read(path)["serve"]
    known = {str(parameter.name) for parameter in ctx.command.params} - {"path", "settings", "help"}
    known = {name for name in known if not name.startswith("tune")}
    unknown = sorted(set(given) - known)
    if unknown:
        raise UsageError(
            f"{path}: serve.{unknown[0]} is no option of `clickmill serve`; there are {', '.join(sorted(known))}"
        )
    ctx.default_map = {**(ctx.default_map or {}), **given}
    return path


def measured_in(path: Path) -> Measured:
    """What a file says was measured. Raises UsageError."""
    from pydantic import ValidationError

    from clickmill.capacity import Measured

    given = read(path)["measured"]
    if not given:
        raise UsageError(f"{path}: has no `measured`; write it with `clickmill serve BUNDLE --tune`")
    try:
        return Measured.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, ("measured", *first["loc"])))
        raise UsageError(
            f"{path}: {place}: {first['msg']}; measure again with `clickmill serve BUNDLE --tune`"
        ) from error


def read(path: Path) -> dict[str, dict[str, Any]]:
    """Both topics of a file, empty where it lacks one. Raises UsageError."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(found, dict) or set(found) - set(_TOPICS):
        raise UsageError(
            f"{path}: must hold `serve` with options of `clickmill serve`, and may hold `measured`"
        )
    topics = {name: found.get(name) or {} for name in _TOPICS}
    for name, values in topics.items():
        if not isinstance(values, dict):
            raise UsageError(f"{path}: `{name}` must be a mapping, such as `serve: {{threads: 2}}`")
    return topics


def write(path: Path, serve: Mapping[str, Any], measured: Measured) -> None:
    """Write a file whole or not at all."""
    document = {"serve": dict(serve), "measured": measured.model_dump(mode="json")}
    head = "# By `clickmill serve --tune`; read by `clickmill serve --settings` and `clickmill capacity --measured`.\n"
    beside = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    beside.write_text(head + yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=120))
    beside.replace(path)
