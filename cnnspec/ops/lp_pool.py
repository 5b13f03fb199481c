"""Power-average pooling: the p-norm of each window of each channel.

    y[n, c, w] = m^(1/p),   m = K / |w| * sum_i x[n, c, i]^p         i in the window w
    p = inf: y = max_i |x[n, c, i]|        p = -inf: y = min_i |x[n, c, i]|
    dx[n, c, i] = p x[n, c, i]^(p - 1) sum_w dy[n, c, w] K / |w| m^(1/p - 1) / p
    nothing comes from m = 0, nor for p = 1 from m = NaN; for infinite p dx = dy sign(x), and sign(NaN) = 0

n batch, c channel, K the elements of the kernel, |w| those of the window that lie on the input: K but for a window
that hangs over in ceil mode, whose sum stands for that of a whole one. A negative number has no root but for p = 1.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from cnnspec import laws, nested
from cnnspec.errors import ArgumentError, ShapeError
from cnnspec.nested import Array, Shape
from cnnspec.op import Composed, Windowed, each, integer, without_defaults
from cnnspec.ops import pool
from cnnspec.ops.pooling import Regions, draw_shape, largest, planes
from cnnspec.rounding import RoundingTerms
from cnnspec.scalars import divide, exp, log, sqrt, stored
from cnnspec.spec import Call, Dialect, Law, Pick, Spec, spell
from cnnspec.window import Window

AVERAGES = {1: pool.AvgPool1d, 2: pool.AvgPool2d, 3: pool.AvgPool3d}
MAXIMA = {1: pool.MaxPool1d, 2: pool.MaxPool2d, 3: pool.MaxPool3d}


@dataclass(frozen=True)
class _LPPool(Composed, Windowed):
    norm_type: float
    kernel_size: int | tuple[int, ...]
    stride: int | tuple[int, ...] | None = None
    ceil_mode: bool = False

    # Arguments

    def __post_init__(self) -> None:
        if isinstance(self.norm_type, bool) or not isinstance(self.norm_type, int | float | Fraction):
            raise ArgumentError(f"norm_type={self.norm_type!r} must be a number", norm_type=self.norm_type)
        # unlike other poolings, torch tells an integer from a tuple
        self.normalise(("kernel_size",), lambda name, value: each(integer, name, value))
        if self.stride in (None, (), []):
            object.__setattr__(self, "stride", self.kernel_size)
        self.normalise(("stride",), self.integers)

    @property
    def pooling(self) -> Any:
        """The pooling with the same windows: an average, or for infinite p a maximum."""
        family = MAXIMA if math.isinf(self.norm_type) else AVERAGES
        return family[self.spatial](self.kernel_size, self.stride, ceil_mode=self.ceil_mode)

    @property
    def windows(self) -> tuple[Window, ...]:
        """The sliding window of each spatial axis."""
        windows: tuple[Window, ...] = self.pooling.windows
        return windows

    def least_sizes(self) -> tuple[int, ...]:
        """Return, per spatial axis, the smallest size that the pooling with the same windows takes."""
        sizes: tuple[int, ...] = self.pooling.least_sizes()
        return sizes

    # Shapes

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return (N, C, *spatial), or (C, *spatial) unbatched; ShapeError where torch refuses the call."""
        given, finite = self.kernel_size, not math.isinf(self.norm_type)
        if self.norm_type == 0 or math.isnan(self.norm_type):
            raise ShapeError(f"norm_type={self.norm_type} has no root", norm_type=self.norm_type)
        if isinstance(given, tuple) and ((self.spatial == 1 and finite) or len(given) != self.spatial):
            wanted = f" or {self.spatial} of them" if self.spatial > 1 else ""
            raise ShapeError(f"kernel_size={given} must be an integer{wanted}", kernel_size=given)
        shape: Shape = self.pooling.output_shape(*input_shapes)
        return shape

    # Loop

    def reference(self, *arrays: Array) -> Array:
        """Return the norms; where nothing but products and sums is needed, exactly on integers and fractions."""
        (input,) = arrays
        shape = self.output_shape(nested.shape_of(input))
        regions = self.pooling.regions(nested.shape_of(input)[-self.spatial :])
        rooted = 1 if math.isinf(self.norm_type) else 1 / Fraction(self.norm_type)
        sums = [m for plane in planes(input, self.spatial) for m in self.sums(plane, regions)]
        return nested.unravel([_raised(m, rooted) for m in sums], shape)

    def sums(self, plane: list[Any], regions: Regions) -> list[Any]:
        """Return m of each window of a channel; the norm itself for infinite p."""
        if math.isinf(self.norm_type):
            return [abs(plane[i]) for i in self._chosen(plane, regions)]
        kernel = math.prod(axis.kernel for axis in self.windows)
        powers = [_raised(x, Fraction(self.norm_type)) for x in plane]
        sums = []
        for region in regions:
            total = 0
            for i in region:
                total = total + powers[i]
            sums.append(stored(stored(divide(total, len(region))) * kernel))
        return sums

    def _chosen(self, plane: list[Any], regions: Regions) -> list[int]:
        """Return the index of the largest or smallest magnitude in each window."""
        sizes = [abs(x) if self.norm_type > 0 else -abs(x) for x in plane]
        return [largest(sizes, region)[1] for region in regions]

    def gradients(self, grad_output: Array, *operands: Array) -> list[Array | None]:
        """Return dx: each dy goes through the root, the division and the power; for infinite p to what was chosen."""
        (input,) = operands
        shape = nested.shape_of(input)
        regions = self.pooling.regions(shape[-self.spatial :])
        rows = zip(planes(grad_output, self.spatial), planes(input, self.spatial), strict=True)
        back = self._to_chosen if math.isinf(self.norm_type) else self._through_powers
        return [nested.unravel([value for dy, x in rows for value in back(dy, x, regions)], shape)]

    def _to_chosen(self, dy: list[Any], x: list[Any], regions: Regions) -> list[Any]:
        dx = [0] * len(x)
        for d, i in zip(dy, self._chosen(x, regions), strict=True):
            dx[i] = dx[i] + d * ((x[i] > 0) - (x[i] < 0))
        return dx

    def _through_powers(self, dy: list[Any], x: list[Any], regions: Regions) -> list[Any]:
        kernel, p = math.prod(axis.kernel for axis in self.windows), Fraction(self.norm_type)
        shares = [0] * len(x)
        for d, m, region in zip(dy, self.sums(x, regions), regions, strict=True):
            if m == 0 or (p == 1 and not abs(m) > 0):
                continue
            through_root = stored(d * _slope(m, 1 / p))
            share = stored(divide(stored(through_root * kernel), len(region)))
            for i in region:
                shares[i] = shares[i] + share
        return [stored(share) * _slope(value, p) for share, value in zip(shares, x, strict=True)]

    # Bounds

    def rounding_terms(self, *arrays: Array) -> RoundingTerms:
        """Return the bound of the formula's steps, and what the finite terms sum up to, which may overflow."""
        terms = super().rounding_terms(*arrays)
        (input,) = arrays
        if math.isinf(self.norm_type):
            return terms
        regions = self.pooling.regions(nested.shape_of(input)[-self.spatial :])
        sizes = planes(nested.elementwise(lambda x: abs(x) if x - x == 0 else 0, input), self.spatial)
        return dataclasses.replace(terms, reach=[m for plane in sizes for m in self.sums(plane, regions)])

    def gradient_terms(self, grad_output: Array, *operands: Array) -> list[RoundingTerms | None]:
        """Return the bound of the formula's steps; nothing is promised where a sum may round to zero, or from it."""
        (terms,) = super().gradient_terms(grad_output, *operands)
        (input,) = operands
        if terms is None or math.isinf(self.norm_type):
            return [terms]
        shape, reach = nested.shape_of(input), list(terms.reach or ())
        regions, pixels = self.pooling.regions(shape[-self.spatial :]), math.prod(shape[-self.spatial :])
        for n, plane in enumerate(planes(input, self.spatial)):
            sizes = self.sums(list(map(abs, plane)), regions)
            for m, size, region in zip(self.sums(plane, regions), sizes, regions, strict=True):
                if size > 0 and abs(m) <= (size * len(region) + 1) * 2**-23:
                    for i in region:
                        reach[n * pixels + i] = math.inf
        return [dataclasses.replace(terms, reach=reach)]


