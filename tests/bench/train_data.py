"""The data of the training bench: zipf ids with labels of a planted model, the same file for every side. Needs numpy only."""

from __future__ import annotations

from pathlib import Path

import numpy as np

FIELDS, NUMERICS, DIM, BATCH = 26, 13, 16, 4096
CROSSES, UNITS = 3, (256, 128)
_HIDDEN = 4
_PAIRED = 8  # fields that interact
_BATCH_OF_ROWS = 65_536


def planted(
    ids: int, train: int, held_out: int, seed: int = 0
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Train and held-out rows {"ids": (n, 26) int32 from 0 in each field, "numerics": (n, 13), "label": (n,) float32}.

    Ids follow a zipf law (exponent 1.1), spread over each field's numbers. The log-odds are a sum of an effect per id, of products of
    hidden vectors of pairs of fields, and of the numerics; about 13 % of the labels are 1.
    """
    rng = np.random.default_rng(seed)
    rows = train + held_out
    weights = 1 / np.arange(1, ids + 1) ** 1.1
    cumulative = np.cumsum(weights) / weights.sum()
    found = {
        "ids": np.empty((rows, FIELDS), np.int32),
        "numerics": rng.standard_normal((rows, NUMERICS), dtype=np.float32),
    }
    logit = -2.2 + found["numerics"] @ rng.normal(0, 0.1, NUMERICS)
    hidden = np.zeros((rows, _HIDDEN))
    squares = np.zeros(rows)
    for field in range(FIELDS):
        rank = np.searchsorted(cumulative, rng.random(rows)).clip(0, ids - 1)
        found["ids"][:, field] = rng.permutation(ids)[rank]
        logit += rng.normal(0, 0.15, ids)[rank]
        if field < _PAIRED:
            vectors = rng.normal(0, 0.3, (ids, _HIDDEN))[rank]
            hidden += vectors
            squares += (vectors**2).sum(axis=1)
    logit += ((hidden**2).sum(axis=1) - squares) / 2
    found["label"] = (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.float32)
    return tuple(
        {key: value[part] for key, value in found.items()} for part in (slice(train), slice(train, None))
    )


def written(folder: Path, ids: int, train: int, held_out: int) -> Path:
    """The folder of these sizes' arrays, made where it is not there yet."""
    place = folder / f"data-{ids}-{train}-{held_out}"
    if not (place / "done").exists():
        place.mkdir(parents=True, exist_ok=True)
        for name, part in zip(("train", "held_out"), planted(ids, train, held_out), strict=True):
            for key, value in part.items():
                np.save(place / f"{name}-{key}.npy", value)
        (place / "done").touch()
    return place


def read(place: Path, name: str) -> dict[str, np.ndarray]:
    """`train` or `held_out` of a folder from `written`."""
    return {key: np.load(place / f"{name}-{key}.npy") for key in ("ids", "numerics", "label")}


def auc(label: np.ndarray, score: np.ndarray) -> float:
    """Share of pairs of a 1 and a 0 in the right order, ties half: the same few lines for every side.

    >>> auc(np.array([0, 1, 0, 1]), np.array([0.1, 0.4, 0.4, 0.8]))
    0.875
    """
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[place]  # of ties the mean
    ones = int(label.sum())
    return float((rank[label == 1].sum() - ones * (ones + 1) / 2) / (ones * (len(label) - ones)))
