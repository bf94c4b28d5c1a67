"""The weights of a model on disk, and what its optimizers keep per row: one .npy per variable, in the model's own order.

Plain files where an HDF5 would do: the same weights give the same bytes, a full disk is an OSError at the write that met it (HDF5 tells
it when the file is closed, and keeps it open), and a table can be read without the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clickmill.disk import write_array


def save(variables: Sequence[Any], folder: Path) -> None:
    """Write each variable (or array); what stood in `folder` under the same names is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, variable in enumerate(variables):
        # By name: to NumPy a variable with a copy per device is not an array.
        value = variable if isinstance(variable, np.ndarray) else variable.numpy()
        write_array(folder / f"{i:03d}.npy", value)


def read(folder: Path) -> tuple[np.ndarray, ...]:
    """What `save` wrote, mapped into memory: nothing is read before it is used."""
    return tuple(np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy")))


def load(variables: Sequence[Any], folder: Path) -> None:
    """Assign to each variable what `save` wrote. Raises OSError for a missing file, ValueError for one that does not fit."""
    count = len(list(folder.glob("*.npy")))
    if count != len(variables):
        raise ValueError(f"{folder} holds {count} arrays, the model has {len(variables)} variables")
    for i, variable in enumerate(variables):
        value = np.load(folder / f"{i:03d}.npy", allow_pickle=False)
        if value.shape != tuple(variable.shape) or value.dtype != np.dtype(variable.dtype):
            raise ValueError(
                f"{folder}/{i:03d}.npy: {value.dtype} {value.shape} is not the model's {variable.path}, "
                f"{variable.dtype} {tuple(variable.shape)}"
            )
        variable.assign(value)
