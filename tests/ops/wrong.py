"""Wrong implementations, one for each law of each operator: what a kernel really gets wrong, on nested lists.

Each is `wrong(op, *arrays) -> output`, derived from the loop that is right.
"""

import math
from typing import Any

from cnnspec import nested
from cnnspec.laws import replaced
from cnnspec.nested import Array


def first(output: Any) -> Array:
    return output[0] if isinstance(output, tuple) else output


def saturates(op: Any, *arrays: Array) -> Array:
    """Sums clip at 8 bits."""
    return nested.elementwise(lambda v: max(-128, min(127, v)), op.reference(*arrays))


def forgets_later_images(op: Any, x: Array, *parameters: Array) -> Array:
    """Every image of a batch is read from the first one's memory."""
    shape = nested.shape_of(x)
    same = nested.take(x, 0, [0] * shape[0]) if len(shape) == op.spatial + 2 else x
    return op.reference(same, *parameters)


def reads_first_channel(op: Any, x: Array) -> Any:
    axis = len(nested.shape_of(x)) - op.spatial - 1
    return op.reference(nested.take(x, axis, [0] * nested.shape_of(x)[axis]))


def starts_one_stride_late(op: Any, x: Array, *parameters: Array) -> Array:
    """Output u reads where u + 1 should, the last one as it should."""
    y = first(op.reference(x, *parameters))
    axes = len(nested.shape_of(y))
    for axis, window in zip(range(axes - op.spatial, axes), op.windows, strict=True):
        size = nested.shape_of(y)[axis]
        if window.stride > 1:
            y = nested.take(y, axis, [min(u + 1, size - 1) for u in range(size)])
    return y


def tile_of_two_is_off(op: Any, x: Array, *parameters: Array) -> Array:
    """From the third output on, the last axis reads one output early: a tail that starts at the wrong place."""
    y = op.reference(x, *parameters)
    axis = len(nested.shape_of(y)) - 1
    return nested.take(y, axis, [u if u < 2 else u - 1 for u in range(nested.shape_of(y)[axis])])


def adds_bias_twice(op: Any, x: Array, weight: Array, *bias: Array) -> Array:
    return op.reference(x, weight, *(nested.elementwise(lambda b: 2 * b, b) for b in bias))


def interleaves_groups(op: Any, x: Array, weight: Array, *bias: Array) -> Array:
    """Channel c of group g is looked for at c * groups + g."""
    axis = len(nested.shape_of(x)) - op.spatial - 1
    per_group = op.in_channels // op.groups
    order = [c * op.groups + g for g in range(op.groups) for c in range(per_group)]
    return op.reference(nested.take(x, axis, order), weight, *bias)


def ignores_dilation(op: Any, *arrays: Array) -> Array:
    """The shape is right; the taps stand side by side."""
    dense = replaced(op, dilation=1).reference(*arrays)
    for axis, size in enumerate(op.output_shape(nested.shape_of(arrays[0]))):
        dense = nested.take(dense, axis, range(size))
    return dense


def pads_with_edge(op: Any, *arrays: Array) -> Array:
    """Zero padding repeats the edge."""
    return replaced(op, padding_mode="replicate").reference(*arrays)


def pads_maximum_with_zero(op: Any, x: Array) -> Any:
    return nested.elementwise(lambda v: max(v, 0), op.reference(x)) if padded(op) else op.reference(x)


def padded(op: Any) -> bool:
    return any(window.before for window in op.windows)


def excludes_padding(op: Any, x: Array) -> Array:
    """count_include_pad is ignored."""
    return replaced(op, count_include_pad=False, divisor_override=None).reference(x)


def reverses_channels(op: Any, x: Array, weight: Array, *bias: Array) -> Array:
    return op.reference(x, nested.take(weight, 1, range(op.in_channels)[::-1]), *bias)


def maximum_of_magnitudes(op: Any, x: Array) -> Any:
    return op.reference(nested.elementwise(abs, x))


def index_within_window(op: Any, x: Array) -> Any:
    """The index counts from the window's first tap."""
    maxima, indices = op.reference(x)
    starts = [min(region, default=0) for region in op.regions(nested.shape_of(x)[-op.spatial :])]
    within = [i - starts[n % len(starts)] for n, i in enumerate(nested.ravel(indices))]
    return maxima, nested.unravel(within, nested.shape_of(indices))


def divides_by_kernel(op: Any, x: Array) -> Array:
    """Whatever lies on padding or hangs over, the divisor is the whole kernel (or one more than asked for)."""
    wrong = (op.divisor_override or math.prod(op.axes("kernel_size"))) + 1
    return replaced(op, divisor_override=wrong).reference(x)


def wraps_around(op: Any, x: Array) -> Array:
    """What is padded comes out one place further along the last axis."""
    y = op.reference(x)
    axis = len(nested.shape_of(y)) - 1
    size = nested.shape_of(y)[axis]
    return nested.take(y, axis, [(i - 1) % size for i in range(size)]) if max(op.padding) > 0 else y


def reads_next_row(op: Any, x: Array, weight: Array, *bias: Array) -> Array:
    """Output o reads row o + 1 of the weight."""
    rows = nested.shape_of(weight)[0]
    return op.reference(x, nested.take(weight, 0, [(o + 1) % rows for o in range(rows)]), *bias)


def joins_columns_first(op: Any, x: Array) -> Array:
    """Of the axes that are joined the first runs fastest."""
    shape = nested.shape_of(x)
    start, end = op.start_dim % len(shape), op.end_dim % len(shape)
    order = (*range(start), *range(end, start - 1, -1), *range(end + 1, len(shape)))
    return nested.unravel(nested.ravel(nested.permute(x, order)), op.output_shape(shape))


def leaks(op: Any, x: Array) -> Array:
    return nested.elementwise(lambda v: v if v > 0 else 2 * v, x)


def adds_second_twice(op: Any, a: Array, b: Array) -> Array:
    return op.reference(a, nested.elementwise(lambda v: 2 * v, b))


def swaps_inputs(op: Any, a: Array, b: Array) -> Array:
    return op.reference(b, a)


POOLS = {
    "batch": forgets_later_images,
    "channels": reads_first_channel,
    "stride": starts_one_stride_late,
    "shift": tile_of_two_is_off,
}
KILLERS: dict[str, dict[str, Any]] = {
    "conv": {
        "linearity": saturates,
        "bias": adds_bias_twice,
        "batch": forgets_later_images,
        "groups": interleaves_groups,
        "stride": starts_one_stride_late,
        "shift": tile_of_two_is_off,
        "dilation": ignores_dilation,
        "padding": pads_with_edge,
        "pointwise": reverses_channels,
    },
    "max_pool": {
        **POOLS,
        "padding": pads_maximum_with_zero,
        "minimum": maximum_of_magnitudes,
        "indices": index_within_window,
    },
    "avg_pool": {**POOLS, "padding": excludes_padding, "divisor": divides_by_kernel},
    "linear": {"linearity": saturates, "transpose": reads_next_row},
    "pad": {"cropping": wraps_around},
    "relu": {"parts": leaks},
    "add": {"commutes": adds_second_twice},
    "concat": {"slices": swaps_inputs},
}
"""By operator, without its number of dimensions, and law: an implementation that breaks it."""

WRONG_OUTPUTS: dict[str, tuple[Any, ...]] = {"flatten": (joins_columns_first,)}
