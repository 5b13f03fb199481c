"""Correctly rounded average pooling, with windows of one size and adaptive, and their gradients.

    y[n, c, p] = sum_i x[n, c, i] / D(p)      dx[n, c, i] = sum_p dy[n, c, p] / D(p)     over the p whose window has i

D(p): `divisor_override`, or the elements of the window on the input and its padding (`count_include_pad`) or on the
input alone; not what hangs over. Gradients are summed over the least common multiple of the divisors.
"""

import math
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnspec.bounds import Format, nearest
from cnnspec.errors import ArgumentError
from cnnspec.exact.engine import Rounded, Statistics
from cnnspec.exact.operands import (
    BUDGET_BYTES,
    Sizes,
    as_array,
    as_empty,
    as_format,
    as_result,
    check_gradient,
    hashable,
    per_axis,
)
from cnnspec.exact.pooled import Job
from cnnspec.exact.regions import Regions, dividing, outer, sliding
from cnnspec.exact.sums import container
from cnnspec.ops.adaptive_pool import AdaptiveAvgPool1d, AdaptiveAvgPool2d, AdaptiveAvgPool3d
from cnnspec.ops.pool import AvgPool1d, AvgPool2d, AvgPool3d

Values = npt.NDArray[Any]
Shape = tuple[int, ...]
Plan = tuple[Shape, Regions | None, Values]

OPERATORS: dict[int, Any] = {1: AvgPool1d, 2: AvgPool2d, 3: AvgPool3d}
ADAPTIVE: dict[int, Any] = {1: AdaptiveAvgPool1d, 2: AdaptiveAvgPool2d, 3: AdaptiveAvgPool3d}


