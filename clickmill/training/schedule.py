"""What a run decides from its evaluations: when to evaluate, how fast to learn, when to stop. Pure: the same history, the same answer.

A history is the NE of each evaluation on the validation split, in order (or its AUC with the sign turned, where the configuration watches that);
lower is better, and only strictly lower.
Whoever resumes a run replays its history and decides as the undisturbed run did.
"""

from __future__ import annotations

from collections.abc import Sequence

from clickmill.training.config import TrainingConfig


def evaluation_steps(steps: int, per_epoch: int) -> tuple[int, ...]:
    """After which steps of an epoch of so many `steps` to evaluate: evenly spread, the last one always, no step twice.

    >>> evaluation_steps(10, 4)
    (2, 5, 7, 10)
    >>> evaluation_steps(2, 4)
    (1, 2)
    """
    return tuple(sorted({k * steps // per_epoch for k in range(1, per_epoch + 1)} - {0}))


def rate(history: Sequence[float], config: TrainingConfig) -> float:
    """What every learning rate is multiplied by after this history: 1 at first, times `rate_decay` on each plateau.

    A plateau is `decay_patience` evaluations without a better one and one more; the count starts anew after each decay.
    """
    best, waited, scale = float("inf"), 0, 1.0
    for score in history:
        if score < best:
            best, waited = score, 0
        else:
            waited += 1
        if waited > config.decay_patience:
            scale, waited = max(scale * config.rate_decay, config.least_rate), 0
    return scale


def best(history: Sequence[float]) -> int:
    """Index of the lowest, the earliest of equals. `history` may not be empty."""
    return min(range(len(history)), key=lambda i: history[i])


def finished(history: Sequence[float], config: TrainingConfig) -> bool:
    """Whether more than `patience` evaluations have passed since the best one."""
    return bool(history) and len(history) - 1 - best(history) > config.patience
