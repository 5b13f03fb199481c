"""Activations in straight and parabolic pieces, each on one element by itself.

relu6(x) = min(max(x, 0), 6)                      hardswish(x) = x relu6(x + 3) / 6
leaky_relu(x) = x where x > 0, else slope x       prelu(x) = x where x > 0, else w[channel] x

Slopes at the kinks: relu6'(0) = relu6'(6) = 0, leaky_relu'(0) = slope, prelu'(0) = w, hardswish'(-3) = 0 and
hardswish'(3) = 1. The gradient where x is NaN is that of torch's scalar kernels; its vectorised ones pass on 0
(relu6) or NaN (hardswish) there.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

from cnnspec import nested
from cnnspec.errors import ArgumentError, ShapeError
from cnnspec.nested import Array, Shape
from cnnspec.op import Composed, Operator, Routing, integer
from cnnspec.ops.pointwise import DROPS_NAN, Pointwise, domain, negated
from cnnspec.scalars import divide, stored
from cnnspec.spec import Call, Dialect, Law, Pick, Spec


def number(name: str, value: Any) -> Any:
    """Return `value` if it is a real number; ArgumentError where it is none.

    >>> number("alpha", 0.5)
    0.5
    """
    if not isinstance(value, Real):
        raise ArgumentError(f"{name}={value!r} must be a number", **{name: value})
    return value


@dataclass(frozen=True)
class ReLU6(Pointwise, Routing):
    """The positive part up to 6, as `torch.nn.ReLU6`: y = min(max(x, 0), 6); NaN stays NaN and -0 stays -0.

    Source: Howard et al., "MobileNets", 2017; Krizhevsky, "Convolutional Deep Belief Networks on CIFAR-10", 2010.

    >>> ReLU6().reference([-2, 3, 8]), ReLU6().gradients([5, 5, 5, 5], [-2, 0, 3, 6])
    ([0, 3, 6], [[0, 0, 5, 0]])
    """

    def function(self, x: Any) -> Any:
        """Return x clipped to [0, 6]."""
        return min(max(x, 0), 6)

    def gradient(self, g: Any, x: Any) -> Any:
        """Return 0 where x <= 0 or x >= 6, else g."""
        return 0 if x <= 0 or x >= 6 else g


@dataclass(frozen=True)
class LeakyReLU(Pointwise, Composed):
    """A line with a bend at 0, as `torch.nn.LeakyReLU`: y = x where x > 0, else negative_slope x.

    Source: Maas, Hannun, Ng, "Rectifier Nonlinearities Improve Neural Network Acoustic Models", 2013.

    >>> LeakyReLU(0.25).reference([-2, 3]), LeakyReLU(0.25).gradients([1, 1, 1], [-2, 0, 3])
    ([-0.5, 3], [[0.25, 0.25, 1]])
    """

    negative_slope: float = 0.01

    def __post_init__(self) -> None:
        self.normalise(("negative_slope",), number)

    def function(self, x: Any) -> Any:
        """Return x where it is positive, else negative_slope x."""
        return x if x > 0 else x * self.negative_slope

    def gradient(self, g: Any, x: Any) -> Any:
        """Return g where x is positive, else negative_slope g."""
        return g if x > 0 else g * self.negative_slope


@dataclass(frozen=True)
class PReLU(Composed):
    """A line with a learnt bend, as `torch.nn.PReLU`: y[n, c] = x[n, c] where it is positive, else w[c] x[n, c].

    Input of any shape; weight (num_parameters,): one for all elements, or one for each channel, axis 1.
    `init` is what a new layer's weight holds; no formula uses it.
    Raises ArgumentError for a negative number of parameters, ShapeError where it is not the number of channels.
    Source: He, Zhang, Ren, Sun, "Delving Deep into Rectifiers", 2015, equation 1.

    >>> PReLU(2).reference([[-2, -2], [3, 3]], [10, 100])
    [[-20, -200], [3, 3]]
    >>> PReLU().gradients([1, 1], [-2, 3], [10])
    [[10, 1], [-2]]
    """

    num_parameters: int = 1
    init: float = 0.25

    def __post_init__(self) -> None:
        self.normalise(("num_parameters",), integer)
        self.normalise(("init",), number)
        if self.num_parameters < 0:
            raise ArgumentError(f"num_parameters={self.num_parameters} must not be negative")

    def parameter_shapes(self) -> dict[str, Shape]:
        """Return {"weight": (num_parameters,)}."""
        return {"weight": (self.num_parameters,)}

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return the shape of the input; ShapeError where it has other channels than the weight."""
        (shape,) = input_shapes
        channels = shape[1] if len(shape) > 1 else 1
        if self.num_parameters != 1 and (not shape or channels != self.num_parameters):
            raise ShapeError(
                f"num_parameters={self.num_parameters} must be 1 or the {channels} channels of {tuple(shape)}",
                shape=shape,
            )
        return tuple(shape)

    def reference(self, *arrays: Array) -> Array:
        """Return y of x and weight."""
        input, weight = arrays
        x, channels = nested.ravel(input), self.channels(input)
        w = nested.ravel(self.check_parameters([weight])[0])
        y = [x[i] if x[i] > 0 else w[c] * x[i] for i, c in enumerate(channels)]
        return nested.unravel(y, nested.shape_of(input))

    def gradients(self, grad_output: Array, *operands: Array) -> list[Array | None]:
        """Return the gradients of input and weight: g, or w g, and the sum of x g where x is not positive.

        torch keeps each x g in the output's format before it sums.
        """
        input, weight = operands
        g, x, w = nested.ravel(grad_output), nested.ravel(input), nested.ravel(weight)
        gx, gw = [], [0] * len(w)
        for i, c in enumerate(self.channels(input)):
            gx.append(g[i] if x[i] > 0 else w[c] * g[i])
            if not x[i] > 0:
                gw[c] = gw[c] + stored(x[i] * g[i])
        return [nested.unravel(gx, nested.shape_of(input)), gw]

    def channels(self, input: Array) -> list[int]:
        """Return which weight each element has, in row-major order."""
        shape = self.output_shape(nested.shape_of(input))
        if self.num_parameters == 1:
            return [0] * math.prod(shape)
        pixels = math.prod(shape[2:])
        return [c for _ in range(shape[0]) for c in range(shape[1]) for _ in range(pixels)]


