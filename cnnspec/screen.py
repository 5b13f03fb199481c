"""Verdicts on whole arrays in float64: what surely holds, what surely does not, and what is left to exact numbers.

Every quantity of `cnnspec.elements` is computed here with a relative error below SLACK, so an element is decided
where its error and its bound differ by more than that. The nearest float64 needs no comparison where E >= u S: it
errs by at most u |y|, and |y| <= S; nor, below the normal range, where E is half the smallest number or more.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnspec.bounds import FORMATS, Format
from cnnspec.exact.results import Exact, Near
from cnnspec.exact.sums import round_to
from cnnspec.models import ErrorModel

Values = npt.NDArray[Any]

SLACK = 2.0**-32
TINY, FEW = 5e-324, 8
"""The smallest float64, and how many of them quantities below the normal range may be off by."""


@dataclass
class Screened:
    """What is known of each element, flat.

    judged: whether anything can be said of it;   holds: whether it surely holds;   open: whether exact numbers must say
    ratio:  error / bound, inf where a bound of 0 is missed;   ulps: the error in units in the last place
    """

    judged: Values
    holds: Values
    open: Values
    ratio: Values
    ulps: Values


def screen(exact: Exact, actual: Values, dtype: str, model: ErrorModel) -> Screened:
    """Return what float64 can say of computed elements, given flat in float64."""
    with np.errstate(all="ignore"):
        output, near = FORMATS[dtype], exact.near
        result = _bounded(exact, near, actual, output, model)
        overflows = _may_overflow(exact, near, output, model)
        result.judged &= ~overflows
        if exact.special:
            _hold_special(exact, actual, overflows, result)
        return result


def screen_copies(exact: Exact, actual: Values) -> Screened:
    """Return where copies of floats are what they must be: the same number, the same sign of zero, NaN for NaN."""
    assert exact.copies is not None
    expected = exact.copies.reshape(-1)
    same_sign = np.signbit(expected) == np.signbit(actual)
    if exact.constants is not None:
        same_sign |= exact.constants.reshape(-1) & (expected == 0)
    same = (expected == actual) & same_sign
    same |= np.isnan(expected) & np.isnan(actual)
    return _equal(same, np.ones(same.shape, bool))


def _equal(holds: Values, judged: Values) -> Screened:
    off = np.where(holds, 0.0, np.inf)
    return Screened(judged, holds, np.zeros(holds.shape, bool), off, off.copy())


def _bounded(exact: Exact, near: Near, actual: Values, output: Format, model: ErrorModel) -> Screened:
    """Hold elements to E and half an ulp."""
    y, accumulate = np.abs(near.value), model.format
    low, high, underflow, exactly, unsure = _errors(exact, near, output, model)
    half_low = half_high = np.zeros(y.shape)
    if output.precision < accumulate.precision or output.largest < accumulate.largest:
        half_low = _half_ulp((y - near.off + low) * (1 - SLACK), output)
        half_high = _half_ulp((y + near.off + high) * (1 + SLACK), output)
    distance = actual - near.value
    error = np.abs(distance - near.low)
    off = near.off + np.abs(distance) * 2.0**-52
    most, least = error * (1 + SLACK) + off, error * (1 - SLACK) - off
    bound = low + half_low
    finite = np.isfinite(actual) & np.isfinite(near.value)
    holds = finite & (most <= bound * (1 - SLACK))
    holds |= (near.size == 0) & (actual == 0)
    deep, steps, may_lose = np.zeros(y.shape, bool), np.zeros(y.shape), np.ones(y.shape)
    if output.precision == 53:
        enough = model.relative(near.roundings, 1.0, exact.elementary) >= 2.0**-53
        enough &= (near.size >= y) & (y > 2.0**-1022)
        enough |= (underflow >= 1) & (y <= 2.0**-1022)  # where E is half the smallest float64 or more
        holds |= near.rounded & finite & (actual == near.value) & enough
        deep = ~holds & np.isfinite(near.off) & (y <= 2.0**-1022) & (np.abs(actual) <= 2.0**-1022)
        # in units of the smallest float64, of which all are multiples: without roundings
        steps, unsure_steps = np.ldexp(error, 1074), np.ldexp(near.off, 1074)
        may_lose = underflow * np.ldexp(1.0, model.underflow_exponent() + 1074)
        deep &= steps + unsure_steps <= may_lose * (1 - SLACK)
        holds |= deep
    wrong = np.isnan(actual) | (finite & (least > (high + half_high) * (1 + SLACK)))
    wrong |= np.isinf(actual) & (y + near.off + high < np.ldexp(1.0, output.largest - 1))
    ratio = np.where(error > 0, error / bound, 0.0)
    ratio[np.isnan(ratio)] = np.inf
    ratio = np.where(deep, steps / may_lose, ratio)
    equal = exactly & (round_to(near.value, output) == actual)
    holds = np.where(exactly, equal, holds)
    ratio = np.where(exactly, np.where(equal, 0.0, np.inf), ratio)
    holds &= ~unsure
    still_open = ~wrong & ((~holds & ~exactly) | unsure)
    _, exponent = np.frexp(near.value)
    unit = np.ldexp(1.0, np.maximum(exponent - output.precision, output.smallest))
    ulps = np.where(np.isfinite(error), error / unit, np.inf)
    return Screened(
        np.ones(actual.shape, bool), holds, still_open, ratio, np.where(exactly & equal, 0.0, ulps)
    )


def _errors(exact: Exact, near: Near, output: Format, model: ErrorModel) -> tuple[Values, ...]:
    """Return what E is at least and at most, how often a result may underflow, where E is 0, and where it may be.

    It is 0 where every partial sum is representable, which an S close to the limit leaves open.
    """
    accumulate, count = model.format, near.roundings
    exactly = unsure = np.zeros(count.shape, bool)
    divided = np.array(exact.divisors) != 1 if exact.divisors else exactly
    underflow: Any = float(1 << accumulate.precision)
    if exact.lattice is not None:
        normal = exact.lattice > model.underflow_exponent()
        size = near.size * np.array(exact.divisors, float) if exact.divisors else near.size
        limit = np.ldexp(1.0, accumulate.precision + exact.lattice)
        fits = size <= limit
        if normal and model.keeps_exact_sums:
            exactly = fits & ~divided & near.rounded  # then float64 holds the value without error
            unsure = (fits & ~divided & ~near.rounded) | (np.abs(size - limit) <= SLACK * limit)
            count = np.where(fits & divided, exact.divisions, count)
        underflow = np.where(divided, count, 0.0) if normal else count
    e = model.relative(count, 1.0, exact.elementary) * near.size
    e = e + exact.stored * 2.0**-output.precision * near.size
    e = e + np.ldexp(near.faint, output.smallest if exact.stored else accumulate.smallest)
    if exact.radius:
        e = e + exact.floats([exact.radius])[0]
    below = underflow * np.ldexp(1.0, model.underflow_exponent())
    none = (e == 0) & (underflow == 0) & (near.value == 0)  # no product that is not zero
    high = (e + below) * (1 + SLACK) + np.where(underflow > 0, (underflow + FEW) * TINY, 0.0)
    low = np.maximum((e + below) * (1 - SLACK) - FEW * TINY, 0.0)
    return low, high, np.broadcast_to(underflow, count.shape), exactly | none, unsure & (near.size > 0)


def _half_ulp(reach: Values, output: Format) -> Values:
    """Return how much rounding a value of this size to the output's format errs at most."""
    exponent = np.frexp(reach)[1] - 1
    half: Values = np.ldexp(1.0, np.maximum(exponent - output.precision, output.smallest - 1))
    return np.where(reach > 0, half, np.ldexp(1.0, output.smallest - 1))


def _may_overflow(exact: Exact, near: Near, output: Format, model: ErrorModel) -> Values:
    size = near.size * np.array(exact.divisors, float) if exact.divisors else near.size
    size = np.maximum(size, near.reach)
    largest = min(model.largest, output.largest) if exact.stored else model.largest
    fits: Values = (size < np.ldexp(1.0, largest - 1)) & (near.summed < np.ldexp(1.0, model.largest - 1))
    return ~fits


def _hold_special(exact: Exact, actual: Values, overflows: Values, result: Screened) -> None:
    """Hold results that are not finite to NaN, or to their infinity, which overflow may cancel."""
    places = np.fromiter(exact.special, np.int64, len(exact.special))
    expected = np.fromiter(exact.special.values(), np.float64, len(exact.special))
    found = actual[places]
    same = (found == expected) | (np.isnan(found) & np.isnan(expected))
    result.judged[places] = ~(np.isinf(expected) & overflows[places])
    result.holds[places], result.open[places] = same, False
    result.ratio[places] = result.ulps[places] = np.where(same, 0.0, np.inf)
