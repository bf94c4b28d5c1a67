"""What was seen of the release under way, as spells: times in which the split did not change. On disk, so that a restart forgets nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from clickmill.disk import replace_text
from clickmill.errors import DataError
from clickmill.release import Phase, Release, Seen, Smoke, Traffic
from clickmill.release.evidence import total

_FROZEN = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Spell(BaseModel):
    """From one change of the split to the next."""

    model_config = _FROZEN

    phase: Phase
    """Of the release, all the while."""
    percent: int | None
    """The candidate's share, in canary."""
    since: AwareDatetime
    """Its begin."""
    until: AwareDatetime
    """When it was last looked at; its end once another has begun."""
    live: dict[str, Traffic] = {}
    """Bundle to what it answered meanwhile."""
    shadow: dict[str, Traffic] = {}
    """Bundle to what it answered unseen."""


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid")

    about: str | None = None
    """Digest of the bundle that the spells are about: the candidate, or the bundle that was promoted."""
    epoch: str = ""
    counted: dict[str, tuple[Traffic, Traffic]] = {}
    smoke: Smoke | None = None
    spells: list[Spell] = []


class Observations:
    """Of one endpoint. Begins anew with each candidate."""

    def __init__(self, path: Path) -> None:
        """Go on from the file, if it is there. Raises DataError naming it when it can't be read."""
        self._path = path
        try:
            self._stored = _Stored.model_validate_json(path.read_bytes()) if path.exists() else _Stored()
        except ValidationError as error:
            raise DataError(
                f"{path}: cannot be read as observations of a release; remove it to begin to count anew ({error})"
            ) from error

    @property
    def spells(self) -> tuple[Spell, ...]:
        """Oldest first."""
        return tuple(self._stored.spells)

    @property
    def smoke(self) -> Smoke | None:
        """Of the candidate, once it was known."""
        return self._stored.smoke

    def keep_smoke(self, smoke: Smoke) -> None:
        """Written with the next `note`."""
        self._stored.smoke = smoke

    def note(self, release: Release, epoch: str, seen: Mapping[str, Seen], now: AwareDatetime) -> None:
        """Add what was answered since the last call to the spell of this release's split."""
        stored = self._stored
        about = release.candidate or release.stable
        if about != stored.about:
            stored.about, stored.spells, stored.smoke = about, [], None
        before = stored.counted if epoch == stored.epoch else {}
        live, shadow = {}, {}
        for bundle, counts in seen.items():
            old_live, old_shadow = before.get(bundle, (Traffic(), Traffic()))
            live[bundle] = _since(counts.live, old_live)
            shadow[bundle] = _since(counts.shadow, old_shadow)
        stored.epoch = epoch
        stored.counted = {bundle: (counts.live, counts.shadow) for bundle, counts in seen.items()}
        last = stored.spells[-1] if stored.spells else None
        if last is None or (last.phase, last.percent) != (release.phase, release.percent):
            begin = release.since if last is None else max(last.until, release.since)
            last = Spell(phase=release.phase, percent=release.percent, since=begin, until=begin)
            stored.spells.append(last)
        stored.spells[-1] = last.model_copy(
            update={"until": now, "live": _added(last.live, live), "shadow": _added(last.shadow, shadow)}
        )
        replace_text(self._path, self._stored.model_dump_json())


def _since(now: Traffic, before: Traffic) -> Traffic:
    return Traffic(**{name: getattr(now, name) - getattr(before, name) for name in Traffic.model_fields})


def _added(one: Mapping[str, Traffic], two: Mapping[str, Traffic]) -> dict[str, Traffic]:
    parts = {bundle: [side[bundle] for side in (one, two) if bundle in side] for bundle in {*one, *two}}
    return {bundle: total(Traffic, found) for bundle, found in parts.items()}


__all__ = ["Observations", "Spell"]
