"""Numbers that differentiate the loops they run through: forwards (`Dual`) and backwards (`Taped`, `pullback`).

The two share no rule but the slopes of the elementary functions, so that each checks the other.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cnnspec import nested, scalars
from cnnspec.nested import Array


class _Differentiable:
    """What both kinds of numbers share: comparisons by value, and functions by their slopes."""

    __slots__ = ()
    value: Any

    def _function(self, value: Any, slope: Any) -> Any:
        """Return `value`, whose derivative with respect to this number is `slope`."""
        raise NotImplementedError

    def __gt__(self, other: Any) -> bool:
        return bool(self.value > _value(other))

    def __lt__(self, other: Any) -> bool:
        return bool(self.value < _value(other))

    def __ge__(self, other: Any) -> bool:
        return bool(self.value >= _value(other))

    def __le__(self, other: Any) -> bool:
        return bool(self.value <= _value(other))

    def __eq__(self, other: object) -> bool:
        return bool(self.value == _value(other))

    def __hash__(self) -> int:
        return hash(self.value)

    def __neg__(self) -> Any:
        return self._function(-self.value, -1)

    def __abs__(self) -> Any:
        return -self if self.value < 0 else self

    def exp(self) -> Any:
        """Return e to the power of this number."""
        value = scalars.exp(self.value)
        return self._function(value, value)

    def expm1(self) -> Any:
        """Return e to the power of this number, minus 1."""
        return self._function(scalars.expm1(self.value), scalars.exp(self.value))

    def log(self) -> Any:
        """Return the natural logarithm."""
        return self._function(scalars.log(self.value), scalars.divide(1, self.value))

    def log1p(self) -> Any:
        """Return the natural logarithm of 1 + this number."""
        return self._function(scalars.log1p(self.value), scalars.divide(1, 1 + self.value))

    def tanh(self) -> Any:
        """Return the hyperbolic tangent."""
        value = scalars.tanh(self.value)
        return self._function(value, 1 - value * value)

    def erf(self) -> Any:
        """Return the error function: its slope is 2 / sqrt(pi) exp(-x^2)."""
        x = self.value
        return self._function(scalars.erf(x), 2 / scalars.sqrt(scalars.pi(x)) * scalars.exp(-(x * x)))

    def pi(self) -> Any:
        """Return pi, a constant, as numbers of the value's kind have it."""
        return scalars.pi(self.value)

    def sqrt(self) -> Any:
        """Return the square root."""
        value = scalars.sqrt(self.value)
        return self._function(value, scalars.divide(1, 2 * value))

    def power(self, p: Any) -> Any:
        """Return this number to the constant power p."""
        return self._function(scalars.power(self.value, p), p * scalars.power(self.value, p - 1))


def _value(number: Any) -> Any:
    return number.value if isinstance(number, _Differentiable) else number


@dataclass(frozen=True, slots=True, eq=False)
class Dual(_Differentiable):
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

    def __rsub__(self, other: Any) -> "Dual":
        return self._combine(other, -1, 1, lambda a, b: b - a)

    def __mul__(self, other: Any) -> "Dual":
        return self._combine(other, _value(other), self.value, lambda a, b: a * b)

    def __truediv__(self, other: Any) -> "Dual":
        if not isinstance(other, Dual):
            slopes = {name: scalars.divide(slope, other) for name, slope in self.derivatives.items()}
            return Dual(scalars.divide(self.value, other), slopes)
        inverse = scalars.divide(1, other.value)
        return self._combine(other, inverse, -self.value * inverse * inverse, scalars.divide)

    def __rtruediv__(self, other: Any) -> "Dual":
        return Dual(other) / self

    __radd__ = __add__
    __rmul__ = __mul__

    def _function(self, value: Any, slope: Any) -> "Dual":
        return Dual(value, {name: slope * own for name, own in self.derivatives.items()})

    def _combine(self, other: Any, left: Any, right: Any, operation: Any) -> "Dual":
        """Return operation(self, other), given its two partial derivatives."""
        if not isinstance(other, Dual):
            other = Dual(other)
        derivatives = {name: left * slope for name, slope in self.derivatives.items()}
        for name, slope in other.derivatives.items():
            derivatives[name] = derivatives.get(name, 0) + right * slope
        return Dual(operation(self.value, other.value), derivatives)


Tape = list[tuple[tuple[int, Any], ...]]
"""Per number in the order of their making: the numbers it was made from, by place, with its slopes."""


