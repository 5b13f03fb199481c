"""Columns summed back into an image (col2im).

    y[n, c, p * stride - padding + k * dilation] += x[n, c K + k, p], y = 0 at first

n batch, c channel, k kernel element and p block (both two-dimensional, in row-major order), K kernel elements. The
gradient is `unfold`: dx[n, c K + k, p] = dy[n, c, p * stride - padding + k * dilation], 0 on the padding.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cnnspec import laws, nested
from cnnspec.errors import ShapeError
from cnnspec.nested import Array, Shape
from cnnspec.op import Routing
from cnnspec.ops import unfold
from cnnspec.ops.unfold import Unfold
from cnnspec.spec import Call, Law, Pick, Spec, spell


@dataclass(frozen=True)
class Fold(Routing):
    """Sum columns into the blocks of an image, as `torch.nn.Fold`.

    y[n, c, p * stride - padding + k * dilation] += x[n, c K + k, p], y = 0 at first; the padding is dropped.
    Input (N, C K, blocks) or (C K, blocks); output (N, C, *output_size) or (C, *output_size).
    Raises ArgumentError for what are no integers, ShapeError where torch refuses the call.

    >>> Fold((2, 3), 2).reference([[1, 2], [2, 3], [4, 5], [5, 6]])
    [[[1, 4, 3], [4, 10, 6]]]
    """

    output_size: int | tuple[int, ...]
    kernel_size: int | tuple[int, ...]
    dilation: int | tuple[int, ...] = 1
    padding: int | tuple[int, ...] = 0
    stride: int | tuple[int, ...] = 1

    def __post_init__(self) -> None:
        names = ("output_size", "kernel_size", "dilation", "padding", "stride")
        self.normalise(names, Unfold(1).integers)

    @property
    def unfold(self) -> Unfold:
        """The unfolding that this transposes."""
        return Unfold(self.kernel_size, self.dilation, self.padding, self.stride)

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return (N, C, *output_size), or without N; ShapeError where torch refuses the call.

        >>> Fold((5, 6), (2, 3)).output_shape((1, 24, 16))
        (1, 4, 5, 6)
        """
        (shape,) = input_shapes
        if len(shape) not in (2, 3) or 0 in shape[-2:]:
            raise ShapeError(
                f"input of shape {tuple(shape)} must be (batch, channels * kernel elements, blocks) or without "
                f"the batch, and only the batch may be empty",
                shape=shape,
            )
        if not isinstance(self.output_size, tuple) or len(self.output_size) != 2:
            raise ShapeError(
                f"output_size={self.output_size} must be 2 integers", output_size=self.output_size
            )
        channels, blocks = self.unfold.output_shape((1, *self.output_size))
        if shape[-2] % channels or shape[-1] != blocks:
            raise ShapeError(
                f"input of shape {tuple(shape)} must have a multiple of {channels} kernel elements and the {blocks} "
                f"blocks of output_size={self.output_size}",
                shape=shape,
            )
        return (*shape[:-2], shape[-2] // channels, *self.output_size)

    def reference(self, *arrays: Array) -> Array:
        """Return the sums."""
        (input,) = arrays
        return unfold.folded(self.unfold, input, self.output_shape(nested.shape_of(input)))

    def gradients(self, grad_output: Array, *operands: Array) -> list[Array | None]:
        """Return dx[n, c K + k, p] = dy[n, c, p * stride - padding + k * dilation]: the gradient unfolded."""
        dx = nested.ravel(self.unfold.reference(grad_output))
        return [nested.unravel(dx, nested.shape_of(operands[0]))]


# Domain


def domain(pick: Pick) -> tuple[Mapping[str, Any], tuple[Shape, ...]]:
    """Draw the columns of an image and windows that `unfold` draws."""
    arguments, (shape,) = unfold.domain(pick)
    output_size = {"output_size": spell(pick, shape[-2:])}
    return {**output_size, **arguments}, (Unfold(**arguments).output_shape(shape),)


# Laws


def _unfold_is_adjoint(op: Fold, call: Call, x: Array) -> laws.Sides:
    z = laws.ramp(op.output_shape(nested.shape_of(x)))
    return laws.inner(call(op, x), z), laws.inner(x, op.unfold.reference(z))


def _counts_blocks(op: Fold, call: Call, x: Array) -> laws.Sides:
    """Of an image made of the elements of x."""
    shape, values = op.output_shape(nested.shape_of(x)), nested.ravel(x)
    image = [values[i % len(values)] for i in range(math.prod(shape))]
    rows, columns = (
        [sum(i == u for p in range(w.output_size(n)) for _, i in w.taps(p, n)) for u in range(n)]
        for w, n in zip(op.unfold.windows, shape[-2:], strict=True)
    )
    counts = [row * column for row in rows for column in columns]
    multiplied = [value * counts[i % len(counts)] for i, value in enumerate(image)]
    return call(op, op.unfold.reference(nested.unravel(image, shape))), nested.unravel(multiplied, shape)


LAWS = (
    laws.LINEARITY,
    Law(
        "batch",
        laws.BATCH.statement,
        lambda op, shapes: len(shapes[0]) == 3 and shapes[0][0] > 1,
        laws.BATCH.sides,
    ),
    Law("adjoint", "<fold(x), z> = <x, unfold(z)>", laws.always, _unfold_is_adjoint),
    Law(
        "overlap",
        "fold(unfold(z)) = z times the blocks that cover each pixel",
        laws.always,
        _counts_blocks,
    ),
)


SPECS = (
    Spec(
        name="fold",
        operator=Fold,
        operands=("input",),
        keywords=("output_size", "kernel_size", "dilation", "padding", "stride"),
        domain=domain,
        laws=LAWS,
        layer="Fold",
        twice=True,
    ),
)
