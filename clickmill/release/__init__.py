"""The gate, which decides whether a challenger may replace the champion, and the release machine, which gives a bundle traffic step by step
and takes it back.

May import `clickmill.models`, `calibration`, `features`, `evaluation`, `data`, `contract` and `errors`; so far `evaluation` and
`errors` only.
"""

from clickmill.release.evidence import (
    Alert,
    Arm,
    Compared,
    Evidence,
    Labelled,
    Paired,
    Period,
    Shadowed,
    Smoke,
    Traffic,
    Watched,
)
from clickmill.release.gate import Scores, judge
from clickmill.release.gate_decision import Basis, Check, GateDecision, Verdict
from clickmill.release.gate_policy import GatePolicy
from clickmill.release.journal import Entry, Journal
from clickmill.release.machine import MACHINE, Decision, decide, freeze, propose, resume, roll_back, withdraw
from clickmill.release.release import Freeze, Phase, Quarantined, Release, Split
from clickmill.release.release_policy import ReleasePolicy
from clickmill.release.shares import SHARES, Shares
from clickmill.release.target import Seen, Target, TargetFailed

__all__ = [
    "MACHINE",
    "SHARES",
    "Alert",
    "Arm",
    "Basis",
    "Check",
    "Compared",
    "Decision",
    "Entry",
    "Evidence",
    "Freeze",
    "GateDecision",
    "GatePolicy",
    "Journal",
    "Labelled",
    "Paired",
    "Period",
    "Phase",
    "Quarantined",
    "Release",
    "ReleasePolicy",
    "Scores",
    "Seen",
    "Shadowed",
    "Shares",
    "Smoke",
    "Split",
    "Target",
    "TargetFailed",
    "Traffic",
    "Verdict",
    "Watched",
    "decide",
    "freeze",
    "judge",
    "propose",
    "resume",
    "roll_back",
    "withdraw",
]
