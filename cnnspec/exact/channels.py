"""What normalizes a channel, enclosed: m = mh + ml +- me and a = w / sqrt(v + eps) = ah + al +- ae in (x - m) a + b.

Sums over a channel are folded in halves without loss (two_sum), the errors beside them. The variance is taken around
a float64 number near the mean, so that nothing cancels:

    v = sum (x - m0)^2 / n - (m - m0)^2

What is known of them is rational: a middle and a radius. Where that does not settle an output, mean and variance are
computed over integers, once for a channel, and y, a rational number and a root of one, is rounded as such.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnspec.bounds import FORMATS, Format, nearest
from cnnspec.exact.expansions import whole_sum
from cnnspec.exact.regions import ELEMENTS
from cnnspec.exact.sums import UNIT, two_product, two_sum

Values = npt.NDArray[Any]
Three = tuple[Any, Any, Any]
"""h, l and e of h + l +- e: float64 numbers, or arrays of them."""

BITS = 200  # of the root of a rational number
RANGE = 400  # numbers beyond 2**RANGE, or below its inverse, are left to rational arithmetic
HUGE = 2.0**RANGE


@dataclass
class Channels:
    """Enclosures per channel, as float64 arrays: see the module.

    factor: what stands for 1 / sqrt(v + eps) where results are not finite: 1, 0 where v is infinite, NaN
    hard: left to rational arithmetic;   average: sum |x| / n, of own statistics
    """

    mh: Values
    ml: Values
    me: Values
    ah: Values
    al: Values
    ae: Values
    factor: Values
    hard: Values
    average: Values
    intervals: list[tuple["Interval", "Interval"]] = field(default_factory=list)  # mean and variance

    @classmethod
    def of(cls, count: int) -> "Channels":
        """Return channels that are all zero."""
        mh, ml, me, ah, al, ae, factor, average = np.zeros((8, count))
        nothing = Interval(Fraction(0))
        hard = np.zeros(count, bool)
        return cls(mh, ml, me, ah, al, ae, factor, hard, average, [(nothing, nothing)] * count)

    def enclose(self, c: int, mean: "Interval", variance: "Interval", eps: Fraction, weight: float) -> None:
        """Write what is known of one channel; mean and variance are finite."""
        self.intervals[c] = mean, variance
        v = variance.middle + eps
        self.factor[c] = 1.0 if v > 0 else math.nan
        if v <= 0:
            return
        self.mh[c], self.ml[c], self.me[c] = three(mean)
        w = Fraction(weight) if math.isfinite(weight) else Fraction(1)
        off = variance.radius / v  # at most doubled by the root of what is near 1
        a = over_root(w, v)
        self.ah[c], self.al[c], self.ae[c] = three(Interval(a.middle, a.radius + abs(a.middle) * off))
        sizes = [abs(self.ah[c]), abs(self.mh[c])]
        self.hard[c] = off > Fraction(1, 4) or any(size and not 1 / HUGE < size < HUGE for size in sizes)


@dataclass(frozen=True)
class Interval:
    """A rational number that is off by at most `radius`."""

    middle: Fraction
    radius: Fraction = Fraction(0)


def three(number: Interval) -> tuple[float, float, float]:
    """Return two float64 numbers near a rational one, and what their sum may be off by."""
    h = to_float(number.middle)
    if math.isinf(h):
        return h, 0.0, 0.0
    low = to_float(number.middle - Fraction(h))
    rest = abs(number.middle - Fraction(h) - Fraction(low)) + number.radius
    return h, low, math.nextafter(to_float(rest), math.inf) if rest else 0.0


def to_float(number: Fraction) -> float:
    """Return the nearest float64 number."""
    return nearest(number.numerator, number.denominator, 0, FORMATS["float64"])


def over_root(w: Fraction, v: Fraction) -> Interval:
    """Return w / sqrt(v) for a positive v; exact where it is rational."""
    root = _root(v)
    if root.radius == 0:
        return Interval(w / root.middle)
    return Interval(w / root.middle, abs(w) / root.middle * Fraction(1, 1 << (BITS - 8)))


def _root(v: Fraction) -> Interval:
    """Return the square root of a number that is not negative."""
    n, d = v.numerator * v.denominator, v.denominator
    shift = max(0, 2 * BITS - n.bit_length())
    shift += shift % 2
    r = math.isqrt(n << shift)
    exact = r * r == n << shift
    return Interval(Fraction(r, d << (shift // 2)), Fraction(0 if exact else 1, d << (shift // 2)))


def nearest_line(
    x: float, mean: Fraction, variance: Fraction, eps: Fraction, weight: float, bias: float, form: Format
) -> float:
    """Return (x - mean) / sqrt(variance + eps) weight + bias correctly rounded.

    >>> from cnnspec.bounds import FORMATS
    >>> nearest_line(8.0, Fraction(2), Fraction(8), Fraction(1), 3.0, 1.0, FORMATS["float32"])
    7.0
    """
    return nearest_quotient((Fraction(x) - mean) * Fraction(weight), variance + eps, Fraction(bias), form)


def nearest_quotient(t: Fraction, v: Fraction, b: Fraction, form: Format) -> float:
    """Return t / sqrt(v) + b correctly rounded."""
    n, d = v.numerator * v.denominator, v.denominator
    bits = BITS
    while True:
        shift = max(0, 2 * bits - n.bit_length())
        shift += shift % 2
        r = math.isqrt(n << shift)
        scale = d << (shift // 2)
        ends = [t * Fraction(scale, r) + b]
        if r * r != n << shift:
            ends.append(t * Fraction(scale, r + 1) + b)
        found = {nearest(y.numerator, y.denominator, 0, form) for y in ends}
        if len(found) == 1:
            return found.pop()
        bits *= 2


def given(mean: Values, variance: Values, eps: float, weight: Values) -> Channels:
    """Return the enclosures of channels whose statistics are given."""
    channels = Channels.of(len(mean))
    exact_eps = Fraction(eps)
    for c, (m, v, w) in enumerate(zip(mean.tolist(), variance.tolist(), weight.tolist(), strict=True)):
        if math.isfinite(m) and math.isfinite(v):
            channels.enclose(c, Interval(Fraction(m)), Interval(Fraction(v)), exact_eps, w)
            continue
        channels.mh[c] = m
        channels.factor[c] = 0.0 if v == math.inf else 1.0 if v + eps > 0 else math.nan
    return channels


def own(x: Values, eps: float, weight: Values, budget: int) -> Channels:
    """Return the enclosures of the channels of x (N, C, P), from their own mean and variance."""
    channels = Channels.of(x.shape[1])
    exact_eps, n = Fraction(eps), x.shape[0] * x.shape[2]
    for c in range(x.shape[1]):
        total, size, finite = Interval(Fraction(0)), 0.0, True
        for part in parts(x, c, budget):
            finite = finite and bool(np.isfinite(part).all())
            if not finite:
                break
            top = float(np.abs(part).max(initial=0))
            total = joined(total, folded(part) if top < HUGE else exact_sum(part.tolist()))
            size += float(np.abs(part).sum())
        if not finite:
            channels.mh[c] = channels.factor[c] = math.nan
            continue
        mean = Interval(total.middle / n, total.radius / n)
        pivot = to_float(mean.middle)
        squares, fits = Interval(Fraction(0)), True
        for part in parts(x, c, budget):
            found, inside = _squares(part, pivot)
            squares, fits = joined(squares, found), fits and inside
        shift = mean.middle - Fraction(pivot)
        gap = (2 * abs(shift) + mean.radius) * mean.radius
        variance = Interval(squares.middle / n - shift * shift, squares.radius / n + gap)
        if not fits:
            mean, variance = (Interval(one) for one in exact_moments(x, c))
        channels.enclose(c, mean, variance, exact_eps, float(weight[c]))
        channels.average[c] = size / n
    return channels


def parts(x: Values, c: int, budget: int) -> Iterator[Values]:
    """Yield the elements of a channel in float64, some at a time."""
    images, _, positions = x.shape
    most = max(1, min(8 * ELEMENTS, budget // 256))
    step = max(1, most // positions)
    for first in range(0, images, step):
        for start in range(0, positions, most):
            yield x[first : first + step, c, start : start + most].astype(np.float64).reshape(-1)


def joined(a: Interval, b: Interval) -> Interval:
    """Return the sum of two numbers."""
    return Interval(a.middle + b.middle, a.radius + b.radius)


def exact_sum(terms: list[float]) -> Interval:
    """Return the sum of finite numbers, over integers."""
    n, exponent = whole_sum(terms)
    return Interval(n * Fraction(2) ** exponent)


def folded(s: Values, c: Values | None = None, a: Values | None = None) -> Interval:
    """Return the sum of all elements s, and of c, errors beside them whose sizes are a.

    >>> folded(np.array([1e16, 1.0, -1e16])).middle
    Fraction(1, 1)
    """
    depth = 0
    c = np.zeros_like(s) if c is None else c
    a = np.abs(c) if a is None else a
    while len(s) > 1:
        half, odd = len(s) // 2, len(s) % 2
        first, q = two_sum(s[:half], s[half : 2 * half])
        rest = c[:half] + c[half : 2 * half] + q
        sizes = a[:half] + a[half : 2 * half] + np.abs(q)
        if odd:
            first[0], lost = two_sum(first[0], s[-1])
            rest[0] += c[-1] + lost
            sizes[0] += a[-1] + abs(lost)
        s, c, a, depth = first, rest, sizes, depth + 1
    if not len(s):
        return Interval(Fraction(0))
    radius = Fraction(float(a[0])) * (4 * depth + 16) * Fraction(UNIT) * Fraction(9, 8)
    return Interval(Fraction(float(s[0])) + Fraction(float(c[0])), radius)


def _squares(part: Values, pivot: float) -> tuple[Interval, bool]:
    """Return the sum of (x - pivot)^2, and whether all squares are far from the ends of float64's range."""
    d, t = two_sum(part, np.full((), -pivot))
    size = np.abs(d)
    if not ((size < HUGE) & ((size > 1 / HUGE) | (size == 0))).all():
        return Interval(Fraction(0)), False
    p, error = two_product(d, d)
    cross = 2 * d * t  # t^2 is below 2**-53 of it
    return folded(p, error + cross, np.abs(error) + np.abs(cross)), True


def exact_moments(x: Values, c: int) -> tuple[Fraction, Fraction]:
    """Return mean and variance of a channel, over integers."""
    values = [float(v) for v in x[:, c].reshape(-1).tolist()]
    total, exponent = whole_sum(values)
    lifted = [int(Fraction(v) / Fraction(2) ** exponent) for v in values]
    n = len(values)
    squares = n * sum(k * k for k in lifted) - total * total
    unit = Fraction(2) ** exponent
    return total * unit / n, squares * unit * unit / (n * n)