@dataclass(frozen=True)
class Hardswish(Pointwise, Composed):
    """SiLU in pieces, as `torch.nn.Hardswish`: y = x min(max(x + 3, 0), 6) / 6.

    Source: Howard et al., "Searching for MobileNetV3", 2019, section 5.2.

    >>> Hardswish().reference([-3, 0, 3, 6]), Hardswish().gradients([2, 2, 2], [-3, 0, 3])
    ([0, 0, 3, 6], [[0, Fraction(1, 1), 2]])
    """

    def function(self, x: Any) -> Any:
        """Return x relu6(x + 3) / 6."""
        return divide(x * min(max(x + 3, 0), 6), 6)

    def gradient(self, g: Any, x: Any) -> Any:
        """Return 0 where x <= -3, g (2 x + 3) / 6 where x < 3, else g."""
        if x <= -3:
            return 0
        return g * divide(2 * x + 3, 6) if x < 3 else g


# Laws, on integers and short fractions, where all of this is exact


def _clip_reflects(op: ReLU6, call: Call, x: Array) -> tuple[Array, Array]:
    return call(op, x), nested.elementwise(lambda y: 6 - y, call(op, nested.elementwise(lambda v: 6 - v, x)))


def _leaky_parts(op: LeakyReLU, call: Call, x: Array) -> tuple[Array, Array]:
    odd = nested.elementwise(lambda a, b: a - b, call(op, x), call(op, negated(x)))
    return odd, nested.elementwise(lambda v: v + v * op.negative_slope, x)


