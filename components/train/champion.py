"""The trained model that a warm start begins from: that of a bundle, or of the newest version of a model store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clickmill.bundle import Store, load
from clickmill.bundle.manifest import MANIFEST

if TYPE_CHECKING:
    from clickmill.training import TrainedModel


@dataclass(frozen=True)
class Champion:
    """What to start from, if there is anything, and the sentence that says so."""

    trained: TrainedModel | None
    note: str


def champion_of(start: str, model: str) -> Champion:
    """The champion in `start`, a bundle or a store, if it is a `model`.

    A store may be empty on its first day, and of several models trained side by side only one became champion: the others then start
    from scratch, which is said and is no error. Raises BundleError for a bundle that holds no trained model.
    """
    if not start:
        return Champion(None, "")
    folder = Path(start)
    if not (folder / MANIFEST).exists():
        deployed = Store(folder).latest_deployed()
        if deployed is None:
            return Champion(None, f"warm start: {start} holds no champion yet; {model} starts from scratch")
        folder = deployed.path
    champion = load(folder)
    theirs = champion.manifest.model.name
    if theirs != model:
        return Champion(None, f"warm start: the champion is a {theirs}; {model} starts from scratch")
    return Champion(champion.trained(), f"warm start from {folder}, digest {champion.digest[:12]}")
