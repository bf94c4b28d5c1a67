"""What another policy would have earned, from a log that says how likely each ad was; may import `clickmill.evaluation` and what stands below it.

    rows = LoggedRows.checked(reward=clicks, propensity=logged, target=wanted, cluster=request)
    found = evaluate(rows)                      # estimates with intervals, how much the log can say, and a verdict

A row is one impression. `estimators` has the equations (IPS, SNIPS, direct, doubly robust), `intervals` their uncertainty, `diagnostics`
what can go wrong (little overlap, heavy weights), `context_free` targets and reward models that follow from counts, `reading` the files.
"""

from clickmill.experiment.off_policy.context_free import Shares, cell_rates, shares
from clickmill.experiment.off_policy.diagnostics import Diagnostics, diagnose, pareto_shape
from clickmill.experiment.off_policy.estimators import Method, ratio, value
from clickmill.experiment.off_policy.evaluation import (
    Against,
    OffPolicyResult,
    OffPolicySettings,
    compare,
    evaluate,
)
from clickmill.experiment.off_policy.intervals import Interval, bernstein, bootstrap, normal
from clickmill.experiment.off_policy.log import LoggedRows

__all__ = [
    "Against",
    "Diagnostics",
    "Interval",
    "LoggedRows",
    "Method",
    "OffPolicyResult",
    "OffPolicySettings",
    "Shares",
    "bernstein",
    "bootstrap",
    "cell_rates",
    "compare",
    "diagnose",
    "evaluate",
    "normal",
    "pareto_shape",
    "ratio",
    "shares",
    "value",
]
