"""What holds for poolings with no reference, and how other frameworks pool."""

import dataclasses
import math
from typing import Any

from cnnspec import laws, nested, window
from cnnspec.nested import Array, Shape
from cnnspec.ops.pooling import largest, planes
from cnnspec.scalars import is_nan
from cnnspec.spec import Call, Dialect, Law
from cnnspec.window import Window

# Laws of every maximum and mean over `regions`


def every_region_has_an_element(op: Any, shapes: tuple[Shape, ...]) -> bool:
    """Say whether no maximum is that of nothing."""
    return all(op.regions(shapes[0][-op.spatial :]))


def _max_is_minus_min(op: Any, call: Call, x: Array, *others: Array) -> tuple[Array, Array]:
    """The minimum of -x, element by element, is minus the maximum of x."""
    negative = planes(nested.elementwise(lambda value: -value, x), op.spatial)
    rows = zip(negative, op.plane_regions(x, *others), strict=True)
    minima = [-min(plane[i] for i in region) for plane, regions in rows for region in regions]
    return call(op, x, *others), nested.unravel(minima, op.output_shape(*map(nested.shape_of, (x, *others))))


def _indices_point_at_maxima(op: Any, call: Call, x: Array, *others: Array) -> tuple[Array, Array]:
    maxima, indices = call(op, x, *others)
    shape, rows = nested.shape_of(maxima), planes(x, op.spatial)
    per_plane = math.prod(shape[-op.spatial :])
    pointed = [
        rows[p // per_plane][int(i)] if 0 <= i < len(rows[0]) else math.nan
        for p, i in enumerate(nested.ravel(indices))
    ]
    return maxima, nested.unravel(pointed, shape)


MINIMUM = Law(
    "minimum",
    "max(x) = -min(-x)",
    lambda op, shapes: not op.return_indices and every_region_has_an_element(op, shapes),
    _max_is_minus_min,
)
INDICES = Law(
    "indices",
    "x[indices] = max",
    lambda op, shapes: op.return_indices and every_region_has_an_element(op, shapes),
    _indices_point_at_maxima,
)


# Laws of sliding windows


def _average_is_sum_over_divisor(op: Any, call: Call, x: Array) -> tuple[Array, Array]:
    """On multiples of all divisors, the mean times the divisor is the sum that divisor 1 gives."""
    divisors = op.divisors(nested.shape_of(x))
    x = nested.elementwise(lambda value: value * math.lcm(*divisors), x)
    means = call(op, x)
    total = [value * divisor for value, divisor in zip(nested.ravel(means), divisors, strict=True)]
    return nested.unravel(total, nested.shape_of(means)), call(laws.replaced(op, divisor_override=1), x)


def _divisors_are_small(op: Any, shapes: tuple[Shape, ...]) -> bool:
    """16-bit floats hold the scaled sums only while the common multiple of the divisors is small."""
    return math.lcm(*op.divisors(shapes[0])) <= 4


WINDOWS = (laws.BATCH, laws.CHANNELS, laws.STRIDE, laws.SHIFT)
MAX_LAWS = (
    *WINDOWS,
    laws.padding_is_explicit(
        "padding = the maximum of the input padded with its smallest element",
        lambda x: min(nested.ravel(x)),
        every_region_has_an_element,
    ),
    MINIMUM,
    INDICES,
)
AVG_LAWS = (
    *WINDOWS,
    laws.padding_is_explicit(
        "padding = the mean of the input padded with zeros",
        lambda x: 0,
        lambda op, shapes: op.count_include_pad or op.divisor_override is not None,
    ),
    Law("divisor", "mean * divisor = sum", _divisors_are_small, _average_is_sum_over_divisor),
)


# Dialects


def _passes_over_nan(op: Any, x: Array, *samples: Array) -> Array:
    """A NaN is minus infinity, as to fmax."""
    return op.reference(nested.elementwise(lambda value: -math.inf if is_nan(value) else value, x), *samples)


def _indices_are_channels_last(op: Any, x: Array, *samples: Array) -> Array:
    """A plane's elements hold all channels side by side."""
    maxima, indices = op.reference(x, *samples)
    shape = nested.shape_of(indices)
    pixels, channels = math.prod(shape[-op.spatial :]), shape[-op.spatial - 1]
    spread = [i * channels + n // pixels % channels for n, i in enumerate(nested.ravel(indices))]
    return maxima, nested.unravel(spread, shape)


def _padding_is_zero(op: Any, x: Array) -> Array:
    """A window that has a tap on the padding sees a zero there."""
    maxima, sizes = op.reference(x), nested.shape_of(x)[-op.spatial :]
    padded = [
        any(_on_padding(axis, p, size) for axis, p, size in zip(op.windows, position, sizes, strict=True))
        for position in window.positions(op.windows, sizes)
    ]
    values = [max(v, 0) if padded[n % len(padded)] else v for n, v in enumerate(nested.ravel(maxima))]
    return nested.unravel(values, nested.shape_of(maxima))


def _on_padding(axis: Window, position: int, size: int) -> bool:
    taps = (axis.start(position) + k * axis.dilation for k in range(axis.kernel))
    return any(-axis.before <= i < 0 or size <= i < size + axis.after for i in taps)


def _keeps_last_windows(op: Any, x: Array) -> Array:
    """The size is the plain ceil: a last window may see nothing but padding."""
    shape, windows = nested.shape_of(x), []
    sizes = shape[-op.spatial :]
    for axis, size in zip(op.windows, sizes, strict=True):
        missing = -(size + axis.before + axis.after - axis.span) % axis.stride
        windows.append(dataclasses.replace(axis, after=axis.after + missing, ceil_mode=False))
    regions = [[i for _, i in taps] for taps in window.taps(windows, sizes)]
    pairs = [largest(plane, region) for plane in planes(x, op.spatial) for region in regions]
    output = (*shape[: -op.spatial], *window.output_sizes(windows, sizes))
    maxima = nested.unravel([maximum for maximum, _ in pairs], output)
    return (maxima, nested.unravel([i for _, i in pairs], output)) if op.return_indices else maxima


def _counts_overhang(op: Any, x: Array) -> Array:
    """The divisor is the kernel, wherever the window lies."""
    return laws.replaced(op, divisor_override=math.prod(axis.kernel for axis in op.windows)).reference(x)


def _counts_padding_the_other_way(op: Any, x: Array) -> Array:
    return laws.replaced(op, count_include_pad=not op.count_include_pad).reference(x)


def _is_padded(op: Any) -> bool:
    return any(axis.before for axis in op.windows)


def _may_drop(op: Any) -> bool:
    """Say whether ceil mode may leave out a window that starts behind the input."""
    return op.ceil_mode and any(axis.before or axis.stride > axis.span for axis in op.windows)


PASSES_OVER_NAN = Dialect(
    "CUDA's fmax, C++'s std::max", "a maximum passes over NaN", lambda op: True, _passes_over_nan
)
CHANNELS_LAST_INDICES = Dialect(
    "TensorFlow",
    "indices are flat in (*spatial, channels)",
    lambda op: op.return_indices,
    _indices_are_channels_last,
)
MAX_DIALECTS = (
    PASSES_OVER_NAN,
    Dialect(
        "Keras with ZeroPadding2D",
        "padding is zero to a maximum",
        lambda op: _is_padded(op) and not op.return_indices,
        _padding_is_zero,
    ),
    Dialect(
        "ONNX before 1.16",
        "ceil_mode keeps windows that start behind the input",
        _may_drop,
        _keeps_last_windows,
    ),
    CHANNELS_LAST_INDICES,
)
AVG_DIALECTS = (
    Dialect(
        "ONNX, TensorFlow",
        "padding does not count in a mean",
        lambda op: _is_padded(op) and op.count_include_pad and op.divisor_override is None,
        _counts_padding_the_other_way,
    ),
    Dialect(
        "Caffe",
        "padding always counts in a mean",
        lambda op: _is_padded(op) and not op.count_include_pad and op.divisor_override is None,
        _counts_padding_the_other_way,
    ),
    Dialect(
        "ONNX Runtime before AveragePool-19",
        "what a window in ceil_mode overhangs counts in its mean",
        lambda op: op.ceil_mode and op.count_include_pad and op.spatial > 1 and op.divisor_override is None,
        _counts_overhang,
    ),
)
