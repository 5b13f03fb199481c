"""Fractional max pooling: the maximum of windows that lie as random samples say, at steps that differ by one.

    y[n, c, p] = max_k x[n, c, start(p) + k]        k = 0 .. K - 1 on each axis
    start(p) = floor((p + u) a) - floor(u a),   a = (L - K) / (O - 1);   a single window starts at L - K

n batch, c channel, p output position, L elements of an axis that become O, K its kernel, and u the sample of the
image, channel and axis. This is exact here. Libraries compute (p + u) a in the type of the input before they cut it
to an integer, so a sample decides the windows only where no (p + u) a comes so near to an integer, from below or
above, that rounding may carry it across: `fill` draws such samples, and nothing is said of others.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from numbers import Real
from typing import Any

from cnnspec import laws, nested
from cnnspec.errors import ArgumentError, ShapeError
from cnnspec.nested import Array, Shape
from cnnspec.op import Windowed, without_defaults
from cnnspec.ops import pool, pool_laws
from cnnspec.ops.pooling import Maximum, Regions, boxes, draw_shape, largest, planes
from cnnspec.spec import Call, Law, Pick, Spec, spell
from cnnspec.window import Window


@dataclass(frozen=True)
class _FractionalMaxPool(Windowed, Maximum):
    kernel_size: int | tuple[int, ...]
    output_size: int | tuple[int, ...] | None = None
    output_ratio: float | tuple[float, ...] | None = None
    return_indices: bool = False

    def __post_init__(self) -> None:
        self.normalise(("kernel_size",), self.integers)
        if (self.output_size is None) == (self.output_ratio is None):
            raise ArgumentError("one of output_size and output_ratio must be given, and not both")
        if self.output_size is not None:
            self.normalise(("output_size",), self.integers)
        else:
            self.normalise(("output_ratio",), self._ratios)

    def _ratios(self, name: str, value: Any) -> tuple[float, ...]:
        values = tuple(value) if isinstance(value, list | tuple) else (value,) * self.spatial
        if any(isinstance(one, bool) or not isinstance(one, Real) for one in values):
            raise ArgumentError(f"{name}={value!r} must be a number or a tuple of numbers", **{name: value})
        if len(values) < self.spatial or not all(0 < one < 1 for one in values[: self.spatial]):
            raise ArgumentError(
                f"{name}={value} must be between 0 and 1 for {self.spatial} axes", **{name: value}
            )
        return tuple(map(float, values))

    @property
    def windows(self) -> tuple[Window, ...]:
        """None: where they lie follows from the samples."""
        return ()

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return (N, C, *output_size), or (C, *output_size) unbatched; ShapeError where torch refuses the call.

        An output_ratio gives floor(L * ratio) on each axis.

        >>> FractionalMaxPool2d(3, output_ratio=0.5).output_shape((20, 16, 50, 32), (20, 16, 2))
        (20, 16, 25, 16)
        """
        input_shape, samples = input_shapes
        batch, channels, sizes = self.split(input_shape)
        if 0 in input_shape[1:]:
            raise ShapeError(f"input of shape {tuple(input_shape)} has an empty axis: only the first may be")
        for size, kernel, output in zip(sizes, self._kernel, self._outputs(sizes), strict=True):
            if kernel < 1 or output < 0:
                raise ShapeError(f"a kernel of {kernel} and an output of {output} must not be negative")
            if output + kernel - 1 > size - self._spare:
                raise ShapeError(
                    f"an axis of {size} must have at least output + kernel - 1 + {self._spare} = "
                    f"{output + kernel - 1 + self._spare} elements"
                )
        wanted = (*(batch or (1,)), channels, self.spatial)
        if len(samples) != 3 or samples[0] < wanted[0] or tuple(samples[1:]) != wanted[1:]:
            raise ShapeError(f"_random_samples of shape {tuple(samples)} must be {wanted}", shape=samples)
        return (*batch, channels, *self._outputs(sizes))

    @property
    def _kernel(self) -> tuple[int, ...]:
        return self.axes("kernel_size", broadcast=False)

    @property
    def _spare(self) -> int:
        """How many elements more than output + kernel - 1 an axis must have."""
        return 0

    def _outputs(self, sizes: Shape) -> Shape:
        if self.output_size is not None:
            return self.axes("output_size", broadcast=False)
        ratios: tuple[float, ...] = self.axes("output_ratio", broadcast=False)
        return tuple(int(size * ratio) for size, ratio in zip(sizes, ratios, strict=True))

    def plane_regions(self, *operands: Array) -> list[Regions]:
        """Return the regions of each channel of each image, by its samples.

        >>> FractionalMaxPool2d((1, 2), (1, 3)).plane_regions([[[0] * 6]], [[[0.5, 0]]])
        [[[0, 1], [2, 3], [4, 5]]]
        >>> FractionalMaxPool2d(1, (1, 3)).plane_regions([[[0] * 6]], [[[0.25, 0]]])
        [[[0], [3], [5]]]
        """
        input, samples = operands
        sizes = nested.shape_of(input)[-self.spatial :]
        axes = list(zip(sizes, self._kernel, self._outputs(sizes), strict=True))
        rows = planes(samples, 1)[: math.prod(nested.shape_of(input)[: -self.spatial])]
        return [
            boxes(
                [
                    [range(start, start + axis[1]) for start in starts(u, *axis)]
                    for u, axis in zip(self.by_axis(row), axes, strict=True)
                ],
                sizes,
            )
            for row in rows
        ]

    def by_axis(self, samples: Sequence[Any]) -> Sequence[Any]:
        """Return a channel's samples in the order of the axes."""
        return samples


