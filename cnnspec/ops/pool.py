"""Pooling of one, two and three dimensions: the maximum or the mean of each window of each channel.

    max: y[n, c, p] = max_k x[n, c, p * stride - padding + k * dilation]        over the taps inside the input
    avg: y[n, c, p] = sum_k x[n, c, p * stride - padding + k] / divisor(p)

n batch, c channel, p output position (one index per spatial axis), k window element. Padding adds no tap:
it is -infinity to the maximum and zero to the sum. In a maximum the first of equal elements wins and NaN
beats every number. divisor(p) is `divisor_override`, or the part of the window that lies on the input and
its padding (`count_include_pad`), or on the input alone; never what hangs over behind the padding. The loops,
their gradients and bounds stand in `cnnspec.ops.pooling`, for these windows and those of adaptive pooling.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cnnspec import window
from cnnspec.errors import ArgumentError, ShapeError
from cnnspec.nested import Shape
from cnnspec.op import Windowed, integer, without_defaults
from cnnspec.ops import corr, large, pool_laws
from cnnspec.ops.pooling import Maximum, Mean, Regions, draw_shape
from cnnspec.spec import Pick, Spec, spell
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

    def regions(self, sizes: Shape) -> Regions:
        """Return, for each output position, the input indices of its taps."""
        return [[i for _, i in taps] for taps in window.taps(self.windows, sizes)]

    def spatial_axes(self, input_shape: Shape) -> int:
        """Return how many of the last axes are spatial."""
        return self.spatial


@dataclass(frozen=True)
class _MaxPool(_Pool, Maximum):
    kernel_size: int | tuple[int, ...]
    stride: int | tuple[int, ...] | None = None
    padding: int | tuple[int, ...] = 0
    dilation: int | tuple[int, ...] = 1
    return_indices: bool = False
    ceil_mode: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.normalise(("dilation",), self.integers)

    def differentiable(self, *input_shapes: Shape) -> bool:
        """Say whether every window has a tap: for others torch's backward writes outside its memory."""
        return all(window.taps(self.windows, input_shapes[0][-self.spatial :]))

    @property
    def _dilation(self) -> tuple[int, ...]:
        return self.axes("dilation")


@dataclass(frozen=True)
class _AvgPool(_Pool, Mean):
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


class MaxPool1d(_MaxPool):
    """Maximum over windows of one spatial axis; see `MaxPool2d`.

    >>> MaxPool1d(2, return_indices=True).reference([[3, 1, 4, 4]])
    ([[3, 4]], [[0, 2]])
    >>> MaxPool1d(2).gradients([[10, 1]], [[3, 1, 4, 4]])
    [[[10, 0, 1, 0]]]
    """

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
    """Mean over windows of one spatial axis; see `AvgPool2d`. It has no `divisor_override` in torch.

    >>> AvgPool1d(2, ceil_mode=True).reference([[1, 2, 6]])
    [[Fraction(3, 2), 6]]
    >>> AvgPool1d(2, ceil_mode=True).gradients([[4, 1]], [[1, 2, 6]])
    [[[2, 2, 1]]]
    """

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
        return without_defaults(operator, arguments), (draw_shape(pick, sizes),)

    return draw


def _smallest_size(axis: Window, least: int) -> int:
    """Return the smallest legal size of an axis (in ceil mode a window may be larger than the input)."""
    return next(size for size in range(least, axis.span + 1) if axis.output_size(size) >= 1)


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
        laws=pool_laws.MAX_LAWS if maximum else pool_laws.AVG_LAWS[: None if operator.spatial > 1 else -1],
        judged="copy" if maximum else "sum",
        dtypes=("float32", "float64", "bfloat16", "float16", "int64") if maximum else Spec.dtypes,
        layer=name,
        twice=True,
        dialects=pool_laws.MAX_DIALECTS if maximum else pool_laws.AVG_DIALECTS,
        large=large.pooling(operator),
    )


SPECS = tuple(
    _spec(operator) for operator in (MaxPool1d, MaxPool2d, MaxPool3d, AvgPool1d, AvgPool2d, AvgPool3d)
)
