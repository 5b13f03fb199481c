"""Correct rounding of float64 arrays, and sums of rows of products without error.

A sum is first taken as h + l +- e, three float64 numbers per row: h collects the leading bits of all terms, which
add without error, l what is left, e what rounding of l may hide. Where both ends of h + (l +- e) round to one
number, that is the correctly rounded sum; the few rows left are summed in Python's integers.
Sources: Rump, Ogita, Oishi, "Accurate floating-point summation part I", 2008 (the extraction); Dekker, "A
floating-point technique for extending the available precision", 1971 (the product); Boldo & Melquiond, "Emulation
of FMA and correctly rounded sums: proved algorithms using rounding to odd", 2008.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnspec.bounds import Format, nearest

Values = npt.NDArray[Any]

UNIT = 2.0**-53  # the unit roundoff of float64
CONTAINERS = {"float64": "float64", "float32": "float32", "float16": "float16"}


def container(form: Format) -> np.dtype[Any]:
    """Return the NumPy type that holds a format: float32 for those that NumPy lacks."""
    return np.dtype(CONTAINERS.get(form.name, "float32"))


def round_to(values: Values, form: Format) -> Values:
    """Return float64 `values` rounded once to `form`, ties to even, overflow to infinity.

    >>> from cnnspec.bounds import FORMATS
    >>> round_to(np.array([1 + 2.0**-8, 1 + 3 * 2.0**-8, 3.4e38]), FORMATS["bfloat16"])
    array([1.      , 1.015625,      inf], dtype=float32)
    """
    if form.name in CONTAINERS:
        with np.errstate(over="ignore", under="ignore"):
            return values.astype(CONTAINERS[form.name], copy=False)
    dropped = 53 - form.precision
    bits = values.view(np.int64) if values.flags.c_contiguous else np.ascontiguousarray(values).view(np.int64)
    even = bits >> dropped
    even &= 1
    even += bits
    even += (1 << (dropped - 1)) - 1
    even &= -(1 << dropped)
    rounded = even.view(np.float64)
    size = np.abs(values)
    small = size < form.smallest_normal
    if small.any():
        shifter = 1.5 * 2.0 ** (52 + form.smallest)  # its last place is the smallest subnormal
        rounded[small] = (values[small] + shifter) - shifter
    large = np.abs(rounded) >= 2.0**form.largest
    if large.any():
        rounded[large] = np.copysign(np.inf, rounded[large])
    return rounded.astype(np.float32)


def round_pair(h: Values, l: Values, form: Format) -> Values:  # noqa: E741 - the letters of the formula
    """Return h + l rounded once to `form`.

    >>> from cnnspec.bounds import FORMATS
    >>> round_pair(np.array([1 + 2.0**-24]), np.array([2.0**-80]), FORMATS["float32"]) > 1
    array([ True])
    """
    s, t = two_sum(h, l)
    if form.precision >= 53:
        return s
    bits = s.view(np.int64)
    step = np.where((t > 0) == (s > 0), 1, -1)  # to the odd neighbour, which no later rounding mistakes
    return round_to(np.where((t != 0) & (bits & 1 == 0), bits + step, bits).view(np.float64), form)


def two_sum(a: Values, b: Values) -> tuple[Values, Values]:
    """Return fl(a + b) and its error: their sum is a + b."""
    s = a + b
    z = s - a
    return s, (a - (s - z)) + (b - z)


def two_product(a: Values, b: Values) -> tuple[Values, Values]:
    """Return fl(a b) and its error, where neither splitting overflows nor the error underflows."""
    p = a * b
    c = a * 134217729.0
    a_high = c - (c - a)
    d = b * 134217729.0
    b_high = d - (d - b)
    a_low, b_low = a - a_high, b - b_high
    return p, ((a_high * b_high - p) + a_high * b_low + a_low * b_high) + a_low * b_low


@dataclass(frozen=True)
class Sums:
    """Correctly rounded sums of rows, and how many of them took Python's integers."""

    values: Values
    by_integers: int


