"""Verdicts: an output against the exact result, element by element, in exact arithmetic.

An element holds where |actual - exact| <= E + half an ulp of the output format, E from the error model.
Where every partial sum is representable in any order (E = 0) it must be the correctly rounded value.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from cnnspec.bounds import FORMATS, Format, half_ulp_exponent, nearest
from cnnspec.exact import Exact
from cnnspec.models import ErrorModel
from cnnspec.op import bytes_per_element


@dataclass
class Verdict:
    """What the comparison of one output found.

    ratio: the largest error / bound: at most 1 where all elements hold, inf where a bound of 0 is missed
    ulps:  the largest error in units in the last place of the exact result's format
    worst: flat index of the element with the largest ratio, with its expected and actual value, error and bound
    histogram: elements by floor(log2(error / bound)) within -20 .. 20; "exact" for those without error
    """

    ratio: float = 0.0
    ulps: float = 0.0
    wrong: list[int] = field(default_factory=list)
    elements: int = 0
    judged: int = 0
    worst: int | None = None
    expected: float = 0.0
    actual: float = 0.0
    error: float = 0.0
    bound: float = 0.0
    histogram: Counter[str] = field(default_factory=Counter)
    discriminating: bool = False

    @property
    def holds(self) -> bool:
        """Whether no element is wrong."""
        return not self.wrong


@dataclass(frozen=True)
class Element:
    """The verdict on one element; floats are for people, `holds` was decided exactly."""

    holds: bool
    ratio: float
    expected: float
    error: float
    bound: float
    ulps: float = 0.0


def verdict(exact: Exact, actual: Sequence[Any], dtype: str, error_model: ErrorModel | None) -> Verdict:
    """Return the verdict on `actual`, given in row-major order as Python numbers of format `dtype`."""
    result = Verdict(elements=len(actual))
    for i, value in enumerate(actual):
        element = _element(exact, i, value, dtype, error_model)
        if element is None:
            continue
        result.judged += 1
        result.histogram[_bin(element.ratio)] += 1
        if not element.holds:
            result.wrong.append(i)
        result.ulps = max(result.ulps, element.ulps)
        if result.worst is None or (not element.holds, element.ratio) > (
            bool(result.wrong[:-1]),
            result.ratio,
        ):
            result.worst, result.actual = i, value
            result.ratio, result.expected = element.ratio, element.expected
            result.error, result.bound = element.error, element.bound
    result.discriminating = _discriminates(exact)
    return result


def accepted(exact: Exact, i: int, dtype: str, error_model: ErrorModel | None) -> tuple[Any, Any, Any] | None:
    """Return the least number of `dtype` that `verdict` takes for element i, the expected one, the largest.

    None where it takes any; (inf, expected, -inf) where it takes none; NaN three times where it must be NaN.
    -0.0 counts as less than 0.0. Found by bisection over the numbers of the format, so no rule stands twice.
    """
    if dtype not in FORMATS:
        whole = _whole(exact, i, dtype)
        return (int(whole) if whole == int(whole) else float(whole),) * 3
    form = FORMATS[dtype]

    def element(position: int) -> Element | None:
        return _element(exact, i, _float_at(position, form), dtype, error_model)

    def holds(position: int) -> bool:
        one = element(position)
        return one is not None and one.holds

    zero = element(0)
    if zero is None:
        return None
    if zero.expected != zero.expected:
        return (math.nan,) * 3
    start, infinite = _position(zero.expected, form), _position(math.inf, form)
    if not holds(start):
        return math.inf, zero.expected, -math.inf
    lowest = -_furthest(lambda position: holds(-position), -start, infinite + 1)
    return _float_at(lowest, form), zero.expected, _float_at(_furthest(holds, start, infinite), form)


def _furthest(holds: Callable[[int], bool], position: int, end: int) -> int:
    """Return the last position up to `end` that holds; after one that does not, none does."""
    step = 1
    while step:
        if position + step <= end and holds(position + step):
            position, step = position + step, 2 * step
        else:
            step //= 2
    return position


def _position(value: float, form: Format) -> int:
    """Return the place of `value` among the numbers of its format in order: 0 for 0.0, -1 for -0.0.

    >>> _position(1.0, FORMATS["float16"]), _float_at(15360, FORMATS["float16"])
    (15360, 1.0)
    """
    if math.copysign(1, value) < 0:
        return ~_position(-value, form)
    if value == 0:
        return 0
    if math.isinf(value):
        return (form.largest - form.precision - form.smallest + 2) << (form.precision - 1)
    unit = max(math.frexp(value)[1] - form.precision, form.smallest)
    return int(math.ldexp(value, -unit)) + ((unit - form.smallest) << (form.precision - 1))


def _float_at(position: int, form: Format) -> float:
    """Return the number at a position; see `_position`."""
    if position < 0:
        return -_float_at(~position, form)
    steps = max(0, (position >> (form.precision - 1)) - 1)
    significand = position - (steps << (form.precision - 1))
    if form.smallest + steps > form.largest - form.precision:
        return math.inf
    return math.ldexp(significand, form.smallest + steps)


def _discriminates(exact: Exact) -> bool:
    """Say whether the exact outputs hold anything that a constant would not: one value that is not zero."""
    values = exact.special.values() if exact.copied else [*exact.values, *exact.special.values()]
    return any(value != 0 for value in values)


def _element(exact: Exact, i: int, actual: Any, dtype: str, error_model: ErrorModel | None) -> Element | None:
    return _copied(exact, i, actual, dtype) if exact.copied else _judged(exact, i, actual, dtype, error_model)


def _bin(ratio: float) -> str:
    if ratio == 0:
        return "exact"
    return str(max(-20, min(20, math.floor(math.log2(ratio))))) if math.isfinite(ratio) else "20"


def _copied(exact: Exact, i: int, actual: Any, dtype: str) -> Element:
    """Judge a copied element: the same number, the same sign of zero, any NaN for a NaN."""
    expected = _whole(exact, i, dtype) if isinstance(actual, int) else exact.special[i]
    holds = _same(expected, actual)
    error = 0.0 if holds else _distance(float(expected), float(actual))
    return Element(holds, 0.0 if holds else math.inf, float(expected), error, 0.0)


def _whole(exact: Exact, i: int, dtype: str) -> Any:
    """Return the exact result as integers have it: their lowest for -inf, a window without a tap."""
    if not exact.copied:
        value = Fraction(exact.values[i], exact.divisors[i] if exact.divisors else 1)
        return value * Fraction(2) ** exact.exponent
    return -(1 << (8 * bytes_per_element(dtype) - 1)) if exact.special[i] == -math.inf else exact.special[i]


def _same(a: float, b: float) -> bool:
    if a != a or b != b:
        return a != a and b != b
    return a == b and (a != 0 or isinstance(a, int) or math.copysign(1, a) == math.copysign(1, b))


def _distance(a: float, b: float) -> float:
    difference = abs(a - b)
    return difference if difference > 0 else math.inf if a != a or b != b else 0.0


def _judged(exact: Exact, i: int, actual: Any, dtype: str, error_model: ErrorModel | None) -> Element | None:
    """Judge a computed element; None where overflow of partial sums leaves nothing to say."""
    if i in exact.special:
        expected = exact.special[i]
        if (
            math.isinf(expected)
            and error_model is not None
            and _may_overflow(exact, i, error_model, FORMATS[dtype])
        ):
            return None  # an infinity of the other sign may arise on the way, and the two make NaN
        holds = expected == actual or (expected != expected and actual != actual)
        return Element(holds, 0.0 if holds else math.inf, expected, 0.0 if holds else math.inf, 0.0)
    if error_model is None:
        whole = _whole(exact, i, dtype)
        holds = whole == actual
        return Element(holds, 0.0 if holds else math.inf, float(whole), float(abs(whole - actual)), 0.0)
    return _bounded(exact, i, exact.divisors[i] if exact.divisors else 1, actual, dtype, error_model)


def _bounded(
    exact: Exact, i: int, divisor: int, actual: float, dtype: str, model: ErrorModel
) -> Element | None:
    """Judge a rounded element in integers: units of 2**unit / (divisor * 2**precision)."""
    accumulate, output = model.format, FORMATS[dtype]
    y, exponent = exact.values[i], exact.exponent
    if _may_overflow(exact, i, model, output):
        return None
    expected = nearest(y, divisor, exponent, output)
    error_terms = _error_terms(exact, i, divisor, model, output)
    if error_terms == (0, 0):
        holds = actual == expected
        error = 0.0 if holds else _distance(expected, actual)
        return Element(
            holds, 0.0 if holds else math.inf, expected, error, 0.0, _ulps(error, expected, output)
        )
    if actual != actual:
        return Element(False, math.inf, expected, math.inf, 0.0)
    relative, absolute = error_terms  # relative in 2**(exponent - precision), absolute in 2**(smallest - 1)
    unit = min(exponent, accumulate.smallest - 1) if absolute else exponent
    if math.isfinite(actual):
        n, d = actual.as_integer_ratio()
        unit = min(unit, 1 - d.bit_length())
    lift = exponent - unit
    e = (relative << lift) + (
        (absolute * divisor) << (accumulate.smallest - 1 - unit + accumulate.precision) if absolute else 0
    )
    e += (exact.radius << lift) << accumulate.precision
    y_lifted = abs(y) << (lift + accumulate.precision)
    scale = divisor << accumulate.precision
    if not math.isfinite(actual):
        reach = nearest(y_lifted + e, scale, unit, output)
        holds = math.isinf(reach) and (actual > 0) == (y > 0)
        return Element(holds, 1.0 if holds else math.inf, expected, 0.0 if holds else math.inf, 0.0)
    error_scaled = abs((n << (1 - d.bit_length() - unit)) * divisor - (y << lift)) << accumulate.precision
    if output.precision < accumulate.precision or output.largest < accumulate.largest:
        half = half_ulp_exponent(y_lifted + e, scale, unit, output) - unit
        if half < 0:
            e, error_scaled, unit = e << -half, error_scaled << -half, unit + half
            e += divisor << accumulate.precision
        else:
            e += scale << half
    ratio = _float(error_scaled, e, 0)
    error, bound = _float(error_scaled, scale, unit), _float(e, scale, unit)
    return Element(error_scaled <= e, ratio, expected, error, bound, _ulps(error, expected, output))


def _may_overflow(exact: Exact, i: int, model: ErrorModel, output: Format) -> bool:
    """Say whether partial sums of the finite terms may leave the range of the accumulation in some order.

    Where intermediate results are stored, they must stay in the range of the output's format.
    """
    size = max(exact.magnitude[i], exact.reach[i]) if exact.reach else exact.magnitude[i]
    largest = min(model.format.largest, output.largest) if exact.stored else model.format.largest
    return size.bit_length() + exact.exponent >= largest


def _error_terms(exact: Exact, i: int, divisor: int, model: ErrorModel, output: Format) -> tuple[int, int]:
    """Return E as (multiples of u times a unit of the values, multiples of half the smallest subnormal)."""
    form, size, count = model.format, exact.magnitude[i], exact.roundings[i]
    if exact.lattice is not None:
        representable = exact.lattice >= form.smallest and size <= 1 << form.precision and not model.inputs
        if representable and divisor == 1:
            return 0, 0
        if representable:
            count = exact.divisions  # of a sum that is exact
        underflow = 0 if exact.lattice >= form.smallest and divisor == 1 else count
    else:
        underflow = 2 << (
            form.precision - 1
        )  # exp may leave the normal range: an absolute error of its smallest
    relative = (count + 2 * exact.elementary * model.elementary_ulps) * size
    relative += (exact.stored * size) << max(0, form.precision - output.precision)
    if exact.faint:
        smallest = output.smallest if exact.stored else form.smallest
        relative += (exact.faint[i] << form.precision >> -smallest) + 1
    if model.inputs and count:
        v = FORMATS[model.inputs].precision
        relative += (size << (form.precision - v + 1)) + (size << max(0, form.precision - 2 * v)) + 1
    return relative, underflow


def _ulps(error: float, expected: float, output: Any) -> float:
    if error == 0 or not math.isfinite(error) or not math.isfinite(expected):
        return error
    exponent = (
        max(math.frexp(expected)[1] - output.precision, output.smallest) if expected else output.smallest
    )
    return math.ldexp(error, -exponent) if math.frexp(error)[1] - exponent < 1000 else math.inf


def _float(numerator: int, denominator: int, exponent: int) -> float:
    """Return numerator / denominator * 2**exponent to the nearest float64, for people to read."""
    return nearest(numerator, denominator, exponent, FORMATS["float64"])
