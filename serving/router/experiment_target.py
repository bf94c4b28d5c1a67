"""An experiment whose arms are bundles, on this machine: a server for each bundle, and the door that knows who is in which arm."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clickmill import contract as contracts
from clickmill.bundle import Store
from clickmill.contract import FeatureContract
from clickmill.disk import replace_text
from clickmill.errors import UsageError
from clickmill.experiment import ExperimentSpec
from clickmill.experiment.spec import dumps
from clickmill.prediction_log import Kept, Salt, check_salt
from clickmill.release import Split
from serving.arms import check_fields
from serving.router.by_arm import ByArm, bundles_of, split_of
from serving.router.local_target import LocalTarget

SPEC = "experiment.yaml"
"""In the home folder: the spec as the rankers read it."""
_FILE_SECONDS = 10.0
"""Age at which a file of the prediction log is closed: whoever looks at a running experiment wants to see its last minute."""


class RunningExperiment:
    """Bundles by arm, the split, and the target that carries it out."""

    def __init__(self, target: LocalTarget, split: Split, bundles: dict[str, str], model_name: str) -> None:
        self.target, self.bundles, self.model_name, self._split = target, bundles, model_name, split

    @property
    def url(self) -> str:
        """Where rankings are asked for."""
        return f"{self.target.url}/v1/models/{self.model_name}:rank"

    def keep_up(self) -> None:
        """Start again what has ended; its users are answered by another server until it is up. Raises TargetFailed while it is not."""
        self.target.carry_out(self._split)


@contextmanager
def running(
    spec: ExperimentSpec, store: Store, home: Path, *, host: str, port: int, prediction_log: Path | None
) -> Iterator[RunningExperiment]:
    """Serve for the length of a `with`; its body begins when all servers are ready.

    Raises UsageError for a bundle that is not in the store, for bundles of different contracts, for a contract that does not know the
    unit or a slice of the spec, and for personal fields that would be logged without a salt; TargetFailed for servers that do not start,
    and for a port that is taken.
    """
    newest = store.latest_deployed()
    if newest is None:
        raise UsageError(f"{store.root}: no bundle in it; `clickmill run` deploys one")
    bundles = bundles_of(spec, lambda named: _digest(store, named), newest.manifest.digest)
    folders = {digest: _folder(store, digest) for digest in bundles.values()}
    read = {digest: contracts.load(folder / "contract.yaml") for digest, folder in folders.items()}
    name = _one_name(spec, read)
    for contract in read.values():
        _check(spec, contract, logged=prediction_log is not None)
    home.mkdir(parents=True, exist_ok=True)
    replace_text(home / SPEC, dumps(spec.without_bundles))
    with LocalTarget(
        folders.__getitem__,
        model_name=name,
        home=home,
        host=host,
        port=port,
        prediction_log=prediction_log,
        log_settings={"features": Kept.VALUES, "file_seconds": _FILE_SECONDS},
        chooser=ByArm(spec, bundles),
        experiment=home / SPEC,
    ) as target:
        split = split_of(spec, bundles)
        target.carry_out(split)
        yield RunningExperiment(target, split, bundles, name)


def _digest(store: Store, named: str) -> str:
    """The whole digest. Raises UsageError unless exactly one bundle of the store begins so."""
    found = {d.manifest.digest: d.version for d in store.lineage()}
    those = [digest for digest in found if digest.startswith(named)]
    if len(those) == 1:
        return those[0]
    there = ", ".join(f"{digest[:12]} (version {version})" for digest, version in found.items())
    said = "several bundles begin so" if those else "no such bundle"
    raise UsageError(f"bundle {named[:64]!r}: {said} in {store.root}; there are {there}")


def _folder(store: Store, digest: str) -> Path:
    version = store.find(digest)
    assert version is not None, "its digest comes from the store"
    store.verified(version)
    return store.path(version)


def _one_name(spec: ExperimentSpec, read: dict[str, FeatureContract]) -> str:
    names = {contract.name: digest for digest, contract in read.items()}
    if len(names) == 1:
        return next(iter(names))
    told = ", ".join(f"{digest[:12]} {name!r}" for name, digest in names.items())
    raise UsageError(
        f"experiment {spec.name}: its bundles answer different contracts ({told}); one request can't be for both"
    )


def _check(spec: ExperimentSpec, contract: FeatureContract, *, logged: bool) -> None:
    check_fields(spec, contract)
    if logged:
        check_salt(contract, Kept.VALUES, Salt.of_environment())


__all__ = ["RunningExperiment", "running"]
