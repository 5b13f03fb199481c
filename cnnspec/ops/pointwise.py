"""Activations that act on each element by itself.

relu(x) = max(x, 0)        sigmoid(x) = 1 / (1 + exp(-x))        tanh(x) = (1 - exp(-2x)) / (1 + exp(-2x))
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cnnspec import nested
from cnnspec.nested import Array, Shape
from cnnspec.op import Call, Law, Operator, Pick, RoundingTerms, Spec
from cnnspec.scalars import exp


@dataclass(frozen=True)
class _Pointwise(Operator):
    """The shape of the input, and a function of one element."""

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return the shape of the input."""
        (shape,) = input_shapes
        return tuple(shape)

    def reference(self, *arrays: Array) -> Array:
        """Return the function of each element."""
        (input,) = arrays
        return nested.elementwise(self.function, input)

    @staticmethod
    def function(x: Any) -> Any:
        """Return the value at one element."""
        raise NotImplementedError


@dataclass(frozen=True)
class ReLU(_Pointwise):
    """The positive part, as `torch.nn.ReLU`: y = max(x, 0); NaN stays NaN and -0 stays -0.

    >>> ReLU().reference([-2, -0.0, 3])
    [0, -0.0, 3]
    """

    @staticmethod
    def function(x: Any) -> Any:
        """Return 0 where x is negative, else x."""
        return max(x, 0)


@dataclass(frozen=True)
class Sigmoid(_Pointwise):
    """The logistic function, as `torch.nn.Sigmoid`: y = 1 / (1 + exp(-x)).

    >>> Sigmoid().reference([0.0])
    [0.5]
    """

    @staticmethod
    def function(x: Any) -> Any:
        """Return 1 / (1 + exp(-x)) through e = exp(-|x|), which cannot overflow: e / (1 + e) for negative x."""
        e = exp(-abs(x))
        return e / (1 + e) if x < 0 else 1 / (1 + e)

    def rounding_terms(self, *arrays: Array) -> RoundingTerms:
        """Return |y|, one error of exp damped by e / (1 + e), an addition, a division, one for O(u^2)."""
        values = nested.ravel(self.reference(*arrays))
        return RoundingTerms(values, [3] * len(values), elementary=1)


@dataclass(frozen=True)
class Tanh(_Pointwise):
    """The hyperbolic tangent, as `torch.nn.Tanh`.

    y = tanh(x) = (1 - exp(-2 |x|)) / (1 + exp(-2 |x|)), with the sign of x.

    >>> Tanh().reference([0.0])
    [0.0]
    """

    @staticmethod
    def function(x: Any) -> Any:
        """Return (1 - e) / (1 + e) with e = exp(-2 |x|), and the sign of x."""
        e = exp(-2 * abs(x))
        y = (1 - e) / (1 + e)
        return -y if x < 0 else y

    def rounding_terms(self, *arrays: Array) -> RoundingTerms:
        """Return |y| and one error of the library's tanh."""
        values = [abs(value) for value in nested.ravel(self.reference(*arrays))]
        return RoundingTerms(values, [1] * len(values), elementary=1)


def domain(pick: Pick) -> tuple[Mapping[str, Any], tuple[Shape, ...]]:
    """Draw any shape of up to four axes, around the widths of vector registers, and empty ones."""
    lengths = (1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 0)
    return {}, ((*(pick.choice(lengths[:5]) for _ in range(pick.integer(0, 3))), pick.choice(lengths)),)


def _positive_parts(op: Operator, call: Call, x: Array) -> tuple[Array, Array]:
    negative = call(op, nested.elementwise(lambda value: -value, x))
    return nested.elementwise(lambda a, b: a - b, call(op, x), negative), x


SPECS = (
    Spec(
        name="relu",
        operator=ReLU,
        operands=("input",),
        keywords=(),
        domain=domain,
        laws=(Law("parts", "relu(x) - relu(-x) = x", lambda op, shapes: True, _positive_parts),),
        judged="copy",
        dtypes=(*Spec.dtypes, "int64"),
        layer="ReLU",
    ),
    Spec(
        name="sigmoid",
        operator=Sigmoid,
        operands=("input",),
        keywords=(),
        domain=domain,
        judged="function",
        layer="Sigmoid",
    ),
    Spec(
        name="tanh",
        operator=Tanh,
        operands=("input",),
        keywords=(),
        domain=domain,
        judged="function",
        layer="Tanh",
    ),
)
