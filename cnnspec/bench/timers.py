"""How long a call takes: samples of so many calls in a row that the clock sees them well."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import repeat
from typing import Any, Protocol

LEAST_SECONDS = 2e-3
"""The shortest sample: long for a clock, and short for a scheduler, which lets another process run every few ms."""
WARM_SECONDS, WARM = 1.0, 0.05
"""Calls are warm when two samples in a row differ by less than this part, or after so many seconds."""
PROBES = 5
"""Samples of a warm call, of which the shortest says how long a call takes."""
SIMILAR = 2
"""Calls whose times differ by less than this factor get samples of as many calls."""

Sample = Callable[[int], float]
"""sample(count) -> the seconds of one of `count` calls in a row."""


class Timer(Protocol):
    """Says how long one of `count` calls takes, in seconds."""

    @property
    def mode(self) -> str:
        """The word for what is measured."""
        ...

    def sample(self, call: Callable[[], Any], count: int) -> float:
        """Return the seconds of one of `count` calls in a row."""
        ...


@dataclass(frozen=True)
class Wall:
    """Time on the clock of the wall; `clock` returns nanoseconds."""

    clock: Callable[[], int] = time.perf_counter_ns
    mode: str = "cpu"

    def sample(self, call: Callable[[], Any], count: int) -> float:
        """Return the seconds of one of `count` calls in a row."""
        again = repeat(None, count)
        start = self.clock()
        for _ in again:
            call()
        return (self.clock() - start) / count / 1e9


FILLED = 2
"""Times the last-level cache that is written before each cold call."""
MOST = 4
"""Calls of a cold sample: filling the caches takes far longer than the calls that it sums up."""


class Cold:
    """Time of calls one by one, each after so much else was written that no cache holds any of its operands.

    A sample of more than `MOST` calls is the mean of so many. The filler is read as well as written: what is only
    written may go past the caches.
    """

    mode = "cpu_cold"

    def __init__(
        self, clock: Callable[[], int] = time.perf_counter_ns, filler: Callable[[], Any] | None = None
    ) -> None:
        self.clock, self._given = clock, filler

    @cached_property
    def fill(self) -> Callable[[], Any]:
        """What writes twice the last-level cache, in the threads of torch."""
        if self._given is not None:
            return self._given
        import torch

        from cnnspec.bench.caches import last_level_bytes

        return partial(torch.ones(FILLED * last_level_bytes() // 8, dtype=torch.int64).add_, 1)

    def sample(self, call: Callable[[], Any], count: int) -> float:
        """Return the mean seconds of calls with cold caches."""
        spent, made = 0, cold_calls(self.mode, count)
        for _ in repeat(None, made):
            self.fill()
            start = self.clock()
            call()
            spent += self.clock() - start
        return spent / made / 1e9


def cold_calls(mode: str, count: int) -> int:
    """Return how many calls a sample of `count` makes.

    >>> cold_calls("cpu", 100), cold_calls("cpu_cold", 100)
    (100, 4)
    """
    return min(count, MOST) if mode == Cold.mode else count


def quickest(sample: Sample, least: float = LEAST_SECONDS) -> float:
    """Return the seconds of a call, undisturbed: the least of samples of at least `least` seconds, taken warm."""
    count, spent, before = 1, 0.0, math.nan
    while True:
        seconds = sample(count)
        spent += seconds * count
        if seconds * count >= least:
            if abs(seconds - before) <= WARM * before or spent >= WARM_SECONDS:
                break
        else:
            wanted = math.ceil(least / seconds) if seconds else 10 * count
            count = min(10 * count, max(count + 1, wanted))
        before = seconds
    probes = PROBES if seconds * count < WARM_SECONDS else 0
    return min([seconds, *(sample(count) for _ in range(probes))])


def counts(*seconds: float, least: float = LEAST_SECONDS) -> tuple[int, ...]:
    """Return how many calls a sample of each has: the same of all that take about as long.

    Samples of different lengths are interrupted by other processes unequally: a call would differ from itself.

    >>> counts(0.001, 0.0012), counts(0.001, 0.01), counts(3.0)
    ((2, 2), (2, 1), (1,))
    """
    if max(seconds) <= SIMILAR * min(seconds):
        seconds = (min(seconds),) * len(seconds)
    return tuple(max(1, math.ceil(least / one)) for one in seconds)


def timers(device: str) -> tuple[Timer, ...]:
    """Return what is measured on a device: on a GPU, cold, hot and host times apart."""
    if device.startswith("cuda"):
        from cnnspec.bench.cuda import Cold, Host, Hot

        return Cold(), Hot(), Host()
    return (Wall(),)


def cold_timers(device: str) -> tuple[Timer, ...]:
    """Return what else is measured where cold times are asked for: a GPU's are measured anyway."""
    return () if device.startswith("cuda") else (Cold(),)
