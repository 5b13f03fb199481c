"""A line with a learnt bend at 0, for each channel or for all.

    prelu(x)[n, c] = x[n, c] where x[n, c] > 0, else w[c] x[n, c]

n batch, c channel. With g the gradient of y, that of x is g where x > 0, else w g, and that of w the sum of x g over
the elements that are not positive. The slope at 0 is w.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cnnspec import nested
from cnnspec.errors import ArgumentError, ShapeError
from cnnspec.laws import always
from cnnspec.nested import Array, Shape
from cnnspec.op import Composed, integer, number
from cnnspec.ops import pointwise
from cnnspec.ops.pointwise import negated
from cnnspec.scalars import stored
from cnnspec.spec import Call, Law, Pick, Spec


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


def domain(pick: Pick) -> tuple[Mapping[str, Any], tuple[Shape, ...]]:
    """Draw one weight on any shape, or a weight for each of the channels."""
    if pick.choice((True, False)):
        return pointwise.domain(pick)
    channels = pick.choice((2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33))
    batch, spatial = pick.choice((1, 2, 3, 0)), [pick.integer(1, 4) for _ in range(pick.integer(0, 3))]
    return {"num_parameters": channels}, ((batch, channels, *spatial),)


def _learnt_parts(op: PReLU, call: Call, x: Array, weight: Array) -> tuple[Array, Array]:
    odd = nested.elementwise(lambda a, b: a - b, call(op, x, weight), call(op, negated(x), weight))
    w, values = nested.ravel(weight), nested.ravel(x)
    both = [v + v * w[c] for v, c in zip(values, op.channels(x), strict=True)]
    return odd, nested.unravel(both, nested.shape_of(x))


SPECS = (
    Spec(
        name="prelu",
        operator=PReLU,
        operands=("input", "weight"),
        keywords=(),
        domain=domain,
        laws=(Law("parts", "f(x) - f(-x) = (1 + w) x", always, _learnt_parts),),
        judged="function",
        layer="PReLU",
    ),
)
