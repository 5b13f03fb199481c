"""Pooling of one, two and three dimensions: the maximum or the mean of each window of each channel.

    max: y[n, c, p] = max_k x[n, c, p * stride - padding + k * dilation]        over the taps inside the input
    avg: y[n, c, p] = sum_k x[n, c, p * stride - padding + k] / divisor(p)

n batch, c channel, p output position (one index per spatial axis), k window element. Padding adds no tap:
it is -infinity to the maximum and zero to the sum. In a maximum the first of equal elements wins and NaN
beats every number. divisor(p) is `divisor_override`, or the part of the window that lies on the input and
its padding (`count_include_pad`), or on the input alone; never what hangs over behind the padding.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cnnspec import laws, nested, window
from cnnspec.errors import ArgumentError, ShapeError
from cnnspec.nested import Array, Shape
from cnnspec.op import Call, Law, Pick, RoundingTerms, Spec, Windowed, integer, spell, without_defaults
from cnnspec.ops import corr
from cnnspec.scalars import divide, is_nan
from cnnspec.window import Window

pool2d = corr.pool2d  # the textbook's, where a reader looks for it


class _Pool(Windowed):
    """What maximum and mean share: windows and shapes."""

    kernel_size: int | tuple[int, ...]
    stride: int | tuple[int, ...] | None
    padding: int | tuple[int, ...]
    ceil_mode: bool

    def __post_init__(self) -> None:
        if self.stride in (None, (), []):
            object.__setattr__(self, "stride", self.kernel_size)
        self.normalise(("kernel_size", "stride", "padding"), self.integers)

    @property
    def windows(self) -> tuple[Window, ...]:
        """The sliding window of each spatial axis."""
        axes = [self.axes(name) for name in ("kernel_size", "stride", "padding")]
        return tuple(
            Window(kernel, stride, padding, padding, dilation, self.ceil_mode)
            for kernel, stride, padding, dilation in zip(*axes, self._dilation, strict=True)
        )

    @property
    def _dilation(self) -> tuple[int, ...]:
        return (1,) * self.spatial

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return (N, C, *spatial), or (C, *spatial) unbatched; ShapeError where torch refuses the call."""
        (input_shape,) = input_shapes
        batch, channels, sizes = self.split(input_shape)
        if channels < 1:
            raise ShapeError(f"input of shape {tuple(input_shape)} has no channels", shape=input_shape)
        for axis in self.windows:
            if not 0 <= axis.before <= axis.kernel // 2:
                raise ShapeError(
                    f"padding={axis.before} must be between 0 and half of kernel_size={axis.kernel}",
                    padding=self.padding,
                )
        window.check_fits(self.windows, sizes)
        return (*batch, channels, *window.output_sizes(self.windows, sizes))

    def _planes(self, input: Array) -> tuple[list[Any], Shape]:
        """Return the channels of all images, each one flat row, and the spatial sizes."""
        shape = nested.shape_of(input)
        self.output_shape(shape)
        planes = nested.collapse(input, len(shape) - self.spatial)
        for _ in range(len(shape) - self.spatial - 1):
            planes = [plane for image in planes for plane in image]
        return planes, shape[-self.spatial :]


@dataclass(frozen=True)
class _MaxPool(_Pool):
    kernel_size: int | tuple[int, ...]
    stride: int | tuple[int, ...] | None = None
    padding: int | tuple[int, ...] = 0
    dilation: int | tuple[int, ...] = 1
    return_indices: bool = False
    ceil_mode: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.normalise(("dilation",), self.integers)

    @property
    def _dilation(self) -> tuple[int, ...]:
        return self.axes("dilation")

    def reference(self, *arrays: Array) -> Array:
        """Return the maxima, or (maxima, indices) with `return_indices`: flat in the channel's spatial axes.

        Of equal elements, +0 and -0 too, the first wins; of several NaN the last. A window without a tap,
        which dilation in ceil mode allows, gives (-infinity, -1).

        >>> MaxPool1d(2, return_indices=True).reference([[3, 1, 4, 4]])
        ([[3, 4]], [[0, 2]])
        """
        (input,) = arrays
        planes, sizes = self._planes(input)
        positions = list(window.taps(self.windows, sizes))
        maxima, indices = [], []
        for plane in planes:
            for taps in positions:
                best, index = -math.inf, -1
                for _, i in taps:
                    if index < 0 or plane[i] > best or is_nan(plane[i]):
                        best, index = plane[i], i
                maxima.append(best)
                indices.append(index)
        shape = self.output_shape(nested.shape_of(input))
        values = nested.unravel(maxima, shape)
        return (values, nested.unravel(indices, shape)) if self.return_indices else values


