"""Sliding blocks as columns (im2col).

    y[n, c K + k, p] = x[n, c, p * stride - padding + k * dilation], 0 on the padding

n batch, c channel, k kernel element and p block (both two-dimensional, in row-major order), K kernel elements. The
gradient is `fold`: dx[n, c, p * stride - padding + k * dilation] += dy[n, c K + k, p], dx = 0 at first.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cnnspec import laws, nested, window
from cnnspec.errors import ShapeError
from cnnspec.nested import Array, Shape
from cnnspec.op import Routing, Windowed, without_defaults
from cnnspec.ops.conv import Conv2d
from cnnspec.spec import Call, Dialect, Law, Pick, Spec, spell
from cnnspec.window import ReceptiveField, Window


@dataclass(frozen=True)
class Unfold(Windowed, Routing):
    """Lay each block of an image into a column, as `torch.nn.Unfold`.

    y[n, c K + k, p] = x[n, c, p * stride - padding + k * dilation], 0 on the padding.
    Input (N, C, H, W) or (C, H, W); output (N, C K, blocks) or (C K, blocks).
    Raises ArgumentError for what are no integers, ShapeError where torch refuses the call.
    Source: Chellapilla, Puri, Simard, "High performance convolutional neural networks for document processing", 2006.

    >>> Unfold(2).reference([[[1, 2, 3], [4, 5, 6]]])
    [[1, 2], [2, 3], [4, 5], [5, 6]]
    """

    kernel_size: int | tuple[int, ...]
    dilation: int | tuple[int, ...] = 1
    padding: int | tuple[int, ...] = 0
    stride: int | tuple[int, ...] = 1

    spatial = 2

    def __post_init__(self) -> None:
        self.normalise(("kernel_size", "dilation", "padding", "stride"), self.integers)

    @property
    def windows(self) -> tuple[Window, ...]:
        """The sliding window of each spatial axis."""
        names = ("kernel_size", "stride", "padding", "padding", "dilation")
        axes = [self.axes(name, broadcast=False) for name in names]
        return tuple(itertools.starmap(Window, zip(*axes, strict=True)))

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return (N, C * kernel elements, blocks), or without N; ShapeError where torch refuses the call.

        >>> Unfold((2, 3)).output_shape((1, 4, 5, 6))
        (1, 24, 16)
        """
        (input_shape,) = input_shapes
        batch, channels, sizes = self.split(input_shape)
        if channels < 1:
            raise ShapeError(f"input of shape {tuple(input_shape)} has no channels", shape=input_shape)
        if any(one.before < 0 for one in self.windows):
            raise ShapeError(f"padding={self.padding} must not be negative", padding=self.padding)
        window.check_fits(self.windows, sizes)
        blocks = math.prod(window.output_sizes(self.windows, sizes))
        return (*batch, channels * self.kernel_elements, blocks)

    @property
    def kernel_elements(self) -> int:
        """The elements of the kernel."""
        return math.prod(self.axes("kernel_size", broadcast=False))

    def receptive_field(self) -> tuple[ReceptiveField, ...]:
        """Return nothing: the columns have no spatial axes."""
        return ()

    def moves(self, channels: int, sizes: Shape) -> list[tuple[int, int]]:
        """Return the pairs (element of the columns, pixel) of one image, both flat.

        >>> Unfold((1, 2)).moves(1, (1, 3))
        [(0, 0), (2, 1), (1, 1), (3, 2)]
        """
        blocks, pixels = list(window.taps(self.windows, sizes)), math.prod(sizes)
        return [
            ((c * self.kernel_elements + k) * len(blocks) + p, c * pixels + i)
            for c in range(channels)
            for p, taps in enumerate(blocks)
            for k, i in taps
        ]

    def reference(self, *arrays: Array) -> Array:
        """Return the columns."""
        (input,) = arrays
        batch, channels, sizes = self.split(nested.shape_of(input))
        shape = self.output_shape(nested.shape_of(input))
        moves, y = self.moves(channels, sizes), []
        for x in _images(input, batch):
            columns: list[Any] = [0] * math.prod(shape[-2:])
            for column, pixel in moves:
                columns[column] = x[pixel]
            y.extend(columns)
        return nested.unravel(y, shape)

    def gradients(self, grad_output: Array, *operands: Array) -> list[Array | None]:
        """Return dx[n, c, p * stride - padding + k * dilation] += dy[n, c K + k, p]: the columns folded."""
        return [folded(self, grad_output, nested.shape_of(operands[0]))]


