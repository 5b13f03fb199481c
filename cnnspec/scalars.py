"""Numbers to run the loops on: exact with NaN and infinities, counting, tracing, differentiating.

The loops of `cnnspec.ops` use only indexing, `+`, `-`, `*`, comparisons, and the functions below, so
that one loop gives the value, its cost, its receptive field and its gradient, by the numbers fed to it.
"""

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any


def divide(a: Any, b: Any) -> Any:
    """Return a / b, exactly for integers.

    >>> divide(6, 3), divide(1, 3), divide(1.0, 4)
    (2, Fraction(1, 3), 0.25)
    """
    if isinstance(a, int) and isinstance(b, int):
        return a // b if a % b == 0 else Fraction(a, b)
    return a / b


def exp(x: Any) -> Any:
    """Return e to the power x: by `x.exp()` for a number that has it, else in float64.

    >>> exp(0), exp(float("inf")), exp(1000)
    (1.0, inf, inf)
    """
    if hasattr(x, "exp"):
        return x.exp()
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def log(x: Any) -> Any:
    """Return the natural logarithm: by `x.log()` for a number that has it, else in float64."""
    return x.log() if hasattr(x, "log") else math.log(x)


def is_nan(x: Any) -> bool:
    """Say whether x is not a number: the only value that differs from itself."""
    return bool(x != x)


class Extended:
    """A rational number, or NaN, or an infinity, with IEEE 754's arithmetic and no rounding.

    Zeros carry no sign: sums are compared with +0 and -0 equal.

    >>> Extended(float("inf")) * Extended(0), Extended(0.5) + Extended(float("-inf"))
    (Extended(nan), Extended(-inf))
    >>> Extended(0.1) + 1 == Fraction(0.1) + 1
    True
    """

    __slots__ = ("value",)
    value: int | float | Fraction

    def __init__(self, value: "int | float | Fraction | Extended") -> None:
        if isinstance(value, Extended):
            self.value = value.value
        elif isinstance(value, float) and math.isfinite(value):
            self.value = Fraction(value)
        else:
            self.value = value

    def __add__(self, other: Any) -> "Extended":
        a, b = self.value, Extended(other).value
        if isinstance(a, float) or isinstance(b, float):
            return Extended(_sign(a) + _sign(b))
        return Extended(a + b)

    def __mul__(self, other: Any) -> "Extended":
        a, b = self.value, Extended(other).value
        if isinstance(a, float) or isinstance(b, float):
            return Extended(_sign(a) * _sign(b))
        return Extended(a * b)

    def __truediv__(self, other: Any) -> "Extended":
        return self * Extended(divide(1, Extended(other).value))

    def __neg__(self) -> "Extended":
        return Extended(-self.value)

    def __sub__(self, other: Any) -> "Extended":
        return self + -Extended(other)

    __radd__ = __add__
    __rmul__ = __mul__

    def __eq__(self, other: object) -> bool:
        return bool(self.value == (other.value if isinstance(other, Extended) else other))

    def __hash__(self) -> int:
        return hash(self.value)

    def __gt__(self, other: Any) -> bool:
        return bool(self.value > Extended(other).value)

    def __lt__(self, other: Any) -> bool:
        return bool(self.value < Extended(other).value)

    def __repr__(self) -> str:
        return f"Extended({self.value})"


def _sign(value: float | Fraction) -> float:
    """Return NaN and infinities as they are and any finite number as its sign."""
    if isinstance(value, float):
        return value
    return float((value > 0) - (value < 0))


@dataclass
class Tally:
    """How many operations the `Counted` numbers of one run have executed."""

    multiplications: int = 0
    additions: int = 0


@dataclass(frozen=True, slots=True)
class Counted:
    """A number without a value that counts what is done to it.

    >>> tally = Tally()
    >>> _ = Counted(tally) * Counted(tally) + Counted(tally)
    >>> tally
    Tally(multiplications=1, additions=1)
    """

    tally: Tally

    def __mul__(self, other: Any) -> "Counted":
        self.tally.multiplications += 1
        return self

    def __add__(self, other: Any) -> "Counted":
        self.tally.additions += 1
        return self

    def __radd__(self, other: Any) -> "Counted":
        return self

    def __truediv__(self, other: Any) -> "Counted":
        return self

    __rmul__ = __mul__


@dataclass(frozen=True, slots=True)
class Traced:
    """A number without a value that remembers which elements it was made from.

    >>> (Traced({"a"}) * Traced({"b"}) + 3).sources == {"a", "b"}
    True
    """

    sources: frozenset[Hashable] | set[Hashable]

    def __mul__(self, other: Any) -> "Traced":
        return Traced(self.sources | (other.sources if isinstance(other, Traced) else frozenset()))

    def __truediv__(self, other: Any) -> "Traced":
        return self

    __add__ = __radd__ = __rmul__ = __mul__


@dataclass(frozen=True, slots=True)
class Dual:
    """A value and its derivatives with respect to any number of named variables.

    >>> x, w = Dual.variable(3, "x"), Dual.variable(5, "w")
    >>> (x * w + x).derivatives == {"x": 6, "w": 3}
    True
    """

    value: Any
    derivatives: Mapping[Hashable, Any] = field(default_factory=dict)

    @classmethod
    def variable(cls, value: Any, name: Hashable) -> "Dual":
        """Return the variable `name` at `value`: its derivative with respect to itself is 1."""
        return cls(value, {name: 1})

    def __add__(self, other: Any) -> "Dual":
        return self._combine(other, 1, 1, lambda a, b: a + b)

    def __sub__(self, other: Any) -> "Dual":
        return self._combine(other, 1, -1, lambda a, b: a - b)

    def __mul__(self, other: Any) -> "Dual":
        factor = other.value if isinstance(other, Dual) else other
        return self._combine(other, factor, self.value, lambda a, b: a * b)

    def __truediv__(self, other: Any) -> "Dual":
        return self.__mul__(divide(1, other))

    __radd__ = __add__
    __rmul__ = __mul__

    def __gt__(self, other: Any) -> bool:
        return bool(self.value > (other.value if isinstance(other, Dual) else other))

    def __lt__(self, other: Any) -> bool:
        return bool(self.value < (other.value if isinstance(other, Dual) else other))

    def _combine(self, other: Any, left: Any, right: Any, operation: Any) -> "Dual":
        """Return operation(self, other), given its two partial derivatives."""
        if not isinstance(other, Dual):
            other = Dual(other)
        derivatives = {name: left * slope for name, slope in self.derivatives.items()}
        for name, slope in other.derivatives.items():
            derivatives[name] = derivatives.get(name, 0) + right * slope
        return Dual(operation(self.value, other.value), derivatives)
