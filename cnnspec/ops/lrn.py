"""Local response normalization: each element divided by a power of the mean square of its neighbour channels.

    y[n, c, p] = x[n, c, p] / (k + alpha / size * sum_j x[n, j, p]^2)^beta

j runs over the `size` channels from c - size // 2 on; channels that are not there are 0 and count in `size`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnspec import nested
from cnnspec.errors import ShapeError
from cnnspec.laws import always, replaced
from cnnspec.nested import Array, Shape
from cnnspec.op import Composed, integer, without_defaults
from cnnspec.scalars import constant, divide, power, stored
from cnnspec.spec import Call, Dialect, Law, Pick, Spec


@dataclass(frozen=True)
class LocalResponseNorm(Composed):
    """Divide by a power of the neighbour channels' mean square, as `torch.nn.LocalResponseNorm`.

    y[n, c, p] = x[n, c, p] / (k + alpha / size * sum_j x[n, j, p]^2)^beta, c - size // 2 <= j <= c + (size - 1) // 2
    Input (N, C, ...) with at least 3 axes.
    Raises ArgumentError where size is no integer, ShapeError for fewer axes, or a size below 1 beside elements.
    Not covered: a sum that is 0 or negative, as k <= 0 or alpha < 0 allow.
    Source: Krizhevsky, Sutskever & Hinton 2012, section 3.3, where alpha is not divided by size; torch divides.

    >>> LocalResponseNorm(3, alpha=3.0, beta=1.0).reference([[[1], [2], [0]]]) == [[[1 / 6], [2 / 6], [0]]]
    True
    """

    size: int
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 1.0

    def __post_init__(self) -> None:
        self.normalise(("size",), integer)

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return the shape of the input; ShapeError where torch refuses the call."""
        (shape,) = input_shapes
        if len(shape) < 3:
            raise ShapeError(f"input of shape {tuple(shape)} must have at least 3 axes", shape=shape)
        if math.prod(shape) and self.size < 1:
            raise ShapeError(f"size={self.size} must be at least 1", size=self.size)
        return tuple(shape)

    def norm_ops(self, *input_shapes: Shape) -> int:
        """Return size + 4 per element: a square, size - 1 additions, a product, an addition, a power, a quotient."""
        return math.prod(self.output_shape(*input_shapes)) * (self.size + 4)

    def reference(self, *arrays: Array) -> Array:
        """Return x / (k + alpha / size * sum x^2)^beta; each step is an array of the input's format."""
        return self.divided(self.size, *arrays)

    def divided(self, divisor: int, *arrays: Array) -> Array:
        """Return x / (k + alpha * sum x^2 / divisor)^beta."""
        (input,) = arrays
        shape, x = self.output_shape(nested.shape_of(input)), nested.ravel(input)
        y = [0] * len(x)
        for i, _, base in self._bases(x, shape, divisor):
            y[i] = divide(x[i], stored(power(base, self.beta)))
        return nested.unravel(y, shape)

    def gradients(self, grad_output: Array, *operands: Array) -> list[Array | None]:
        """Return g_i / d_i - 2 x_i sum_j q_j, q = g x / d^2 beta b^(beta - 1) alpha / size with b the base, d = b^beta.

        j runs over the channels that have i as a neighbour.
        """
        (input,) = operands
        shape, x, g = (
            self.output_shape(nested.shape_of(input)),
            nested.ravel(input),
            nested.ravel(grad_output),
        )
        direct: list[Any] = [0] * len(x)
        pulled: list[Any] = [0] * len(x)
        for i, near, base in self._bases(x, shape, self.size):
            d = stored(power(base, self.beta))
            direct[i] = stored(divide(g[i], d))
            slope = stored(stored(power(base, self.beta - 1)) * constant(self.beta, base))
            q = stored(stored(g[i] * stored(divide(stored(divide(x[i], d)), d))) * slope)
            q = divide(stored(q * constant(self.alpha, base)), self.size)
            for j in near:
                pulled[j] = pulled[j] + q
        dx = [g_over_d - stored(2 * (x[i] * stored(pulled[i]))) for i, g_over_d in enumerate(direct)]
        return [nested.unravel(dx, shape)]

    def _bases(self, x: Sequence[Any], shape: Shape, divisor: int) -> Iterator[tuple[int, list[int], Any]]:
        """Yield the offset of each element, those of its neighbours, and k + alpha * sum x^2 / divisor."""
        positions = math.prod(shape[2:])
        for i in range(len(x)):
            c = i // positions % shape[1]
            first, last = max(0, c - self.size // 2), min(shape[1], c + (self.size - 1) // 2 + 1)
            near = [i + (j - c) * positions for j in range(first, last)]
            total = 0
            for j in near:
                total = total + stored(x[j] * x[j])
            mean = stored(divide(total, divisor))
            yield i, near, stored(stored(mean * constant(self.alpha, mean)) + constant(self.k, mean))


def domain(pick: Pick) -> tuple[Mapping[str, Any], tuple[Shape, ...]]:
    """Draw windows of even and odd size, wider than the channels too; one to three axes behind the channels."""
    channels = pick.choice((1, 2, 3, 4, 5, 7, 9, 17, 33))
    sizes = [pick.choice((1, 2, 3, 4)) for _ in range(pick.choice((2, 1, 3)))]
    arguments = {
        "size": pick.choice((1, 2, 3, 4, 5, 9)),
        "alpha": pick.choice((1e-4, 1.0, 0.25, 0.0)),
        "beta": pick.choice((0.75, 0.5, 1.0, 2.0)),
        "k": pick.choice((1.0, 2.0, 0.5)),
    }
    return without_defaults(LocalResponseNorm, arguments), ((pick.choice((1, 2, 3, 0)), channels, *sizes),)


def _negated(op: LocalResponseNorm, call: Call, x: Array) -> tuple[Array, Array]:
    return call(op, _times(-1, x)), _times(-1, call(op, x))


def _doubled(op: LocalResponseNorm, call: Call, x: Array) -> tuple[Array, Array]:
    return call(replaced(op, alpha=op.alpha / 4), _times(2, x)), _times(2, call(op, x))


def _left_alone(op: LocalResponseNorm, call: Call, x: Array) -> tuple[Array, Array]:
    return call(replaced(op, alpha=0.0, k=1.0), x), x


def _times(factor: int, array: Array) -> Array:
    return nested.elementwise(lambda value: factor * value, array)


SPECS = (
    Spec(
        name="local_response_norm",
        operator=LocalResponseNorm,
        operands=("input",),
        keywords=("size", "alpha", "beta", "k"),
        domain=domain,
        laws=(
            Law("sign", "f(-x) = -f(x)", always, _negated),
            Law("scale", "2 x with alpha / 4 gives 2 f(x)", always, _doubled),
            Law("neutral", "alpha = 0 and k = 1 leave x alone", always, _left_alone),
        ),
        judged="function",
        layer="LocalResponseNorm",
        dialects=(
            Dialect(
                "TensorFlow, Krizhevsky et al.",
                "alpha is not divided by size",
                lambda op: op.size > 1 and op.alpha != 0,
                lambda op, input: op.divided(1, input),
            ),
        ),
    ),
)