def folded(unfold: Unfold, columns: Array, shape: Shape) -> Array:
    """Return the columns summed back into images of `shape`, 0 where no block lies."""
    batch, channels, sizes = unfold.split(shape)
    moves, y = unfold.moves(channels, sizes), []
    for x in _images(columns, batch):
        image: list[Any] = [0] * math.prod((channels, *sizes))
        for column, pixel in moves:
            image[pixel] = image[pixel] + x[column]
        y.extend(image)
    return nested.unravel(y, shape)


def _images(array: Array, batch: Shape) -> list[Any]:
    """Return each image, or its columns, as one flat row."""
    return nested.collapse(array, 1) if batch else [nested.ravel(array)]


# Domain


def domain(pick: Pick) -> tuple[Mapping[str, Any], tuple[Shape, ...]]:
    """Draw windows per axis, and images from the smallest legal size up."""
    kernel = [pick.integer(1, 4) for _ in range(2)]
    arguments = {
        "kernel_size": spell(pick, kernel),
        "dilation": spell(pick, [pick.integer(1, 3) if pick.choice((False, True)) else 1 for _ in range(2)]),
        "padding": spell(pick, [pick.integer(0, k) for k in kernel]),
        "stride": spell(pick, [pick.integer(1, 4) for _ in range(2)]),
    }
    smallest = (max(1, w.span - 2 * w.before) for w in Unfold(**arguments).windows)
    sizes = [size + pick.integer(0, 5) for size in smallest]
    batch: Shape = pick.choice(((1,), (2,), (), (3,), (0,)))
    channels = pick.choice((1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33))
    while channels > 1 and math.prod(Unfold(**arguments).output_shape((*batch, channels, *sizes))) > 3000:
        channels //= 2
    return without_defaults(Unfold, arguments), ((*batch, channels, *sizes),)


# Laws


def _product_is_convolution(op: Unfold, call: Call, x: Array) -> laws.Sides:
    """Two output channels: the product of a matrix and the columns."""
    batch, channels, _ = op.split(nested.shape_of(x))
    conv = Conv2d(channels, 2, op.kernel_size, op.stride, op.padding, op.dilation, bias=False)
    weight = laws.ramp(conv.parameter_shapes()["weight"])
    columns = call(op, x)
    y = [
        sum(w * column[p] for w, column in zip(row, one, strict=True))
        for one in (columns if batch else [columns])
        for row in nested.collapse(weight, 1)
        for p in range(len(one[0]))
    ]
    convolved = conv.reference(x, weight)
    return nested.unravel(y, nested.shape_of(convolved)), convolved


def _fold_is_adjoint(op: Unfold, call: Call, x: Array) -> laws.Sides:
    z = laws.ramp(op.output_shape(nested.shape_of(x)))
    return laws.inner(call(op, x), z), laws.inner(x, folded(op, z, nested.shape_of(x)))


LAWS = (
    laws.BATCH,
    laws.CHANNELS,
    Law("convolution", "weight @ unfold(x) = conv(x)", laws.always, _product_is_convolution),
    Law("adjoint", "<unfold(x), z> = <x, fold(z)>", laws.always, _fold_is_adjoint),
)


def _channels_last(op: Unfold, x: Array) -> Array:
    """Rows k C + c where torch has c K + k."""
    y, axis = op.reference(x), len(nested.shape_of(x)) - 3
    elements, channels = op.kernel_elements, nested.shape_of(x)[axis]
    return nested.take(y, axis, [c * elements + k for k in range(elements) for c in range(channels)])


SPECS = (
    Spec(
        name="unfold",
        operator=Unfold,
        operands=("input",),
        keywords=("kernel_size", "dilation", "padding", "stride"),
        domain=domain,
        laws=LAWS,
        judged="copy",
        layer="Unfold",
        twice=True,
        dialects=(
            Dialect(
                "TensorFlow",
                "extract_patches puts the channels of one kernel element side by side: row k C + c, not c K + k",
                lambda op: op.kernel_elements > 1,
                _channels_last,
            ),
        ),
    ),
)
