"""Wrong adaptive and global poolings, one for each law: see `tests.ops.wrong`."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from cnnspec import nested
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
    "global_avg_pool": {"order": forgets_the_last, "repetition": divides_by_one_more},
}
