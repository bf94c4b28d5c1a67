"""Whether a model may serve: the gate between champion and challenger, its policy and its decision.

May import `clickmill.models`, `calibration`, `features`, `evaluation`, `data`, `contract` and `errors`; so far `evaluation` and
`errors` only.
"""

from clickmill.release.gate import Scores, judge
from clickmill.release.gate_decision import Basis, Check, GateDecision, Verdict
from clickmill.release.gate_policy import GatePolicy

__all__ = ["Basis", "Check", "GateDecision", "GatePolicy", "Scores", "Verdict", "judge"]
