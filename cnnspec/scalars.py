"""Numbers to run the loops on: exact with NaN and infinities, counting, tracing.

The loops of `cnnspec.ops` use only indexing, `+`, `-`, `*`, comparisons, and the functions below, so that one
loop gives the value, its cost, its receptive field, its gradient (`cnnspec.derivatives`) and the bound of its
rounding errors (`cnnspec.rounding`), by the numbers fed to it.
"""

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
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
    return x.exp() if hasattr(x, "exp") else _in_float64(math.exp, x)


def expm1(x: Any) -> Any:
    """Return e to the power x, minus 1: by `x.expm1()` for a number that has it, else in float64."""
    return x.expm1() if hasattr(x, "expm1") else _in_float64(math.expm1, x)


def log(x: Any) -> Any:
    """Return the natural logarithm: by `x.log()` for a number that has it, else in float64."""
    return x.log() if hasattr(x, "log") else math.log(x)


def log1p(x: Any) -> Any:
    """Return the natural logarithm of 1 + x: by `x.log1p()` for a number that has it, else in float64."""
    return x.log1p() if hasattr(x, "log1p") else math.log1p(x)


def tanh(x: Any) -> Any:
    """Return the hyperbolic tangent: by `x.tanh()` for a number that has it, else in float64."""
    return x.tanh() if hasattr(x, "tanh") else math.tanh(x)


def erf(x: Any) -> Any:
    """Return the error function: by `x.erf()` for a number that has it, else in float64."""
    return x.erf() if hasattr(x, "erf") else math.erf(x)


def sqrt(x: Any) -> Any:
    """Return the square root: by `x.sqrt()` for a number that has it, exactly for rational squares, else in float64.

    >>> sqrt(9), sqrt(Fraction(4, 9)), sqrt(2.25)
    (3, Fraction(2, 3), 1.5)
    """
    if hasattr(x, "sqrt"):
        return x.sqrt()
    if isinstance(x, int | Fraction) and x >= 0:
        top, bottom = math.isqrt(x.numerator), math.isqrt(x.denominator)
        if top * top == x.numerator and bottom * bottom == x.denominator:
            return divide(top, bottom)
    return math.sqrt(x)


def constant(value: float, like: Any) -> Any:
    """Return an argument as a number that goes with `like`: a fraction among rationals, where it stays exact.

    >>> constant(0.5, 3), constant(0.5, 3.0)
    (Fraction(1, 2), 0.5)
    """
    while hasattr(like, "value"):
        like = like.value
    return Fraction(value) if isinstance(like, int | Fraction) else value


def power(x: Any, p: Any) -> Any:
    """Return a positive x to the power p: by `x.power(p)` for a number that has it, else by `**`.

    >>> power(3, 2), power(4.0, 0.5)
    (9, 2.0)
    """
    return x.power(p) if hasattr(x, "power") else x**p


def pi(x: Any) -> Any:
    """Return pi as a number of the kind of x: by `x.pi()` for a number that has it, else in float64."""
    return x.pi() if hasattr(x, "pi") else math.pi


def stored(x: Any) -> Any:
    """Return x, an intermediate result that is kept in the format of the output: only `Rounded` takes note."""
    return x.stored() if hasattr(x, "stored") else x


def larger(a: Any, b: Any) -> Any:
    """Return the larger of two numbers of any kind: by `x.larger(y)` of one that has it, `a` where they are equal."""
    if hasattr(b, "larger"):
        a, b = b, a
    return a.larger(b) if hasattr(a, "larger") else max(a, b)


def _in_float64(function: Callable[[Any], float], x: Any) -> float:
    try:
        return function(x)
    except OverflowError:
        return math.inf


def is_nan(x: Any) -> bool:
    """Say whether x is not a number: by `x.is_nan()` for a number that has it, else as it differs from itself."""
    return bool(x.is_nan() if hasattr(x, "is_nan") else x != x)


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
