"""Is a running experiment sound, and what does it say so far?"""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from clickmill import metric_names as names
from monitoring.dashboards.panels import board, lines, number

_BY = f"{names.EXPERIMENT}, {names.ARM}"
_ARM = "{{experiment}} {{arm}}"


def _by_arm(metric: str) -> str:
    return f"max by ({_BY}) ({metric})"


def _of(metric: str, which: str) -> str:
    return f'max by ({_BY}) ({metric}{{{names.METRIC}="{which}"}})'


def _lifts(which: str) -> dict[str, str]:
    return {
        f"{_ARM} lift": _of(names.EXPERIMENT_LIFT, which),
        f"{_ARM} low": _of(names.EXPERIMENT_LIFT_LOW, which),
        f"{_ARM} high": _of(names.EXPERIMENT_LIFT_HIGH, which),
    }


def dashboard() -> Dashboard:
    """The dashboard."""
    return board(
        "clickmill-experiment",
        "Clickmill: experiments",
        "Arms of a running experiment beside its control. Intervals are always valid: they may be looked at here as often as one likes.",
        {
            "Answer": [
                number(
                    "Better than the control?",
                    "none",
                    "1 yes, -1 no, 0 not known.",
                    _by_arm(names.EXPERIMENT_VERDICT),
                    _ARM,
                ),
                number(
                    "Is the split sound?",
                    "none",
                    "1 yes. 0: users are lost or doubled in an arm and nothing here counts.",
                    f"max by ({names.EXPERIMENT}) ({names.EXPERIMENT_SPLIT_SOUND})",
                    "{{experiment}}",
                ),
                number(
                    "Age of this",
                    "s",
                    "Since the logs were last analysed.",
                    f"time() - max by ({names.EXPERIMENT}) ({names.EXPERIMENT_LOOKED})",
                    "{{experiment}}",
                ),
                number(
                    "Looks that failed, 1 h",
                    "none",
                    "The log could not be used; the words are in the process's own log.",
                    f"increase({names.EXPERIMENT_FAILED_LOOKS}_total[1h])",
                    "{{experiment}}",
                ),
                lines(
                    "Lift of the click rate",
                    "percentunit",
                    "Clear of 0 it is an answer, whenever one looks.",
                    _lifts("ctr"),
                ),
                lines(
                    "Lift of revenue per thousand impressions",
                    "percentunit",
                    "Where the spec measures it.",
                    _lifts("rpm"),
                ),
            ],
            "Arms": [
                lines(
                    "Click rate",
                    "percentunit",
                    "As measured, since the start.",
                    {_ARM: _of(names.EXPERIMENT_VALUE, "ctr")},
                    least=0,
                ),
                lines(
                    "Revenue per thousand impressions",
                    "none",
                    "As measured, since the start.",
                    {_ARM: _of(names.EXPERIMENT_VALUE, "rpm")},
                    least=0,
                ),
                lines(
                    "Users",
                    "short",
                    "Apart by more than chance is a broken split.",
                    {_ARM: _by_arm(names.EXPERIMENT_USERS)},
                    least=0,
                ),
                lines(
                    "Impressions and clicks",
                    "short",
                    "Impressions whose attribution window is over.",
                    {
                        f"{_ARM} impressions": _by_arm(names.EXPERIMENT_IMPRESSIONS),
                        f"{_ARM} clicks": _by_arm(names.EXPERIMENT_CLICKS),
                    },
                    least=0,
                ),
                lines(
                    "Guardrails",
                    "none",
                    "1 shown to lose less than it may, -1 shown to lose more, 0 not known.",
                    {
                        f"{_ARM} {{{{metric}}}}": f"min by ({_BY}, {names.METRIC}) ({names.EXPERIMENT_GUARDRAIL})"
                    },
                ),
                lines(
                    "Impressions still missing",
                    "short",
                    "That would settle it if what comes is like what came.",
                    {_ARM: _by_arm(names.EXPERIMENT_NEEDS)},
                    least=0,
                ),
            ],
        },
    )