def rounded_sums(a: Values, b: Values | None, form: Format, *, short: bool) -> Sums:
    """Return sum_k a[j, k] b[j, k] of each row of two float64 matrices, correctly rounded; b None stands for ones.

    short: the products are exact in float64.

    >>> from cnnspec.bounds import FORMATS
    >>> rounded_sums(np.array([[1e30, 1.0, -1e30]]), None, FORMATS["float32"], short=True).values
    array([1.], dtype=float32)
    """
    rows = len(a)
    values = np.zeros(rows, container(form))
    left = np.arange(rows)
    inside = np.ones(rows, bool)
    if b is None:
        terms = a
    elif short:
        terms = a * b
    else:
        inside = _in_range(a) & _in_range(b)
        left = np.flatnonzero(inside)
        terms = np.concatenate(two_product(a[left], b[left]), axis=1)
    left_over = [np.flatnonzero(~inside)]
    for extractions in (1, 2):
        if len(left):
            settled, found = _extracted(terms, extractions, form)
            values[left[settled]] = found[settled]
            left, terms = left[~settled], terms[~settled]
    left_over.append(left)
    rest = np.concatenate(left_over)
    for j in rest.tolist():
        values[j] = _by_integers(a[j], None if b is None else b[j], form)
    values += values.dtype.type(0)
    return Sums(values, len(rest))


def _in_range(a: Values) -> Values:
    """Say which rows are far from where products or their errors leave the range of float64."""
    size: Values = np.abs(a)
    outside: Values = (size > 2.0**400) | ((size < 2.0**-400) & (size > 0))
    found: Values = np.logical_not(outside.any(axis=1))
    return found


def _extracted(terms: Values, extractions: int, form: Format) -> tuple[Values, Values]:
    """Return which rows the sum h + l +- e settles, and their roundings."""
    count = terms.shape[1]
    spare = (count + 2).bit_length()
    largest = np.maximum(terms.max(axis=1, initial=0), -terms.min(axis=1, initial=0))
    within = largest < 2.0**900
    if not within.all():
        terms = np.where(within[:, None], terms, 0.0)
    sigma = np.ldexp(1.0, np.frexp(np.minimum(largest, 2.0**900))[1] + spare)  # |term| <= 2**-spare sigma
    rest, parts = terms, []
    for _ in range(extractions):
        leading = terms + sigma[:, None] if rest is terms else rest + sigma[:, None]
        leading -= sigma[:, None]  # multiples of UNIT sigma that sum to at most sigma: without error
        parts.append(leading.sum(axis=1))
        rest = np.subtract(rest, leading, out=leading)
        remainder = sigma * UNIT
        sigma = remainder * 2.0**spare
    h, l = (parts[0], np.zeros_like(sigma)) if extractions == 1 else two_sum(*parts)  # noqa: E741
    exact = ~rest.any(axis=1)
    tail = rest.sum(axis=1)
    e = remainder * (count * count * UNIT)
    low = np.where(exact, l, l + tail)
    e = np.where(exact, 0.0, e * (1 + 2.0**-20) + (np.abs(low) + np.abs(l)) * (4 * UNIT))
    below, above = round_pair(h, low - e, form), round_pair(h, low + e, form)
    return (below == above) & within, above


def _by_integers(a: Values, b: Values | None, form: Format) -> float:
    """Return one row's sum, over integers of one unit."""
    products = []
    for x, y in zip(a.tolist(), [1.0] * len(a) if b is None else b.tolist(), strict=True):
        if x and y:
            (n, d), (m, c) = x.as_integer_ratio(), y.as_integer_ratio()
            products.append((n * m, 2 - d.bit_length() - c.bit_length()))
    unit = min((exponent for _, exponent in products), default=0)
    return nearest(sum(n << (exponent - unit) for n, exponent in products), 1, unit, form)
