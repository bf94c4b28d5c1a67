"""Which calibrator? The simplest whose NE on held-out folds is as good as the best's, up to its standard error.

Methods in order of simplicity: none, platt, isotonic. Each is fitted on all folds but one and judged on that one, so every row
is judged by a calibrator that has not seen it. The difference of two methods is taken row by row (they share the rows, so most of
the noise cancels); a simpler method wins when its mean loss exceeds the best's by no more than the standard error of that
difference (the one-standard-error rule of Breiman et al. 1984, on paired differences).

Isotonic needs MIN_CLICKS_ISOTONIC clicks: below about 1,000 cases it overfits and Platt is better (Niculescu-Mizil & Caruana, "Predicting
Good Probabilities With Supervised Learning", ICML 2005, section 5); where clicks are rare, a case is a click. Platt needs
MIN_CLICKS_PLATT: at 50 clicks the standard error of its intercept is 1 / sqrt(50) = 14 %, as large as what it would mend.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from clickmill.calibration.calibrator import Calibration, Calibrator
from clickmill.calibration.identity import Identity
from clickmill.calibration.isotonic import Isotonic, fit_isotonic
from clickmill.calibration.logits import Floats, LogitRows, check_logits, log_loss_of_logits
from clickmill.calibration.platt import Platt, fit_platt
from clickmill.calibration.prior import PriorCorrection
from clickmill.errors import DegenerateLabels, UsageError

Method = Literal["none", "platt", "isotonic"]
METHODS: tuple[Method, ...] = get_args(Method)
"""From simple to complex."""
MIN_CLICKS_PLATT = 50
MIN_CLICKS_ISOTONIC = 1000

_FIT: dict[str, Callable[[LogitRows], Identity | Platt | Isotonic]] = {
    "none": lambda rows: Identity(),
    "platt": lambda rows: fit_platt(rows.logit, rows.y, rows.weight),
    "isotonic": lambda rows: fit_isotonic(rows.logit, rows.y, rows.weight),
}


class Selection(BaseModel):
    """The chosen calibrator, fitted on all rows, and why it was chosen."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    calibrator: Calibrator
    """Fitted on all rows."""
    ne_by_method: dict[Method, float]
    """Normalized entropy on held-out folds of every method that was judged."""
    reason: str
    """The choice in words, with numbers."""

    @property
    def held_out_ne(self) -> float:
        """NE of the chosen method on held-out folds: fit to compare models on these rows."""
        return self.ne_by_method[self.calibrator.kind]


def select(
    logit: npt.ArrayLike,
    y: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    *,
    folds: int = 5,
    seed: int = 0,
    methods: Sequence[Method] = METHODS,
) -> Selection:
    """Choose and fit on prior-corrected logits (n,) and clicks (n,) of rows the model has not seen.

    Folds are drawn by `seed` and hold equal shares of the clicks. Raises DegenerateLabels with one class only, UsageError for
    an unknown method or fewer than 2 folds.
    """
    rows = check_logits(logit, y, weight)
    unknown = [method for method in methods if method not in METHODS]
    if unknown or not methods:
        raise UsageError(f"methods must be some of {', '.join(METHODS)}, got {list(methods)}")
    if folds < 2:
        raise UsageError(f"folds must be at least 2, got {folds}")
    wanted = [method for method in METHODS if method in methods]
    judged, notes = _affordable(wanted, rows, folds)
    losses: dict[Method, Floats] = {}
    fitted: dict[Method, Identity | Platt | Isotonic] = {}
    for method in judged:
        try:
            fitted[method] = _FIT[method](rows)
            losses[method] = _held_out_loss(method, rows, folds, seed)
        except DegenerateLabels as error:
            notes.append(f"{method} is out: {error}")
    if not losses:
        raise DegenerateLabels(f"no method of {', '.join(methods)} can be fitted: {'; '.join(notes)}")
    entropy = _entropy(rows)
    chosen, words = _simplest(losses, rows.weight, entropy)
    return Selection(
        calibrator=fitted[chosen],
        ne_by_method={
            method: float(np.average(loss, weights=rows.weight)) / entropy for method, loss in losses.items()
        },
        reason="; ".join([words, *notes]),
    )


