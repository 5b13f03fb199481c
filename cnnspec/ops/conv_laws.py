"""Laws of convolution: its bias, groups, dilation, padding, and the 1x1 convolution as a product of matrices."""

import math
from typing import Any

from cnnspec import laws, nested
from cnnspec.nested import Array, Shape
from cnnspec.spec import Call, Law


def bias_is_added(op: Any, call: Call, x: Array, weight: Array, bias: Array) -> tuple[Array, Array]:
    """Return the call with a bias, and the call without one with the bias added to each channel."""
    without, with_bias = call(laws.without_bias(op), x, weight), call(op, x, weight, bias)
    shape = nested.shape_of(without)
    pixels, values, b = math.prod(shape[-op.spatial :]), nested.ravel(without), nested.ravel(bias)
    added = [value + b[i // pixels % op.out_channels] for i, value in enumerate(values)]
    return with_bias, nested.unravel(added, shape)


def groups_are_parts(op: Any, call: Call, x: Array, *parameters: Array) -> tuple[Array, Array]:
    """Return the grouped call, and the calls of its groups side by side."""
    c, o = op.in_channels // op.groups, op.out_channels // op.groups
    part = laws.replaced(op, in_channels=c, out_channels=o, groups=1)
    channel = laws.spatial_axes(op, x).start - 1

    def share(array: Array, axis: int, g: int) -> Array:
        size = nested.shape_of(array)[axis] // op.groups
        return nested.take(array, axis, range(g * size, (g + 1) * size))

    outputs = [
        call(part, share(x, channel, g), *(share(array, 0, g) for array in parameters))
        for g in range(op.groups)
    ]
    return call(op, x, *parameters), nested.concatenate(outputs, channel)


def dilation_spreads_kernel(
    op: Any, call: Call, x: Array, weight: Array, *bias: Array
) -> tuple[Array, Array]:
    """Return the dilated call, and the dense one with zeros between the taps of the kernel."""
    spread = weight
    for axis, dilation in enumerate(op.axes("dilation"), 2):
        taps = [nested.take(spread, axis, [k]) for k in range(nested.shape_of(spread)[axis])]
        gap = [laws.constant_like(taps[0], 0)] * (dilation - 1)
        spread = nested.concatenate([taps[0], *(part for tap in taps[1:] for part in (*gap, tap))], axis)
    dense = laws.replaced(op, kernel_size=nested.shape_of(spread)[2:], dilation=1)
    return call(op, x, weight, *bias), call(dense, x, spread, *bias)


def _pointwise_is_matrix_product(
    op: Any, call: Call, x: Array, weight: Array, *bias: Array
) -> tuple[Array, Array]:
    shape = nested.shape_of(x)
    images = nested.collapse(x if len(shape) == op.spatial + 2 else [x], 2)
    matrix, b = nested.collapse(weight, 1), nested.ravel(bias[0]) if bias else [0] * op.out_channels
    y = [
        b[o] + sum(matrix[o][c] * image[c][i] for c in range(op.in_channels))
        for image in images
        for o in range(op.out_channels)
        for i in range(len(image[0]))
    ]
    return call(op, x, weight, *bias), nested.unravel(y, op.output_shape(shape))


def _is_pointwise(op: Any, shapes: tuple[Shape, ...]) -> bool:
    return op.groups == 1 and all(w.span == w.stride == 1 and w.before == w.after == 0 for w in op.windows)


LAWS = (
    laws.LINEARITY,
    Law("bias", "conv(x, w, b) = conv(x, w) + b", lambda op, shapes: op.bias, bias_is_added),
    laws.BATCH,
    Law("groups", "groups = concatenation of the parts", lambda op, shapes: op.groups > 1, groups_are_parts),
    laws.STRIDE,
    laws.SHIFT,
    Law(
        "dilation",
        "dilation = kernel with zeros between its taps",
        lambda op, shapes: op.padding != "same" and set(op.axes("dilation")) != {1},
        dilation_spreads_kernel,
    ),
    laws.padding_is_explicit(
        "padding = convolution of the input padded with zeros",
        lambda x: 0,
        lambda op, shapes: op.padding_mode == "zeros",
    ),
    Law(
        "pointwise",
        "1x1 = product of matrices over the channels",
        _is_pointwise,
        _pointwise_is_matrix_product,
    ),
)
