"""Wrong implementations, one for each law of the operators that resample: see `tests.ops.wrong`."""

import math
from typing import Any

from cnnspec import nested
from cnnspec.laws import mirrored, replaced
from cnnspec.nested import Array
from cnnspec.scalars import divide
from tests.ops.wrong import (
    adds_bias_twice,
    forgets_later_images,
    interleaves_groups,
    reads_first_channel,
    saturates,
)


def correlates_stuffed_input(op: Any, x: Array, weight: Array, *bias: Array) -> Array:
    """The kernel is not flipped before it is correlated with the input between whose pixels zeros stand."""
    return op.reference(x, mirrored(weight), *bias)


def flips_dilated_kernels(op: Any, x: Array, weight: Array, *bias: Array) -> Array:
    return op.reference(x, mirrored(weight) if set(op.axes("dilation")) != {1} else weight, *bias)


def crops_the_end(op: Any, *operands: Array) -> Array:
    """All that padding crops is cropped at the end."""
    y = replaced(op, padding=0).reference(*operands)
    for axis, size in enumerate(op.output_shape(nested.shape_of(operands[0]))):
        y = nested.take(y, axis, range(size))
    return y


def clips(op: Any, x: Array) -> Array:
    return nested.elementwise(lambda v: max(-8, min(8, v)), op.reference(x))


def forgets_later_columns(op: Any, x: Array) -> Array:
    shape = nested.shape_of(x)
    return op.reference(nested.take(x, 0, [0] * shape[0]) if len(shape) == 3 else x)


def shifts_blocks(op: Any, x: Array) -> Array:
    """The blocks come out one place late, the last one first."""
    y = op.reference(x)
    axis = len(nested.shape_of(y)) - 1
    size = nested.shape_of(y)[axis]
    return nested.take(y, axis, [(i - 1) % size for i in range(size)])


