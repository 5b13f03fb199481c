"""Resampling of one, two and three spatial axes to another size: the nearest pixel, or linear interpolation.

    nearest:  y[..., p] = x[..., min(floor(p s), size - 1)]
    linear:   y[..., p] = (1 - t) x[..., i] + t x[..., min(i + 1, size - 1)],   i + t = c,   i = min(floor(c), size - 1)

Per axis p is the output position, c = max(0, (p + 1/2) s - 1/2) its source coordinate, or p s with align_corners,
and s the scale: 1 / scale_factor where that is given, else size / output size; with align_corners
(size - 1) / (output size - 1). bilinear and trilinear do the same along two and three axes, one after the other.
Coordinates and weights are exact fractions here, and rounded in libraries: see `rounding_terms`.
"""

import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from numbers import Real
from typing import Any

from cnnspec import nested
from cnnspec.errors import ArgumentError, ShapeError
from cnnspec.nested import Array, Shape
from cnnspec.op import Operator, each, integer, without_defaults
from cnnspec.ops.resampling import HALF, Taps, gathered, pixels, transposed
from cnnspec.ops.upsample_laws import DIALECTS, LAWS
from cnnspec.rounding import RoundingTerms
from cnnspec.scalars import divide
from cnnspec.spec import Pick, Spec

LINEAR = {"linear": 1, "bilinear": 2, "trilinear": 3}
"""The linear modes and their numbers of axes."""


