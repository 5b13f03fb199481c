"""The verdict on one output element, in exact arithmetic.

An element holds where |actual - exact| <= E + half an ulp of the output format, E from the error model.
Where every partial sum is representable in any order (E = 0) it must be the correctly rounded value.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from cnnspec.bounds import FORMATS, Format, half_ulp_exponent, nearest
from cnnspec.exact.results import Exact
from cnnspec.models import ErrorModel
from cnnspec.op import bytes_per_element


@dataclass(frozen=True)
class Element:
    """The verdict on one element; floats are for people, `holds` was decided exactly."""

    holds: bool
    ratio: float
    expected: float
    error: float
    bound: float


@dataclass(frozen=True)
class Rule:
    """What one element must be: `expected`, or within E + half an ulp of `value` where there is an E.

    signed: a zero must have the sign of the expected one;   narrower: the output format rounds once more
    """

    expected: Any
    value: Fraction = Fraction(0)
    error: Fraction | None = None
    output: Format | None = None
    narrower: bool = False
    signed: bool = False

    def judge(self, actual: Any) -> Element:
        """Return the verdict on what a target gave."""
        if self.error is None or self.output is None:
            return self._equal(actual)
        if actual != actual:
            return Element(False, math.inf, self.expected, math.inf, 0.0)
        reach = abs(self.value) + self.error
        if math.isinf(actual):
            edge = self.value + (self.error if actual > 0 else -self.error)
            holds = _rounded(edge, self.output) == actual
            return Element(holds, float(holds) or math.inf, self.expected, 0.0 if holds else math.inf, 0.0)
        bound = self.error
        if self.narrower:
            bound += Fraction(2) ** half_ulp_exponent(reach.numerator, reach.denominator, 0, self.output)
        error = abs(Fraction(actual) - self.value)
        ratio = _float(error / bound) if bound else math.inf if error else 0.0
        if error > bound:
            ratio = max(ratio, math.nextafter(1, 2))
        return Element(error <= bound, ratio, self.expected, _float(error), _float(bound))

    def _equal(self, actual: Any) -> Element:
        expected = self.expected
        if expected != expected or actual != actual:
            holds = expected != expected and actual != actual
        else:
            same_sign = isinstance(actual, int) or math.copysign(1, expected) == math.copysign(1, actual)
            holds = bool(expected == actual and (not self.signed or expected != 0 or same_sign))
        error = 0.0 if holds else _distance(float(expected), float(actual))
        return Element(holds, 0.0 if holds else math.inf, float(expected), error, 0.0)


def rule(exact: Exact, i: int, dtype: str, model: ErrorModel | None) -> Rule | None:
    """Return what element i of `exact` must be in format `dtype`; None where it may be anything."""
    exact, i = exact.alone(i)
    if exact.copies is not None:
        constant = exact.constants is not None and bool(exact.constants.flat[i])
        return Rule(_copied(exact, i, dtype), signed=not constant)
    special = exact.special.get(i)
    overflows = model is not None and special == special and may_overflow(exact, i, model, FORMATS[dtype])
    if overflows:
        return None  # where an infinity is right, one of the other sign may arise on the way, and the two make NaN
    if special is not None:
        return Rule(special)
    return _bounded(exact, i, FORMATS[dtype], model) if model else Rule(exact.value(i))


def _bounded(exact: Exact, i: int, output: Format, model: ErrorModel) -> Rule:
    value, error = exact.value(i), error_bound(exact, i, model, output)
    if error == 0:
        return Rule(_rounded(value, output))
    narrower = output.precision < model.format.precision or output.largest < model.format.largest
    return Rule(_rounded(value, output), value, error, output, narrower)


def _copied(exact: Exact, i: int, dtype: str) -> Any:
    """Return a copied element as integers have it: their lowest for -inf, a window without a tap."""
    assert exact.copies is not None
    value = exact.copies.reshape(-1)[i]
    value = value.item() if isinstance(value, np.generic) else value
    if dtype not in FORMATS and value == -math.inf:
        return -(1 << (8 * bytes_per_element(dtype) - 1))
    return value


def may_overflow(exact: Exact, i: int, model: ErrorModel, output: Format) -> bool:
    """Say whether partial sums of the finite terms may leave the range of the accumulation in some order.

    Where intermediate results are stored, they must stay in the range of the output's format, sums on the way to them
    in that of the accumulation.
    """
    unit, size = Fraction(2) ** exact.exponent, exact.size(i) * exact.divisor(i)
    if exact.reach:
        size = max(size, exact.reach[i] * unit)
    if exact.summed and exact.summed[i] * unit >= Fraction(2) ** (model.largest - 1):
        return True
    largest = min(model.largest, output.largest) if exact.stored else model.largest
    return size >= Fraction(2) ** (largest - 1)


def error_bound(exact: Exact, i: int, model: ErrorModel, output: Format) -> Fraction:
    """Return E of element i; 0 where it must be the correctly rounded value."""
    form, size, count = model.format, exact.size(i), exact.count(i)
    divided = exact.divisor(i) != 1
    normal = exact.lattice is not None and exact.lattice > model.underflow_exponent()
    underflow = 1 << form.precision
    if exact.lattice is not None:
        units = size * exact.divisor(i) / Fraction(2) ** exact.lattice
        if normal and units <= 1 << form.precision and model.keeps_exact_sums:
            if not divided:
                return Fraction(0)
            count = exact.divisions  # of a sum that is exact
        underflow = 0 if normal and not divided else count
    found: Fraction = model.relative(count, Fraction(1), exact.elementary) * size
    found += Fraction(exact.stored, 2**output.precision) * size
    found += underflow * Fraction(2) ** model.underflow_exponent()
    unit = Fraction(2) ** exact.exponent
    if exact.faint:
        smallest = output.smallest if exact.stored else form.smallest
        found += exact.faint[i] * unit * Fraction(2) ** smallest
    return found + exact.radius * unit


def _rounded(value: Fraction, form: Format) -> float:
    return nearest(value.numerator, value.denominator, 0, form)


def _float(value: Fraction) -> float:
    """Return the nearest float64, for people to read."""
    return _rounded(value, FORMATS["float64"])


def _distance(a: float, b: float) -> float:
    difference = abs(a - b)
    return difference if difference > 0 else math.inf if a != a or b != b else 0.0
