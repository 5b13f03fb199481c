"""Wrong implementations of resampling, for its laws and its gradient: see `tests.ops.wrong`."""

import math
from fractions import Fraction
from typing import Any

from cnnspec import nested
from cnnspec.laws import constant_like, replaced
from cnnspec.nested import Array
from cnnspec.ops.resampling import HALF, gathered, pixels, transposed
from cnnspec.ops.upsample import Upsample
from cnnspec.ops.upsample_laws import by_coordinates


def resamples_first_image(op: Any, x: Array) -> Array:
    """Every image of a batch is read from the first one's memory."""
    return op.reference(nested.take(x, 0, [0] * len(x)))


def rounds_coordinates(op: Any, x: Array) -> Array:
    """Nearest is the pixel at p s rounded, not cut."""
    return by_coordinates(op, x, lambda p, s: math.floor(p * s + HALF))


def divides_sizes_not_gaps(op: Any, x: Array) -> Array:
    """Corners are aligned with size / output size in place of (size - 1) / (output size - 1)."""
    plain = replaced(op, align_corners=None)
    return by_coordinates(plain, x, lambda p, s: p * s) if op.align_corners else op.reference(x)


def reads_zero_before_border(op: Any, x: Array) -> Array:
    """Coordinates below 0 reach a pixel of zeros that stands before the first."""
    axes, taps = op.scales(nested.shape_of(x)[2:]), []
    plain = op.mode == "nearest" or op.align_corners
    for axis, (n, m, s) in enumerate(axes, 2):
        x = nested.concatenate([constant_like(nested.take(x, axis, [0]), 0), x], axis)
        coordinates = (p * s if plain else (p + HALF) * s - HALF for p in range(m))
        taps.append([pixels(c + 1, n + 1, op.mode) for c in coordinates])
    return gathered(x, taps)


def forgets_half_pixels(op: Any, x: Array) -> Array:
    """The source coordinate is p s, whatever align_corners says."""
    return by_coordinates(op, x, lambda p, s: p * s)


# Gradients


def resamples_back(op: Any, g: Array, x: Array) -> list[Array]:
    """The output's gradient is resampled to the size of the input."""
    return [Upsample(nested.shape_of(x)[2:], None, op.mode, op.align_corners).reference(g)]


def keeps_last_output(op: Any, g: Array, x: Array) -> list[Array]:
    """Terms that meet in a pixel overwrite each other along each axis."""
    sizes = nested.shape_of(x)[2:]
    return [gathered(g, [[row[-1:] for row in axis] for axis in transposed(op.taps(sizes), sizes)])]


def swaps_weights(op: Any, g: Array, x: Array) -> list[Array]:
    """The pixel before gets the weight of the one behind."""
    sizes = nested.shape_of(x)[2:]
    swapped = [
        [
            [(i, w) for (i, _), (_, w) in zip(row, reversed(row), strict=True)] if len(row) > 1 else row
            for row in axis
        ]
        for axis in op.taps(sizes)
    ]
    return [gathered(g, transposed(swapped, sizes))]


def nearest_as_half_pixel(op: Any, g: Array, x: Array) -> list[Array]:
    """The gradient goes to the pixels of nearest-exact, and of the asymmetric linear modes."""
    sizes = nested.shape_of(x)[2:]
    shift = HALF if op.mode == "nearest" else Fraction(0)
    axes = op.scales(sizes)
    taps = [[pixels((p + shift) * s, n, op.mode) for p in range(m)] for n, m, s in axes]
    return [gathered(g, transposed(taps, sizes))]


KILLERS: dict[str, dict[str, Any]] = {
    "interpolate": {
        "batch": resamples_first_image,
        "repetition": rounds_coordinates,
        "corners": divides_sizes_not_gaps,
        "constant": reads_zero_before_border,
        "mirror": forgets_half_pixels,
    },
}
WRONG_GRADIENTS: dict[str, tuple[Any, ...]] = {
    "interpolate": (resamples_back, keeps_last_output, swaps_weights, nearest_as_half_pixel),
}