@dataclass(frozen=True)
class Upsample(Operator):
    """Resample the spatial axes to `size`, or by `scale_factor`, as `torch.nn.Upsample`.

    nearest: y[p] = x[floor(p s)];   linear: y[p] = (1 - t) x[i] + t x[i + 1], i + t = (p + 1/2) s - 1/2, or p s with
    align_corners; at the border the last pixel stands for what lies behind it.
    Input (N, C, L), (N, C, H, W) or (N, C, D, H, W); output sizes are `size`, or floor(size * scale_factor).
    As in torch, a scale_factor is used for the coordinates as it is given (recompute_scale_factor=None).
    Raises ArgumentError for what are no numbers, ShapeError where torch refuses the call.
    Not covered: the modes area, bicubic, lanczos and nearest-exact; antialias and recompute_scale_factor. Where a
    scale_factor other than 1 leaves the size as it is, or one other than 2 doubles it, torch copies pixels instead,
    in some modes in the gradient alone. Its nearest takes the pixel before where p s, rounded, falls below an integer:
    in float32 as from 26 pixels to 22.
    Source: torch's documentation of torch.nn.functional.interpolate.

    >>> Upsample(scale_factor=2).reference([[[1, 5]]])
    [[[1, 1, 5, 5]]]
    >>> Upsample(scale_factor=2, mode="linear").reference([[[1, 5]]])
    [[[1, 2, 4, 5]]]
    >>> Upsample(size=3, mode="linear", align_corners=True).reference([[[1, 5]]])
    [[[1, 3, 5]]]
    """

    size: int | tuple[int, ...] | None = None
    scale_factor: float | tuple[float, ...] | None = None
    mode: str = "nearest"
    align_corners: bool | None = None

    def __post_init__(self) -> None:
        if self.size is not None:
            self.normalise(("size",), lambda name, value: each(integer, name, value))
        if isinstance(self.scale_factor, list):
            raise ArgumentError(f"scale_factor={self.scale_factor} must be a number or a tuple of numbers")
        if self.scale_factor == 0:  # as in torch, 0 is none
            object.__setattr__(self, "scale_factor", None)
        if self.scale_factor is not None:
            self.normalise(("scale_factor",), lambda name, value: each(_number, name, value))

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return (N, C, *sizes); ShapeError where torch refuses the call.

        >>> Upsample(scale_factor=(2, 0.5)).output_shape((1, 3, 5, 7))
        (1, 3, 10, 3)
        """
        (shape,) = input_shapes
        axes = len(shape) - 2
        if self.mode != "nearest" and self.mode not in LINEAR:
            raise ShapeError(f"mode={self.mode!r} is not one of nearest, {', '.join(LINEAR)}", mode=self.mode)
        if not 1 <= axes <= 3 or axes != LINEAR.get(self.mode, axes):
            wanted = LINEAR.get(self.mode, "1 to 3")
            raise ShapeError(
                f"input of shape {tuple(shape)} must have batch, channels and {wanted} spatial axes in "
                f"mode={self.mode!r}",
                shape=shape,
            )
        if self.mode == "nearest" and self.align_corners is not None:
            raise ShapeError(f"align_corners={self.align_corners} must be None in mode='nearest'")
        if 0 in shape[1:]:
            raise ShapeError(f"input of shape {tuple(shape)} is empty: only the batch may be", shape=shape)
        sizes = self._output_sizes(shape[2:])
        if min(sizes) < 1:
            raise ShapeError(f"spatial axes {tuple(shape[2:])} would give {sizes}: each must be at least 1")
        return (*shape[:2], *sizes)

    def _output_sizes(self, sizes: Shape) -> Shape:
        if (self.size is None) == (self.scale_factor is None):
            raise ShapeError("one of size and scale_factor must be given, and not both")
        name = "size" if self.scale_factor is None else "scale_factor"
        values = self._per_axis(name, len(sizes))
        return values if name == "size" else tuple(map(_scaled, sizes, values))

    def _per_axis(self, name: str, axes: int) -> tuple[Any, ...]:
        given = getattr(self, name)
        values = given if isinstance(given, tuple) else (given,) * axes
        if len(values) != axes:
            raise ShapeError(f"{name}={given} must have {axes} numbers, one for each spatial axis")
        return values

    # Coordinates

    def scales(self, sizes: Shape) -> list[tuple[int, int, Fraction]]:
        """Return, per axis, the input size, the output size, and s."""
        axes = list(zip(sizes, self._output_sizes(sizes), strict=True))
        if self.align_corners:
            return [(n, m, Fraction(n - 1, max(1, m - 1))) for n, m in axes]
        if self.scale_factor is None:
            return [(n, m, Fraction(n, m)) for n, m in axes]
        factors = self._per_axis("scale_factor", len(sizes))
        return [(n, m, 1 / Fraction(factor)) for (n, m), factor in zip(axes, factors, strict=True)]

    def _coordinate(self, p: int, s: Fraction) -> Fraction:
        if self.mode == "nearest" or self.align_corners:
            return p * s
        return max(Fraction(0), (p + HALF) * s - HALF)

    def taps(self, sizes: Shape) -> Taps:
        """Return, per axis and output position, the pixels that it is made of, each with its weight.

        >>> Upsample(size=3, mode="linear").taps((2,))
        [[[(0, Fraction(1, 1))], [(0, Fraction(1, 2)), (1, Fraction(1, 2))], [(1, Fraction(1, 1))]]]
        """
        axes = self.scales(sizes)
        return [[pixels(self._coordinate(p, s), n, self.mode) for p in range(m)] for n, m, s in axes]

    # Loop

    def reference(self, *arrays: Array) -> Array:
        """Return the resampled input, one axis after the other."""
        (input,) = arrays
        self.output_shape(nested.shape_of(input))
        return gathered(input, self.taps(nested.shape_of(input)[2:]))

    def gradients(self, grad_output: Array, *operands: Array) -> list[Array | None]:
        """Return dx[..., i] = sum of w dy[..., p] over the outputs p that i is part of, with weight w.

        >>> Upsample(scale_factor=2, mode="linear").gradients([[[4, 8, 16, 32]]], [[[1, 5]]])
        [[[[14, 46]]]]
        """
        sizes = nested.shape_of(operands[0])[2:]
        return [gathered(grad_output, transposed(self.taps(sizes), sizes))]

    # Rounding

    def rounding_terms(self, *arrays: Array) -> RoundingTerms:
        """Return the bound of weights that are computed from rounded coordinates, and of the sums of their products.

        The coordinate c carries the roundings of s (two for the reciprocal of a factor), of p s and of the
        subtraction: at most (4 c + 2) u. So do both weights, as c - floor(c) is exact; they are kept in the output's
        format, which puts each off by another u_out. Where c is so near to an integer that the rounded one may lie
        on its other side, the pixel there has such a weight instead of 0. Such errors of several axes meet in up to
        2^axes products, where u is at most 2^-24. A term has a factor per axis and one more. Where s is a fraction of a
        small power of two, coordinates and weights are exact. Nothing is promised where infinities or NaN may be read,
        but NaN for NaN: a weight of 0 makes NaN of them.
        """
        return self._terms(arrays[0], nested.shape_of(arrays[0])[2:], lambda taps: taps)

    def gradient_terms(self, grad_output: Array, *operands: Array) -> list[RoundingTerms | None]:
        """Return the bound of the sums of weighted g: as `rounding_terms`, with inputs and outputs exchanged."""
        sizes = nested.shape_of(operands[0])[2:]
        return [self._terms(grad_output, sizes, lambda taps: transposed(taps, sizes))]

    def _terms(self, array: Array, sizes: Shape, turned: Callable[[Taps], Taps]) -> RoundingTerms:
        """Return the bound of what the taps, or the transposed ones, make of an array."""

        def sums(function: Callable[[Any], Any], taps: Taps) -> list[Any]:
            return nested.ravel(gathered(nested.elementwise(function, array), turned(taps)))

        taps = self.taps(sizes)
        if self.mode == "nearest":
            return RoundingTerms(sums(abs, taps), [max(0, n - 1) for n in sums(lambda v: 1, taps)])
        once, often = (self._read(sizes, weight) for weight in (lambda c: 1, lambda c: 4 * c + 2))
        size = sums(_finite, taps)
        rounded = [axis for axis, (_, _, s) in enumerate(self.scales(sizes)) if 2**7 % s.denominator]
        off, kept = (
            [sum(errors) for errors in zip([0] * len(size), *columns, strict=True)]
            for columns in (
                [sums(_finite, [*taps[:a], read[a], *taps[a + 1 :]]) for a in rounded]
                for read in (often, once)
            )
        )
        second = sums(_finite, often) if rounded else [0] * len(size)
        magnitude = [max(a, b) + divide(c, 2**21) for a, b, c in zip(size, kept, second, strict=True)]
        shares = [divide(u, v) if v > 0 else 0 for u, v in zip(off, magnitude, strict=True)]
        counts = sums(lambda v: 1, once)
        wild = sums(lambda v: 0 if abs(v) < math.inf else 1, once)
        return RoundingTerms(
            magnitude,
            [n + len(sizes) + share for n, share in zip(counts, shares, strict=True)],
            stored=1 if rounded else 0,
            reach=[2**1100 if one else 0 for one in wild],
        )

    def _read(self, sizes: Shape, weight: Callable[[Fraction], Any]) -> Taps:
        """Return the pixels that may be read where coordinates are rounded, each with weight(c); the last one twice."""
        taps: Taps = []
        for n, m, s in self.scales(sizes):
            taps.append([])
            for c in (self._coordinate(p, s) for p in range(m)):
                near = (4 * c + 2) / 2**20
                indices = range(max(0, math.floor(c - near)), math.floor(c + near) + 2)
                taps[-1].append([(min(i, n - 1), Fraction(weight(c))) for i in indices])
        return taps


def _finite(value: Any) -> Any:
    return abs(value) if abs(value) < math.inf else 0


def _scaled(size: int, factor: float) -> int:
    """Return floor(size * factor), the product rounded to float32 as in torch; 0 where it is no size."""
    product = size * factor
    return int(struct.unpack("f", struct.pack("f", product))[0]) if abs(product) < 2**31 else 0


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ArgumentError(f"{name}={value!r} must be a number", **{name: value})
    return float(value)


# Domain

FACTORS = (2.0, 3.0, 0.5, 1.5, 2.5, 1.0, 0.75, 1.25)


def domain(pick: Pick) -> tuple[Mapping[str, Any], tuple[Shape, ...]]:
    """Draw every axis with its own size or factor, larger and smaller than before."""
    mode = pick.choice(("nearest", "bilinear", "linear", "trilinear"))
    axes = LINEAR.get(mode) or pick.integer(1, 3)
    sizes = [pick.integer(1, 4 if axes == 3 else 7) for _ in range(axes)]
    name = pick.choice(("size", "scale_factor"))
    values: list[float] = [pick.integer(1, 6 if axes == 3 else 12) for _ in range(axes)]
    if name == "scale_factor":
        values = [pick.choice([f for f in FACTORS if _is_covered(n, f)]) for n in sizes]
    same = len(set(values)) == 1 and pick.choice((True, False))
    arguments: dict[str, Any] = {name: values[0] if same else tuple(values), "mode": mode}
    if mode != "nearest":
        arguments["align_corners"] = pick.choice((None, True, False))
    batch, channels = pick.choice((1, 2, 3, 0)), pick.choice((1, 2, 3, 4, 5, 8, 9, 17, 33))
    cells = max(math.prod(sizes), math.prod(Upsample(**arguments)._output_sizes(tuple(sizes))))
    while channels > 1 and max(1, batch) * channels * cells > 1200:
        channels //= 2
    return without_defaults(Upsample, arguments), ((batch, channels, *sizes),)


def _is_covered(size: int, factor: float) -> bool:
    output = _scaled(size, factor)
    return output > 0 and (output != size or factor == 1) and (output != 2 * size or factor == 2)


SPECS = (
    Spec(
        name="interpolate",
        operator=Upsample,
        operands=("input",),
        keywords=("size", "scale_factor", "mode", "align_corners"),
        domain=domain,
        laws=LAWS,
        judged="function",
        layer="Upsample",
        dialects=DIALECTS,
    ),
)
