"""Correctly rounded power-average pooling.

    y[n, c, w] = m^(1/p),   m = K / |w| sum_i x[n, c, i]^p         i in the window w
    p = inf: y = max_i |x[n, c, i]|        p = -inf: y = min_i |x[n, c, i]|

K the elements of the kernel, |w| those of the window that lie on the input. p = 1 and 2 are sums, divided, and their
roots (`cnnspec.exact.pooled`); infinite p copies. For other p the operator's loop runs on balls, Arb's, and for a
whole p what balls leave open is a root of a rational number.
"""

import math
from fractions import Fraction
from functools import lru_cache
from typing import Any

import flint
import numpy as np
import numpy.typing as npt

from cnnspec import nested
from cnnspec.bounds import Format, nearest
from cnnspec.errors import CnnspecError
from cnnspec.exact.elementwise import copied
from cnnspec.exact.engine import Rounded, Statistics
from cnnspec.exact.expansions import check_thread
from cnnspec.exact.maxima import maxima
from cnnspec.exact.operands import BUDGET_BYTES, Sizes, as_array, as_format, hashable, per_axis
from cnnspec.exact.pooled import Job
from cnnspec.exact.regions import Regions, blocks, sliding
from cnnspec.exact.sums import container
from cnnspec.ops.lp_pool import LPPool1d, LPPool2d, LPPool3d

Values = npt.NDArray[Any]
Shape = tuple[int, ...]

PRECISIONS = (160, 480, 1440)  # bits of the balls, one after the other

OPERATORS: dict[int, Any] = {1: LPPool1d, 2: LPPool2d, 3: LPPool3d}


class PowerPooling:
    """Correctly rounded power-average pooling over `spatial` axes.

    x (N, C, ...) or (C, ...); arguments as in torch.nn.functional. out_dtype and full as in
    `cnnspec.exact.functional.Convolution`, but a `Rounded` has no bounds: those that `cnnspec.LPPool2d` states follow
    the steps of its formula. Other p than 1, 2 and infinities take microseconds per term, and fractions raise
    CnnspecError where 1440 bits do not tell how a result rounds.
    Raises ArgumentError and ShapeError as `cnnspec.LPPool2d` does.

    >>> lp_pool1d(np.array([[3.0, 4.0, -5.0, 12.0]]), 2, 2)
    array([[ 5., 13.]])
    """

    def __init__(self, spatial: int) -> None:
        self.spatial = spatial

    def __call__(
        self, x: Values, norm_type: float, kernel_size: Sizes, stride: Sizes | None = None, ceil_mode: bool = False,
        out_dtype: Any = None, full: bool = False, *, budget: int = BUDGET_BYTES,
    ) -> Any:  # fmt: skip
        """Return y, or with `full` a `Rounded`."""
        x, form = as_array("x", x), as_format(out_dtype, x)
        check_thread()
        operator = OPERATORS[self.spatial](norm_type, hashable(kernel_size), hashable(stride), ceil_mode)
        shape, regions, kernel = _checked(operator, x.shape)
        planes = x.reshape(-1, *regions.sizes)
        if 0 in shape:
            one = Rounded(np.zeros(shape, container(form)), Statistics("pairs", 0))
        elif math.isinf(norm_type):
            one = _extremes(planes, regions, form, budget, largest=norm_type > 0)
        elif norm_type in (1, 2):
            one = _sums(planes, regions, kernel, form, budget, square=norm_type == 2)
        else:
            one = _on_balls(operator, planes, regions, form)
        value = one.value.reshape(shape)
        return Rounded(value, one.statistics) if full else value


@lru_cache(maxsize=256)
def _checked(operator: Any, x: Shape) -> tuple[Shape, Regions, int]:
    """Return the output's shape, the windows and the elements of the kernel; raise what the operator raises."""
    shape: Shape = operator.output_shape(x)
    axes = operator.spatial
    kernels, strides = per_axis(operator.kernel_size, axes), per_axis(operator.stride, axes)
    windows = zip(x[-axes:], kernels, strides, shape[-axes:], strict=True)
    return (
        shape,
        Regions(tuple(sliding(size, k, s, 1, 0, outputs) for size, k, s, outputs in windows)),
        math.prod(kernels),
    )


