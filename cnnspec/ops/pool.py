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
from typing import Any, ClassVar

from cnnspec import nested, window
from cnnspec.errors import ArgumentError, ShapeError
from cnnspec.laws import BATCH, CHANNELS
from cnnspec.nested import Array, Nested, Shape
from cnnspec.op import Call, Law, Operator, Pick, RoundingTerms, Spec, check_rank, per_axis, spell
from cnnspec.scalars import divide, is_nan
from cnnspec.window import ReceptiveField, Window


def pool2d(X: Array, pool_size: tuple[int, int], mode: str = "max") -> Array:
    """Return the maximum or the mean ("avg") of every window of X (n_h, n_w), moved by one pixel.

    Source: Zhang, Lipton, Li, Smola, "Dive into Deep Learning", 7.5.1.

    >>> pool2d([[0, 1, 2], [3, 4, 5], [6, 7, 8]], (2, 2))
    [[4, 5], [7, 8]]
    >>> pool2d([[0, 1, 2], [3, 4, 5], [6, 7, 8]], (2, 2), mode="avg")
    [[2, 3], [5, 6]]
    """
    if mode not in ("max", "avg"):
        raise ArgumentError(f"mode={mode!r} must be 'max' or 'avg'", mode=mode)
    X = X.tolist() if hasattr(X, "tolist") else X
    (n_h, n_w), (h, w) = nested.shape_of(X), pool_size
    if not (1 <= h <= n_h and 1 <= w <= n_w):
        raise ShapeError(f"pool_size={pool_size} must fit into X of shape {(n_h, n_w)}", pool_size=pool_size)
    Y = []
    for i in range(n_h - h + 1):
        row = []
        for j in range(n_w - w + 1):
            values = [X[i + a][j + b] for a in range(h) for b in range(w)]
            row.append(max(values) if mode == "max" else divide(sum(values), h * w))
        Y.append(row)
    return Nested(Y, (n_h - h + 1, n_w - w + 1))


