"""Champion and challenger on the same test rows, scored and timed side by side, and the gate's word."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clickmill.bundle.judged_rows import labels, weights
from clickmill.bundle.load import Bundle, load
from clickmill.bundle.score import groups, score, slices
from clickmill.bundle.store import Store
from clickmill.data import PreparedDataset
from clickmill.errors import SchemaMismatch
from clickmill.progress import SILENT, Progress
from clickmill.release import GateDecision, GatePolicy, Scores, judge
from components.validate_model.candidates import Candidate
from components.validate_model.stopwatch import latencies


@dataclass(frozen=True)
class Judgement:
    """The decision and what it rests on."""

    decision: GateDecision
    challenger: Bundle
    champion: Bundle | None
    champion_version: int | None
    y: np.ndarray
    """Clicks (n,) of the test rows."""
    pctr: np.ndarray
    """The challenger's probabilities (n,)."""
    weight: np.ndarray | None
    """Importance (n,), where the contract has it."""
    note: str = ""
    """Why there was no comparison although the store has a version, in words."""

    @property
    def reasons(self) -> list[str]:
        """The decision in sentences, the summary first."""
        checks = [f"{check.name} {check.verdict}: {check.reason}" for check in self.decision.checks]
        return [self.decision.summary, *([self.note] if self.note else []), *checks]


def judgement(
    candidate: Candidate,
    dataset: PreparedDataset,
    store: Path | None,
    policy: GatePolicy,
    *,
    seed: int,
    progress: Progress = SILENT,
) -> Judgement:
    """Score the test split with the best candidate and, where there is one, with the champion; then judge.

    A champion whose contract asks for fields these rows do not have cannot be compared; the gate then asks for its floors, and
    the note says so.
    """
    challenger = candidate.bundle
    pctr = score(challenger, dataset, "test", progress=progress)
    deployed = Store(store).latest_deployed() if store else None
    champion = load(deployed.path, verify=False) if deployed else None  # the store has verified it
    theirs, note = None, ""
    if champion is not None:
        try:
            theirs = score(champion, dataset, "test", progress=progress)
        except SchemaMismatch as error:
            assert deployed is not None
            note = f"Version {deployed.version} cannot read these rows and was left out of the comparison: {error}"
    if theirs is None:
        champion = None
    times = _latencies(champion, challenger, dataset, policy, seed)
    rows_of = groups(dataset, "test")
    y, weight = labels(dataset, "test"), weights(dataset, "test")
    decision = judge(
        None if theirs is None else Scores(theirs, times.get("champion")),
        Scores(pctr, times.get("challenger")),
        y,
        slices=slices(dataset, "test"),
        weight=weight,
        cluster=rows_of.get("user", rows_of.get("request")),
        policy=policy,
        seed=seed,
    )
    return Judgement(
        decision=decision,
        challenger=challenger,
        champion=champion,
        champion_version=deployed.version if deployed and champion else None,
        y=y,
        pctr=pctr,
        weight=weight,
        note=note,
    )


def _latencies(
    champion: Bundle | None, challenger: Bundle, dataset: PreparedDataset, policy: GatePolicy, seed: int
) -> dict[str, np.ndarray]:
    """Milliseconds per request of each; empty when the policy does not ask."""
    compared = champion is not None and policy.max_p99_ratio is not None
    if not compared and policy.max_p99_ms is None:
        return {}
    named = {"champion": champion, "challenger": challenger}
    bundles = {name: bundle for name, bundle in named.items() if bundle is not None}
    return dict(zip(bundles, latencies(list(bundles.values()), dataset, seed=seed), strict=True))
