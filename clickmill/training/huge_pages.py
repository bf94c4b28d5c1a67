"""Large tables in pages of 2 MiB instead of 4 KiB, so that finding a row costs one miss of the memory and not another to find its page.

A batch reads some 45,000 rows of a table of gigabytes (26 fields of 1,000,000 ids), each on a page of its own: more pages than a
processor remembers where they are. Linux gathers pages where a program asks for it (`madvise(2)`: MADV_HUGEPAGE, MADV_COLLAPSE since 6.1).
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Iterable

import numpy as np
import tensorflow as tf

HUGE = 2 << 20
LEAST = 32 << 20
"""Bytes of a table below which it is left alone: the processor remembers enough small pages for those."""
_COLLAPSE = 25
"""MADV_COLLAPSE of linux/mman.h; Python's mmap knows no name for it yet."""


def gather_pages(variables: Iterable[tf.Variable]) -> int:
    """Ask the system for huge pages under each variable of at least LEAST bytes; how many bytes it was asked for.

    To be called before the first sparse read or write: from then on TensorFlow answers a read of a variable with a copy. A wish only: a
    system that cannot fulfil it (another than Linux, huge pages switched off, memory in small pieces) leaves the pages as they are.
    """
    if not sys.platform.startswith("linux"):
        return 0
    return sum(_gather(variable) for variable in variables if _bytes(variable) >= LEAST)


def _bytes(variable: tf.Variable) -> int:
    return int(np.prod(variable.shape)) * variable.dtype.size


def _gather(variable: tf.Variable) -> int:
    if "CPU" not in variable.device:
        return 0
    # A view of the variable's own memory, given up before anything writes: TensorFlow copies what somebody else still looks at.
    view = np.from_dlpack(variable.read_value())
    begin, size = view.__array_interface__["data"][0], view.nbytes
    del view
    first, end = -(-begin // HUGE) * HUGE, (begin + size) // HUGE * HUGE
    libc = ctypes.CDLL(None)
    for advice in (mmap.MADV_HUGEPAGE, _COLLAPSE):
        libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(end - first), ctypes.c_int(advice))
    return end - first
