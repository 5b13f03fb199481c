"""Wrong gradients of convolutions, linear layers, pools and what moves elements: see `tests.ops.wrong`."""

import math
from fractions import Fraction
from typing import Any

from cnnspec import nested
from cnnspec.laws import mirrored, replaced
from cnnspec.nested import Array

Gradients = list[Array | None]
KILLERS: dict[str, dict[str, Any]] = {}


def over_overlaps(gradient: Array, hits: Array) -> Array:
    """Return each element divided by how many windows reach it: as good as the last one to write."""
    pairs = zip(nested.ravel(gradient), nested.ravel(hits), strict=True)
    values = [Fraction(value) / max(1, math.ceil(count)) for value, count in pairs]
    return nested.unravel(values, nested.shape_of(gradient))


def correlates_with_kernel(op: Any, g: Array, x: Array, weight: Array, *bias: Array) -> Gradients:
    """The input's gradient is taken with the kernel as it stands, which is flipped once too often."""
    wrong, right = op.gradients(g, x, mirrored(weight), *bias), op.gradients(g, x, weight, *bias)
    return [wrong[0], *right[1:]]


def sums_first_image(op: Any, g: Array, x: Array, weight: Array, *bias: Array) -> Gradients:
    """Parameters get the gradient of the first image, or row, of the batch alone."""
    right = op.gradients(g, x, weight, *bias)
    batched = len(nested.shape_of(x)) == getattr(op, "spatial", 0) + 2
    alone = nested.unravel(
        [v if i < math.prod(nested.shape_of(g)[1:]) else 0 for i, v in enumerate(nested.ravel(g))],
        nested.shape_of(g),
    )
    return [right[0], *op.gradients(alone, x, weight, *bias)[1:]] if batched else right


def means_bias(op: Any, g: Array, *operands: Array) -> Gradients:
    """The bias gets the mean of what it should sum."""
    right = op.gradients(g, *operands)
    count = math.prod(nested.shape_of(g)) // len(nested.ravel(operands[2])) if len(operands) > 2 else 1
    return [*right[:2], *(nested.elementwise(lambda v: Fraction(v) / max(1, count), b) for b in right[2:])]


def to_last_of_equal(op: Any, g: Array, x: Array) -> Gradients:
    """Of equal maxima the last one gets the gradient."""
    values = [Fraction(v) + Fraction(i, 10**9) for i, v in enumerate(nested.ravel(x))]
    gradients: Gradients = op.gradients(g, nested.unravel(values, nested.shape_of(x)))
    return gradients


def overwrites(op: Any, g: Array, x: Array) -> Gradients:
    """Where windows overlap, their gradients are not added."""
    hits = op.gradients(nested.elementwise(lambda _: 1, g), x)[0]
    return [over_overlaps(op.gradients(g, x)[0], hits)]


def divides_by_whole_window(op: Any, g: Array, x: Array) -> Gradients:
    """The divisor of the backward pass is the kernel's size, whatever the forward pass divided by."""
    changes = {"count_include_pad": True} | ({"divisor_override": None} if op.spatial > 1 else {})
    gradients: Gradients = (
        replaced(op, ceil_mode=False, **changes).gradients(g, x) if not op.ceil_mode else [x]
    )
    return gradients


def divides_by_nothing(op: Any, g: Array, x: Array) -> Gradients:
    """Each element gets the gradient of its mean undivided."""
    count = math.prod(nested.shape_of(x)[2:])
    return [nested.elementwise(lambda v: v * count, op.gradients(g, x)[0])]


def crops(op: Any, g: Array, x: Array) -> Gradients:
    """Elements that were copied into the border get nothing back from there."""
    gradients: Gradients = replaced(op, mode="constant").gradients(g, x)
    return gradients


def one_place_late(op: Any, g: Array, *operands: Array) -> Gradients:
    """The gradient is read one place beside."""
    shape = nested.shape_of(g)
    axis = max((n for n, size in enumerate(shape) if size > 1), default=None)
    late = g if axis is None else nested.take(g, axis, [max(0, i - 1) for i in range(shape[axis])])
    gradients: Gradients = op.gradients(late, *operands)
    return gradients


def means_of_broadcast(op: Any, g: Array, x: Array, other: Array) -> Gradients:
    """An operand that was repeated gets the mean of the gradients of its copies."""
    right = op.gradients(g, x, other)
    count = math.prod(nested.shape_of(g)) // max(1, math.prod(nested.shape_of(other)))
    return [right[0], nested.elementwise(lambda v: Fraction(v) / max(1, count), right[1])]


def swaps_parts(op: Any, g: Array, *parts: Array) -> Gradients:
    """The first part gets the gradient from the end."""
    size = nested.shape_of(g)[op.dim]
    axis = op.dim % len(nested.shape_of(g))
    gradients: Gradients = op.gradients(nested.take(g, axis, range(size)[::-1]), *parts)
    return gradients


WRONG_GRADIENTS: dict[str, tuple[Any, ...]] = {
    "conv": (correlates_with_kernel, sums_first_image, means_bias),
    "linear": (sums_first_image, means_bias),
    "max_pool": (to_last_of_equal, overwrites),
    "avg_pool": (divides_by_whole_window, one_place_late),
    "adaptive_max_pool": (to_last_of_equal, one_place_late),
    "adaptive_avg_pool": (one_place_late, overwrites),
    "global_avg_pool": (divides_by_nothing, one_place_late),
    "pad": (crops, one_place_late),
    "flatten": (one_place_late,),
    "add": (means_of_broadcast, one_place_late),
    "concat": (swaps_parts, one_place_late),
}
