"""Softmax and its logarithm along one axis.

    softmax(x)_i     = exp(x_i - m) / sum_j exp(x_j - m)
    log_softmax(x)_i = x_i - m - log sum_j exp(x_j - m)              m = max_j x_j

Both stay finite for every finite x, because the largest exponent is 0. With g the gradient of y, that of x is

    softmax: (g_i - sum_j g_j y_j) y_i                log_softmax: g_i - exp(y_i) sum_j g_j

from the output y, which libraries keep for it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from cnnspec import nested
from cnnspec.errors import ShapeError
from cnnspec.nested import Array, Shape
from cnnspec.op import Operator, integer
from cnnspec.rounding import Rounded, RoundingTerms, rounded, terms
from cnnspec.scalars import exp, log, stored
from cnnspec.spec import Dialect, Pick, Spec


@dataclass(frozen=True)
class _Softmax(Operator):
    dim: int = -1

    def __post_init__(self) -> None:
        self.normalise(("dim",), integer)

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return the shape of the input; ShapeError where it has no axis `dim`."""
        (shape,) = input_shapes
        axes = max(1, len(shape))
        if not -axes <= self.dim < axes:
            raise ShapeError(f"dim={self.dim} is not an axis of {tuple(shape)}", dim=self.dim)
        return tuple(shape)

    def reference(self, *arrays: Array) -> Array:
        """Return the function of each row along `dim`."""
        (input,) = arrays
        y: list[Any] = [None] * math.prod(nested.shape_of(input))
        for row, offsets in self._rows(input):
            for offset, value in zip(offsets, self.function(row), strict=True):
                y[offset] = value
        return nested.unravel(y, self.output_shape(nested.shape_of(input)))

    def gradients(self, grad_output: Array, *operands: Array) -> list[Array | None]:
        """Return the gradient of each row, from its output."""
        (input,) = operands
        return [self._of_output(grad_output, nested.elementwise(stored, self.reference(input)))]

    def gradient_terms(self, grad_output: Array, *operands: Array) -> list[RoundingTerms | None]:
        """Return the bound of the gradient's steps, on an output with the errors of `rounding_terms`."""
        (input,) = operands
        gradient = self._of_output(rounded(grad_output), self.rounded_output(input))
        return [terms(gradient)]

    def rounded_output(self, input: Array) -> Array:
        """Return the output with its bound, as it is kept for the gradient: in the output's format."""
        y, bound = self.reference(input), self.rounding_terms(input)
        rows = zip(nested.ravel(y), bound.magnitude, bound.roundings, strict=True)
        numbers = [Rounded(value, size, count, bound.elementary).stored() for value, size, count in rows]
        return nested.unravel(numbers, nested.shape_of(y))

    def _of_output(self, grad_output: Array, output: Array) -> Array:
        shape, g = nested.shape_of(output), nested.ravel(grad_output)
        gx: list[Any] = [None] * len(g)
        for y, offsets in self._rows(output):
            slopes = self.gradient([g[offset] for offset in offsets], y)
            for offset, value in zip(offsets, slopes, strict=True):
                gx[offset] = value
        return nested.unravel(gx, shape)

    @staticmethod
    def function(row: list[Any]) -> list[Any]:
        """Return the values of one row."""
        raise NotImplementedError

    @staticmethod
    def gradient(g: list[Any], y: list[Any]) -> list[Any]:
        """Return the gradient of one row from that of its output and the output."""
        raise NotImplementedError

    def _rows(self, input: Array) -> list[tuple[list[Any], range]]:
        """Return each row along `dim` with the flat offsets of its elements."""
        shape = self.output_shape(nested.shape_of(input)) or (1,)
        axis, x = self.dim % len(shape), nested.ravel(input)
        size, step = shape[axis], math.prod(shape[axis + 1 :])
        starts = [o * size * step + i for o in range(math.prod(shape[:axis])) for i in range(step)]
        rows = [range(start, start + size * step, step) for start in starts if size]
        return [([x[offset] for offset in offsets], offsets) for offsets in rows]

    def _sizes(self, input: Array) -> int:
        shape = nested.shape_of(input) or (1,)
        return shape[self.dim]


