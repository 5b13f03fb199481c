"""What a node's output sees of a network's input: receptive fields along a graph.

Along a path r = r1 + (r2 - 1) s1, s = s1 s2, offset = offset1 + offset2 s1. Where paths join, an output sees from the
least first pixel to the greatest last one; their strides must agree.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cnnspec.nested import Shape
from cnnspec.op import Operator
from cnnspec.ops.combine import Concat
from cnnspec.spelling import spec_name
from cnnspec.window import ReceptiveField

UNAVAILABLE = "unavailable"
"""What is shown where a number cannot be stated; it is never 0."""

Field = tuple[ReceptiveField, ...] | str | None
"""What an output sees, per spatial axis: () one element, None all of the input or no window, or UNAVAILABLE."""


def through(operator: Operator, fields: Sequence[Field], input_shapes: Sequence[Shape]) -> Field:
    """Return what the output of an operator sees through inputs that see `fields`.

    >>> from cnnspec.ops.conv import Conv1d
    >>> through(Conv1d(1, 1, 3, padding=1), [(ReceptiveField(3, 2, -1),)], [(1, 1, 8)])
    (ReceptiveField(size=7, stride=2, offset=-3),)
    """
    field = joined(fields)
    axes = len(field) if isinstance(field, tuple) else 0
    return seen_through(field, own(operator, axes, input_shapes[0]))


def seen_through(field: Field, own: Field) -> Field:
    """Return what is seen through an operator that sees `own` of an input that sees `field`."""
    if own == ():
        return field
    if isinstance(field, tuple) and isinstance(own, tuple):
        if not field:
            return own
        if len(field) != len(own):
            return None
        if _square(field) and _square(own):
            return (field[0].then(own[0]),) * len(own)
        return tuple(map(ReceptiveField.then, field, own))
    return UNAVAILABLE if UNAVAILABLE in (field, own) else None


def joined(fields: Sequence[Field]) -> Field:
    """Return what is seen through several inputs at once."""
    first = fields[0]
    if fields.count(first) == len(fields):
        return first
    if UNAVAILABLE in fields:
        return UNAVAILABLE
    if None in fields:
        return None
    windows = [field for field in fields if isinstance(field, tuple)]
    axes = max(map(len, windows))
    windows = [field or (ReceptiveField(),) * axes for field in windows]
    if {*map(len, windows)} != {axes}:
        return UNAVAILABLE
    if all(map(_square, windows)):
        hull = _hull([field[0] for field in windows])
        return (hull,) * axes if hull else UNAVAILABLE
    found = tuple(hull for hull in map(_hull, zip(*windows, strict=True)) if hull)
    return found if len(found) == axes else UNAVAILABLE


def _square(field: tuple[ReceptiveField, ...]) -> bool:
    """Say whether all axes see the same."""
    return field.count(field[0]) == len(field)


def _hull(seen: Sequence[ReceptiveField]) -> ReceptiveField | None:
    """Return the field from the first pixel of all to the last; None where strides differ."""
    size, stride, first = seen[0].size, seen[0].stride, seen[0].offset
    last = first + size
    for one in seen[1:]:
        if one.stride != stride:
            return None
        first, last = min(first, one.offset), max(last, one.offset + one.size)
    return ReceptiveField(last - first, stride, first)


def own(operator: Operator, axes: int, shape: Shape) -> Field:
    """Return what an output sees of the operator's own input, whose field has so many axes.

    None, all of it, where no family says otherwise.
    """
    windows = operator.receptive_field()
    if windows:
        return (windows[0],) * len(windows) if _square(windows) else windows
    if spec_name(operator) is None:
        return UNAVAILABLE
    seen = _SEEN.get(type(operator).__module__.rpartition(".")[2])
    return seen(operator, axes, shape) if seen else None


def _one(operator: Any, axes: int, shape: Shape) -> Field:
    """Elementwise: one position of each input."""
    return ()


def _irregular(operator: Any, axes: int, shape: Shape) -> Field:
    """What windows that change with their position see cannot be said of all of them."""
    return UNAVAILABLE


def _combined(operator: Any, axes: int, shape: Shape) -> Field:
    """One position of each input; behind a seam along a spatial axis, another one."""
    spatial = axes or len(shape) - 2
    seam = isinstance(operator, Concat) and operator.dim % len(shape) >= len(shape) - spatial
    return UNAVAILABLE if seam else ()


def _normed(operator: Any, axes: int, shape: Shape) -> Field:
    """One position where statistics are given; else all of the image."""
    return None if operator.from_batch else ()


def _softmax(operator: Any, axes: int, shape: Shape) -> Field:
    """One position where the sum runs over the channels of an image."""
    return () if len(shape) > 2 and operator.dim % len(shape) == 1 else None


def _padded(operator: Any, axes: int, shape: Shape) -> Field:
    """One pixel, which stands elsewhere."""
    if not operator.padding:
        return ()
    pads = operator.pads(len(shape))[-(axes or len(operator.padding) // 2) :]
    return tuple(ReceptiveField(1, 1, -before) for before, _ in pads)


def _pooled(operator: Any, axes: int, shape: Shape) -> Field:
    """Equal windows side by side, where the sizes allow them; one window is the whole image."""
    outputs, sizes = operator.output_shape(shape)[-operator.spatial :], shape[-operator.spatial :]
    if math.prod(outputs) == 1 and math.prod(sizes) != 1:
        return None
    if any(not n or size % n for n, size in zip(outputs, sizes, strict=True)):
        return UNAVAILABLE
    return tuple(ReceptiveField(size // n, size // n) for n, size in zip(outputs, sizes, strict=True))


_ELEMENTWISE = ("pointwise", "relu6", "leaky_relu", "prelu", "hardswish", "elu", "gelu", "silu", "softplus")
_SEEN: Mapping[str, Callable[[Any, int, Shape], Field]] = {
    **dict.fromkeys((*_ELEMENTWISE, "dropout", "lrn"), _one),
    **dict.fromkeys(("fold", "fractional_pool", "rearrange", "unfold", "unpool", "upsample"), _irregular),
    "conv_transpose": _irregular,  # with a stride; without one it states its windows
    "combine": _combined,
    "batch_norm": _normed,
    "instance_norm": _normed,
    "softmax": _softmax,
    "pad": _padded,
    "adaptive_pool": _pooled,
}