def _sums(
    planes: Values, regions: Regions, kernel: int, form: Format, budget: int, *, square: bool
) -> Rounded:
    """Return sums, scaled to a whole window, or roots of sums of squares."""
    present = regions.present
    common = np.gcd(present, kernel)
    whole = bool((present == kernel).all())
    divisor = np.ones(()) if whole else (present // common).astype(np.float64)
    factor = None if whole else (kernel // common).astype(np.float64)
    return Job(regions, form, budget, divisor, factor=factor, square=square).run(planes, full=False)


def _extremes(planes: Values, regions: Regions, form: Format, budget: int, *, largest: bool) -> Rounded:
    """Return the largest or the smallest magnitudes."""
    value = np.empty((len(planes), *regions.outputs), container(form))
    for block in blocks(regions, len(planes), budget):
        sizes = np.abs(planes[block.source])
        found, _ = maxima(sizes if largest else -sizes, block, regions, indices=False)
        value[block.place] = copied(np.abs(found), form)
    return Rounded(value, Statistics("copy", value.size))


def _on_balls(operator: Any, planes: Values, regions: Regions, form: Format) -> Rounded:
    """Return the operator's own outputs over balls, rounded."""
    value = np.empty((len(planes), *regions.outputs), container(form))
    ambiguous = 0
    for n, plane in enumerate(planes):
        elements = plane.astype(np.float64).reshape(-1).tolist()
        found: list[float | None] = [None] * math.prod(regions.outputs)
        for precision in PRECISIONS:
            with flint.ctx.workprec(precision):
                array = nested.unravel([flint.arb(x) for x in elements], (1, *plane.shape))
                balls = [flint.arb(number) for number in nested.ravel(operator.reference(array))]
                found = [
                    _rounded(ball, form) if one is None else one
                    for one, ball in zip(found, balls, strict=True)
                ]
            if None not in found:
                break
        for i, one in enumerate(found):
            ambiguous += one is None
            value[n].reshape(-1)[i] = _root_of_sum(operator, plane, regions, i, form) if one is None else one
    value += value.dtype.type(0)
    special = int((~np.isfinite(value)).sum())
    return Rounded(value, Statistics("balls", value.size, ambiguous, ambiguous, special))


def _rounded(ball: Any, form: Format) -> float | None:
    """Return the one number that a ball rounds to, if it is one."""
    if not ball.is_finite():
        middle = float(ball.mid())
        return middle if math.isinf(middle) and ball.rad().is_finite() else math.nan
    ends = set()
    for end in (ball.lower(), ball.upper()):
        n, exponent = (int(part) for part in end.man_exp())
        ends.add(nearest(n, 1, exponent, form))
    return ends.pop() if len(ends) == 1 else None


def _root_of_sum(operator: Any, plane: Values, regions: Regions, i: int, form: Format) -> float:
    """Return the output at flat index i as the root of a rational number."""
    p = Fraction(operator.norm_type)
    met = regions.met(np.array([i]))[0]
    terms = [Fraction(float(v)) for v in plane.reshape(-1)[met[met >= 0]].tolist()]
    there = [term for term in terms if term] if p > 0 else terms
    if not there:
        return 0.0
    if len(there) == 1 and len(terms) == regions.count:
        return nearest(abs(there[0].numerator), there[0].denominator, 0, form)
    if p.denominator != 1 or (p < 0 and not all(terms)):
        raise CnnspecError(
            f"norm_type={operator.norm_type}: {PRECISIONS[-1]} bits do not tell how output {i} rounds"
        )
    m = sum((term ** int(p) for term in terms), Fraction(0)) * Fraction(regions.count, len(terms))
    return _nearest_root(m if p > 0 else 1 / m, abs(int(p)), form)


def _nearest_root(m: Fraction, p: int, form: Format) -> float:
    """Return the p-th root of a rational number, which is not negative where p > 1, correctly rounded.

    >>> from cnnspec.bounds import FORMATS
    >>> _nearest_root(Fraction(27, 8), 3, FORMATS["float32"])
    1.5
    """
    if m == 0 or p == 1:
        return nearest(m.numerator, m.denominator, 0, form)
    bits = p * (form.precision + 4)
    shift = max(0, bits + m.denominator.bit_length() - m.numerator.bit_length())
    shift += -shift % p
    q, rest = divmod(m.numerator << shift, m.denominator)
    low, high = 0, 1 << (q.bit_length() // p + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle**p <= q else (low, middle)
    return nearest(2 * low + int(rest != 0 or low**p != q), 1, -(shift // p) - 1, form)


lp_pool1d, lp_pool2d, lp_pool3d = (PowerPooling(axes) for axes in (1, 2, 3))
