"""Logged impressions with their chances: the one place where rewards, propensities and clusters are checked."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from clickmill.errors import DataError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LoggedRows:
    """n impressions; make it with `checked`. All arrays (n,)."""

    reward: Floats
    """What the impression brought: a click (0 or 1) or money, at least 0."""
    propensity: Floats
    """P(logging policy shows this ad in this place), in (0, 1]."""
    target: Floats
    """P(target policy shows this ad in this place), in [0, 1]."""
    model: Floats | None
    """Expected reward of the ad that was shown, by a reward model q that has not seen this row."""
    model_target: Floats | None
    """Expected reward of what the target would show here: sum over ads of its chance times q."""
    cluster: Ints
    """0, 1, ...: rows of one number are not independent (one request, one user)."""

    @classmethod
    def checked(
        cls,
        reward: npt.ArrayLike,
        propensity: npt.ArrayLike,
        target: npt.ArrayLike,
        *,
        model: npt.ArrayLike | None = None,
        model_target: npt.ArrayLike | None = None,
        cluster: npt.ArrayLike | None = None,
    ) -> LoggedRows:
        """`cluster` takes any ids; None, and a row whose id is None or NaN, make a row a cluster of its own.

        Raises DataError naming column, row and rule: no rows, lengths that differ, a value that is not a number, a reward below 0, a
        propensity outside (0, 1] (0: the logging policy could not have shown what it showed), a target outside [0, 1], one model column
        without the other.
        """
        columns = {"reward": reward, "propensity": propensity, "target": target}
        if (model is None) != (model_target is None):
            raise DataError(
                "model and model_target go together: q of what was shown, and of what the target would show"
            )
        if model is not None and model_target is not None:
            columns |= {"model": model, "model_target": model_target}
        arrays = {name: np.asarray(values, np.float64) for name, values in columns.items()}
        n = arrays["reward"].size
        for name, values in arrays.items():
            if values.shape != (n,):
                raise DataError(
                    f"{name} has shape {values.shape}, reward has {n} rows: need one value per row"
                )
        if n == 0:
            raise DataError("the log has no rows: nothing can be said about any policy")
        for name, values in arrays.items():
            _check(name, values, np.isfinite(values), "must be a number")
        _check("reward", arrays["reward"], arrays["reward"] >= 0, "must be at least 0")
        p = arrays["propensity"]
        _check(
            "propensity",
            p,
            (p > 0) & (p <= 1),
            "must be above 0 and at most 1, since the logging policy did show this ad",
        )
        _check(
            "target",
            arrays["target"],
            (arrays["target"] >= 0) & (arrays["target"] <= 1),
            "must lie in 0 to 1",
        )
        return cls(
            arrays["reward"],
            p,
            arrays["target"],
            arrays.get("model"),
            arrays.get("model_target"),
            _codes(cluster, n),
        )

    def __len__(self) -> int:
        return len(self.reward)

    @property
    def clusters(self) -> int:
        """How many there are."""
        return int(self.cluster.max()) + 1

    @property
    def weight(self) -> Floats:
        """(n,) target / propensity: how many impressions of the target policy this one stands for."""
        return self.target / self.propensity

    def clipped(self, most: float | None) -> LoggedRows:
        """The same rows with weights of at most `most` (the target's chance is lowered); None changes nothing."""
        if most is None:
            return self
        return replace(self, target=np.minimum(self.target, most * self.propensity))

    def sums(self, values: Floats) -> Floats:
        """(clusters,) sums of `values` (n,)."""
        return np.asarray(np.bincount(self.cluster, values, minlength=self.clusters), np.float64)


def _codes(cluster: npt.ArrayLike | None, n: int) -> Ints:
    if cluster is None:
        return np.arange(n, dtype=np.int64)
    ids = np.asarray(cluster)
    if ids.shape != (n,):
        raise DataError(f"cluster has shape {ids.shape}, reward has {n} rows: need one id per row")
    codes, _ = pd.factorize(ids)
    alone = codes < 0
    codes = codes.astype(np.int64)
    codes[alone] = codes.max(initial=-1) + 1 + np.arange(alone.sum())
    return codes


def _check(name: str, values: Floats, sound: npt.NDArray[np.bool_], rule: str) -> None:
    if not sound.all():
        bad = np.flatnonzero(~sound)
        raise DataError(
            f"{name} {rule}: {len(bad):,} of {len(values):,} rows, the first is row {bad[0]} with {values[bad[0]]:g}"
        )