def keeps_last_of_overlapping(op: Any, x: Array) -> Array:
    """Where blocks overlap, one wins."""
    total, count = op.reference(x), op.reference(nested.elementwise(lambda _: 1, x))
    return nested.elementwise(lambda v, n: v // max(1, n), total, count)


def swaps_rows_and_columns(op: Any, x: Array) -> Array:
    """Within each block: the image is transposed before and after."""
    axes = (*range(len(nested.shape_of(x)) - 2), len(nested.shape_of(x)) - 1, len(nested.shape_of(x)) - 2)
    return nested.permute(op.reference(nested.permute(x, axes)), axes)


def reads_kernel_backwards(op: Any, g: Array, *operands: Array) -> list[Array | None]:
    """The weight's gradient comes out mirrored."""
    dx, dw, *db = op.gradients(g, *operands)
    return [dx, mirrored(dw), *db]


def reads_first_group(op: Any, g: Array, x: Array, *parameters: Array) -> list[Array | None]:
    """The weights of every group are multiplied with the pixels of the first."""
    axis, per_group = len(nested.shape_of(x)) - op.spatial - 1, op.in_channels // op.groups
    dx, *_ = op.gradients(g, x, *parameters)
    first = nested.take(x, axis, [c % per_group for c in range(op.in_channels)])
    return [dx, *op.gradients(g, first, *parameters)[1:]]


def bias_of_first_image(op: Any, g: Array, x: Array, *parameters: Array) -> list[Array | None]:
    """The bias gets the gradient of one image, not of the batch."""
    gradients: list[Array | None] = op.gradients(g, x, *parameters)
    shape = nested.shape_of(g)
    if op.bias and len(shape) == op.spatial + 2:
        size = math.prod(shape[1:])
        one = [d if i < size else 0 for i, d in enumerate(nested.ravel(g))]
        gradients[2] = op.gradients(nested.unravel(one, shape), x, *parameters)[2]
    return gradients


def keeps_last_block(op: Any, g: Array, x: Array) -> list[Array | None]:
    """Where blocks overlap, the gradient of the last one wins."""
    batch, channels, sizes = op.split(nested.shape_of(x))
    dx: list[Any] = []
    for dy in nested.collapse(g, 1) if batch else [nested.ravel(g)]:
        image = [0] * math.prod((channels, *sizes))
        for column, pixel in op.moves(channels, sizes):
            image[pixel] = dy[column]
        dx += image
    return [nested.unravel(dx, nested.shape_of(x))]


def block_too_late(op: Any, g: Array, *operands: Array) -> list[Array | None]:
    """Block p gets the gradient of block p - 1, the first that of the last."""
    axis = len(nested.shape_of(g)) - 1
    order = [(p - 1) % nested.shape_of(g)[axis] for p in range(nested.shape_of(g)[axis])]
    gradients: list[Array | None] = op.gradients(nested.take(g, axis, order), *operands)
    return gradients


def shares_among_blocks(op: Any, g: Array, x: Array) -> list[Array | None]:
    """What several blocks cover is divided among them, as if they had been averaged."""
    count = op.reference(nested.elementwise(lambda _: 1, x))
    gradients: list[Array | None] = op.gradients(
        nested.elementwise(lambda d, n: divide(d, max(1, n)), g, count), x
    )
    return gradients


def columns_in_order(op: Any, g: Array, x: Array) -> list[Array | None]:
    """The gradients come row by row of the image, and so go into the columns."""
    dy, count = nested.ravel(g), math.prod(nested.shape_of(x))
    return [nested.unravel([dy[i % len(dy)] for i in range(count)], nested.shape_of(x))]


def rows_by_kernel_element(op: Any, x: Array) -> Array:
    """The channels of one kernel element stand side by side."""
    y, axis = op.reference(x), len(nested.shape_of(x)) - 3
    channels, elements = nested.shape_of(x)[axis], op.kernel_elements
    return nested.take(y, axis, [c * elements + k for k in range(elements) for c in range(channels)])


def averages_overlapping(op: Any, x: Array) -> Array:
    """Blocks that overlap are averaged."""
    total, count = op.reference(x), op.reference(nested.elementwise(lambda _: 1, x))
    return nested.elementwise(lambda v, n: divide(v, max(1, n)), total, count)


def lengthens_the_start(op: Any, x: Array, weight: Array, *bias: Array) -> Array:
    """What output_padding adds comes before the first pixel."""
    y = op.reference(x, weight, *bias)
    axes = range(len(nested.shape_of(y)) - op.spatial, len(nested.shape_of(y)))
    for axis, extra in zip(axes, op.axes("output_padding"), strict=True):
        size = nested.shape_of(y)[axis]
        y = nested.take(y, axis, [(i - extra) % size for i in range(size)])
    return y


def swaps_channels_of_weight(op: Any, x: Array, weight: Array, *bias: Array) -> Array:
    """The weight is read as (O, C) where it is (C, O)."""
    shape = nested.shape_of(weight)
    pairs = nested.collapse(weight, 2)
    flat = [pairs[i % shape[0]][i // shape[0]] for i in range(shape[0] * shape[1])]
    return op.reference(x, nested.unravel([v for row in flat for v in row], shape), *bias)


REARRANGED = {
    "batch": forgets_later_images,
    "inverse": swaps_rows_and_columns,
    "phases": swaps_rows_and_columns,
}
KILLERS: dict[str, dict[str, Any]] = {
    "conv_transpose": {
        "linearity": saturates,
        "bias": adds_bias_twice,
        "batch": forgets_later_images,
        "groups": interleaves_groups,
        "dilation": flips_dilated_kernels,
        "padding": crops_the_end,
        "adjoint": correlates_stuffed_input,
        "stuffing": correlates_stuffed_input,
    },
    "unfold": {
        "batch": forgets_later_images,
        "channels": reads_first_channel,
        "convolution": shifts_blocks,
        "adjoint": shifts_blocks,
    },
    "fold": {
        "linearity": clips,
        "batch": forgets_later_columns,
        "adjoint": keeps_last_of_overlapping,
        "overlap": keeps_last_of_overlapping,
    },
    "pixel_shuffle": REARRANGED,
    "pixel_unshuffle": REARRANGED,
}
WRONG_OUTPUTS: dict[str, tuple[Any, ...]] = {
    "conv_transpose": (lengthens_the_start, swaps_channels_of_weight),
    "unfold": (rows_by_kernel_element,),
    "fold": (averages_overlapping,),
}
WRONG_GRADIENTS: dict[str, tuple[Any, ...]] = {
    "conv_transpose": (reads_kernel_backwards, reads_first_group, bias_of_first_image),
    "unfold": (keeps_last_block, block_too_late),
    "fold": (shares_among_blocks, columns_in_order),
}