class AveragePooling:
    """Correctly rounded average pooling over `spatial` axes; `backward` for its gradient.

    x (N, C, ...) or (C, ...); arguments as in torch.nn.functional, which has no divisor_override on one axis.
    out_dtype and full as in `cnnspec.exact.functional.Convolution`; with `full` bound_sum is S / |D|, S = sum |x|,
    and n_eff the terms that are not zero: the additions of all but one, and the division.
    Raises ArgumentError and ShapeError as `cnnspec.AvgPool2d` does.

    >>> avg_pool1d(np.array([[1e16, 1.0, 1.0, 3.0]]), 2)
    array([[5.e+15, 2.e+00]])
    """

    def __init__(self, spatial: int) -> None:
        self.spatial = spatial

    def __call__(
        self, x: Values, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0, ceil_mode: bool = False,
        count_include_pad: bool = True, divisor_override: int | None = None, out_dtype: Any = None,
        full: bool = False, *, budget: int = BUDGET_BYTES,
    ) -> Any:  # fmt: skip
        """Return y, or with `full` a `Rounded`."""
        x, form = as_array("x", x), as_format(out_dtype, x)
        arguments = map(
            hashable, (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
        )
        return _means(_sliding_plan(self.spatial, x.shape, *arguments), x, form, budget, full=full)

    def backward(
        self, grad_output: Values, x: Values, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0,
        ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None,
        out_dtype: Any = None, full: bool = False, *, budget: int = BUDGET_BYTES,
    ) -> Any:  # fmt: skip
        """Return the correctly rounded gradient of sum grad_output * y; only the shape of `x` matters.

        >>> avg_pool1d.backward(np.array([[4.0, 1.0]]), np.zeros((1, 3)), 2, ceil_mode=True)
        array([[2., 2., 1.]])
        """
        dy, x = as_array("grad_output", grad_output), np.asarray(x)
        form = as_format(out_dtype, x)
        arguments = map(
            hashable, (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
        )
        return _gradient(_sliding_plan(self.spatial, x.shape, *arguments), dy, x, form, budget, full=full)


class AdaptiveAveragePooling:
    """Correctly rounded means of windows that divide `spatial` axes; `backward` for their gradient.

    x (N, C, ...) or (C, ...); output_size as in torch.nn.functional; the rest as in `AveragePooling`.
    Raises ArgumentError and ShapeError as `cnnspec.AdaptiveAvgPool2d` does.

    >>> adaptive_avg_pool1d(np.array([[1.0, 5.0, 3.0, 1.0, 1.0]]), 3)
    array([[3., 3., 1.]])
    """

    def __init__(self, spatial: int) -> None:
        self.spatial = spatial

    def __call__(
        self, x: Values, output_size: Any, out_dtype: Any = None, full: bool = False, *,
        budget: int = BUDGET_BYTES,
    ) -> Any:  # fmt: skip
        """Return y, or with `full` a `Rounded`."""
        x, form = as_array("x", x), as_format(out_dtype, x)
        plan = _adaptive_plan(self.spatial, x.shape, hashable(output_size))
        return _means(plan, x, form, budget, full=full, divisions=max(2, self.spatial))

    def backward(
        self, grad_output: Values, x: Values, output_size: Any, out_dtype: Any = None, full: bool = False, *,
        budget: int = BUDGET_BYTES,
    ) -> Any:  # fmt: skip
        """Return the correctly rounded gradient of sum grad_output * y; only the shape of `x` matters."""
        dy, x = as_array("grad_output", grad_output), np.asarray(x)
        plan = _adaptive_plan(self.spatial, x.shape, hashable(output_size))
        form = as_format(out_dtype, x)
        return _gradient(plan, dy, x, form, budget, full=full, divisions=max(2, self.spatial))


@lru_cache(maxsize=256)
def _sliding_plan(
    axes: int, x: Shape, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool, count_include_pad: bool,
    divisor_override: int | None,
) -> Plan:  # fmt: skip
    """Return the output's shape, the windows and their divisors; raise what the operator raises."""
    operator = OPERATORS[axes](kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
    shape: Shape = operator.output_shape(x)
    if 0 in shape:
        return shape, None, np.ones(())
    kernels, pads = per_axis(kernel_size, axes), per_axis(padding, axes)
    strides = kernels if stride in (None, ()) else per_axis(stride, axes)
    windows = list(zip(x[-axes:], kernels, strides, pads, shape[-axes:], strict=True))
    regions = Regions(tuple(sliding(size, k, s, 1, p, outputs) for size, k, s, p, outputs in windows))
    if divisor_override is not None:
        if abs(divisor_override) > 1 << 53:
            raise ArgumentError(f"divisor_override={divisor_override} must stay within 2**53")
        return shape, regions, np.asarray(float(divisor_override))
    if count_include_pad:
        extents = []
        for size, k, s, p, outputs in windows:
            start = np.arange(outputs) * s - p
            extents.append(np.minimum(start + k, size + p) - start)
        return shape, regions, _simple(outer(extents))
    return shape, regions, _simple(regions.present)


@lru_cache(maxsize=256)
def _adaptive_plan(axes: int, x: Shape, output_size: Any) -> Plan:
    shape: Shape = ADAPTIVE[axes](output_size).output_shape(x)
    if 0 in shape:
        return shape, None, np.ones(())
    pairs = zip(x[-axes:], shape[-axes:], strict=True)
    regions = Regions(tuple(dividing(size, outputs) for size, outputs in pairs))
    return shape, regions, _simple(regions.present)


def _simple(divisors: Values) -> Values:
    """Return divisors as one number where all are the same."""
    first = divisors.reshape(-1)[:1]
    return (first.reshape(()) if (divisors == first).all() else divisors).astype(np.float64)


def _means(plan: Plan, x: Values, form: Format, budget: int, *, full: bool, divisions: int = 1) -> Any:
    shape, regions, divisor = plan
    if regions is None:
        return as_empty(shape, form, full=full)
    job = Job(regions, form, budget, divisor, divisions=divisions)
    return as_result(job.run(x.reshape(-1, *regions.sizes), full=full), shape, full=full)


def _gradient(
    plan: Plan, dy: Values, x: Values, form: Format, budget: int, *, full: bool, divisions: int = 1
) -> Any:
    shape, regions, divisor = plan
    check_gradient(dy, shape)
    if regions is None or 0 in x.shape:
        one = as_empty(x.shape, form, full=full)
        if isinstance(one, Rounded) and one.n_eff is not None:
            one.n_eff[...] = divisions - 1
        return one
    weights = None
    if divisor.ndim:
        common = math.lcm(*(int(d) for d in np.unique(divisor)))
        if common > 1 << 53:
            one = _by_fractions(dy.reshape(-1, *regions.outputs), regions, divisor, form, divisions)
            return as_result(one, x.shape, full=full)
        weights, divisor = common // divisor, np.asarray(float(common))
    job = Job(regions.adjoint, form, budget, divisor, weights, divisions=divisions)
    return as_result(job.run(dy.reshape(-1, *regions.outputs), full=full), x.shape, full=full)


def _by_fractions(planes: Values, regions: Regions, divisor: Values, form: Format, divisions: int) -> Rounded:
    """Return the gradients term by term, where float64 does not hold the multiple of the divisors."""
    shape = (len(planes), *regions.sizes)
    value, sizes, counts = np.zeros(shape, container(form)), np.zeros(shape), np.zeros(shape, np.int64)
    divisors = [int(d) for d in np.broadcast_to(divisor, regions.outputs).reshape(-1).tolist()]
    for i in range(math.prod(regions.sizes)):
        met = regions.adjoint.met(np.array([i]))[0]
        met = met[met >= 0]
        for n, plane in enumerate(planes):
            place: Any = (n, *np.unravel_index(i, regions.sizes))
            terms = plane.reshape(-1)[met].astype(np.float64).tolist()
            pairs = [
                (Fraction(t), divisors[p])
                for t, p in zip(terms, met.tolist(), strict=True)
                if math.isfinite(t)
            ]
            total = sum((t / d for t, d in pairs), Fraction(0))
            size = sum((abs(t) / d for t, d in pairs), Fraction(0))
            odd = sum(t for t in terms if not math.isfinite(t))
            value[place] = odd or nearest(total.numerator, total.denominator, 0, form)
            sizes[place] = math.nextafter(float(size), math.inf) if size else 0.0
            counts[place] = sum(t != 0 for t, _ in pairs) + divisions - 1
    return Rounded(value, Statistics("integers", value.size, value.size, value.size), sizes, counts)


avg_pool1d, avg_pool2d, avg_pool3d = (AveragePooling(axes) for axes in (1, 2, 3))
adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d = (
    AdaptiveAveragePooling(axes) for axes in (1, 2, 3)
)
