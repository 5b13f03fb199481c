"""Machines that are simulated: a clock, calls that cost a known time, and noise of a known kind."""

import math
from collections.abc import Callable
from random import Random

from cnnspec.bench.timers import Sample, Wall

Noise = Callable[[Random, float], float]
"""noise(generator, second) -> what a call costs at that time, over what it costs on a quiet machine."""


def lognormal(rng: Random, second: float) -> float:
    """Many small disturbances."""
    return math.exp(rng.gauss(0, 0.05))


def bimodal(rng: Random, second: float) -> float:
    """A neighbour that takes a third of the machine now and then."""
    return (1.5 if rng.random() < 0.2 else 1.0) * math.exp(rng.gauss(0, 0.01))


def drifting(rng: Random, second: float) -> float:
    """A machine that warms up, under a load that comes and goes."""
    return (1 + second / 20 + 0.2 * math.sin(3 * second)) * math.exp(rng.gauss(0, 0.02))


NOISES: tuple[Noise, ...] = (lognormal, bimodal, drifting)


class Machine:
    """Calls that take simulated time, and the clock that shows it."""

    def __init__(self, noise: Noise, seed: int) -> None:
        self.noise, self.rng, self.second = noise, Random(seed), 0.0

    def clock(self) -> int:
        """Return the nanoseconds since the machine was made."""
        return round(self.second * 1e9)

    def call(self, seconds: float) -> Callable[[], None]:
        """Return a call of this cost."""

        def work() -> None:
            self.second += seconds * self.noise(self.rng, self.second)

        return work

    def sample(self, seconds: float) -> Sample:
        """Return what samples such a call."""
        call, timer = self.call(seconds), Wall(self.clock)
        return lambda count: timer.sample(call, count)
