"""What holds for resampling with no reference, and how other frameworks resample."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from cnnspec import laws, nested
from cnnspec.nested import Array, Shape
from cnnspec.ops.resampling import HALF, gathered, pixels
from cnnspec.spec import Call, Dialect, Law

# Laws, asked where the order of roundings cannot show: of copies, and of weights with few bits


def is_exact(op: Any, shapes: tuple[Shape, ...]) -> bool:
    """Say whether every weight has few bits, so that sums of small integers are exact in any order."""
    return op.mode == "nearest" or all(4 % s.denominator == 0 for _, _, s in op.scales(shapes[0][2:]))


def _repeats(op: Any, shapes: tuple[Shape, ...]) -> bool:
    return op.mode == "nearest" and all(
        s.numerator == 1 and m * s == n for n, m, s in op.scales(shapes[0][2:])
    )


def _pixels_repeat(op: Any, call: Call, x: Array) -> laws.Sides:
    repeated = x
    for axis, (_, m, s) in enumerate(op.scales(nested.shape_of(x)[2:]), 2):
        repeated = nested.take(repeated, axis, [p // s.denominator for p in range(m)])
    return call(op, x), repeated


def _corners_stay(op: Any, call: Call, x: Array) -> laws.Sides:
    y = call(op, x)
    for axis, (n, m, _) in enumerate(op.scales(nested.shape_of(x)[2:]), 2):
        x = nested.take(x, axis, [0, n - 1] if m > 1 else [0])
        y = nested.take(y, axis, [0, m - 1] if m > 1 else [0])
    return y, x


def _constants_stay(op: Any, call: Call, x: Array) -> laws.Sides:
    value, shape = nested.ravel(x)[0], op.output_shape(nested.shape_of(x))
    return call(op, laws.constant_like(x, value)), nested.unravel([value] * math.prod(shape), shape)


def _is_symmetric(op: Any, shapes: tuple[Shape, ...]) -> bool:
    whole = op.align_corners or all(m * s == n for n, m, s in op.scales(shapes[0][2:]))
    one = op.align_corners and 1 in op.output_shape(*shapes)[2:]  # which is the first pixel
    return op.mode != "nearest" and whole and not one and is_exact(op, shapes)


LAWS = (
    Law(
        "batch",
        laws.BATCH.statement,
        lambda op, shapes: shapes[0][0] > 1 and is_exact(op, shapes),
        laws.BATCH.sides,
    ),
    Law("repetition", "nearest by a whole factor repeats every pixel", _repeats, _pixels_repeat),
    Law(
        "corners",
        "align_corners keeps the corners",
        lambda op, shapes: bool(op.align_corners) and is_exact(op, shapes),
        _corners_stay,
    ),
    Law("constant", "a constant image stays constant", is_exact, _constants_stay),
    Law(
        "mirror",
        "a mirrored input gives a mirrored output",
        _is_symmetric,
        lambda op, call, x: (call(op, laws.mirrored(x)), laws.mirrored(call(op, x))),
    ),
)


# Dialects


def by_coordinates(op: Any, x: Array, coordinate: Callable[[int, Fraction], Any]) -> Array:
    """Return the input resampled at coordinate(p, s), or 0 where that is negative."""
    axes = op.scales(nested.shape_of(x)[2:])
    taps = [
        [pixels(max(Fraction(0), Fraction(coordinate(p, s))), n, op.mode) for p in range(m)]
        for n, m, s in axes
    ]
    return gathered(x, taps)


def _is_half_pixel(op: Any) -> bool:
    return op.mode != "nearest" and not op.align_corners


DIALECTS = (
    Dialect(
        "TensorFlow 1, ONNX in mode asymmetric",
        "a linear mode reads at p s, without half pixels",
        _is_half_pixel,
        lambda op, x: by_coordinates(op, x, lambda p, s: p * s),
    ),
    Dialect(
        "torch before 0.4",
        "a linear mode aligns the corners unless told otherwise",
        _is_half_pixel,
        lambda op, x: laws.replaced(op, align_corners=True).reference(x),
    ),
    Dialect(
        "TensorFlow 2, nearest-exact",
        "nearest takes the pixel below (p + 1/2) s",
        lambda op: op.mode == "nearest",
        lambda op, x: by_coordinates(op, x, lambda p, s: (p + HALF) * s),
    ),
    Dialect(
        "ONNX Resize by default",
        "nearest rounds (p + 1/2) s - 1/2, down where it is halfway",
        lambda op: op.mode == "nearest",
        lambda op, x: by_coordinates(op, x, lambda p, s: math.ceil((p + HALF) * s - 1)),
    ),
)