def starts(u: Any, size: int, kernel: int, outputs: int) -> list[int]:
    """Return where the windows of an axis start.

    >>> starts(0.5, 7, 2, 4), starts(0, 7, 2, 4), starts(0, 7, 2, 1)
    ([0, 2, 4, 5], [0, 1, 3, 5], [5])
    """
    u, step = Fraction(u), _step(size, kernel, outputs)
    inner = [math.floor((p + u) * step) - math.floor(u * step) for p in range(outputs - 1)]
    return [*inner, size - kernel][: max(0, outputs)]


def _step(size: int, kernel: int, outputs: int) -> Fraction:
    return Fraction(size - kernel, max(1, outputs - 1))


class FractionalMaxPool2d(_FractionalMaxPool):
    """Fractional max pooling of two spatial axes by given samples, as `torch.nn.FractionalMaxPool2d`.

    y[n, c, p] = max_k x[n, c, start(p) + k], start(p) = floor((p + u) a) - floor(u a), a = (L - K) / (O - 1)
    Input (N, C, H, W) or (C, H, W); _random_samples (N, C, 2), or (1, C, 2) unbatched, in [0, 1): the width's first,
    then the height's, as torch has them. The first of equal maxima wins, the last NaN.
    Raises ArgumentError for what are no numbers, both or none of output_size and output_ratio, and ratios outside
    (0, 1); ShapeError where torch refuses the call.
    Not covered: samples that torch draws itself, and those that rounding carries across an integer (see the module);
    kernels below 1, with which torch returns -infinity; a bare output_ratio, which torch's function refuses and its
    layer takes, and output_ratio beside output_size, which the layer refuses and the function forgets.
    Source: B. Graham, "Fractional max-pooling", 2014, section 2; torch's documentation; its `generate_intervals`.

    >>> FractionalMaxPool2d(1, (1, 3)).reference([[[1, 9, 2, 8, 3, 4]]], [[[0.25, 0]]])
    [[[1, 8, 4]]]
    """

    spatial = 2

    def by_axis(self, samples: Sequence[Any]) -> Sequence[Any]:
        """Return a channel's samples in the order of the axes: torch has the width's first."""
        return samples[::-1]


class FractionalMaxPool3d(_FractionalMaxPool):
    """Fractional max pooling of three spatial axes; see `FractionalMaxPool2d`.

    Samples (N, C, 3) come in the order depth, height, width. In torch an axis must have one element more than
    output + kernel - 1, which its documentation allows; kernels below 1 are refused at once.

    >>> FractionalMaxPool3d(1, (1, 1, 3)).reference([[[[1, 9, 2, 8, 3, 4]] * 2] * 2], [[[0, 0, 0.25]]])
    [[[[1, 8, 4]]]]
    """

    spatial = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.kernel_size, tuple) and any(size < 1 for size in self.kernel_size):
            raise ArgumentError(f"kernel_size={self.kernel_size} must be at least 1", kernel=self.kernel_size)

    @property
    def _spare(self) -> int:
        return 1


# Domain


def domain(operator: type[_FractionalMaxPool]) -> Any:
    """Return the domain: steps that are whole and that are not, windows that overlap, touch or leave gaps."""
    spatial, spare = operator.spatial, operator.spatial - 2

    def draw(pick: Pick) -> tuple[Mapping[str, Any], tuple[Shape, ...]]:
        kernel = [pick.integer(1, 2 if spatial == 3 else 4) for _ in range(spatial)]
        arguments: dict[str, Any] = {"kernel_size": spell(pick, kernel)}
        if pick.choice((True, True, False)):
            outputs = [pick.integer(1, 3 if spatial == 3 else 6) for _ in range(spatial)]
            arguments["output_size"] = spell(pick, outputs)
            sizes = [o + k - 1 + spare + pick.integer(0, 6) for o, k in zip(outputs, kernel, strict=True)]
        else:
            ratios = tuple(pick.choice((0.5, 0.7, 0.3, 0.8)) for _ in range(spatial))
            arguments["output_ratio"] = ratios
            sizes = [
                next(n for n in range(least, 99) if 1 <= int(n * r) <= n - k + 1 - spare)
                for least, r, k in zip((pick.integer(2, 8) for _ in kernel), ratios, kernel, strict=True)
            ]
        arguments["return_indices"] = pick.choice((False, True))
        shape = draw_shape(pick, sizes)
        batch = shape[0] if len(shape) == spatial + 2 else 1
        samples = (batch + pick.choice((0, 0, 0, 1)), shape[-spatial - 1], spatial)
        return without_defaults(operator, arguments), (shape, samples)

    return draw


