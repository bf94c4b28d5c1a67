"""The figures of an analysis that the Kubeflow UI shows."""

from __future__ import annotations

from clickmill.experiment.findings import Analysis


def figures_of(analysis: Analysis) -> dict[str, float | None]:
    """By name: users by arm, the split's p-value, and each effect with its ends."""
    found: dict[str, float | None] = {"split_p": analysis.sample_ratio.any_time_p}
    found |= {f"users_{arm.arm}": arm.users for arm in analysis.arms}
    for effect in analysis.effects:
        name = f"{effect.metric}_{effect.treatment}"
        found |= {f"{name}_lift": effect.lift, f"{name}_low": effect.low, f"{name}_high": effect.high}
    return found
