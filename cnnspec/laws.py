"""Laws that several operators share; an operator's own laws stand in its file.

Those that speak of windows hold for every operator with `spatial` axes and `windows`.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from cnnspec import nested
from cnnspec.nested import Array, Shape
from cnnspec.spec import Call, Law

Sides = tuple[Array, Array]


def replaced(op: Any, **changes: Any) -> Any:
    """Return the operator with other arguments."""
    return dataclasses.replace(op, **changes)


def without_bias(op: Any) -> Any:
    """Return the operator without its bias, if it can have one."""
    return replaced(op, bias=False) if hasattr(op, "bias") else op


def constant_like(array: Array, value: Any) -> Array:
    """Return an array of the shape of `array` that holds `value` everywhere."""
    return nested.elementwise(lambda _: value, array)


def ramp(shape: Shape) -> Array:
    """Return an array of `shape` with small integers of both signs."""
    return nested.unravel([7 * i % 11 - 5 for i in range(math.prod(shape))], shape)


def inner(a: Array, b: Array) -> Array:
    """Return the inner product of two arrays of one shape, as an array of one element."""
    return [sum(u * v for u, v in zip(nested.ravel(a), nested.ravel(b), strict=True))]


def one_output(op: Any) -> bool:
    """Say whether the operator returns one array, not maxima and indices."""
    return not getattr(op, "return_indices", False)


def spatial_axes(op: Any, array: Array) -> range:
    """Return the numbers of the spatial axes of an input or output."""
    axes = len(nested.shape_of(array))
    return range(axes - op.spatial, axes)


def mirrored(array: Array, first: int = 2) -> Array:
    """Return the array read backwards along all axes from `first` on: kernels, or images with batch and channels.

    >>> mirrored([[[1, 2], [3, 4]]], 1)
    [[[4, 3], [2, 1]]]
    """
    for axis in range(first, len(nested.shape_of(array))):
        array = nested.take(array, axis, range(nested.shape_of(array)[axis])[::-1])
    return array


def always(op: Any, shapes: tuple[Shape, ...]) -> bool:
    """Say that a law applies to every case."""
    return True


# Every operator that is linear in its input


def _is_linear(op: Any, call: Call, x: Array, weight: Array = None, bias: Array = None) -> Sides:
    plain, parameters = without_bias(op), [] if weight is None else [weight]
    reversed_x = nested.unravel(nested.ravel(x)[::-1], nested.shape_of(x))
    of_sum = call(plain, nested.elementwise(lambda a, b: 2 * a - b, x, reversed_x), *parameters)
    first, second = (call(plain, array, *parameters) for array in (x, reversed_x))
    return of_sum, nested.elementwise(lambda a, b: 2 * a - b, first, second)


LINEARITY = Law("linearity", "f(2x - x') = 2 f(x) - f(x')", always, _is_linear)


# Every operator with a batch and spatial axes


def _batch_is_singles(op: Any, call: Call, x: Array, *parameters: Array) -> Sides:
    singles = [call(op, nested.take(x, 0, [n]), *parameters) for n in range(len(x))]
    return call(op, x, *parameters), nested.concatenate(singles, 0)


def pairs_are_singles(op: Any, call: Call, x: Array, other: Array) -> Sides:
    """Return what a batch gives and the stack of its singles, where the second operand has a batch too."""
    singles = [call(op, nested.take(x, 0, [n]), nested.take(other, 0, [n])) for n in range(len(x))]
    return call(op, x, other), nested.concatenate(singles, 0)


def _has_batch(op: Any, shapes: tuple[Shape, ...]) -> bool:
    return len(shapes[0]) == op.spatial + 2 and shapes[0][0] > 1 and one_output(op)


BATCH = Law("batch", "a batch is the stack of its singles", _has_batch, _batch_is_singles)


def _channels_are_parts(op: Any, call: Call, x: Array) -> Sides:
    axis = spatial_axes(op, x).start - 1
    planes = [call(op, nested.take(x, axis, [c])) for c in range(nested.shape_of(x)[axis])]
    return call(op, x), nested.concatenate(planes, axis)


CHANNELS = Law(
    "channels",
    "each channel is pooled by itself",
    lambda op, shapes: shapes[0][-op.spatial - 1] > 1 and one_output(op),
    _channels_are_parts,
)


def _stride_subsamples(op: Any, call: Call, *operands: Array) -> Sides:
    strided, dense = call(op, *operands), call(replaced(op, stride=1), *operands)
    for axis, window in zip(spatial_axes(op, dense), op.windows, strict=True):
        dense = nested.take(dense, axis, range(0, nested.shape_of(dense)[axis], window.stride))
    return strided, dense


STRIDE = Law(
    "stride",
    "stride s = every s-th output of stride 1",
    lambda op, shapes: (
        any(w.stride != 1 for w in op.windows) and not any(w.ceil_mode for w in op.windows) and one_output(op)
    ),
    _stride_subsamples,
)


def _first_outputs_go(op: Any, call: Call, x: Array, *parameters: Array) -> Sides:
    cropped, rest = x, call(op, x, *parameters)
    for axis, window in zip(spatial_axes(op, x), op.windows, strict=True):
        if _can_shift(op, nested.shape_of(x), axis):
            cropped = nested.take(cropped, axis, range(window.stride, nested.shape_of(x)[axis]))
            rest = nested.take(rest, axis, range(1, nested.shape_of(rest)[axis]))
    return call(op, cropped, *parameters), rest


def _can_shift(op: Any, shape: Shape, axis: int) -> bool:
    window = op.windows[axis % len(shape) - len(shape)]
    unpadded = (window.before, window.after) == (0, 0) and not window.ceil_mode
    return unpadded and window.output_size(shape[axis]) > 1


SHIFT = Law(
    "shift",
    "without the first s pixels, all outputs but the first stay",
    lambda op, shapes: (
        one_output(op) and any(_can_shift(op, shapes[0], axis) for axis in range(-op.spatial, 0))
    ),
    _first_outputs_go,
)


def padding_is_explicit(statement: str, fill: Callable[[Array], Any], applies: Callable[..., bool]) -> Law:
    """Return the law that padding does what padding the input with `fill(input)` before does."""

    def sides(op: Any, call: Call, x: Array, *parameters: Array) -> Sides:
        padded, value = x, fill(x)
        for axis, window in zip(spatial_axes(op, x), op.windows, strict=True):
            border = constant_like(nested.take(padded, axis, [0]), value)
            padded = nested.concatenate([border] * window.before + [padded] + [border] * window.after, axis)
        return call(op, x, *parameters), call(replaced(op, padding=0), padded, *parameters)

    def has_padding(op: Any, shapes: tuple[Shape, ...]) -> bool:
        plain = one_output(op) and not any(w.ceil_mode for w in op.windows)
        return plain and any(w.before or w.after for w in op.windows) and applies(op, shapes)

    return Law("padding", statement, has_padding, sides)