class _Pool(Operator):
    """What maximum and mean share: windows, shapes, receptive field."""

    spatial: ClassVar[int]

    kernel_size: int | tuple[int, ...]
    stride: int | tuple[int, ...] | None
    padding: int | tuple[int, ...]
    ceil_mode: bool

    def __post_init__(self) -> None:
        stride = self.kernel_size if self.stride is None else self.stride
        for name, value in (("kernel_size", self.kernel_size), ("stride", stride), ("padding", self.padding)):
            object.__setattr__(self, name, per_axis(name, value, self.spatial))

    @property
    def windows(self) -> tuple[Window, ...]:
        """The sliding window of each spatial axis."""
        axes = [per_axis(name, getattr(self, name), self.spatial) for name in ("kernel_size", "stride", "padding")]
        dilation = per_axis("dilation", getattr(self, "dilation", 1), self.spatial)
        return tuple(
            Window(kernel, stride, padding, padding, step, self.ceil_mode)
            for kernel, stride, padding, step in zip(*axes, dilation, strict=True)
        )

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return (N, C, *spatial), or (C, *spatial) unbatched; ShapeError where torch refuses the call."""
        (input_shape,) = input_shapes
        batch, channels, sizes = check_rank(input_shape, self.spatial)
        for axis in self.windows:
            if axis.before > axis.kernel // 2:
                raise ShapeError(
                    f"padding={axis.before} must be at most half of kernel_size={axis.kernel}", padding=self.padding
                )
        window.check_fits(self.windows, sizes)
        return (*batch, channels, *window.output_sizes(self.windows, sizes))

    def receptive_field(self) -> tuple[ReceptiveField, ...]:
        """Return what one output position sees, per spatial axis."""
        return tuple(axis.receptive_field for axis in self.windows)

    def input_sizes(self, *output_sizes: int) -> tuple[range, ...]:
        """Return, per spatial axis, the input sizes that give the output size."""
        return tuple(axis.input_sizes(size) for axis, size in zip(self.windows, output_sizes, strict=True))

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
        object.__setattr__(self, "dilation", per_axis("dilation", self.dilation, self.spatial))

    def reference(self, *arrays: Array) -> Array:
        """Return the maxima, or (maxima, indices) with `return_indices`: flat in the channel's spatial axes.

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
        if self.spatial == 1 and self.divisor_override is not None:
            raise ArgumentError(f"divisor_override={self.divisor_override} is not an argument of AvgPool1d")

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return (N, C, *spatial), or (C, *spatial) unbatched; ShapeError where torch refuses the call."""
        if self.divisor_override == 0:
            raise ShapeError("divisor_override=0 must not be zero", divisor_override=0)
        if self.spatial == 3:
            self._check_kernel_fits_unpadded(input_shapes[0])
        return super().output_shape(*input_shapes)

    def reference(self, *arrays: Array) -> Array:
        """Return the means, exactly on integers and fractions.

        >>> AvgPool1d(2, ceil_mode=True).reference([[1, 2, 6]])
        [[Fraction(3, 2), 6]]
        """
        (input,) = arrays
        planes, sizes = self._planes(input)
        divisors = [self.divisor(position, sizes) for position in window.positions(self.windows, sizes)]
        sums = self.window_sums(input)
        shape = nested.shape_of(sums)
        values = [divide(total, divisors[i % len(divisors)]) for i, total in enumerate(nested.ravel(sums))]
        return nested.unravel(values, shape)

    def _check_kernel_fits_unpadded(self, shape: Shape) -> None:
        """torch's avg_pool3d, alone of all poolings, wants the kernel within the input without its padding."""
        for axis, (one, size) in enumerate(zip(self.windows, shape[-3:], strict=True)):
            if one.kernel > size:
                raise ShapeError(f"kernel_size={one.kernel} must fit into spatial axis {axis} of size {size}")

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

    def divisor(self, position: tuple[int, ...], sizes: Shape) -> int:
        """Return what the sum at `position` is divided by."""
        if self.divisor_override is not None:
            return self.divisor_override
        axes = list(zip(self.windows, position, sizes, strict=True))
        if self.count_include_pad:
            return math.prod(axis.extent(p, size) for axis, p, size in axes)
        return math.prod(len(axis.taps(p, size)) for axis, p, size in axes)

    def rounding_terms(self, *arrays: Array) -> RoundingTerms:
        """Return S = sum |x| before the division and, of m terms that are not zero, m - 1 additions and one division."""
        (input,) = arrays
        magnitude = nested.ravel(self.window_sums(nested.elementwise(abs, input)))
        count = self.window_sums(nested.elementwise(lambda value: int(value != 0), input))
        _, sizes = self._planes(input)
        divisors = [abs(self.divisor(position, sizes)) for position in window.positions(self.windows, sizes)]
        repeated = [divisors[i % len(divisors)] for i in range(len(magnitude))]
        return RoundingTerms(magnitude, nested.ravel(count), divisors=repeated)


class MaxPool1d(_MaxPool):
    """Maximum over windows of one spatial axis; see `MaxPool2d`."""

    spatial = 1


