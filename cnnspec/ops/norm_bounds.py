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
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cnnspec.rounding import RoundingTerms
from cnnspec.scalars import divide


@dataclass(frozen=True)
class Bound:
    """What `RoundingTerms` holds of one element; the sum of two bounds is that of a sum."""

    magnitude: Any
    roundings: int
    reach: Any = 0
    faint: Any = 0

    def __add__(self, other: "Bound") -> "Bound":
        return Bound(
            self.magnitude + other.magnitude,
            max(self.roundings, other.roundings) + 1,
            total([one.reach for one in (self, other) if one.reach < math.inf]),
            self.faint + other.faint,
        )


def terms(bounds: Sequence[Bound | None], stored: int) -> RoundingTerms:
    """Return the bounds of all elements of an output; None is a sum without terms."""
    found = [bound or Bound(0, 0) for bound in bounds]
    return RoundingTerms(
        [bound.magnitude for bound in found],
        [bound.roundings for bound in found],
        stored=stored,
        reach=[bound.reach for bound in found],
        faint=[bound.faint for bound in found],
    )


class Given:
    """The bounds of a group whose mean and r are given: y = x a + (b - m a), dx = h r, dw = sum g (x - m) r.

    >>> [bound.magnitude for bound in Given([3], 1, 2).outputs([10], [5])]
    [85]
    """

    stored_forward, stored_input, stored_weight = 0, 0, 0

    def __init__(self, x: Sequence[Any], mean: Any, r: Any) -> None:
        self.n, self.r = len(x), r
        self.size = self._size(x, mean)
        self.t = self.size * r
        self.distance = [abs(value - mean) for value in x]
        self.z = [one * r for one in self.distance]
        self.wide = [(abs(value) + self.size) * r for value in x]
        self.reach = [*self.wide]

    def _size(self, x: Sequence[Any], mean: Any) -> Any:
        return abs(mean)

    def outputs(self, weights: Sequence[Any], biases: Sequence[Any]) -> list[Bound]:
        """Return |w| (|x| + |m|) r + |b| with 8 roundings: 4 make a, 3 the line."""
        return [
            Bound(abs(w) * wide + abs(b), 8, self.reach[i], self._faint(w, i))
            for i, (wide, w, b) in enumerate(zip(self.wide, weights, biases, strict=True))
        ]

    def input_gradients(self, g: Sequence[Any], h: Sequence[Any]) -> list[Bound]:
        """Return |h| r with 6 roundings; libraries may multiply g by r first."""
        return [
            Bound(abs(one) * self.r, 6, abs(cotangent) * self.r, abs(one) + 1)
            for cotangent, one in zip(g, h, strict=True)
        ]

    def weight_gradients(self, g: Sequence[Any]) -> list[Bound]:
        """Return the terms of the sum: |g| (|x| + |m|) r with 8 roundings; libraries may multiply by r at the end."""
        return [
            Bound(abs(one) * wide, 8, reach, abs(one) * (distance + self.r + 1) + 1)
            for one, wide, distance, reach in zip(g, self.wide, self.distance, self.products(g), strict=True)
        ]

    def products(self, g: Sequence[Any]) -> list[Any]:
        """Return |g| (|x| + |m|), times r or not: terms of a sum that may overflow before it is scaled."""
        return [abs(one) * (wide + divide(wide, self.r)) for one, wide in zip(g, self.wide, strict=True)]

    def _faint(self, w: Any, i: int) -> Any:
        """Return what errors of 1 in m, r, a and the products come to."""
        return abs(w) * (self.r + self.distance[i] + 1) + divide(self.wide[i], self.r) + 1


class Own(Given):
    """The bounds of a group whose mean and r are its own, which libraries may store in between."""

    stored_forward, stored_input, stored_weight = 2, 3, 2

    def __init__(self, x: Sequence[Any], mean: Any, r: Any) -> None:
        super().__init__(x, mean, r)
        squares = total([(abs(value) + self.size) * (abs(value) + self.size) for value in x])
        self.reach = [squares + wide for wide in self.wide]

    def _size(self, x: Sequence[Any], mean: Any) -> Any:
        return divide(total([abs(value) for value in x]), len(x))

    def outputs(self, weights: Sequence[Any], biases: Sequence[Any]) -> list[Bound]:
        """Return |w| ((|x| + A) r (1 + t / 64) + |x - m| r (1 + 2 t)) + |b| with 2 n + 13 roundings.

        The mean, off by d, and 4 roundings of the line come to the first term, what r is off to the second.
        """
        bounds = []
        for i, (wide, z, w, b) in enumerate(zip(self.wide, self.z, weights, biases, strict=True)):
            line = wide * (1 + divide(self.t, 64)) + z * (1 + 2 * self.t)
            bounds.append(Bound(abs(w) * line + abs(b), 2 * self.n + 13, self.reach[i], self._faint(w, i)))
        return bounds

    def input_gradients(self, g: Sequence[Any], h: Sequence[Any]) -> list[Bound]:
        """Return what dx = (h - H - z K) r may be off, H the mean of h, K that of h z, 3 n + 16 roundings.

        With z' = (|x| + A) r, and |h|, Z and Z' the means of |h|, |h| z and |h| z':
        (z Z' + z' Z + z' Z' / 64) r, as K is off by (3 n + 9) u Z' and x - m by (2 n + 11) u z' / r; and
        (|h_i| + |h| + z Z) (1 + 6 t + t^2 / 8) r, as r comes three times.
        """
        sizes, n, r, t = [abs(one) for one in h], self.n, self.r, self.t
        flat, narrow, broad = (
            divide(total([one * by for one, by in zip(sizes, factors, strict=True)]), n)
            for factors in ([1] * n, self.z, self.wide)
        )
        products = total(self.products([abs(a) + abs(b) for a, b in zip(g, h, strict=True)])) * (1 + r)
        bounds = []
        for size, z, wide, squares in zip(sizes, self.z, self.wide, self.reach, strict=True):
            whole = size + flat + z * narrow
            m = whole * (1 + 6 * t + divide(t * t, 8)) + z * broad + wide * narrow + divide(wide * broad, 64)
            reach = squares + products * (1 + wide)
            faint = 3 * whole * (1 + r * r) + r * r * (z * flat + narrow) + r * (1 + z) + 1
            bounds.append(Bound(m * r, 3 * n + 16, reach, faint))
        return bounds

    def weight_gradients(self, g: Sequence[Any]) -> list[Bound]:
        """Return the terms of the sum: |g| ((|x| + A) r + |x - m| r (1 + 2 t)) with 2 n + 14 roundings."""
        products = self.products(g)
        return [
            Bound(
                abs(one) * (wide + z * (1 + 2 * self.t)),
                2 * self.n + 14,
                self.reach[i] + products[i],
                abs(one) * (self.distance[i] + self.r + 1) + 1,
            )
            for i, (one, wide, z) in enumerate(zip(g, self.wide, self.z, strict=True))
        ]


def total(values: Sequence[Any]) -> Any:
    """Return the sum of values of any kind."""
    result = 0
    for value in values:
        result = result + value
    return result
