"""Numbers that bound the rounding errors of the loops they run through, whatever the order of their sums.

A `Rounded` promises |computed - value| <= (roundings + 2 elementary ulps) u m + stored u_out m, where u is the
unit roundoff of the accumulation, u_out that of the output's format, `ulps` the error of the library's
elementary functions in units in the last place, and m its `magnitude`. By induction, to first order:

a + b    m = m_a + m_b, roundings = max + 1: the n - 1 additions of n terms, in any order (Jeannerod & Rump 2013)
a * b    m = m_a m_b,   roundings add up, and 1
a / b    m = m_a m_b / b^2, roundings add up, and 1; b must not come from a cancellation (m_b near |b|)
f(a)     m = max(|f|, |f'| m_a), or |f| where a is exact, and one error of the library's f
c        a constant is exact where 24 bits hold it, else rounded to the format

The terms of second order are below one more rounding, which `terms` adds, while roundings^2 u < 1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from cnnspec import nested, scalars
from cnnspec.nested import Array
from cnnspec.scalars import larger


@dataclass(frozen=True)
class RoundingTerms:
    """Per output element: |computed - exact| <= (roundings + 2 elementary ulps) u magnitude + stored u_out magnitude.

    u is the unit roundoff of the accumulation, u_out that of the output's format, `ulps` the error of the
    library's exp, log or tanh in units in the last place, `elementary` how many such errors the result contains,
    `stored` how many intermediate results are kept in the output's format. For sums of products the magnitude is
    S = sum |x| |w| and the roundings are the terms that are not zero. Where the sum is divided at the end, it is
    that of the sum before, `divisors` are what it is divided by in `divisions` steps, which are among the roundings.
    `faint` is what errors of 1 in intermediate results come to: by it underflow grows beyond that of the output.
    `reach` are the largest intermediate results where they may exceed the magnitude: where one overflows, nothing is
    promised. `summed` are sums on the way that are kept as they are accumulated, never in the output's format.
    Source: Jeannerod & Rump, "Improved error bounds for inner products in floating-point arithmetic",
    SIAM J. Matrix Anal. Appl. 34(2), 2013: n u S holds in any order, with or without fused multiply-add.
    """

    magnitude: list[Any]
    roundings: list[Any]
    elementary: int = 0
    divisors: list[int] | None = None
    stored: int = 0
    divisions: int = 1
    reach: list[Any] | None = None
    faint: list[Any] | None = None
    summed: list[Any] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Rounded:
    """A value with a bound of the error that computing it makes; see the module.

    >>> x = Rounded.exact(3)
    >>> y = x * x + x
    >>> y.value, y.magnitude, y.roundings
    (12, 12, 2)
    """

    value: Any
    magnitude: Any
    roundings: int = 0
    elementary: int = 0
    stores: int = 0
    reach: Any = 0
    summed: Any = 0

    @classmethod
    def exact(cls, value: Any) -> "Rounded":
        """Return a number without error."""
        return cls(value, abs(value))

    def __add__(self, other: Any) -> "Rounded":
        if isinstance(other, int) and other == 0:
            return self
        b = _rounded(other)
        return Rounded(
            self.value + b.value,
            self.magnitude + b.magnitude,
            max(self.roundings, b.roundings) + 1,
            max(self.elementary, b.elementary),
            max(self.stores, b.stores),
            self._reach(b),
            larger(self.summed, b.summed),
        )

    def __mul__(self, other: Any) -> "Rounded":
        if isinstance(other, int | float) and abs(other) in (0.5, 1, 2):
            return self._like(self.value * other, self.magnitude * abs(other))
        b = _rounded(other)
        return self._joined(b, self.value * b.value, self.magnitude * b.magnitude)

    def __truediv__(self, other: Any) -> "Rounded":
        b = _rounded(other)
        size = abs(b.value)
        magnitude = scalars.divide(scalars.divide(self.magnitude, size) * b.magnitude, size)
        return self._joined(b, scalars.divide(self.value, b.value), magnitude)

    def __neg__(self) -> "Rounded":
        return self._like(-self.value, self.magnitude)

    def __sub__(self, other: Any) -> "Rounded":
        return self + -_rounded(other)

    def __rsub__(self, other: Any) -> "Rounded":
        return _rounded(other) + -self

    def __rtruediv__(self, other: Any) -> "Rounded":
        return _rounded(other) / self

    __radd__ = __add__
    __rmul__ = __mul__

    def __abs__(self) -> "Rounded":
        return self._like(abs(self.value), self.magnitude)

    def __gt__(self, other: Any) -> bool:
        return bool(self.value > _rounded(other).value)

    def __lt__(self, other: Any) -> bool:
        return bool(self.value < _rounded(other).value)

    def __ge__(self, other: Any) -> bool:
        return bool(self.value >= _rounded(other).value)

    def __le__(self, other: Any) -> bool:
        return bool(self.value <= _rounded(other).value)

    def __eq__(self, other: object) -> bool:
        return bool(self.value == _rounded(other).value)

    def __hash__(self) -> int:
        return hash(self.value)

    def __int__(self) -> int:
        return int(self.value)

    def exp(self) -> "Rounded":
        """Return e to the power of this number: its absolute error becomes a relative one."""
        value = scalars.exp(self.value)
        return self._function(value, value)

    def expm1(self) -> "Rounded":
        """Return e to the power of this number, minus 1."""
        return self._function(scalars.expm1(self.value), scalars.exp(self.value))

    def log(self) -> "Rounded":
        """Return the natural logarithm: a relative error becomes an absolute one."""
        return self._function(scalars.log(self.value), scalars.divide(1, self.value))

    def log1p(self) -> "Rounded":
        """Return the natural logarithm of 1 + this number."""
        return self._function(scalars.log1p(self.value), scalars.divide(1, 1 + self.value))

    def tanh(self) -> "Rounded":
        """Return the hyperbolic tangent."""
        value = scalars.tanh(self.value)
        return self._function(value, 1 - value * value)

    def erf(self) -> "Rounded":
        """Return the error function: its slope is below 2 exp(-x^2)."""
        return self._function(scalars.erf(self.value), 2 * scalars.exp(-(self.value * self.value)))

    def sqrt(self) -> "Rounded":
        """Return the square root, which IEEE 754 rounds correctly."""
        value = scalars.sqrt(self.value)
        if not value > 0:
            return self._like(value, value)
        magnitude = larger(value, scalars.divide(self.magnitude, value))
        made = self.roundings + 1, self.elementary, self.stores
        return Rounded(value, magnitude, *made, self._reach(self), self.summed)

    def power(self, p: Any) -> "Rounded":
        """Return this positive number to the constant power p."""
        return self._function(scalars.power(self.value, p), abs(p) * scalars.power(self.value, p - 1))

    def pi(self) -> "Rounded":
        """Return pi, a constant that no format holds."""
        value = scalars.pi(self.value)
        return Rounded(value, value, 1)

    def stored(self) -> "Rounded":
        """Return this number rounded to the output's format; below 2**-14 float16 has an absolute error."""
        least = self.magnitude * 0 + 2.0**-14
        return replace(self, magnitude=larger(self.magnitude, least), stores=self.stores + 1)

    def _function(self, value: Any, slope: Any) -> "Rounded":
        exact = not (self.roundings or self.elementary or self.stores)
        magnitude = abs(value) if exact else larger(abs(value), abs(slope) * self.magnitude)
        elementary = self.elementary + 1
        made = self.roundings, elementary, self.stores
        return Rounded(value, magnitude, *made, self._reach(self), self.summed)

    def _like(self, value: Any, magnitude: Any) -> "Rounded":
        return replace(self, value=value, magnitude=magnitude)

    def _joined(self, b: "Rounded", value: Any, magnitude: Any) -> "Rounded":
        return Rounded(
            value,
            magnitude,
            self.roundings + b.roundings + 1,
            self.elementary + b.elementary,
            self.stores + b.stores,
            self._reach(b),
            larger(self.summed, b.summed),
        )

    def _reach(self, b: "Rounded") -> Any:
        """Return the largest of the magnitudes that led to the two operands, and theirs."""
        return larger(larger(self.reach, self.magnitude), larger(b.reach, b.magnitude))


