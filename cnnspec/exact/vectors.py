"""Vectors of numbers h +- e in float64, for the formulas of operators that treat all elements alike.

Every operation adds to e what rounding may lose, u = 2**-53 of its result. Elementary functions are made of such
operations: series with a bound of what they leave out, and inverses checked through the function they invert; nothing
is taken from the platform's library but first guesses. A comparison that does not come out alike for all elements
raises `Apart`, and who runs the formula takes the elements apart.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnspec.exact.sums import UNIT

Values = npt.NDArray[Any]

TINY = 2.0**-1060
SLACK = 1 + 2.0**-40  # of the few roundings that computing e takes
LN2_HIGH, LN2_LOW = float.fromhex("0x1.62e42fee00000p-1"), float.fromhex("0x1.a39ef35793c76p-33")
TERMS = 18  # 0.36**18 / 18! is below 2**-79
LARGEST_TANH, LARGEST_ERF = 30.0, 6.5  # beyond, they are 1 up to 2**-60


class Apart(Exception):
    """A comparison that holds for some elements only; of those `unsure` h +- e does not tell."""

    def __init__(self, holds: Values, unsure: Values) -> None:
        super().__init__()
        self.holds, self.unsure = holds, unsure


class Vector:
    """Numbers h +- e.

    >>> x = Vector(np.array([0.0, 1.0])).exp()
    >>> (np.abs(x.h - [1.0, np.e]) < 1e-15).all(), (x.e < 1e-14).all()
    (np.True_, np.True_)
    """

    __slots__ = ("e", "h")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, h: Any, e: Any = 0.0) -> None:
        self.h, self.e = h, e

    def __add__(self, other: Any) -> "Vector":
        b = _vector(other)
        h = self.h + b.h
        return Vector(h, (self.e + b.e + np.abs(h) * UNIT) * SLACK)

    def __mul__(self, other: Any) -> "Vector":
        b = _vector(other)
        h = self.h * b.h
        lost = np.abs(self.h) * b.e + np.abs(b.h) * self.e + self.e * b.e
        return Vector(h, (lost + np.abs(h) * UNIT) * SLACK + TINY * ((self.h != 0) & (b.h != 0)))

    def __truediv__(self, other: Any) -> "Vector":
        b = _vector(other)
        h = self.h / b.h
        least = np.abs(b.h) - b.e
        e = (self.e + np.abs(h) * b.e) / least + np.abs(h) * UNIT
        return Vector(h, np.where(least > 0, e * SLACK + TINY * (self.h != 0), np.inf))

    def __neg__(self) -> "Vector":
        return Vector(-self.h, self.e)

    def __sub__(self, other: Any) -> "Vector":
        return self + -_vector(other)

    def __rsub__(self, other: Any) -> "Vector":
        return _vector(other) + -self

    def __rtruediv__(self, other: Any) -> "Vector":
        return _vector(other) / self

    __radd__ = __add__
    __rmul__ = __mul__

    def __abs__(self) -> "Vector":
        return Vector(np.abs(self.h), self.e)

    def __lt__(self, other: Any) -> bool:
        return self._compared(other, np.less)

    def __gt__(self, other: Any) -> bool:
        return self._compared(other, np.greater)

    def __le__(self, other: Any) -> bool:
        return self._compared(other, np.less_equal)

    def __ge__(self, other: Any) -> bool:
        return self._compared(other, np.greater_equal)

    def __eq__(self, other: object) -> bool:
        return self._compared(other, np.equal)

    def larger(self, other: Any) -> "Vector":
        """Return the larger number of each pair."""
        b = _vector(other)
        return Vector(np.maximum(self.h, b.h), np.maximum(self.e, b.e))

    def sqrt(self) -> "Vector":
        """Return the square roots: |sqrt a - sqrt b| <= |a - b| / sqrt a."""
        h = np.sqrt(self.h)
        lost = np.where(self.e == 0, 0.0, self.e / h)
        return Vector(h, (lost + h * UNIT) * SLACK)

    def exp(self) -> "Vector":
        """Return e to the power of each, 2**k e^r with r = h - k log 2: off by 4 u itself, and by 8 u in the series."""
        bounded = np.clip(self.h, -1400.0, 1400.0)
        k = np.rint(bounded * (1 / math.log(2)))
        r = (bounded - k * LN2_HIGH) - k * LN2_LOW
        h = np.ldexp(_series(r, 0), k.astype(np.int64))
        return Vector(h, np.where(self.e < 0.5, h * (self.e * 2 + 32 * UNIT) * SLACK + TINY, np.inf))

    def expm1(self) -> "Vector":
        """Return exp(x) - 1, near 0 by the rest of the series."""
        whole = self.exp() - 1
        r = np.clip(self.h, -0.36, 0.36)
        h = r * _series(r, 1)
        near = np.abs(self.h) <= 0.35
        e = np.where(self.e < 2.0**-10, np.abs(h) * (32 * UNIT) + self.e * 2 + TINY, np.inf)
        return Vector(np.where(near, h, whole.h), np.where(near, e, whole.e))

    def log(self) -> "Vector":
        """Return guesses l, which are off by the logarithm of 1 + d, at most 2 |d|, where d = x exp(-l) - 1."""
        guess = np.log(self.h)
        d = self * Vector(-guess).exp() - 1
        off = np.abs(d.h) + d.e
        return Vector(guess, np.where(off < 0.5, 2 * off * SLACK, np.inf))

    def log1p(self) -> "Vector":
        """Return l, about the logarithm of 1 + x; the slope of that is at most 2 from -1 / 2 on."""
        guess = np.log1p(self.h)
        d = Vector(guess).expm1() - self
        off = np.abs(d.h) + d.e
        return Vector(guess, np.where((self.h > -0.25) & (off < 0.125), 2 * off * SLACK, np.inf))

    def tanh(self) -> "Vector":
        """Return q / (q + 2), q = exp(2 x) - 1, for |x|; the slope is at most 1."""
        size = np.minimum(np.abs(self.h), LARGEST_TANH)
        q = Vector(2 * size).expm1()
        found = q / (q + 2)
        beyond = np.where(np.abs(self.h) > LARGEST_TANH, 2.0**-60, 0.0)
        return Vector(np.copysign(found.h, self.h), found.e + self.e + beyond)

    def erf(self) -> "Vector":
        """Return 2 / sqrt(pi) exp(-x^2) (x + x 2 x^2 / 3 + x (2 x^2)^2 / (3 5) + ...) for |x|."""
        size = np.minimum(np.abs(self.h), LARGEST_ERF)
        step, term, total = 2 * size * size, size, size
        most = float(step.max(initial=0.0))
        n = 1
        while 2 * most > 2 * n + 1 or not (term <= total * 2.0**-70).all():
            term = term * step / (2 * n + 1)
            total, n = total + term, n + 1
        series = Vector(total, total * (5 * n * UNIT + 2.0**-69) + TINY)  # what is left out is below `term`
        square = Vector(size) * Vector(size)
        found = series * (-square).exp() * 2 / self.pi().sqrt()
        beyond = np.where(np.abs(self.h) > LARGEST_ERF, 2.0**-60, 0.0)
        return Vector(np.copysign(found.h, self.h), found.e + self.e * 2 + beyond)

    def power(self, p: Any) -> "Vector":
        """Return positive numbers to the power p."""
        found: Vector = (self.log() * p).exp()
        return found

    def pi(self) -> "Vector":
        """Return pi."""
        return Vector(np.float64(math.pi), 2.0**-52)

    def _compared(self, other: Any, compare: Callable[[Any, Any], Any]) -> bool:
        b = _vector(other)
        off = (self.e + b.e) * SLACK
        holds = compare(self.h, b.h)
        unsure = (off > 0) & (np.abs(self.h - b.h) <= off)
        if unsure.any() or holds.any() != holds.all():
            raise Apart(holds, unsure)
        return bool(holds.all())


def _vector(number: Any) -> Vector:
    """Return a constant as a vector."""
    if isinstance(number, Vector):
        return number
    h = float(number)
    exact = math.isinf(h) or Fraction(number) == Fraction(h)
    return Vector(np.float64(h), 0.0 if exact else abs(h) * UNIT)


def _series(r: Values, first: int) -> Values:
    """Return 1 / first! + r / (first + 1)! + ..., off by less than 8 u where |r| <= 0.36."""
    found: Values = np.full(r.shape, 1 / math.factorial(TERMS))
    for n in range(TERMS - 1, first - 1, -1):
        found = found * r + 1 / math.factorial(n)
    return found
