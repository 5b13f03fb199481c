"""Interleaved pairs of samples of two calls, and ratios of their CPU time in one process with one thread."""

import gc
import importlib.util
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
MALLOC = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "LD_PRELOAD")
PAIRS = 15


@dataclass(frozen=True)
class Row:
    """Two calls to compare, the ratio that is wanted of them, and what theirs is."""

    name: str
    ours: Callable[[], Any]
    theirs: Callable[[], Any]
    target: float = 0
    calls: int = 1
    against: str = ""


@dataclass(frozen=True)
class Ratio:
    """Median of the ratios of interleaved pairs, their quartiles, and the median milliseconds of each side."""

    median: float
    low: float
    high: float
    ours: float
    theirs: float


def interleaved(
    first: Callable[[], float], second: Callable[[], float], orders: Iterable[bool]
) -> Iterator[tuple[float, float]]:
    """Yield pairs of a sample of each, the second taken before the first where the order says so.

    While a pair is taken no garbage is collected.
    """
    for swapped in orders:
        collecting = gc.isenabled()
        gc.disable()
        try:
            pair = (second(), first())[::-1] if swapped else (first(), second())
        finally:
            if collecting:
                gc.enable()
        yield pair


def compared(row: Row, pairs: int = PAIRS) -> Ratio:
    """Return the ratio of the CPU times of a row; each pair runs in the order opposite to the last one's."""

    def seconds(call: Callable[[], Any]) -> float:
        start = time.process_time()
        for _ in range(row.calls):
            call()
        return (time.process_time() - start) / row.calls

    seconds(row.ours), seconds(row.theirs)
    orders = (pair % 2 == 0 for pair in range(pairs))
    found = list(interleaved(lambda: seconds(row.ours), lambda: seconds(row.theirs), orders))
    ours, theirs = zip(*found, strict=True)
    ratios = sorted(a / b for a, b in found)
    quarter = len(ratios) // 4
    return Ratio(
        median(ratios), ratios[quarter], ratios[-1 - quarter], median(ours) * 1e3, median(theirs) * 1e3
    )


def one_thread() -> None:
    """Ask for one thread: by the environment where NumPy and torch still have to load, else of what is loaded."""
    for name in THREADS:
        os.environ.setdefault(name, "1")
    if "numpy" in sys.modules and importlib.util.find_spec("threadpoolctl"):
        importlib.import_module("threadpoolctl").threadpool_limits(1)
    import torch

    torch.set_num_threads(1)


def conditions(pairs: int = PAIRS) -> str:
    """Return the processor, the versions and the settings that a table was measured with."""
    import numpy as np
    import torch

    settings = " ".join(f"{name}={os.environ.get(name, '')}" for name in (*THREADS, *MALLOC))
    made = f"{platform.processor() or platform.machine()}, numpy {np.__version__}, torch {torch.__version__}"
    return f"{made}\n{settings}\n{pairs} interleaved pairs, CPU time\n"
