"""Curves of time over one size of a layer: around which layers of real networks, and what their points say.

batch:   T(N) = a + b N    n_half = a / b    1 / b items per second, which n_half items at a time reach half of
others:  the slope of ln T over ln value between neighbours
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cnnspec.bench.figures import Entry
from cnnspec.cases import Case

BATCH, CHANNELS, IMAGE, KERNEL, THREADS = "batch", "channels", "image", "kernel", "threads"
JUMP = 1.3
"""The factor beyond what its neighbours predict by which a time jumps where the algorithm changes."""
LEAST_POINTS = 3
"""Of a line: two lie on one whatever they are."""


class Point(NamedTuple):
    """A value on the axis and the seconds there; the interval of these is unbounded where it is not known."""

    value: int
    seconds: float
    low: float = 0.0
    high: float = math.inf


@dataclass(frozen=True)
class Curve:
    """What is measured over one axis.

    base:   the layer of a network that this is at the value `usual`, but for its batch
    case:   value -> the case there
    values: on the axis, from small to large; of threads, what the run allows
    """

    name: str
    axis: str
    base: str
    usual: int
    case: Callable[[int], Case]
    values: tuple[int, ...] = ()

    @property
    def operator(self) -> str:
        """The operator that is measured."""
        return self.case(self.usual).operator


def powers_of_two(largest: int) -> tuple[int, ...]:
    """Return the powers of two up to a number, and the number.

    >>> powers_of_two(8), powers_of_two(6)
    ((1, 2, 4, 8), (1, 2, 4, 6))
    """
    below = itertools.takewhile(lambda one: one < largest, (2**n for n in itertools.count()))
    return (*below, largest)


def _conv2d(batch: int, channels: int, to: int, image: int, kernel: int = 3) -> Case:
    arguments = {"in_channels": channels, "out_channels": to, "kernel_size": kernel}
    arguments |= {"padding": kernel // 2} if kernel > 1 else {}
    return Case("conv2d", {**arguments, "bias": False}, ((batch, channels, image, image),))


def _linear(batch: int, features: int, to: int) -> Case:
    return Case("linear", {"in_features": features, "out_features": to}, ((batch, features),))


CURVES = (
    Curve(
        "conv2d over batch",
        BATCH,
        "densenet121 features.denseblock4.denselayer1.conv2",
        1,
        lambda n: _conv2d(n, 128, 32, 7),
        powers_of_two(512),
    ),
    Curve("linear over batch", BATCH, "resnet50 fc", 1, lambda n: _linear(n, 2048, 1000), powers_of_two(512)),
    Curve(
        "conv2d over channels",
        CHANNELS,
        "resnet18 layer3.0.conv2",
        256,
        lambda n: _conv2d(1, n, n, 14),
        powers_of_two(1024),
    ),
    Curve(
        "linear over features",
        CHANNELS,
        "vgg16 classifier.3",
        4096,
        lambda n: _linear(16, n, n),
        powers_of_two(4096),
    ),
    Curve(
        "conv2d over image",
        IMAGE,
        "resnet18 layer1.0.conv1",
        56,
        lambda n: _conv2d(1, 64, 64, n),
        (7, 14, 28, 56, 112, 224, 512),
    ),
    Curve(
        "conv2d over kernel",
        KERNEL,
        "resnet18 layer1.0.conv1",
        3,
        lambda n: _conv2d(1, 64, 64, 56, n),
        (1, 3, 5, 7, 9, 11),
    ),
    Curve(
        "conv2d over threads", THREADS, "resnet18 layer1.0.conv1", 1, lambda threads: _conv2d(8, 64, 64, 56)
    ),
)
"""Every point is at most `shapes.LARGEST` elements, and a fraction of a second of one processor."""


def fit(axis: str, points: Sequence[Point]) -> Entry:
    """Return what the points of a curve say, in the order of their values."""
    return line(points) if axis == BATCH else slopes(points)


def line(points: Sequence[Point]) -> Entry:
    """Return T(N) = a + b N by the estimator of Theil and Sen, and n_half = a / b where both are positive.

    >>> found = line([Point(1, 3.0), Point(2, 4.0), Point(4, 6.0), Point(8, 10.0)])
    >>> found["a_s"], found["b_s"], found["n_half"], found["per_second"]
    (2.0, 1.0, 2.0, 1.0)
    """
    entry: Entry = {"kind_of_fit": "line", "a_s": None, "b_s": None, "n_half": None, "per_second": None}
    if len(points) < LEAST_POINTS:
        return {**entry, "note": f"{len(points)} points: a line needs {LEAST_POINTS}"}
    from scipy.stats import theilslopes

    found = theilslopes([point.seconds for point in points], [point.value for point in points])
    a, b = float(found.intercept), float(found.slope)
    entry |= {"a_s": a, "b_s": b, "per_second": 1 / b if b > 0 else None, "note": ""}
    if b <= 0:
        return {**entry, "note": "no n_half: the time does not grow with the batch"}
    if a <= 0:
        return {**entry, "note": "no n_half: a batch of none would take no time"}
    return {**entry, "n_half": a / b}


class _Step(NamedTuple):
    """From a point of a curve to the next: the slope of ln T over ln value, and its least and most."""

    start: int
    end: int
    slope: float
    least: float
    most: float

    @classmethod
    def of(cls, a: Point, b: Point) -> "_Step":
        way = math.log(b.value / a.value)
        least = math.log(b.low / a.high) / way if b.low and a.high < math.inf else -math.inf
        most = math.log(b.high / a.low) / way if a.low and b.high < math.inf else math.inf
        return cls(a.value, b.value, math.log(b.seconds / a.seconds) / way, least, most)

    def jump(self, before: "_Step", after: "_Step") -> float:
        """Return the logarithm of the factor by which its time is at least away from what its neighbours predict.

        0 for a slope that lies between theirs, as it may in their intervals.
        """
        if self.least > max(before.most, after.most):
            away = self.least - (before.slope + after.slope) / 2
        elif self.most < min(before.least, after.least):
            away = (before.slope + after.slope) / 2 - self.most
        else:
            return 0.0
        return away * math.log(self.end / self.start)


def slopes(points: Sequence[Point]) -> Entry:
    """Return the slope of ln T over ln value between neighbours, and the values after which the time jumps.

    A step of the curve jumps where its slope lies outside those of the steps before and after it, and its time is by
    more than a factor `JUMP` away from what their mean predicts, wherever in their intervals all times lie: a slope
    that only grows, or only falls, is no jump. The first and the last step have one neighbour, and are not asked.

    >>> found = slopes([Point(2**n, t, t, t) for n, t in enumerate((1.0, 4.0, 16.0, 128.0, 512.0))])
    >>> found["slopes"], found["switches"]
    ([[1, 2, 2.0], [2, 4, 2.0], [4, 8, 3.0], [8, 16, 2.0]], [4])
    """
    steps = [_Step.of(a, b) for a, b in itertools.pairwise(points)]
    told = [[*step[:3]] for step in steps]
    note = "" if told else "a slope needs 2 points"
    return {"kind_of_fit": "slopes", "slopes": told, "switches": _switches(steps), "note": note}


def _switches(steps: list[_Step]) -> list[int]:
    """Return where jumps start: the largest first, whose step then is what its neighbours predict of it."""
    left, found = list(steps), list[int]()
    while True:
        inner = [place for place in range(1, len(left) - 1) if steps[place].start not in found]
        jumps = {place: left[place].jump(left[place - 1], left[place + 1]) for place in inner}
        most = max(jumps, key=jumps.__getitem__, default=0)
        if jumps.get(most, 0.0) <= math.log(JUMP):
            return sorted(found)
        mean = (left[most - 1].slope + left[most + 1].slope) / 2
        found.append(left[most].start)
        left[most] = left[most]._replace(slope=mean, least=mean, most=mean)