def fit(
    raw_logit: npt.ArrayLike,
    y: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    *,
    negatives_kept: float = 1.0,
    positive_weight: float = 1.0,
    folds: int = 5,
    seed: int = 0,
    methods: Sequence[Method] = METHODS,
) -> tuple[Calibration, Selection]:
    """Prior correction, then `select` on what it leaves: raw logits (n,) of the model as trained, clicks (n,).

    `weight` are importance weights of these rows in traffic, not the weights of the training loss.
    """
    prior = PriorCorrection(negatives_kept=negatives_kept, positive_weight=positive_weight)
    selection = select(prior(raw_logit), y, weight, folds=folds, seed=seed, methods=methods)
    calibration = Calibration(
        negatives_kept=negatives_kept, positive_weight=positive_weight, calibrator=selection.calibrator
    )
    return calibration, selection


def _affordable(wanted: list[Method], rows: LogitRows, folds: int) -> tuple[list[Method], list[str]]:
    """The methods that these rows can feed, and a note for each that they cannot."""
    rarer = min(rows.clicks, len(rows.y) - rows.clicks)
    kind = "clicks" if rows.clicks == rarer else "non-clicks"
    needed = {"none": 0, "platt": max(MIN_CLICKS_PLATT, 2 * folds), "isotonic": MIN_CLICKS_ISOTONIC}
    judged = [method for method in wanted if rarer >= needed[method]]
    notes = [
        f"{method} was not considered: {rarer} {kind}, {needed[method]} needed"
        for method in wanted
        if method not in judged
    ]
    if not judged:
        # Asked for by name only: fit the simplest of them rather than none at all.
        raise DegenerateLabels("; ".join(notes) + "; allow method none or give calibration a longer window")
    return judged, notes


def _held_out_loss(method: str, rows: LogitRows, folds: int, seed: int) -> Floats:
    """(n,) loss of each row under a calibrator fitted without its fold."""
    fold = _folds(rows.y, folds, seed)
    loss = np.empty_like(rows.logit)
    for k in range(folds):
        out = fold == k
        calibrator = _FIT[method](rows.take(~out))
        loss[out] = log_loss_of_logits(calibrator(rows.logit[out]), rows.y[out])
    return loss


def _folds(y: Floats, folds: int, seed: int) -> npt.NDArray[np.int64]:
    """(n,) fold numbers; clicks and non-clicks are dealt out evenly, each in random order."""
    order = np.random.default_rng(seed).permutation(len(y))
    order = order[np.argsort(y[order], kind="stable")]
    fold = np.empty(len(y), dtype=np.int64)
    fold[order] = np.arange(len(y)) % folds
    return fold


def _simplest(losses: dict[Method, Floats], weight: Floats, entropy: float) -> tuple[Method, str]:
    """The simplest method within one standard error of the best, and why in words."""
    ne = {method: float(np.average(loss, weights=weight)) / entropy for method, loss in losses.items()}
    best = min(ne, key=lambda method: ne[method])
    for method, loss in losses.items():
        difference = (loss - losses[best]) / entropy
        excess = ne[method] - ne[best]
        error = float(np.sqrt(np.sum((weight * (difference - excess)) ** 2)) / weight.sum())
        if excess <= error:
            break
    if method != best:
        return method, (
            f"{method} is simpler than {best} and within one standard error of it: NE on held-out folds {ne[method]:.5f} "
            f"against {ne[best]:.5f}, difference {excess:.5f}, standard error {error:.5f}"
        )
    if len(ne) == 1:
        return best, f"{best} is the only method that was judged: NE on held-out folds {ne[best]:.5f}"
    others = ", ".join(f"{other} {value:.5f}" for other, value in ne.items() if other != best)
    simpler = "" if best == next(iter(ne)) else "; simpler ones are worse by more than a standard error"
    # "none has the best NE" would read as if nothing had
    subject = "no calibrator at all" if best == "none" else best
    return best, f"{subject} has the best NE on held-out folds: {ne[best]:.5f} against {others}{simpler}"


def _entropy(rows: LogitRows) -> float:
    rate = float(np.average(rows.y, weights=rows.weight))
    return float(-(rate * np.log(rate) + (1 - rate) * np.log1p(-rate)))
