"""Activations that act on each element by itself.

relu(x) = max(x, 0)        sigmoid(x) = 1 / (1 + exp(-x))        tanh(x) = (exp(x) - exp(-x)) / (exp(x) + exp(-x))

With g the gradient of y, that of x is g where y is not below or at 0 (relu), g (1 - y) y, and g (1 - y^2).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cnnspec import nested
from cnnspec.laws import always
from cnnspec.nested import Array, Shape
from cnnspec.op import Composed, Operator, Routing
from cnnspec.ops import large
from cnnspec.rounding import RoundingTerms
from cnnspec.scalars import exp, stored, tanh
from cnnspec.spec import Call, Dialect, Law, Pick, Spec


class Pointwise(Operator):
    """The shape of the input, a function of one element, and its gradient."""

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return the shape of the input."""
        (shape,) = input_shapes
        return tuple(shape)

    def reference(self, *arrays: Array) -> Array:
        """Return the function of each element."""
        (input,) = arrays
        self.output_shape(nested.shape_of(input))
        return nested.elementwise(self.function, input)

    def gradients(self, grad_output: Array, *operands: Array) -> list[Array | None]:
        """Return the gradient of each element."""
        (input,) = operands
        return [nested.elementwise(self.gradient, grad_output, input)]

    def function(self, x: Any) -> Any:
        """Return the value at one element."""
        raise NotImplementedError

    def gradient(self, g: Any, x: Any) -> Any:
        """Return g times the slope at x."""
        raise NotImplementedError


class Logistic(Composed):
    """What sigmoid and SiLU share: one error of exp, which e / (1 + e) damps, an addition and a division."""

    def rounding_terms(self, *arrays: Array) -> RoundingTerms:
        """Return |y|, an addition, a division, one for O(u^2), and one error of exp."""
        magnitudes = [abs(value) for value in nested.ravel(self.reference(*arrays))]
        return RoundingTerms(magnitudes, [3] * len(magnitudes), elementary=1)


@dataclass(frozen=True)
class ReLU(Pointwise, Routing):
    """The positive part, as `torch.nn.ReLU`: y = max(x, 0); NaN stays NaN and -0 stays -0.

    Its slope at 0 is 0.

    >>> ReLU().reference([-2, -0.0, 3])
    [0, -0.0, 3]
    >>> ReLU().gradients([5, 5, 5], [-2, 0, 3])
    [[0, 0, 5]]
    """

    def function(self, x: Any) -> Any:
        """Return 0 where x is negative, else x."""
        return max(x, 0)

    def gradient(self, g: Any, x: Any) -> Any:
        """Return 0 where x <= 0, else g, where x is NaN too."""
        return 0 if x <= 0 else g


@dataclass(frozen=True)
class Sigmoid(Pointwise, Logistic):
    """The logistic function, as `torch.nn.Sigmoid`: y = 1 / (1 + exp(-x)).

    >>> Sigmoid().reference([0.0]), Sigmoid().gradients([8.0], [0.0])
    ([0.5], [[2.0]])
    """

    def function(self, x: Any) -> Any:
        """Return 1 / (1 + exp(-x)) through e = exp(-|x|), which cannot overflow: e / (1 + e) for negative x."""
        e = exp(-abs(x))
        return e / (1 + e) if x < 0 else 1 / (1 + e)

    def gradient(self, g: Any, x: Any) -> Any:
        """Return g (1 - y) y, from the output y."""
        y = stored(self.function(x))
        return g * (1 - y) * y


@dataclass(frozen=True)
class Tanh(Pointwise, Composed):
    """The hyperbolic tangent, as `torch.nn.Tanh`: y = (exp(x) - exp(-x)) / (exp(x) + exp(-x)).

    >>> Tanh().reference([0.0]), Tanh().gradients([8.0], [0.0])
    ([0.0], [[8.0]])
    """

    def function(self, x: Any) -> Any:
        """Return tanh(x), one elementary function."""
        return tanh(x)

    def gradient(self, g: Any, x: Any) -> Any:
        """Return g (1 - y^2), from the output y."""
        y = stored(self.function(x))
        return g * (1 - y * y)


# Domain, laws and conventions of other frameworks


def domain(pick: Pick) -> tuple[Mapping[str, Any], tuple[Shape, ...]]:
    """Draw any shape of up to four axes, around the widths of vector registers, and empty ones."""
    lengths = (1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 0)
    return {}, ((*(pick.choice(lengths[:5]) for _ in range(pick.integer(0, 3))), pick.choice(lengths)),)


def negated(array: Array) -> Array:
    """Return the array with every sign changed."""
    return nested.elementwise(lambda value: -value, array)


def _positive_parts(op: Operator, call: Call, x: Array) -> tuple[Array, Array]:
    return nested.elementwise(lambda a, b: a - b, call(op, x), call(op, negated(x))), x


def _drops_nan(op: Pointwise, *arrays: Array) -> Array:
    return nested.elementwise(lambda x: 0 if x != x else op.function(x), *arrays)


DROPS_NAN = Dialect(
    "fmax of C and CUDA, NumPy's fmax", "NaN counts as missing and becomes 0", lambda op: True, _drops_nan
)


def drawing(**choices: tuple[Any, ...]) -> Any:
    """Return a domain of any shape that draws each argument from its choices, the default first."""

    def draw(pick: Pick) -> tuple[Mapping[str, Any], tuple[Shape, ...]]:
        _, shapes = domain(pick)
        drawn = {name: (pick.choice(values), values[0]) for name, values in choices.items()}
        return {name: value for name, (value, default) in drawn.items() if value != default}, shapes

    return draw


def spec_of(name: str, operator: type[Operator], draw: Any, *arguments: str, **more: Any) -> Spec:
    """Return the Spec of a function of one input, with a layer of torch.nn; `arguments` go by keyword."""
    return Spec(
        name=name,
        operator=operator,
        operands=("input",),
        keywords=arguments,
        domain=draw,
        layer=operator.__name__,
        **{"judged": "function", **more},
    )


SPECS = (
    spec_of(
        "relu",
        ReLU,
        domain,
        laws=(Law("parts", "relu(x) - relu(-x) = x", always, _positive_parts),),
        judged="copy",
        dtypes=(*Spec.dtypes, "int64"),
        dialects=(DROPS_NAN,),
        large=large.images(1),
    ),
    spec_of("sigmoid", Sigmoid, domain),
    spec_of("tanh", Tanh, domain),
)
