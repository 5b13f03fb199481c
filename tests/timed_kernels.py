"""Kernels for benchmarks, as the text of a file, and timers that do not look at any clock."""

import math
from collections.abc import Callable
from random import Random
from typing import Any

KERNELS = """
import torch

F = torch.nn.functional
calls = []


def same(input):
    calls.append(tuple(input.shape))
    return torch.sigmoid(input)


def chatty(input):
    print("a line that is no reply")
    return torch.sigmoid(input)


def wrong(input):
    y = torch.sigmoid(input)
    y[..., -1] += 1
    return y


def partial(input):
    raise NotImplementedError("only on Tuesdays")


def detached(input):
    return torch.sigmoid(input.detach())
"""


class Simulated:
    """A timer of a noisy machine: what a call costs is told by its function's name."""

    mode = "cpu"

    def __init__(self, cost: Callable[[str], float], seed: int = 0) -> None:
        self.cost, self.rng = cost, Random(seed)

    def sample(self, call: Any, count: int) -> float:
        """Return the seconds of one call, which is not made."""
        name = getattr(getattr(call, "func", call), "__name__", "")
        return 0.005 * self.cost(name) * math.exp(self.rng.gauss(0, 0.02))


class Refusing:
    """A timer that must not be asked."""

    mode = "cpu"

    def sample(self, call: Any, count: int) -> float:
        """Fail."""
        raise AssertionError("something is timed")