@dataclass(frozen=True)
class Softmax(_Softmax):
    """Exponentials divided by their sum, as `torch.nn.Softmax`.

    y_i = exp(x_i - m) / sum_j exp(x_j - m), m the maximum of the row along `dim`.
    Source: Zhang, Lipton, Li, Smola, "Dive into Deep Learning", 4.1 and 4.5.

    >>> [round(value, 4) for value in Softmax().reference([1, 2, 3])]
    [0.09, 0.2447, 0.6652]
    """

    @staticmethod
    def function(row: list[Any]) -> list[Any]:
        """Return exp(x_i - m) / sum_j exp(x_j - m)."""
        m = _largest(row)
        e = [exp(x - m) for x in row]
        total = e[0]
        for value in e[1:]:
            total = total + value
        return [value / total for value in e]

    @staticmethod
    def gradient(g: list[Any], y: list[Any]) -> list[Any]:
        """Return (g_i - sum_j g_j y_j) y_i."""
        total = g[0] * y[0]
        for i in range(1, len(y)):
            total = total + g[i] * y[i]
        return [(g[i] - total) * y[i] for i in range(len(y))]

    def rounding_terms(self, *arrays: Array) -> RoundingTerms:
        """Return y (1 + d / c) and c = 2n + 3 roundings, d = m - x_i behind the largest of n.

        exp(x_i - m) carries d from the rounding of its argument and one error of exp; the sum carries n - 1
        roundings, one error of exp and at most n / e from arguments, as d exp(-d) <= 1 / e; one division,
        one multiplication where it is done by the reciprocal, and one for O(u^2).
        """
        (input,) = arrays
        y, count = nested.ravel(self.reference(input)), 2 * self._sizes(input) + 3
        sizes = [
            value + value * d / count if value > 0 else value
            for value, d in zip(y, _distances(self, input), strict=True)
        ]
        return RoundingTerms(sizes, [count] * len(sizes), elementary=2)


@dataclass(frozen=True)
class LogSoftmax(_Softmax):
    """The logarithm of the softmax, as `torch.nn.LogSoftmax`.

    y_i = x_i - m - log sum_j exp(x_j - m), m the maximum of the row along `dim`.

    >>> LogSoftmax().reference([7])
    [0.0]
    """

    @staticmethod
    def function(row: list[Any]) -> list[Any]:
        """Return x_i - m - log sum_j exp(x_j - m)."""
        m = _largest(row)
        total = exp(row[0] - m)
        for x in row[1:]:
            total = total + exp(x - m)
        return [x - m - log(total) for x in row]

    @staticmethod
    def gradient(g: list[Any], y: list[Any]) -> list[Any]:
        """Return g_i - exp(y_i) sum_j g_j."""
        total = g[0]
        for value in g[1:]:
            total = total + value
        return [g[i] - exp(y[i]) * total for i in range(len(y))]

    def rounding_terms(self, *arrays: Array) -> RoundingTerms:
        """Return |y| + 1 and its roundings for n elements.

        With |y| = (m - x_i) + log sum: the subtractions cost |m - x_i| + |y|, the sum's relative error of at
        most n + n / e and one error of exp pass the logarithm unmagnified, as sum >= 1; it adds its own.
        """
        values = [abs(value) + 1 for value in nested.ravel(self.reference(*arrays))]
        return RoundingTerms(values, [2 * self._sizes(arrays[0]) + 4] * len(values), elementary=2)

    def rounded_output(self, input: Array) -> Array:
        """Return the output as it is kept, m (1 + m / 2^8) instead of m, as the gradient takes its exponential.

        That is off by exp(d) - 1 <= d (1 + d) for an error d <= 1 of its argument, and d is up to m / 2^8 in
        bfloat16: more than what the slope alone says.
        """
        return nested.elementwise(
            lambda y: replace(y, magnitude=y.magnitude + y.magnitude * y.magnitude / 256),
            super().rounded_output(input),
        )


def _largest(row: list[Any]) -> Any:
    m = row[0]
    for x in row[1:]:
        if x > m:
            m = x
    return m


def _distances(op: _Softmax, input: Array) -> list[Any]:
    """Return m - x_i for each element, in row-major order."""
    distances: list[Any] = [0] * math.prod(nested.shape_of(input))
    for row, offsets in op._rows(input):
        m = _largest(row)
        for offset, x in zip(offsets, row, strict=True):
            distances[offset] = m - x
    return distances


def domain(pick: Pick) -> tuple[Mapping[str, Any], tuple[Shape, ...]]:
    """Draw up to four axes, and each of them as the axis of the softmax."""
    lengths = (1, 2, 3, 5, 8, 10, 16, 17, 33)
    shape = tuple(pick.choice(lengths[: 9 if n == 0 else 4]) for n in range(pick.integer(1, 4)))
    shape = shape[::-1] if pick.choice((True, False)) else shape
    return {"dim": pick.integer(0, len(shape) - 1) - pick.choice((0, len(shape)))}, (shape,)


def _over_all_axes_from_dim(op: _Softmax, x: Array) -> Array:
    shape = nested.shape_of(x)
    rows = nested.collapse(x, op.dim % max(1, len(shape)))
    return nested.unravel(nested.ravel(type(op)(-1).reference(rows)), shape)


DIALECTS = (
    Dialect(
        "ONNX before version 13",
        "the axes from `dim` on are one row",
        lambda op: op.dim != -1,
        _over_all_axes_from_dim,
    ),
)

SPECS = tuple(
    Spec(
        name=name,
        operator=operator,
        operands=("input",),
        keywords=("dim",),
        domain=domain,
        judged="function",
        layer=operator.__name__,
        dialects=DIALECTS,
    )
    for name, operator in (("softmax", Softmax), ("log_softmax", LogSoftmax))
)
