"""Wrong adaptive and global poolings, one for each law: see `tests.ops.wrong`."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from cnnspec import nested
from cnnspec.laws import replaced
from cnnspec.nested import Array
from cnnspec.ops.pooling import largest, planes
from tests.ops import wrong


def pooled(op: Any, x: Array, change: Callable[[Any], Any]) -> Array:
    """Return the maxima or the means of changed regions."""
    shape = nested.shape_of(x)
    spatial = getattr(op, "spatial", len(shape) - 2)
    regions = [change(region) for region in op.regions(shape[len(shape) - spatial :])]
    values = []
    for plane in planes(x, spatial):
        for region in regions:
            total = sum((plane[i] for i in region), Fraction(0))
            mean = total / max(1, len(region))
            values.append(largest(plane, region)[0] if hasattr(op, "return_indices") else mean)
    return nested.unravel(values, op.output_shape(shape))


def rounds_ends_down(op: Any, x: Array) -> Array:
    """Windows that share an element leave it to the first, along the last axis."""
    return pooled(op, x, lambda region: region[: max(1, len(region) - 1)] if len(region) % 2 else region)


def ends_late(op: Any, x: Array) -> Array:
    """Each window holds one element more, where there is one."""
    pixels = math.prod(nested.shape_of(x)[-op.spatial :])
    return pooled(op, x, lambda region: [*region, min(max(region) + 1, pixels - 1)])


def forgets_the_last(op: Any, x: Array) -> Array:
    return pooled(op, x, lambda region: region[:-1] if len(region) > 1 else region)


def divides_by_one_more(op: Any, x: Array) -> Array:
    pixels = math.prod(nested.shape_of(x)[2:])
    return nested.elementwise(lambda mean: mean * Fraction(pixels, pixels + 1), op.reference(x))


def shifts_indices(op: Any, x: Array, indices: Array) -> Array:
    """Each element goes one place further along the last axis."""
    y = op.reference(x, indices)
    axis, size = len(nested.shape_of(y)) - 1, nested.shape_of(y)[-1]
    return nested.take(y, axis, [(i - 1) % size for i in range(size)])


def fills_with_ones(op: Any, x: Array, indices: Array) -> Array:
    """Memory that is not cleared."""
    return nested.elementwise(lambda value: value or 1, op.reference(x, indices))


def unpools_first_image(op: Any, x: Array, indices: Array) -> Array:
    return op.reference(x, nested.take(indices, 0, [0] * nested.shape_of(x)[0]))


def forgets_the_root(op: Any, x: Array) -> Array:
    """The sum is squared, or the norm."""
    return nested.elementwise(lambda value: value * value, op.reference(x))


def sums_magnitudes(op: Any, x: Array) -> Array:
    """|x|^p where x^p is due."""
    return op.reference(nested.elementwise(abs, x))


def fills_up_with_zeros(op: Any, x: Array) -> Array:
    """In ceil mode a window that hangs over is filled up with zeros, and not scaled up."""
    shape = nested.shape_of(x)
    if not op.ceil_mode or math.isinf(op.norm_type):
        return sums_magnitudes(op, x)
    for axis, window in zip(range(len(shape) - op.spatial, len(shape)), op.windows, strict=True):
        size = shape[axis]
        missing = max(0, window.start(window.output_size(size) - 1) + window.kernel - size)
        zeros = nested.elementwise(lambda _: 0, nested.take(x, axis, [0] * missing))
        x = nested.concatenate([x, *([zeros] if missing else [])], axis)
    return replaced(op, ceil_mode=False).reference(x)


def gradient_of_magnitudes(op: Any, g: Array, x: Array) -> list[Array | None]:
    """The sign of x is lost on the way back."""
    gradients: list[Array | None] = op.gradients(g, nested.elementwise(abs, x))
    return gradients


def forgets_the_gradient_of_the_root(op: Any, g: Array, x: Array) -> list[Array | None]:
    """The gradient of the sum of squares, as if no root had been taken of it."""
    y = op.reference(x)
    gradients: list[Array | None] = op.gradients(nested.elementwise(lambda d, norm: 2 * d * norm, g, y), x)
    return gradients


def gathers_in_order(op: Any, g: Array, x: Array, indices: Array) -> list[Array | None]:
    """Element p gets what stands at p of the output's gradient, wherever it went."""
    rows = zip(planes(g, op.spatial), planes(indices, op.spatial), strict=True)
    return [nested.unravel([d for dy, places in rows for d in dy[: len(places)]], nested.shape_of(x)), None]


def gathers_from_first_plane(op: Any, g: Array, x: Array, indices: Array) -> list[Array | None]:
    """The indices of every channel are looked up in the first channel of the first image."""
    dy = planes(g, op.spatial)[0]
    return [nested.elementwise(lambda i: dy[i], indices), None]


ADAPTIVE = {
    "batch": wrong.forgets_later_images,
    "channels": wrong.reads_first_channel,
    "mirror": rounds_ends_down,
    "repetition": ends_late,
}
KILLERS: dict[str, dict[str, Any]] = {
    "adaptive_max_pool": {
        **ADAPTIVE,
        "minimum": wrong.maximum_of_magnitudes,
        "indices": wrong.index_within_window,
        "stages": forgets_the_last,
    },
    "adaptive_avg_pool": ADAPTIVE,
    "max_unpool": {"places": shifts_indices, "zeros": fills_with_ones, "batch": unpools_first_image},
    "lp_pool": {**wrong.POOLS, "homogeneity": forgets_the_root},
    "global_avg_pool": {"order": forgets_the_last, "repetition": divides_by_one_more},
}
WRONG_OUTPUTS: dict[str, tuple[Any, ...]] = {
    "lp_pool": (sums_magnitudes, fills_up_with_zeros),
}
WRONG_GRADIENTS: dict[str, tuple[Any, ...]] = {
    "max_unpool": (gathers_in_order, gathers_from_first_plane),
    "lp_pool": (gradient_of_magnitudes, forgets_the_gradient_of_the_root),
}
