"""Settings on the command line that have no option of their own: `--set training.epochs=3`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from clickmill.errors import UsageError

Settings = TypeVar("Settings", bound=BaseModel)


class _Plain(yaml.SafeLoader):
    """YAML without its own idea of time: a moment stays the text that was typed, which the setting's own type reads, and which goes
    into a pipeline's parameters, where only what JSON knows can go."""


_Plain.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def nested(
    assignments: Sequence[str], topics: Sequence[str], file: Path | None = None
) -> dict[str, dict[str, Any]]:
    """`topic.name=value` assignments as one dictionary per topic; values are read as YAML (numbers, lists, true; a date or time stays text).

    file: YAML of the same, a mapping per topic, to begin from; assignments go before it.

    Deeper names nest: `model.dcn_v2.embedding_dim=8` gives {"model": {"dcn_v2": {"embedding_dim": 8}}}.
    Raises UsageError for a file that is no such YAML, for an assignment without `=`, without a dot, or of an unknown topic.

    >>> nested(["training.epochs=3", "gate.max_ece=0.05"], ["training", "gate"])
    {'training': {'epochs': 3}, 'gate': {'max_ece': 0.05}}
    """
    settings: dict[str, dict[str, Any]] = {topic: {} for topic in topics}
    if file is not None:
        settings |= _read(file, topics)
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        parts = path.strip().split(".")
        if not equals or len(parts) < 2 or not all(parts):
            raise UsageError(
                f"--set {assignment}: must look like topic.name=value, such as {topics[0]}.seed=1"
            )
        if parts[0] not in settings:
            raise UsageError(f"--set {assignment}: no topic {parts[0]!r}; topics: {', '.join(topics)}")
        try:
            value = yaml.load(text, _Plain)
        except yaml.YAMLError as error:
            raise UsageError(f"--set {assignment}: {text!r} is not a YAML value: {error}") from error
        place: dict[str, Any] = settings
        for part in parts[:-1]:
            place = place.setdefault(part, {})
        place[parts[-1]] = value
    return settings


def _read(file: Path, topics: Sequence[str]) -> dict[str, dict[str, Any]]:
    try:
        given = yaml.load(file.read_text(), _Plain)
    except (OSError, yaml.YAMLError) as error:
        raise UsageError(f"--settings {file}: cannot be read as YAML: {error}") from error
    if not isinstance(given, dict) or not all(isinstance(values, dict) for values in given.values()):
        raise UsageError(
            f"--settings {file}: must hold a mapping per topic, such as `{topics[0]}: {{epochs: 3}}`"
        )
    unknown = sorted(set(map(str, given)) - set(topics))
    if unknown:
        raise UsageError(f"--settings {file}: no topic {unknown[0]!r}; topics: {', '.join(topics)}")
    return given


def typed(topic: str, kind: type[Settings], given: Mapping[str, Any]) -> Settings:
    """`given` as a `kind`. Raises UsageError that names every wrong setting and those there are."""
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        told = "; ".join(
            f"{topic}.{'.'.join(map(str, e['loc']))}: {e['msg']} (got {e['input']!r})" for e in error.errors()
        )
        raise UsageError(f"{told}. {topic} has {', '.join(kind.model_fields)}") from error