def _rounded(number: Any) -> Rounded:
    """Return a constant as `Rounded`.

    >>> _rounded(0.25).roundings, _rounded(0.1).roundings
    (0, 1)
    """
    if isinstance(number, Rounded):
        return number
    return Rounded(number, abs(number), int(isinstance(number, float) and not _is_short(number)))


def _is_short(number: float) -> bool:
    """Say whether 24 bits hold the number: every format that sums are kept in then holds it, in its range."""
    significand, _ = math.frexp(number)
    return not math.isfinite(number) or (significand * 2**24).is_integer()


def rounded(array: Array) -> Array:
    """Return an array of numbers without error."""
    return nested.elementwise(Rounded.exact, array)


def terms(outputs: Array) -> RoundingTerms:
    """Return what bounds the errors of outputs that were computed from `Rounded` numbers.

    >>> bound = terms([Rounded.exact(2) * Rounded.exact(5)])
    >>> bound.magnitude, bound.roundings
    ([10], [2])
    """
    numbers: Sequence[Rounded] = [_rounded(number) for number in nested.ravel(outputs)]
    return RoundingTerms(
        [number.magnitude for number in numbers],
        [number.roundings + 1 for number in numbers],
        elementary=max((number.elementary for number in numbers), default=0),
        stored=max((number.stores for number in numbers), default=0),
        reach=[number.reach for number in numbers],
        summed=[number.summed for number in numbers],
    )