class MaxPool2d(_MaxPool):
    """Maximum over windows of two spatial axes, as `torch.nn.MaxPool2d`; stride is the kernel unless given.

    y[n, c, p] = max_k x[n, c, p * stride - padding + k * dilation], over the taps inside the input.
    Input (N, C, H, W) or (C, H, W). Padding must be at most half the kernel.
    Source: Dumoulin & Visin 2016, relationship 7, for the shape; torch's documentation for padding and ceil_mode.

    >>> MaxPool2d(3, stride=2, padding=1).reference([[[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15]]])
    [[[5, 7], [13, 15]]]
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
    Source: torch's documentation; the divisor of an overhanging window is what ONNX and torch came to agree on.

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
        most = 3 if spatial == 3 else 4
        kernel = [pick.integer(1, most) for _ in range(spatial)]
        stride = None if pick.choice((False, False, True)) else [pick.integer(1, 5) for _ in range(spatial)]
        padding = [pick.integer(0, k // 2) for k in kernel]
        dilation = [pick.integer(1, 3) if maximum and pick.choice((False, True)) else 1 for _ in range(spatial)]
        ceil = pick.choice((False, True))
        arguments: dict[str, Any] = {"kernel_size": spell(pick, kernel)}
        if stride is not None:
            arguments["stride"] = spell(pick, stride)
        if any(padding):
            arguments["padding"] = spell(pick, padding)
        if ceil:
            arguments["ceil_mode"] = True
        if maximum and set(dilation) != {1}:
            arguments["dilation"] = spell(pick, dilation)
        if maximum and pick.choice((False, True)):
            arguments["return_indices"] = True
        if not maximum and pick.choice((False, True)):
            arguments["count_include_pad"] = False
        if not maximum and spatial > 1 and pick.choice((False, False, True)):
            arguments["divisor_override"] = pick.choice((1, 2, 3, 7))
        sizes = [_size(pick, axis, operator is AvgPool3d) for axis in operator(**arguments).windows]
        batch: Shape = pick.choice(((1,), (2,), (), (3,), (0,)))
        channels = pick.choice((1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33))
        while channels > 1 and math.prod((*batch, channels, *sizes)) > 1500:
            channels //= 2
        return arguments, ((*batch, channels, *sizes),)

    return draw


def _size(pick: Pick, axis: Window, unpadded: bool) -> int:
    """Draw an axis from its smallest legal size up (in ceil mode a window may be larger than the input)."""
    if unpadded:
        return axis.kernel + pick.integer(0, 7)
    smallest = next(size for size in range(1, axis.span + 1) if axis.output_size(size) >= 1)
    return smallest + pick.integer(0, 7)


# Laws


def _values(op: Any, output: Array) -> Array:
    return output[0] if getattr(op, "return_indices", False) else output


def _values_alone(op: _MaxPool, shapes: tuple[Shape, ...]) -> bool:
    return not op.return_indices and all(window.taps(op.windows, shapes[0][-op.spatial :]))


def _max_is_minus_min(op: _MaxPool, call: Call, x: Array) -> tuple[Array, Array]:
    """The minimum of -x, tap by tap, is minus the maximum of x."""
    minima = []
    planes, sizes = op._planes(nested.elementwise(lambda value: -value, x))
    for plane in planes:
        for taps in window.taps(op.windows, sizes):
            minima.append(-min(plane[i] for _, i in taps))
    return _values(op, call(op, x)), nested.unravel(minima, op.output_shape(nested.shape_of(x)))


def _indices_point_at_maxima(op: _MaxPool, call: Call, x: Array) -> tuple[Array, Array]:
    maxima, indices = call(op, x)
    shape = nested.shape_of(maxima)
    planes, _ = op._planes(x)
    per_plane = math.prod(shape[-op.spatial :])
    pointed = [planes[p // per_plane][int(i)] for p, i in enumerate(nested.ravel(indices))]
    return maxima, nested.unravel(pointed, shape)


def _every_window_has_a_tap(op: _MaxPool, shapes: tuple[Shape, ...]) -> bool:
    return op.return_indices and all(window.taps(op.windows, shapes[0][-op.spatial :]))


def _average_is_sum_over_divisor(op: _AvgPool, call: Call, x: Array) -> tuple[Array, Array]:
    """On multiples of all divisors, the mean times the divisor is the sum that divisor 1 gives."""
    sums = type(op)(op.kernel_size, op.stride, op.padding, op.ceil_mode, op.count_include_pad, 1)
    _, sizes = op._planes(x)
    divisors = [op.divisor(position, sizes) for position in window.positions(op.windows, sizes)]
    x = nested.elementwise(lambda value: value * math.lcm(*divisors), x)
    means = call(op, x)
    total = [value * divisors[i % len(divisors)] for i, value in enumerate(nested.ravel(means))]
    return nested.unravel(total, nested.shape_of(means)), call(sums, x)


def _divisors_are_small(op: _AvgPool, shapes: tuple[Shape, ...]) -> bool:
    """16-bit floats hold the scaled sums only while the common multiple of the divisors is small."""
    if op.spatial == 1:
        return False
    sizes = shapes[0][-op.spatial :]
    return math.lcm(*(op.divisor(position, sizes) for position in window.positions(op.windows, sizes))) <= 4


MAX_LAWS = (
    BATCH,
    CHANNELS,
    Law("minimum", "max(x) = -min(-x)", _values_alone, _max_is_minus_min),
    Law("indices", "x[indices] = max", _every_window_has_a_tap, _indices_point_at_maxima),
)
AVG_LAWS = (
    BATCH,
    CHANNELS,
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
        laws=MAX_LAWS if maximum else AVG_LAWS,
        judged="copy" if maximum else "sum",
        dtypes=("float32", "float64", "bfloat16", "float16", "int64") if maximum else Spec.dtypes,
        layer=name,
    )


SPECS = tuple(_spec(operator) for operator in (MaxPool1d, MaxPool2d, MaxPool3d, AvgPool1d, AvgPool2d, AvgPool3d))
