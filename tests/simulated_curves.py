"""Small curves, and timers whose clock is the cost of a call's input."""

from collections.abc import Callable
from random import Random
from typing import Any

from cnnspec.bench import scaling
from cnnspec.bench.curves import BATCH, CHANNELS, THREADS, Curve, powers_of_two
from cnnspec.bench.desk import Desk
from cnnspec.bench.plan import Plan
from cnnspec.bench.timers import LEAST_SECONDS
from cnnspec.cases import Case

NOISE = 0.01

KERNELS = """
import torch

F = torch.nn.functional
calls = []


def conv2d(input, weight, bias=None, stride=1, padding=0):
    calls.append(tuple(input.shape))
    y = F.conv2d(input, weight, bias, stride, padding)
    return change(y, input.shape[1])


def change(y, channels):
    CHANGE
"""


class Timer:
    """A timer whose clock is a cost: every sample of a call is off by at most the part `NOISE` of it."""

    mode = "cpu"

    def __init__(self, cost: Callable[[Any], float], seed: int = 0) -> None:
        self.cost, self.rng = cost, Random(seed)

    def sample(self, call: Any, count: int) -> float:
        """Return the seconds of a call, which is not made: the cost of its input."""
        return self.cost(call.args[0]) * (1 + self.rng.uniform(-NOISE, NOISE))


def conv(batch: int, channels: int) -> Case:
    arguments = {"in_channels": channels, "out_channels": channels, "kernel_size": 3, "bias": False}
    return Case("conv2d", arguments, ((batch, channels, 4, 4),))


def over_batch(*values: int) -> Curve:
    return Curve("conv2d over batch", BATCH, "", 1, lambda n: conv(n, 2), values or powers_of_two(512))


def over_channels(*values: int) -> Curve:
    return Curve("conv2d over channels", CHANNELS, "", 1, lambda n: conv(1, n), values or powers_of_two(64))


OVER_THREADS = Curve("conv2d over threads", THREADS, "", 1, lambda n: conv(1, 2))


def run(plan: Plan, cost: Callable[[Any], float] = lambda x: LEAST_SECONDS, **words: Any) -> list[Any]:
    desk = Desk(plan, words.pop("timers", [Timer(cost)]), **words)
    return list(scaling.entries(desk, plan.seconds))


def of(kind: str, entries: list[Any]) -> list[Any]:
    return [one for one in entries if one["kind"] == kind]