@dataclass(frozen=True)
class _AvgPool(_Pool):
    kernel_size: int | tuple[int, ...]
    stride: int | tuple[int, ...] | None = None
    padding: int | tuple[int, ...] = 0
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor_override: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.divisor_override is not None:
            self.normalise(("divisor_override",), integer)
            if self.spatial == 1:
                raise ArgumentError("divisor_override is not an argument of AvgPool1d")

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return (N, C, *spatial), or (C, *spatial) unbatched; ShapeError where torch refuses the call."""
        if self.divisor_override == 0:
            raise ShapeError("divisor_override=0 must not be zero", divisor_override=0)
        shape = super().output_shape(*input_shapes)
        for size, least in zip(input_shapes[0][-self.spatial :], self.least_sizes(), strict=True):
            if size < least:
                raise ShapeError(f"avg_pool3d wants an axis of at least its kernel, {least}, not {size}")
        return shape

    def least_sizes(self) -> tuple[int, ...]:
        """Return 1, but the kernel for avg_pool3d: in torch it, alone, must fit into the input unpadded."""
        return self.axes("kernel_size") if self.spatial == 3 else super().least_sizes()

    def reference(self, *arrays: Array) -> Array:
        """Return the means, exactly on integers and fractions.

        >>> AvgPool1d(2, ceil_mode=True).reference([[1, 2, 6]])
        [[Fraction(3, 2), 6]]
        """
        (input,) = arrays
        sums, divisors = self.window_sums(input), self.divisors(nested.shape_of(input))
        values = [divide(total, divisor) for total, divisor in zip(nested.ravel(sums), divisors, strict=True)]
        return nested.unravel(values, nested.shape_of(sums))

    def window_sums(self, input: Array) -> Array:
        """Return the sum of each window, not divided."""
        planes, sizes = self._planes(input)
        positions = list(window.taps(self.windows, sizes))
        sums = []
        for plane in planes:
            for taps in positions:
                total = 0
                for _, i in taps:
                    total = total + plane[i]
                sums.append(total)
        return nested.unravel(sums, self.output_shape(nested.shape_of(input)))

    def divisors(self, input_shape: Shape) -> list[int]:
        """Return what each sum is divided by, in row-major order."""
        shape, sizes = self.output_shape(input_shape), input_shape[-self.spatial :]
        divisors = [self._divisor(position, sizes) for position in window.positions(self.windows, sizes)]
        return divisors * math.prod(shape[: -self.spatial])

    def _divisor(self, position: tuple[int, ...], sizes: Shape) -> int:
        if self.divisor_override is not None:
            return self.divisor_override
        axes = list(zip(self.windows, position, sizes, strict=True))
        if self.count_include_pad:
            return math.prod(axis.extent(p, size) for axis, p, size in axes)
        return math.prod(len(axis.taps(p, size)) for axis, p, size in axes)

    def rounding_terms(self, *arrays: Array) -> RoundingTerms:
        """Return S = sum |x| before the division and the roundings of a sum and a division.

        Of m terms that are not zero, m - 1 additions round and the division does.
        """
        (input,) = arrays
        magnitude = self.window_sums(nested.elementwise(abs, input))
        count = self.window_sums(nested.elementwise(lambda value: int(value != 0), input))
        divisors = [abs(divisor) for divisor in self.divisors(nested.shape_of(input))]
        return RoundingTerms(nested.ravel(magnitude), nested.ravel(count), divisors=divisors)


class MaxPool1d(_MaxPool):
    """Maximum over windows of one spatial axis; see `MaxPool2d`."""

    spatial = 1


class MaxPool2d(_MaxPool):
    """Maximum over windows of two spatial axes, as `torch.nn.MaxPool2d`; stride is the kernel unless given.

    y[n, c, p] = max_k x[n, c, p * stride - padding + k * dilation], over the taps inside the input.
    Input (N, C, H, W) or (C, H, W). Padding must be at most half the kernel.
    Raises ArgumentError for what are no integers, ShapeError where torch refuses the call.
    Source: Dumoulin & Visin 2016, relationship 7; torch's documentation for padding and ceil_mode.

    >>> MaxPool2d(2, stride=1).reference([[[0, 1, 2], [3, 4, 5], [6, 7, 8]]])
    [[[4, 5], [7, 8]]]
    """

    spatial = 2


class MaxPool3d(_MaxPool):
    """Maximum over windows of three spatial axes; see `MaxPool2d`."""

    spatial = 3


class AvgPool1d(_AvgPool):
    """Mean over windows of one spatial axis; see `AvgPool2d`. It has no `divisor_override` in torch."""

    spatial = 1


class AvgPool2d(_AvgPool):
    """Mean over windows of two spatial axes, as `torch.nn.AvgPool2d`; stride is the kernel unless given.

    y[n, c, p] = sum_k x[n, c, p * stride - padding + k] / divisor(p)
    Input (N, C, H, W) or (C, H, W). Padding must be at most half the kernel.
    Raises ArgumentError for what are no integers, ShapeError where torch refuses the call.
    Source: torch's documentation; the divisor of an overhanging window is what ONNX and torch agree on.

    >>> AvgPool2d(2).output_shape((1, 3, 7, 8))
    (1, 3, 3, 4)
    """

    spatial = 2


class AvgPool3d(_AvgPool):
    """Mean over windows of three spatial axes; see `AvgPool2d`."""

    spatial = 3


# Domain


def domain(operator: type[_Pool]) -> Any:
    """Return the domain of a pooling: every axis with its own window, overhanging ones included."""
    spatial, maximum = operator.spatial, issubclass(operator, _MaxPool)

    def draw(pick: Pick) -> tuple[Mapping[str, Any], tuple[Shape, ...]]:
        kernel = [pick.integer(1, 3 if spatial == 3 else 4) for _ in range(spatial)]
        stride = None if pick.choice((False, False, True)) else [pick.integer(1, 5) for _ in range(spatial)]
        arguments: dict[str, Any] = {
            "kernel_size": spell(pick, kernel),
            "stride": stride and spell(pick, stride),
            "padding": spell(pick, [pick.integer(0, k // 2) for k in kernel]),
            "ceil_mode": pick.choice((False, True, True)),
        }
        if maximum:
            dilation = [pick.integer(1, 3) if pick.choice((False, True)) else 1 for _ in range(spatial)]
            arguments |= {"dilation": spell(pick, dilation), "return_indices": pick.choice((False, True))}
        else:
            arguments["count_include_pad"] = pick.choice((True, True, False))
            if spatial > 1 and pick.choice((False, False, False, False, True)):
                arguments["divisor_override"] = pick.choice((1, 2, 3, 7))
        op = operator(**arguments)
        sizes = [
            _smallest_size(*axis) + pick.integer(0, 7)
            for axis in zip(op.windows, op.least_sizes(), strict=True)
        ]
        batch: Shape = pick.choice(((1,), (2,), (), (3,), (0,)))
        channels = pick.choice((1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33))
        while channels > 1 and math.prod((*batch, channels, *sizes)) > 1500:
            channels //= 2
        return without_defaults(operator, arguments), ((*batch, channels, *sizes),)

    return draw


def _smallest_size(axis: Window, least: int) -> int:
    """Return the smallest legal size of an axis (in ceil mode a window may be larger than the input)."""
    return next(size for size in range(least, axis.span + 1) if axis.output_size(size) >= 1)


# Laws


def _every_window_has_a_tap(op: _Pool, shapes: tuple[Shape, ...]) -> bool:
    return all(window.taps(op.windows, shapes[0][-op.spatial :]))


def _max_is_minus_min(op: _MaxPool, call: Call, x: Array) -> tuple[Array, Array]:
    """The minimum of -x, tap by tap, is minus the maximum of x."""
    planes, sizes = op._planes(nested.elementwise(lambda value: -value, x))
    taps = list(window.taps(op.windows, sizes))
    minima = [-min(plane[i] for _, i in one) for plane in planes for one in taps]
    return call(op, x), nested.unravel(minima, op.output_shape(nested.shape_of(x)))


def _indices_point_at_maxima(op: _MaxPool, call: Call, x: Array) -> tuple[Array, Array]:
    maxima, indices = call(op, x)
    shape = nested.shape_of(maxima)
    planes, _ = op._planes(x)
    per_plane = math.prod(shape[-op.spatial :])
    pointed = [
        planes[p // per_plane][int(i)] if 0 <= i < len(planes[0]) else math.nan
        for p, i in enumerate(nested.ravel(indices))
    ]
    return maxima, nested.unravel(pointed, shape)


def _average_is_sum_over_divisor(op: _AvgPool, call: Call, x: Array) -> tuple[Array, Array]:
    """On multiples of all divisors, the mean times the divisor is the sum that divisor 1 gives."""
    divisors = op.divisors(nested.shape_of(x))
    x = nested.elementwise(lambda value: value * math.lcm(*divisors), x)
    means = call(op, x)
    total = [value * divisor for value, divisor in zip(nested.ravel(means), divisors, strict=True)]
    return nested.unravel(total, nested.shape_of(means)), call(laws.replaced(op, divisor_override=1), x)


def _divisors_are_small(op: _AvgPool, shapes: tuple[Shape, ...]) -> bool:
    """16-bit floats hold the scaled sums only while the common multiple of the divisors is small."""
    return math.lcm(*op.divisors(shapes[0])) <= 4


MAX_LAWS = (
    laws.BATCH,
    laws.CHANNELS,
    laws.STRIDE,
    laws.SHIFT,
    laws.padding_is_explicit(
        "padding = the maximum of the input padded with its smallest element",
        lambda x: min(nested.ravel(x)),
        _every_window_has_a_tap,
    ),
    Law(
        "minimum",
        "max(x) = -min(-x)",
        lambda op, shapes: not op.return_indices and _every_window_has_a_tap(op, shapes),
        _max_is_minus_min,
    ),
    Law(
        "indices",
        "x[indices] = max",
        lambda op, shapes: op.return_indices and _every_window_has_a_tap(op, shapes),
        _indices_point_at_maxima,
    ),
)
AVG_LAWS = (
    laws.BATCH,
    laws.CHANNELS,
    laws.STRIDE,
    laws.SHIFT,
    laws.padding_is_explicit(
        "padding = the mean of the input padded with zeros",
        lambda x: 0,
        lambda op, shapes: op.count_include_pad or op.divisor_override is not None,
    ),
    Law("divisor", "mean * divisor = sum", _divisors_are_small, _average_is_sum_over_divisor),
)


def _spec(operator: type[_Pool]) -> Spec:
    maximum = issubclass(operator, _MaxPool)
    name = operator.__name__
    keywords = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    means = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
    return Spec(
        name=f"{name[:3].lower()}_pool{name[-2:]}",
        operator=operator,
        operands=("input",),
        keywords=keywords if maximum else means[: 5 if operator.spatial == 1 else 6],
        domain=domain(operator),
        laws=MAX_LAWS if maximum else AVG_LAWS if operator.spatial > 1 else AVG_LAWS[:-1],
        judged="copy" if maximum else "sum",
        dtypes=("float32", "float64", "bfloat16", "float16", "int64") if maximum else Spec.dtypes,
        layer=name,
    )


SPECS = tuple(
    _spec(operator) for operator in (MaxPool1d, MaxPool2d, MaxPool3d, AvgPool1d, AvgPool2d, AvgPool3d)
)
