"""Exact results with what bounds the rounding errors of computing them, element by element and in float64."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache, cached_property
from operator import mul
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cnnspec.exact.engine import Rounded
from cnnspec.exact.integers import scaled
from cnnspec.nested import Shape
from cnnspec.op import Operator

Values = npt.NDArray[Any]

LARGEST = 2.0**1023
GATHERED = 32
"""Elements whose exact numbers are found together when one of them is asked for."""


class Near(NamedTuple):
    """Exact results in float64, flat.

    value, low, off: |value + low - result| <= off;   rounded: whether each value is the nearest float64
    size: S, off by a part in 2**35 or by 8 of the smallest float64;   roundings: how many
    reach, faint, summed: as in `Exact`, as near as S; 0 where there is nothing to say
    """

    value: Values
    low: Values
    off: Values
    size: Values
    roundings: Values
    rounded: Values
    reach: Any = 0.0
    faint: Any = 0.0
    summed: Any = 0.0


@dataclass
class Exact:
    """Exact outputs: values[i] / divisors[i] * 2**exponent, and special[i] where the result is not finite.

    magnitude:  S in the units of the values;   roundings: their count, per element
    elementary: errors of the library's exp, log or tanh in each result;   stored: roundings to the output's format
    radius:     what the values themselves may be off by (rigorous enclosures of exp and log), in their units
    lattice:    2**lattice divides every term; sums that stay below 2**(precision + lattice) are exact in any order
    copies:     outputs that are copies of inputs, signs of zeros included, instead of values
    constants:  where a copy is a constant instead, whose zero may have any sign
    indices:    the second output of a maximum with indices; -1 where a window has no tap
    reach:      the largest intermediate results, where they may exceed the magnitude
    faint:      what errors of 1 in intermediate results come to, in the units of the values
    summed:     the largest sums on the way, which are kept as they are accumulated
    divisions:  in how many steps a sum is divided by its divisor
    """

    shape: Shape
    values: Sequence[int] = ()
    exponent: int = 0
    divisors: list[int] | None = None
    special: dict[int, float] = field(default_factory=dict)
    magnitude: Sequence[int] = ()
    roundings: Sequence[int] = ()
    elementary: int = 0
    reach: list[int] = field(default_factory=list)
    faint: list[int] = field(default_factory=list)
    summed: list[int] = field(default_factory=list)
    stored: int = 0
    radius: int = 0
    lattice: int | None = None
    copies: Values | None = None
    constants: Values | None = None
    indices: Sequence[int] | None = None
    divisions: int = 1

    def value(self, i: int) -> Fraction:
        """Return the exact result of element i."""
        return self._in_units(self.values[i], i)

    def size(self, i: int) -> Fraction:
        """Return S of element i."""
        return self._in_units(self.magnitude[i], i)

    def count(self, i: int) -> int:
        """Return how many roundings element i takes."""
        return self.roundings[i]

    def divisor(self, i: int) -> int:
        """Return what the sum of element i is divided by."""
        return self.divisors[i] if self.divisors else 1

    def _in_units(self, n: int, i: int) -> Fraction:
        return Fraction(n, self.divisor(i)) * Fraction(2) ** self.exponent

    @cached_property
    def near(self) -> Near:
        """The results in float64."""
        value = self.floats(self.values)
        off = np.abs(value) * 2.0**-53 + 5e-324
        return Near(
            value,
            np.zeros(off.shape),
            off,
            self.floats(self.magnitude),
            np.array(self.roundings, np.float64),
            np.ones(off.shape, bool),
            self.floats(self.reach) if self.reach else 0.0,
            self.floats(self.faint) if self.faint else 0.0,
            self.floats(self.summed) if self.summed else 0.0,
        )

    def alone(self, i: int) -> tuple["Exact", int]:
        """Return the exact result that holds the numbers of element i, and its place there."""
        return self, i

    def floats(self, numbers: Sequence[int]) -> Values:
        """Return numbers in the units of the values, divided as they are, as the nearest float64."""
        lift, drop = 1 << max(0, self.exponent), 1 << max(0, -self.exponent)
        divisors = self.divisors or [1] * len(numbers)
        return np.array(
            [_quotient(n * lift, d * drop) for n, d in zip(numbers, divisors, strict=True)], np.float64
        )

    def varies(self) -> bool:
        """Say whether any output is something that a constant would not give: not zero."""
        if self.copies is not None:
            return bool((self.copies != 0).any())
        return any(value != 0 for value in (*self.values, *self.special.values()))


def output_shape(operator: Operator, operands: Sequence[Values]) -> Shape:
    """Return the shape of the outputs on these inputs, parameters and buffers."""
    inputs = len(operands) - len(operator.parameter_shapes()) - len(operator.buffer_shapes())
    return operator.output_shape(*(array.shape for array in operands[:inputs]))


def _quotient(n: int, d: int) -> float:
    """Return the nearest float64 to n / d, which Python's division of integers is."""
    try:
        return n / d
    except OverflowError:
        return math.inf if n > 0 else -math.inf


