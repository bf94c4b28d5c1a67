"""Counts of the release under way, kept by spell (a time in which the split did not change). On disk, so that a restart forgets nothing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from clickmill.disk import replace_text
from clickmill.errors import DataError
from clickmill.release import Paired, Phase, Release, Seen, Smoke, Traffic
from clickmill.release.evidence import Sums, total
from clickmill.release.release import UNDER_WAY

_FROZEN = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
PIECES = 10
"""Spells into which the time is cut by which a promoted bundle is watched; the oldest is dropped as a whole."""


class Spell(BaseModel):
    """From one change of the split to the next, or a piece of that while nothing is under way."""

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
    paired: dict[str, Paired] = {}
    """Bundle to its requests that the last good one got as well, from a target that makes pairs."""


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid")

    about: str | None = None
    """Digest of the bundle that the spells are about: the candidate, or the bundle that was promoted."""
    epoch: str = ""
    counted: dict[str, tuple[Traffic, Traffic]] = {}
    counted_pairs: dict[str, Paired] = {}
    smoke: Smoke | None = None
    spells: list[Spell] = []


class Observations:
    """Of one endpoint. Begins anew with each candidate."""

    def __init__(self, path: Path, *, watch_seconds: float) -> None:
        """Go on from the file, if it is there. watch_seconds: how much of a promoted bundle's past is kept. Raises DataError naming the
        file when it can't be read."""
        self._path, self._watched = path, timedelta(seconds=watch_seconds)
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
        again = epoch == stored.epoch
        before, before_pairs = (stored.counted, stored.counted_pairs) if again else ({}, {})
        pairs = {bundle: counts.paired for bundle, counts in seen.items() if counts.paired is not None}
        live, shadow, paired = {}, {}, {}
        for bundle, counts in seen.items():
            old_live, old_shadow = before.get(bundle, (Traffic(), Traffic()))
            live[bundle] = _since(Traffic, counts.live, old_live)
            shadow[bundle] = _since(Traffic, counts.shadow, old_shadow)
        for bundle, found in pairs.items():
            paired[bundle] = _since(Paired, found, before_pairs.get(bundle, Paired()))
        stored.epoch, stored.counted_pairs = epoch, pairs
        stored.counted = {bundle: (counts.live, counts.shadow) for bundle, counts in seen.items()}
        last = self._spell(release, now)
        stored.spells[-1] = last.model_copy(
            update={
                "until": now,
                "live": _added(Traffic, last.live, live),
                "shadow": _added(Traffic, last.shadow, shadow),
                "paired": _added(Paired, last.paired, paired),
            }
        )
        replace_text(self._path, self._stored.model_dump_json())

    def _spell(self, release: Release, now: AwareDatetime) -> Spell:
        """The one that goes on, or a new one; the last of the list."""
        spells, watched = self._stored.spells, release.phase not in UNDER_WAY
        last = spells[-1] if spells else None
        same = last is not None and (last.phase, last.percent) == (release.phase, release.percent)
        if last is not None and same and not (watched and now - last.since >= self._watched / PIECES):
            return last
        begin = release.since if last is None else max(last.until, release.since)
        new = Spell(phase=release.phase, percent=release.percent, since=begin, until=begin)
        if watched:  # what is too old says nothing of today
            spells[:] = [s for s in spells if s.phase in UNDER_WAY or s.until > now - self._watched]
        spells.append(new)
        return new


def _since(kind: type[Sums], now: Sums, before: Sums) -> Sums:
    return kind(**{name: getattr(now, name) - getattr(before, name) for name in kind.model_fields})


def _added(kind: type[Sums], one: Mapping[str, Sums], two: Mapping[str, Sums]) -> dict[str, Sums]:
    parts = {bundle: [side[bundle] for side in (one, two) if bundle in side] for bundle in {*one, *two}}
    return {bundle: total(kind, found) for bundle, found in parts.items()}


__all__ = ["Observations", "Spell"]