@dataclass(frozen=True, slots=True, eq=False)
class Taped(_Differentiable):
    """A value whose making is written on a tape, for `pullback`."""

    value: Any
    tape: Tape
    place: int

    @classmethod
    def variable(cls, value: Any, tape: Tape) -> "Taped":
        """Return a number that depends on nothing."""
        return cls._written(value, tape, ())

    @classmethod
    def _written(cls, value: Any, tape: Tape, made_from: tuple[tuple[int, Any], ...]) -> "Taped":
        tape.append(made_from)
        return cls(value, tape, len(tape) - 1)

    def _function(self, value: Any, slope: Any) -> "Taped":
        return self._written(value, self.tape, ((self.place, slope),))

    def _with(self, other: Any, value: Any, own: Any, others: Any) -> "Taped":
        places = (
            ((self.place, own), (other.place, others)) if isinstance(other, Taped) else ((self.place, own),)
        )
        return self._written(value, self.tape, places)

    def __add__(self, other: Any) -> "Taped":
        return self._with(other, self.value + _value(other), 1, 1)

    def __sub__(self, other: Any) -> "Taped":
        return self._with(other, self.value - _value(other), 1, -1)

    def __rsub__(self, other: Any) -> "Taped":
        return self._with(other, other - self.value, -1, 0)

    def __mul__(self, other: Any) -> "Taped":
        return self._with(other, self.value * _value(other), _value(other), self.value)

    def __truediv__(self, other: Any) -> "Taped":
        divisor = _value(other)
        quotient = scalars.divide(self.value, divisor)
        slope = -scalars.divide(quotient, divisor) if isinstance(other, Taped) else 0
        return self._with(other, quotient, scalars.divide(1, divisor), slope)

    def __rtruediv__(self, other: Any) -> "Taped":
        quotient = scalars.divide(other, self.value)
        return self._function(quotient, -scalars.divide(quotient, self.value))

    __radd__ = __add__
    __rmul__ = __mul__


def pullback(
    function: Callable[..., Array], cotangent: Array, operands: Sequence[Array], constant: Sequence[bool] = ()
) -> list[Array | None]:
    """Return the vector-Jacobian product: for each operand, d(sum of cotangent * function(*operands)) / d operand.

    `constant` marks operands that have no gradient: None stands in their place.

    >>> pullback(lambda x, w: [x[0] * w[0] + x[1], x[1] * x[1]], [10, 1], [[2, 3], [5]])
    [[50, 16], [20]]
    """
    tape: Tape = []
    fixed = [*constant] + [False] * (len(operands) - len(constant))
    variables = [
        operand if is_fixed else nested.elementwise(lambda value: Taped.variable(value, tape), operand)
        for operand, is_fixed in zip(operands, fixed, strict=True)
    ]
    outputs = nested.ravel(function(*variables))
    adjoints: list[Any] = [None] * len(tape)
    for g, output in zip(nested.ravel(cotangent), outputs, strict=True):
        if isinstance(output, Taped):
            adjoints[output.place] = g if adjoints[output.place] is None else adjoints[output.place] + g
    for place in range(len(tape) - 1, -1, -1):
        if adjoints[place] is None:
            continue
        for source, slope in tape[place]:
            term = adjoints[place] * slope
            adjoints[source] = term if adjoints[source] is None else adjoints[source] + term

    def gradient(number: Taped) -> Any:
        return 0 if adjoints[number.place] is None else adjoints[number.place]

    return [
        None if is_fixed else nested.elementwise(gradient, variable)
        for variable, is_fixed in zip(variables, fixed, strict=True)
    ]


def pushforward(function: Callable[..., Any], operands: Sequence[Array], tangents: Sequence[Array]) -> Any:
    """Return the Jacobian-vector product of each output of `function` (an array, or a tuple of arrays and None).

    >>> pushforward(lambda x, w: [x[0] * w[0]], [[3], [5]], [[1], [10]])
    [35]
    """

    def pair(value: Any, tangent: Any) -> Dual:
        return Dual(value, {0: tangent})

    result = function(*(nested.elementwise(pair, x, v) for x, v in zip(operands, tangents, strict=True)))

    def slope(number: Any) -> Any:
        return number.derivatives.get(0, 0) if isinstance(number, Dual) else 0

    if isinstance(result, tuple):
        return tuple(None if one is None else nested.elementwise(slope, one) for one in result)
    return nested.elementwise(slope, result)
