"""What the ranker falls back on when a bundle cannot be asked: its contract and its click rates, read before its graph is loaded."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clickmill import contract as contracts
from clickmill.contract import FeatureContract
from clickmill.errors import BundleCorrupt, ClickmillError
from serving.ranking import RankingForm

if TYPE_CHECKING:
    from clickmill.bundle import Priors

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Standby:
    """Of one bundle."""

    form: RankingForm
    priors: Priors
    digest: str
    version: str

    @classmethod
    def of(cls, contract: FeatureContract, priors: Priors, digest: str, version: str) -> Standby:
        """From a bundle's parts."""
        return cls(RankingForm.of(contract), priors, digest, version)


def read_standby(folder: Path) -> Standby | None:
    """From a bundle's folder: of its files only the two that are needed are verified, and only they must be there.

    None for a bundle older than its click rates. Raises BundleError and its kinds.
    """
    from clickmill.bundle.load import CONTRACT
    from clickmill.bundle.manifest import read, sha256_of
    from clickmill.bundle.priors import PRIORS
    from clickmill.bundle.priors import read as read_priors

    manifest = read(folder)
    if PRIORS not in manifest.files:
        return None
    for name in (CONTRACT, PRIORS):
        path = folder / name
        if not path.is_file() or sha256_of(path) != manifest.files[name].sha256:
            raise BundleCorrupt(f"{path}: is missing or not the file that was written; copy the bundle again")
    priors = read_priors(folder)
    assert priors is not None, "it is among the files"
    return Standby.of(contracts.load(folder / CONTRACT), priors, manifest.digest, manifest.digest[:12])


def first_standby(folder: Path) -> Standby | None:
    """From the bundle that is about to be loaded; None when it has none or is broken, which its loading will say in words."""
    try:
        return read_standby(folder)
    except ClickmillError as error:
        log.warning("no fallback from %s: %s", folder, error)
        return None