def _raised(x: Any, p: Fraction | int) -> Any:
    """Return x^p: by products for a whole p up to 4, else of a positive number, else with the sign of a whole p.

    >>> _raised(3, 2), _raised(-2, 3), _raised(4, Fraction(-1, 2)), _raised(-4, Fraction(1, 2))
    (9, -8, Fraction(1, 2), nan)
    """
    if p in (1, 2, 3, 4):
        power = x
        for _ in range(int(p) - 1):
            power = power * x
        return power if p == 1 else stored(power)
    if x == 0:
        return x if p > 0 else math.inf
    if x > 0:
        return _positive_raised(x, Fraction(p))
    whole = Fraction(p).denominator == 1
    return _positive_raised(-x, Fraction(p)) * (-1) ** int(p) if whole else x * math.nan


def _positive_raised(x: Any, p: Fraction) -> Any:
    if p == Fraction(1, 2):
        return sqrt(x)
    if p == Fraction(-1, 2):
        return stored(divide(1, sqrt(x)))
    return stored(exp(stored(divide(log(x) * p.numerator, p.denominator))))  # p is rounded to the format of x


def _slope(x: Any, p: Fraction) -> Any:
    """Return the derivative p x^(p - 1)."""
    if p == 1:
        return 1
    power = _raised(x, p - 1)
    return stored(power * p.numerator if p.denominator == 1 else divide(power * p.numerator, p.denominator))


