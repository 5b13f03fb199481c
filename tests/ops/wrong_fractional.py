"""Wrong implementations of fractional pooling, for its laws, outputs and gradient: see `tests.ops.wrong`."""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from cnnspec import nested
from cnnspec.laws import constant_like
from cnnspec.nested import Array
from cnnspec.ops.fractional_pool import starts
from cnnspec.ops.pooling import boxes, largest, planes

Place = Callable[[Fraction, int, int, int], Sequence[int]]
"""place(u, size, kernel, outputs) -> where the windows of an axis start."""


def pooled(op: Any, x: Array, samples: Array, place: Place) -> Array:
    """Return the maxima of windows that lie elsewhere, pushed back where they leave the input."""
    shape = nested.shape_of(x)
    sizes = shape[-op.spatial :]
    axes = list(zip(sizes, op._kernel, op._outputs(sizes), strict=True))
    maxima = []
    for plane, row in zip(planes(x, op.spatial), planes(samples, 1), strict=False):
        windows = [
            [
                range(min(start, n - k), min(start, n - k) + k)
                for start in list(place(Fraction(u), n, k, o))[:o]
            ]
            for u, (n, k, o) in zip(op.by_axis(row), axes, strict=True)
        ]
        maxima += [largest(plane, region)[0] for region in boxes(windows, sizes)]
    return nested.unravel(maxima, op.output_shape(shape, nested.shape_of(samples)))


def samples_of_first_image(op: Any, x: Array, samples: Array) -> Any:
    return op.reference(x, nested.take(samples, 0, [0] * len(samples)))


def samples_of_first_channel(op: Any, x: Array, samples: Array) -> Any:
    return op.reference(x, nested.take(samples, 1, [0] * nested.shape_of(samples)[1]))


def divides_by_outputs(op: Any, x: Array, samples: Array) -> Array:
    """The step is (L - K) / O."""

    def place(u: Fraction, size: int, kernel: int, outputs: int) -> list[int]:
        step = Fraction(size - kernel, outputs)
        inner = [math.floor((p + u) * step) - math.floor(u * step) for p in range(outputs - 1)]
        return [*inner, size - kernel]

    return pooled(op, x, samples, place)


def only_window_starts_at_zero(op: Any, x: Array, samples: Array) -> Array:
    """Where there is one window, it is taken for the first, not for the last."""
    return pooled(op, x, samples, lambda u, *axis: starts(u, *axis) if axis[2] > 1 else [0])


def keeps_first_offset(op: Any, x: Array, samples: Array) -> Array:
    """floor(u a) is not subtracted."""

    def place(u: Fraction, size: int, kernel: int, outputs: int) -> list[int]:
        step = Fraction(size - kernel, max(1, outputs - 1))
        return [*(math.floor((p + u) * step) for p in range(outputs - 1)), size - kernel]

    return pooled(op, x, samples, place)


def samples_the_other_way_round(op: Any, x: Array, samples: Array) -> Array:
    """The sample of the height decides the width."""
    last = len(nested.shape_of(samples)) - 1
    return op.reference(x, nested.take(samples, last, range(op.spatial)[::-1]))


def maximum_of_magnitudes(op: Any, x: Array, samples: Array) -> Any:
    return op.reference(nested.elementwise(abs, x), samples)


def index_within_row(op: Any, x: Array, samples: Array) -> Any:
    """The index counts from the start of the row, not of the plane."""
    maxima, indices = op.reference(x, samples)
    return maxima, nested.elementwise(lambda i: i % nested.shape_of(x)[-1], indices)


# Gradients


def to_every_maximum(op: Any, g: Array, x: Array, samples: Array) -> list[Array | None]:
    """All equal maxima of a window get the gradient."""
    rows = zip(
        planes(g, op.spatial), planes(x, op.spatial), op.plane_regions(x, samples), strict=True
    )  # fmt: skip
    dx = []
    for dy, plane, regions in rows:
        found = [0] * len(plane)
        for d, region in zip(dy, regions, strict=True):
            for i in region:
                found[i] = found[i] + (d if plane[i] == largest(plane, region)[0] else 0)
        dx += found
    return [nested.unravel(dx, nested.shape_of(x)), None]


def keeps_last_window(op: Any, g: Array, x: Array, samples: Array) -> list[Array | None]:
    """Windows that chose one element overwrite each other's gradients."""
    dx = []
    for dy, plane, pairs in zip(
        planes(g, op.spatial), planes(x, op.spatial), op.chosen(x, samples), strict=True
    ):
        found = [0] * len(plane)
        for d, (_, i) in zip(dy, pairs, strict=True):
            found[i] = d
        dx += found
    return [nested.unravel(dx, nested.shape_of(x)), None]


def draws_new_samples(op: Any, g: Array, x: Array, samples: Array) -> list[Array | None]:
    """The backward pass places the windows anew, by other samples."""
    gradients: list[Array | None] = op.gradients(g, x, constant_like(samples, 0))
    return gradients


LAWS: dict[str, Any] = {
    "batch": samples_of_first_image,
    "channels": samples_of_first_channel,
    "strides": divides_by_outputs,
    "end": only_window_starts_at_zero,
    "minimum": maximum_of_magnitudes,
    "indices": index_within_row,
}
KILLERS: dict[str, dict[str, Any]] = {"fractional_max_pool": LAWS}
WRONG_OUTPUTS: dict[str, tuple[Any, ...]] = {
    "fractional_max_pool": (keeps_first_offset, samples_the_other_way_round),
}
WRONG_GRADIENTS: dict[str, tuple[Any, ...]] = {
    "fractional_max_pool": (to_every_maximum, keeps_last_window, draws_new_samples),
}