class Nearest(Exact):
    """Exact results from the engine: the nearest float64 values at once, exact ones when asked.

    found: float64 values, S and counts;   exactly: element -> the exact result and S
    """

    def __init__(
        self, shape: Shape, found: Rounded, exactly: Callable[[int], tuple[Fraction, Fraction]], lattice: int | None,
        divisors: list[int] | None = None, divisions: int = 1,
    ) -> None:  # fmt: skip
        super().__init__(shape, divisors=divisors, lattice=lattice, divisions=divisions)
        assert found.bound_sum is not None
        assert found.n_eff is not None
        value, size = found.value.reshape(-1), found.bound_sum.reshape(-1).copy()
        # sums over a common divisor may overflow where S does not
        for i in np.flatnonzero(np.isinf(size)).tolist():
            size[i] = _quotient(*exactly(i)[1].as_integer_ratio())
        odd = np.flatnonzero(~np.isfinite(value) & (np.isnan(value) | (size < LARGEST)))
        self.special = dict(zip(odd.tolist(), value[odd].tolist(), strict=True))
        counts, off = found.n_eff.reshape(-1).astype(np.float64), np.abs(value) * 2.0**-53 + 5e-324
        self.near = Near(value, np.zeros(off.shape), off, size, counts, np.ones(off.shape, bool))
        self._exactly = cache(exactly)

    def value(self, i: int) -> Fraction:
        """Return the exact result of element i."""
        return self._exactly(i)[0]

    def size(self, i: int) -> Fraction:
        """Return S of element i."""
        return self._exactly(i)[1]

    def count(self, i: int) -> int:
        """Return how many roundings element i takes."""
        return int(self.near.roundings[i])

    def varies(self) -> bool:
        """Say whether any output is not zero."""
        return bool((self.near.value != 0).any())


class Products(Exact):
    """Exact sums of products from the engine: near float64 values at once, exact ones from their terms when asked.

    found:   float64 values, S and counts;   terms: elements -> the factors of their products, as rows of two arrays
    lattice: as in `Exact`
    """

    def __init__(
        self,
        shape: Shape,
        found: Rounded,
        terms: Callable[[Values], tuple[Values, Values]],
        lattice: int,
    ) -> None:
        super().__init__(shape, lattice=lattice)
        assert found.bound_sum is not None
        assert found.n_eff is not None
        value, size = found.value.reshape(-1).astype(np.float64), found.bound_sum.reshape(-1)
        self._count = found.n_eff.reshape(-1)
        self._terms = terms
        self._rows: dict[int, tuple[Values, Values]] = {}
        self._exact: dict[int, tuple[Fraction, Fraction]] = {}
        off, low = np.abs(value) * 2.0**-53 + 5e-324, np.zeros(value.shape)
        rounded = np.ones(value.shape, bool)
        if found.off is not None and found.statistics.way != "lattice":
            off, low, rounded = (array.reshape(-1) for array in found.off)
        odd = np.flatnonzero(~np.isfinite(value) & rounded & (np.isnan(value) | (size < LARGEST)))
        self.special = dict(zip(odd.tolist(), value[odd].tolist(), strict=True))
        if found.statistics.way == "close":  # float64 sums of few multiples of one unit are exact
            rounded = rounded | (size <= math.ldexp(1.0, min(max(53 + lattice, -1022), 1000)))
        self.near = Near(value, low, off, size, self._count.astype(np.float64), rounded)

    def value(self, i: int) -> Fraction:
        """Return the exact result of element i."""
        return self._sums(i)[0]

    def size(self, i: int) -> Fraction:
        """Return S of element i."""
        return self._sums(i)[1]

    def count(self, i: int) -> int:
        """Return how many products of element i are not zero."""
        return int(self._count[i])

    def varies(self) -> bool:
        """Say whether any output is not zero."""
        return bool((self.near.value != 0).any())

    def _sums(self, i: int) -> tuple[Fraction, Fraction]:
        """Return the sum and S of element i; its neighbours' terms are gathered with it."""
        if i not in self._exact and i not in self._rows:
            first = i - i % GATHERED
            flat = np.arange(first, min(first + GATHERED, len(self._count)))
            self._rows.update(zip(flat.tolist(), zip(*self._terms(flat), strict=True), strict=True))
        if i not in self._exact:
            a, b = self._rows.pop(i)
            met = (a != 0) & (b != 0) & np.isfinite(a) & np.isfinite(b)
            (left, first), (right, second) = scaled(a[met]), scaled(b[met])
            products = list(map(mul, left.tolist(), right.tolist()))
            scale = Fraction(2) ** (first + second)
            self._exact[i] = (sum(products) * scale, sum(map(abs, products)) * scale)
        return self._exact[i]
