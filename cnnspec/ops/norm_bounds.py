"""How far a normalization may be from its exact result: the bounds of one group of elements, derived.

The bounds hold for every algorithm of this kind: a mean with any order of sums; a variance by two passes, by
Welford's recurrence or by merging parts; y by x a + (bias - m a) with a = w r, or by (x - m) r w + bias; gradients
from sums of h (x - m), or from sums of h x less m times those of h. With n elements and A = sum |x_i| / n:

The mean is off by at most d = (2 n + 7) u A: n u A by sums and a division; the rest is for the recurrence
m_k = m_(k-1) + (x_k - m_(k-1)) / k, whose errors add up to sum_k (k |m_k| + 3 |x_k - m_(k-1)|) u / n.

The root s of the variance is off by at most 2 d, and (n + 5) u s / 2 for the roundings of its terms: in two passes
the computed mean adds d^2 to the variance, and |sqrt(s^2 + d^2) - s| <= d; in the recurrence, whose increments are
products of two deviations that are off by at most 1.25 d each, Cauchy-Schwarz gives 1.5 d. That is the bound
n u kappa of Chan, Golub & LeVeque, "Algorithms for computing the sample variance: analysis and recommendations",
The American Statistician 37(3), 1983. The textbook's E[x^2] - E[x]^2, which loses n u kappa^2, is not covered.

As sqrt(s^2 + eps) is off by no more than s, r is by at most 2 d r + (n / 2 + 5) u of itself, where d r <= 1 / 2.
With t = A r, d r is at most t times the roundings times u. Products of two errors are below 1 / 64 of one, because
the roundings times u are; u is that of the accumulation, or of the output's format where a result is stored.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from operator import add, mul, sub
from typing import Any

from cnnspec.rounding import RoundingTerms
from cnnspec.scalars import divide


class Row:
    """Numbers of any kind in a row, which add and multiply one by one; with one number, each with that.

    The bounds need no more than that, so a float64 array of one axis may stand in the place of a row.

    >>> [*(Row([1, 2]) * 3 + Row([5, 6]))], (Row([1, 2]) / 2).sum()
    ([8, 12], Fraction(3, 2))
    """

    __slots__ = ("_numbers",)

    def __init__(self, numbers: Iterable[Any]) -> None:
        self._numbers = [*numbers]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    def __abs__(self) -> "Row":
        return Row(map(abs, self._numbers))

    def __add__(self, other: Any) -> "Row":
        return self._with(add, other)

    def __sub__(self, other: Any) -> "Row":
        return self._with(sub, other)

    def __mul__(self, other: Any) -> "Row":
        return self._with(mul, other)

    def __truediv__(self, other: Any) -> "Row":
        return self._with(divide, other)

    def sum(self) -> Any:
        """Return the sum of all numbers."""
        return total(self._numbers)

    def _with(self, function: Callable[[Any, Any], Any], other: Any) -> "Row":
        return Row(map(function, self._numbers, other if isinstance(other, Row) else repeat(other)))


@dataclass(frozen=True)
class Bound:
    """What `RoundingTerms` holds of one element, or in rows of many; the sum of two bounds is that of a sum."""

    magnitude: Any
    roundings: int
    reach: Any = 0
    faint: Any = 0
    summed: Any = 0

    def __add__(self, other: "Bound") -> "Bound":
        return Bound(
            self.magnitude + other.magnitude,
            max(self.roundings, other.roundings) + 1,
            total([one.reach for one in (self, other) if one.reach < math.inf]),
            self.faint + other.faint,
            total([one.summed for one in (self, other) if one.summed < math.inf]),
        )

    def __iter__(self) -> Iterator["Bound"]:
        """Yield the bound of each element of rows."""
        others = (self.reach, self.faint, self.summed)
        rows = (one if isinstance(one, Row) else repeat(one) for one in others)
        for magnitude, *rest in zip(self.magnitude, *rows, strict=False):
            yield Bound(magnitude, self.roundings, *rest)


def terms(bounds: Sequence[Bound | None], stored: int) -> RoundingTerms:
    """Return the bounds of all elements of an output; None is a sum without terms."""
    found = [bound or Bound(0, 0) for bound in bounds]
    return RoundingTerms(
        [bound.magnitude for bound in found],
        [bound.roundings for bound in found],
        stored=stored,
        reach=[bound.reach for bound in found],
        faint=[bound.faint for bound in found],
        summed=[bound.summed for bound in found],
    )


class Given:
    """The bounds of a group whose mean and r are given: y = x a + (b - m a), dx = h r, dw = sum g (x - m) r.

    x, weights and gradients are rows; `deviations` is x - m, for those who know it better than by subtracting.

    >>> Given(Row([3]), 1, 2).outputs(Row([10]), Row([5])).magnitude.sum()
    85
    """

    stored_forward, stored_input, stored_weight = 0, 0, 0

    def __init__(self, x: Any, mean: Any, r: Any, deviations: Any = None) -> None:
        self.n, self.r = len(x), r
        self.size = self._size(x, mean)
        self.t = self.size * r
        self.distance = abs(x - mean if deviations is None else deviations)
        self.z = self.distance * r
        self.sums = abs(x) + self.size
        self.wide = self.sums * r
        self.reach = self.wide

    def _size(self, x: Any, mean: Any) -> Any:
        return abs(mean)

    def outputs(self, w: Any, b: Any) -> Bound:
        """Return |w| (|x| + |m|) r + |b| with 8 roundings: 4 make a, 3 the line."""
        return Bound(abs(w) * self.wide + abs(b), 8, self.reach, self._faint(w))

    def input_gradients(self, g: Any, h: Any) -> Bound:
        """Return |h| r with 6 roundings; libraries may multiply g by r first."""
        return Bound(abs(h) * self.r, 6, abs(g) * self.r, abs(h) + 1)

    def weight_gradients(self, g: Any) -> Bound:
        """Return the terms of the sum: |g| (|x| + |m|) r with 8 roundings; libraries may multiply by r at the end."""
        size = abs(g)
        faint = size * (self.distance + self.r + 1) + 1
        magnitude = size * self.wide
        return Bound(magnitude, 8, magnitude, faint, self.products(g))

    def bias_gradients(self, g: Any) -> Bound:
        """Return the terms of the sum of g."""
        size = abs(g)
        return Bound(size, 1, size * 0, size * 0 + 1)

    def products(self, g: Any) -> Any:
        """Return |g| (|x| + |m|), times r or not: terms of a sum that may overflow before it is scaled."""
        return abs(g) * (self.wide + self.wide / self.r)

    def _faint(self, w: Any) -> Any:
        """Return what errors of 1 in m, r, a and the products come to."""
        return abs(w) * (self.distance + self.r + 1) + self.wide / self.r + 1


class Own(Given):
    """The bounds of a group whose mean and r are its own, which libraries may store in between."""

    stored_forward, stored_input, stored_weight = 2, 3, 2

    def __init__(self, x: Any, mean: Any, r: Any, deviations: Any = None) -> None:
        super().__init__(x, mean, r, deviations)
        self.squares = (self.sums * self.sums).sum()

    def _size(self, x: Any, mean: Any) -> Any:
        return divide(abs(x).sum(), len(x))

    def outputs(self, w: Any, b: Any) -> Bound:
        """Return |w| ((|x| + A) r (1 + t / 64) + |x - m| r (1 + 2 t)) + |b| with 2 n + 13 roundings.

        The mean, off by d, and 4 roundings of the line come to the first term, what r is off to the second.
        """
        line = self.wide * (1 + divide(self.t, 64)) + self.z * (1 + 2 * self.t)
        return Bound(abs(w) * line + abs(b), 2 * self.n + 13, self.reach, self._faint(w), self.squares)

    def input_gradients(self, g: Any, h: Any) -> Bound:
        """Return what dx = (h - H - z K) r may be off, H the mean of h, K that of h z, 3 n + 16 roundings.

        With z' = (|x| + A) r, and |h|, Z and Z' the means of |h|, |h| z and |h| z':
        (z Z' + z' Z + z' Z' / 64) r, as K is off by (3 n + 9) u Z' and x - m by (2 n + 11) u z' / r; and
        (|h_i| + |h| + z Z) (1 + 6 t + t^2 / 8) r, as r comes three times.
        """
        size, z, wide, n, r, t = abs(h), self.z, self.wide, self.n, self.r, self.t
        flat, narrow, broad = (divide(one.sum(), n) for one in (size, size * z, size * wide))
        products = self.products(abs(g) + size).sum() * (1 + r)
        whole = size + flat + z * narrow
        m = whole * (1 + 6 * t + divide(t * t, 8)) + z * broad + wide * narrow + wide * divide(broad, 64)
        faint = whole * 3 * (1 + r * r) + (z * flat + narrow) * (r * r) + (z + 1) * r + 1
        return Bound(m * r, 3 * n + 16, self.reach, faint, (wide + 1) * products + self.squares)

    def weight_gradients(self, g: Any) -> Bound:
        """Return the terms of the sum: |g| ((|x| + A) r + |x - m| r (1 + 2 t)) with 2 n + 14 roundings."""
        found = super().weight_gradients(g)
        magnitude = abs(g) * (self.wide + self.z * (1 + 2 * self.t))
        summed = found.summed + self.squares
        return Bound(magnitude, 2 * self.n + 14, self.reach + magnitude, found.faint, summed)


def total(values: Sequence[Any]) -> Any:
    """Return the sum of values of any kind."""
    result = 0
    for value in values:
        result = result + value
    return result
