"""x times the normal distribution function, on each element by itself.

    gelu(x) = x (1 + erf(x / sqrt 2)) / 2

or, approximated, x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2. Gradients are given as the library computes them.
"""

import math
from dataclasses import dataclass
from typing import Any

from cnnspec import nested
from cnnspec.errors import ShapeError
from cnnspec.nested import Array, Shape
from cnnspec.op import Composed
from cnnspec.ops.pointwise import Pointwise, Sigmoid, drawing, spec_of
from cnnspec.scalars import erf, exp, pi, sqrt, tanh
from cnnspec.spec import Dialect


@dataclass(frozen=True)
class GELU(Pointwise, Composed):
    """x times the normal distribution's P(X <= x), as `torch.nn.GELU`.

    none: y = x (1 + erf(x / sqrt 2)) / 2
    tanh: y = x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2
    The gradient of "none" is g (P + x exp(-x^2 / 2) / sqrt(2 pi)). Both sums cancel for negative x, in the library
    too: the error is as small as |x|'s, not as |y|'s. y(inf) = inf, y(-inf) = NaN.
    Raises ShapeError for another `approximate`: torch refuses it when called.
    Source: Hendrycks & Gimpel, "Gaussian Error Linear Units", 2016, section 2.

    >>> GELU().reference([0.0, 40.0, -40.0])
    [0.0, 40.0, -0.0]
    """

    approximate: str = "none"

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return the shape of the input; ShapeError for an unknown approximation."""
        if self.approximate not in ("none", "tanh"):
            raise ShapeError(f"approximate={self.approximate!r} must be 'none' or 'tanh'")
        return super().output_shape(*input_shapes)

    def function(self, x: Any) -> Any:
        """Return x (1 + t) / 2, t an error function or a hyperbolic tangent."""
        if x == math.inf:  # where balls have no erf
            return x
        t = tanh(_inner(x)) if self.approximate == "tanh" else erf(x / _root_of_2(x))
        return x * 0.5 * (1 + t)

    def gradient(self, g: Any, x: Any) -> Any:
        """Return g (P + x P'), step by step."""
        if self.approximate == "tanh":
            t = tanh(_inner(x))
            slope = sqrt(2 / pi(x)) * (1 + x * x * 3 * 0.044715)
            return g * (0.5 * (1 + t) + x * 0.5 * (1 - t * t) * slope)
        below = 0.5 * (1 + erf(x / _root_of_2(x)))
        density = exp(x * x * -0.5) / sqrt(2 * pi(x))
        return g * (below + x * density)


def _inner(x: Any) -> Any:
    return sqrt(2 / pi(x)) * (x + x * x * x * 0.044715)


def _root_of_2(x: Any) -> Any:
    """Return the square root of 2 as a number of the kind of x."""
    return sqrt(2 * pi(x) / pi(x))


# Conventions of other frameworks


def _other_gelu(name: str, approximate: str) -> Dialect:
    return Dialect(
        name,
        f"the formula is that of approximate={approximate!r}",
        lambda op: op.approximate != approximate,
        lambda op, x: GELU(approximate).reference(x),
    )


def _quick_gelu(op: GELU, *arrays: Array) -> Array:
    return nested.elementwise(lambda x: x * Sigmoid().function(x * 1.702), *arrays)


SPECS = (
    spec_of(
        "gelu",
        GELU,
        drawing(approximate=("none", "tanh")),
        "approximate",
        dialects=(
            _other_gelu("BERT, GPT-2, JAX", "tanh"),
            _other_gelu("Keras, ONNX", "none"),
            Dialect("CLIP, GPT", "y = x / (1 + exp(-1.702 x))", lambda op: True, _quick_gelu),
        ),
    ),
)
