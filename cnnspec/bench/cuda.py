"""Timers of a CUDA device: events around launches, the cache flushed or not, and what the host waits."""

import time
from collections.abc import Callable
from functools import cached_property
from itertools import repeat
from typing import Any

import torch

from cnnspec.bench.caches import last_level_bytes


class Cold:
    """Time between events around one launch each, with an L2 cache that holds nothing of its operands."""

    mode = "gpu_cold"

    @cached_property
    def _filler(self) -> torch.Tensor:
        """Twice the cache."""
        return torch.empty(2 * last_level_bytes("cuda"), dtype=torch.int8, device="cuda")

    def sample(self, call: Callable[[], Any], count: int) -> float:
        """Return the seconds of one of `count` calls, each after the cache was filled with something else."""
        pairs = [_events() for _ in repeat(None, count)]
        for start, end in pairs:
            self._filler.zero_()
            start.record()
            call()
            end.record()
        torch.cuda.synchronize()
        return sum(_seconds(*pair) for pair in pairs) / count


class Hot:
    """Time between two events around launches in a row, on the same operands."""

    mode = "gpu_hot"

    def sample(self, call: Callable[[], Any], count: int) -> float:
        """Return the seconds of one of `count` calls in a row."""
        start, end = _events()
        torch.cuda.synchronize()
        start.record()
        for _ in repeat(None, count):
            call()
        end.record()
        torch.cuda.synchronize()
        return _seconds(start, end) / count


class Host:
    """Time on the clock of the wall until the device has finished calls in a row."""

    mode = "host"

    def sample(self, call: Callable[[], Any], count: int) -> float:
        """Return the seconds of one of `count` calls in a row."""
        torch.cuda.synchronize()
        start = time.perf_counter_ns()
        for _ in repeat(None, count):
            call()
        torch.cuda.synchronize()
        return (time.perf_counter_ns() - start) / count / 1e9


def _events() -> tuple[torch.cuda.Event, torch.cuda.Event]:
    made: Any = torch.cuda.Event  # without annotations
    return made(enable_timing=True), made(enable_timing=True)


def _seconds(start: torch.cuda.Event, end: torch.cuda.Event) -> float:
    return float(start.elapsed_time(end)) / 1e3
