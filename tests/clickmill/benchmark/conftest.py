"""A planted data set in the layouts of the published ones: a click is likely where user and item go together."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

FRAPPE = ["user", "item", "daytime", "weekday", "isweekend", "homework", "cost", "weather", "country", "city"]
ROWS = {"train": 3000, "valid": 600, "test": 900}


def planted(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels (n,) and ids (n, 10), each field with a range of its own as in the AFN repository."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, [12, 9, 7, 7, 2, 3, 2, 9, 20, 30], (rows, 10))
    logit = -1.5 + 3.0 * ((ids[:, 0] + ids[:, 1]) % 3 == 0) + 0.7 * (ids[:, 3] == 0)
    label = (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(int)
    return label, ids + 100 * np.arange(10)


@pytest.fixture(scope="session")
def write_splits() -> Callable[..., Path]:
    """Write the planted splits into a folder, as `csv` or `libsvm`."""

    def write(folder: Path, layout: str, *, valid: str = "valid", packed: bool = False) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for seed, (name, rows) in enumerate(ROWS.items()):
            label, ids = planted(rows, seed)
            if layout == "csv":
                lines = [",".join(["label", *FRAPPE])]
                lines += [f"{y},{','.join(map(str, row))}" for y, row in zip(label, ids, strict=True)]
            else:
                lines = [
                    f"{2 * y - 1} " + " ".join(f"{value}:1" for value in row)
                    for y, row in zip(label, ids, strict=True)
                ]
            path = folder / f"{valid if name == 'valid' else name}.{layout}"
            text = "\n".join(lines) + "\n"
            if packed:
                path.with_name(path.name + ".gz").write_bytes(gzip.compress(text.encode()))
            else:
                path.write_text(text)
        return folder

    return write