class LPPool1d(_LPPool):
    """Power-average pooling over one spatial axis; see `LPPool2d`.

    >>> LPPool1d(2, 2).reference([[3, 4, -5, 12]])
    [[5, 13]]
    >>> LPPool1d(1, 2).reference([[3, -5, 5, 13]])
    [[-2, 18]]
    """

    spatial = 1


class LPPool2d(_LPPool):
    """Power-average pooling over two spatial axes, as `torch.nn.LPPool2d`; stride is the kernel unless given.

    y[n, c, w] = (sum_i x[n, c, i]^p)^(1/p), i in the window w; the largest |x| for p = inf, the smallest for -inf
    In ceil mode the sum of a window that hangs over is scaled up to a whole window, as torch does.
    Where the sum is zero, so is the gradient. Input (N, C, H, W) or (C, H, W).
    Raises ArgumentError for what are no numbers, ShapeError where torch refuses the call.
    Not covered: norm_type NaN; for negative p, -0; for odd p but 1, windows that sum to -infinity, or whose terms
    nearly cancel, where the root magnifies any error.
    Source: torch's documentation; Gulcehre, Cho, Pascanu, Bengio, "Learned-norm pooling for deep feedforward and
    recurrent neural networks", 2014.

    >>> LPPool2d(float("inf"), 2).reference([[[1, -7], [3, 4]]])
    [[[7]]]
    """

    spatial = 2


class LPPool3d(_LPPool):
    """Power-average pooling over three spatial axes; see `LPPool2d`."""

    spatial = 3


# Domain


def domain(operator: type[_LPPool]) -> Any:
    """Return the domain: p of 1, 2 and infinity, whose roots magnify no cancellation."""
    spatial = operator.spatial

    def draw(pick: Pick) -> tuple[Mapping[str, Any], tuple[Shape, ...]]:
        kernel = [pick.integer(1, 3 if spatial == 3 else 4) for _ in range(spatial)]
        stride = None if pick.choice((False, False, True)) else [pick.integer(1, 5) for _ in range(spatial)]
        bare = spatial == 1 or (len(set(kernel)) == 1 and pick.choice((True, False)))
        arguments: dict[str, Any] = {
            "norm_type": pick.choice((2.0, 1.0, 2.0, 1.0, math.inf, -math.inf)),
            "kernel_size": kernel[0] if bare else tuple(kernel),
            "stride": stride and spell(pick, stride),
            "ceil_mode": pick.choice((False, True)),
        }
        op = operator(**arguments)
        sizes = [
            next(n for n in range(least, axis.span + 1) if axis.output_size(n) >= 1) + pick.integer(0, 7)
            for axis, least in zip(op.windows, op.least_sizes(), strict=True)
        ]
        return without_defaults(operator, arguments), (draw_shape(pick, sizes),)

    return draw


# Laws


def _is_homogeneous(op: _LPPool, call: Call, x: Array) -> tuple[Array, Array]:
    factor = -2 if op.norm_type == 1 else 2
    scaled = call(op, nested.elementwise(lambda value: -2 * value, x))
    return scaled, nested.elementwise(lambda value: factor * value, call(op, x))


LAWS = (
    laws.BATCH,
    laws.CHANNELS,
    laws.STRIDE,
    laws.SHIFT,
    Law(
        "homogeneity",
        "f(-2x) = 2 f(x), or -2 f(x) for p = 1",
        lambda op, shapes: op.norm_type in (1, 2, math.inf, -math.inf),
        _is_homogeneous,
    ),
)


def _sums_what_is_there(op: _LPPool, x: Array) -> Array:
    """A window that hangs over is not scaled up."""
    shape = nested.shape_of(x)
    kernel, regions = math.prod(axis.kernel for axis in op.windows), op.pooling.regions(shape[-op.spatial :])
    sums = [
        divide(m * len(region), kernel)
        for plane in planes(x, op.spatial)
        for m, region in zip(op.sums(plane, regions), regions, strict=True)
    ]
    return nested.unravel([_raised(m, 1 / Fraction(op.norm_type)) for m in sums], op.output_shape(shape))


DIALECTS = (
    Dialect(
        "ONNX",
        "a window that hangs over in ceil mode sums what is there",
        lambda op: op.ceil_mode and not math.isinf(op.norm_type),
        _sums_what_is_there,
    ),
    Dialect(
        "ONNX, Caffe2",
        "the magnitudes are summed, sum |x|^p",
        lambda op: not math.isinf(op.norm_type) and op.norm_type % 2 == 1,
        lambda op, x: op.reference(nested.elementwise(abs, x)),
    ),
)

SPECS = tuple(
    Spec(
        name=f"lp_pool{operator.spatial}d",
        operator=operator,
        operands=("input",),
        keywords=("norm_type", "kernel_size", "stride", "ceil_mode"),
        domain=domain(operator),
        laws=LAWS,
        judged="function",
        layer=operator.__name__,
        dialects=DIALECTS,
    )
    for operator in (LPPool1d, LPPool2d, LPPool3d)
)