def fill(op: _FractionalMaxPool, shapes: Mapping[str, Shape], rng: random.Random) -> list[float]:
    """Draw samples in sixteenths for which no rounding of 8 bits moves a window, or the surest one."""
    sizes = shapes["input"][-op.spatial :]
    axes = list(zip(sizes, op._kernel, op._outputs(sizes), strict=True))
    options = [sure_samples(*axis) for axis in op.by_axis(axes)]
    count = math.prod(shapes["_random_samples"][:-1])
    return [float(rng.choice(of)) for _ in range(count) for of in options]


def sure_samples(size: int, kernel: int, outputs: int) -> list[Fraction]:
    """Return the sixteenths u for which every (p + u) a is further from integers than three roundings carry it.

    A whole step and u = 0 are exact. Where there is none, as on long axes, the one that is furthest.

    >>> [n for n in range(16) if Fraction(n, 16) not in sure_samples(9, 2, 4)]  # 7/3 (2 + 1/8) = 5 - 1/24
    [2, 9]
    """
    step, sixteenths = _step(size, kernel, outputs), [Fraction(n, 16) for n in range(16)]
    margins = {u: _margin(u, step, outputs) for u in sixteenths}
    sure = [u for u in sixteenths if margins[u] > 1 or (u == 0 and step.denominator == 1)]
    return sure or [max(sixteenths, key=lambda u: margins[u])]


def _margin(u: Fraction, step: Fraction, outputs: int) -> Fraction:
    """Return the least distance of (p + u) a from an integer, in units of what 8 bits may be off by."""
    products = [(p + u) * step for p in range(outputs - 1)]
    return min((min(q % 1, 1 - q % 1) / (4 * q / 2**8) for q in products if q), default=Fraction(2))


# Laws


def _is_whole(op: _FractionalMaxPool, shapes: tuple[Shape, ...]) -> bool:
    """Say whether every axis has a whole step between its windows."""
    sizes = shapes[0][-op.spatial :]
    axes = list(zip(sizes, op._kernel, op._outputs(sizes), strict=True))
    return laws.one_output(op) and all(o > 1 and not (size - k) % (o - 1) for size, k, o in axes)


def _whole_steps_are_strides(op: _FractionalMaxPool, call: Call, x: Array, samples: Array) -> laws.Sides:
    sizes = nested.shape_of(x)[-op.spatial :]
    axes = zip(sizes, op._kernel, op._outputs(sizes), strict=True)
    strides = tuple(max(1, int(_step(*axis))) for axis in axes)
    plain = (pool.MaxPool2d if op.spatial == 2 else pool.MaxPool3d)(op._kernel, strides)
    return call(op, x, samples), plain.reference(x)


def _last_window_is_at_the_end(op: _FractionalMaxPool, call: Call, x: Array, samples: Array) -> laws.Sides:
    y = call(op, x, samples)
    corner = x
    for axis, kernel in zip(laws.spatial_axes(op, x), op._kernel, strict=True):
        size = nested.shape_of(x)[axis]
        corner = nested.take(corner, axis, range(size - kernel, size))
        y = nested.take(y, axis, [nested.shape_of(y)[axis] - 1])
    return nested.ravel(y), [largest(plane, range(len(plane)))[0] for plane in planes(corner, op.spatial)]


def _channels_are_parts(op: _FractionalMaxPool, call: Call, x: Array, samples: Array) -> laws.Sides:
    axis = laws.spatial_axes(op, x).start - 1
    channels = range(nested.shape_of(x)[axis])
    parts = [call(op, nested.take(x, axis, [c]), nested.take(samples, 1, [c])) for c in channels]
    return call(op, x, samples), nested.concatenate(parts, axis)


LAWS = (
    Law("batch", laws.BATCH.statement, laws.BATCH.applies, laws.pairs_are_singles),
    Law("channels", "each channel is pooled by its own samples", laws.CHANNELS.applies, _channels_are_parts),
    Law(
        "strides",
        "a whole step between windows is the stride of max_pool",
        _is_whole,
        _whole_steps_are_strides,
    ),
    Law(
        "end",
        "the last window lies at the end of each axis",
        lambda op, shapes: laws.one_output(op),
        _last_window_is_at_the_end,
    ),
    replace(pool_laws.MINIMUM, applies=lambda op, shapes: not op.return_indices),
    replace(pool_laws.INDICES, applies=lambda op, shapes: op.return_indices),
)

SPECS = tuple(
    Spec(
        name=f"fractional_max_pool{operator.spatial}d",
        operator=operator,
        operands=("input", "_random_samples"),
        inputs=("input", "_random_samples"),
        keywords=("kernel_size", "output_size", "output_ratio", "return_indices"),
        domain=domain(operator),
        laws=LAWS,
        judged="copy",
        layer=operator.__name__,
        order=("input", "kernel_size"),
        constants=("_random_samples",),
        fill={"_random_samples": fill},
        twice=True,
        dialects=(pool_laws.PASSES_OVER_NAN,),
    )
    for operator in (FractionalMaxPool2d, FractionalMaxPool3d)
)