def _learnt_parts(op: PReLU, call: Call, x: Array, weight: Array) -> tuple[Array, Array]:
    odd = nested.elementwise(lambda a, b: a - b, call(op, x, weight), call(op, negated(x), weight))
    w, values = nested.ravel(weight), nested.ravel(x)
    both = [v + v * w[c] for v, c in zip(values, op.channels(x), strict=True)]
    return odd, nested.unravel(both, nested.shape_of(x))


def _is_positive_part_of_threes(op: Hardswish, call: Call, x: Array) -> tuple[Array, Array]:
    threes = nested.elementwise(lambda v: 3 * v, x)
    return call(op, threes), nested.elementwise(lambda v: max(v, 0), threes)


# Conventions of other frameworks


def _other_slope(name: str, slope: float) -> Dialect:
    return Dialect(
        name,
        f"the slope is {slope} where none is given",
        lambda op: op.negative_slope == LeakyReLU.negative_slope,
        lambda op, x: LeakyReLU(slope).reference(x),
    )


def _swish_of_a_fifth(op: Hardswish, *arrays: Array) -> Array:
    return nested.elementwise(lambda x: x * min(max(x * 0.2 + 0.5, 0), 1), *arrays)


# Domains: arguments that the shapes of `pointwise.domain` join


def drawing(**choices: tuple[Any, ...]) -> Any:
    """Return a domain that draws each argument from its choices, the default first."""

    def draw(pick: Pick) -> tuple[Mapping[str, Any], tuple[Shape, ...]]:
        _, shapes = domain(pick)
        drawn = {name: (pick.choice(values), values[0]) for name, values in choices.items()}
        return {name: value for name, (value, default) in drawn.items() if value != default}, shapes

    return draw


def _prelu_domain(pick: Pick) -> tuple[Mapping[str, Any], tuple[Shape, ...]]:
    """Draw one weight on any shape, or a weight for each of the channels."""
    if pick.choice((True, False)):
        return domain(pick)
    channels = pick.choice((2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33))
    batch, spatial = pick.choice((1, 2, 3, 0)), [pick.integer(1, 4) for _ in range(pick.integer(0, 3))]
    return {"num_parameters": channels}, ((batch, channels, *spatial),)


def always(op: Operator, shapes: tuple[Shape, ...]) -> bool:
    """Say that a law applies to every case."""
    return True


def _has_short_slope(op: LeakyReLU, shapes: tuple[Shape, ...]) -> bool:
    return float(8 * op.negative_slope).is_integer() and abs(op.negative_slope) <= 2


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
        "relu6",
        ReLU6,
        domain,
        laws=(Law("reflection", "relu6(x) = 6 - relu6(6 - x)", always, _clip_reflects),),
        judged="copy",
        dtypes=(*Spec.dtypes, "int64"),
        dialects=(DROPS_NAN,),
    ),
    spec_of(
        "leaky_relu",
        LeakyReLU,
        drawing(negative_slope=(0.01, 0.25, 0.2, 0.3, 0, -0.5, 1.5)),
        "negative_slope",
        laws=(Law("parts", "f(x) - f(-x) = (1 + slope) x", _has_short_slope, _leaky_parts),),
        dialects=(_other_slope("Keras", 0.3), _other_slope("TensorFlow", 0.2)),
    ),
    Spec(
        name="prelu",
        operator=PReLU,
        operands=("input", "weight"),
        keywords=(),
        domain=_prelu_domain,
        laws=(Law("parts", "f(x) - f(-x) = (1 + w) x", always, _learnt_parts),),
        judged="function",
        layer="PReLU",
    ),
    spec_of(
        "hardswish",
        Hardswish,
        domain,
        laws=(Law("threes", "hardswish(3 x) = max(3 x, 0)", always, _is_positive_part_of_threes),),
        dialects=(
            Dialect(
                "Keras 2, ONNX",
                "the hard sigmoid is x / 5 + 1 / 2, from 0 to 1",
                lambda op: True,
                _swish_of_a_fifth,
            ),
        ),
    ),
)
