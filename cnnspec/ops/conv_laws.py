"""Laws of convolution and of transposed convolution.

Bias, groups, dilation and padding; the 1x1 convolution as a product of matrices; the transposed one as the adjoint,
and as the convolution of the input with zeros between its pixels.
"""

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
        spread = _spread(spread, axis, dilation)
    dense = laws.replaced(op, kernel_size=nested.shape_of(spread)[2:], dilation=1)
    return call(op, x, weight, *bias), call(dense, x, spread, *bias)


def _spread(array: Array, axis: int, distance: int) -> Array:
    """Return the array with zeros between its elements along an axis, which come to stand `distance` apart."""
    first, *others = [nested.take(array, axis, [i]) for i in range(nested.shape_of(array)[axis])]
    gap = [laws.constant_like(first, 0)] * (distance - 1)
    return nested.concatenate([first, *(part for one in others for part in (*gap, one))], axis)


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


# Transposed convolution


def _padding_crops(op: Any, call: Call, *operands: Array) -> laws.Sides:
    whole = call(laws.replaced(op, padding=0), *operands)
    for axis, one in zip(laws.spatial_axes(op, whole), op.windows, strict=True):
        whole = nested.take(whole, axis, range(one.before, nested.shape_of(whole)[axis] - one.before))
    return call(op, *operands), whole


def _is_adjoint(op: Any, call: Call, x: Array, weight: Array, *bias: Array) -> laws.Sides:
    """The left side leaves out the windows that belong to no input."""
    y = call(laws.without_bias(op), x, weight)
    z = laws.ramp(nested.shape_of(y))
    convolved = op.convolution.reference(z, weight)
    for axis in laws.spatial_axes(op, x):
        convolved = nested.take(convolved, axis, range(nested.shape_of(x)[axis]))
    return laws.inner(convolved, x), laws.inner(z, y)


def _stuffs_input(op: Any, call: Call, x: Array, weight: Array, *bias: Array) -> laws.Sides:
    stuffed = x
    for axis, one, extra in zip(laws.spatial_axes(op, x), op.windows, op.axes("output_padding"), strict=True):
        edge = [laws.constant_like(nested.take(stuffed, axis, [0]), 0)]
        around, inside = one.span - 1 - one.before, _spread(stuffed, axis, one.stride)
        stuffed = nested.concatenate([*edge * around, inside, *edge * (around + extra)], axis)
    channels = {"in_channels": op.in_channels, "out_channels": op.out_channels}
    dense = laws.replaced(op.convolution, **channels, stride=1, padding=0, bias=op.bias)
    kernel = laws.mirrored(nested.permute(weight, (1, 0, *range(2, op.spatial + 2))))
    return call(op, x, weight, *bias), dense.reference(stuffed, kernel, *bias)


def _can_spread(op: Any, shapes: tuple[Shape, ...]) -> bool:
    extra = zip(op.windows, op.axes("output_padding"), strict=True)
    return any(one.dilation > 1 for one in op.windows) and all(more < one.stride for one, more in extra)


TRANSPOSED = (
    laws.LINEARITY,
    Law("bias", "convT(x, w, b) = convT(x, w) + b", lambda op, shapes: op.bias, bias_is_added),
    laws.BATCH,
    Law("groups", "groups = parts side by side", lambda op, shapes: op.groups > 1, groups_are_parts),
    Law("dilation", "dilation = zeros between the taps", _can_spread, dilation_spreads_kernel),
    Law(
        "padding",
        "padding crops",
        lambda op, shapes: any(one.before for one in op.windows),
        _padding_crops,
    ),
    Law("adjoint", "<conv(z), x> = <z, convT(x)>", laws.always, _is_adjoint),
    Law(
        "stuffing",
        "convT(x, w) = conv(zero-stuffed x, flipped w)",
        lambda op, shapes: op.groups == 1 and all(one.before < one.span for one in op.windows),
        _stuffs_input,
    ),
)
"""The laws of transposed convolutions, which have a `convolution` whose gradient they are."""
