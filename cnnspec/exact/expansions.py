"""Sums, quotients and roots as h + l +- e, three float64 numbers per element, and their correct rounding.

    sum       s' + q = s + x without error (two_sum); c collects the q, a their sizes: |s + c - sum| <= d u a
    quotient  q1 = fl(h / d), whose remainder h - q1 d is a float64 number, and q2 = (the remainder + l) / d
    root      r1 = fl(sqrt h), whose remainder h - r1^2 is a float64 number, and r2 = (the remainder + l) / (2 r1)

e is 0 where nothing was lost, so that ties are settled too. Where h + (l - e) and h + (l + e) round to one number,
that is the correctly rounded one; elsewhere the element is open, and integers settle it.
Sources: Ogita, Rump, Oishi, "Accurate sum and dot product", 2005; Markstein, "Computation of elementary functions on
the IBM RISC System/6000 processor", 1990 (the remainders); Ziv 1991 (the test).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnspec.bounds import Format, nearest
from cnnspec.errors import CnnspecError
from cnnspec.exact.sums import UNIT, round_pair, two_product, two_sum
from cnnspec.exact.ways import SLACK

Values = npt.NDArray[Any]

LARGE = 2.0**900  # beyond, products and their errors may leave the range of float64
SMALL = 2.0**-800


def check_thread() -> None:
    """Raise CnnspecError where subnormals are flushed."""
    if (np.float64(5e-324) * np.float64(1.0)) == 0:
        raise CnnspecError("this thread flushes subnormals to zero; switch that off to round correctly")


@dataclass
class Expansion:
    """Numbers h + l +- e; l and e are None where they are zero."""

    h: Values
    l: Values | None = None  # noqa: E741 - the letters of the formula
    e: Values | None = None


def parts(numbers: Expansion) -> tuple[Values, Values, Values]:
    """Return h, l and e as arrays, |l| at most half an ulp of h."""
    zero = np.zeros((), np.float64)
    low = zero if numbers.l is None else numbers.l
    h, l = two_sum(numbers.h, low)  # noqa: E741
    return h, l, np.broadcast_to(zero if numbers.e is None else numbers.e, h.shape)


def cascade(terms: Iterable[Values], count: int) -> Expansion:
    """Return the sum of `count` terms: their errors are summed without error too, as far as that goes."""
    s: Any = 0.0
    c: Any = 0.0
    t: Any = 0.0
    a: Any = 0.0
    for term in terms:
        s, q = two_sum(s, term)
        c, p = two_sum(c, q)
        t = t + p
        a = a + np.abs(p)
    c, lost = two_sum(c, t)
    return Expansion(s, c, a * ((count + 8) * UNIT) + np.abs(lost))


def folded(rows: Values) -> Expansion:
    """Return the sums of rows as `cascade` does, in halves.

    >>> folded(np.array([[1e16, 1.0, -1e16, 2.0**-60]])).h
    array([1.])
    """
    s, depth = rows.T, 8
    c = t = a = np.zeros_like(s)
    while len(s) > 1:
        if len(s) % 2:
            s, c, t, a = (np.concatenate([one, np.zeros_like(one[:1])]) for one in (s, c, t, a))
        half = len(s) // 2
        s, q = two_sum(s[:half], s[half:])
        c, p = two_sum(c[:half], c[half:])
        c, r = two_sum(c, q)
        t = t[:half] + t[half:] + p + r
        a = a[:half] + a[half:] + np.abs(p) + np.abs(r)
        depth += 4
    low, lost = two_sum(c[0], t[0])
    return Expansion(s[0], low, a[0] * (depth * UNIT) + np.abs(lost))


def multiplied(numbers: Expansion, factor: Values) -> Expansion:
    """Return the numbers times whole factors below 2**53."""
    h, l, e = parts(numbers)  # noqa: E741
    p, error = two_product(h, factor)
    first, lost = two_product(l, factor)
    low, gone = two_sum(error, first)
    return Expansion(p, low, (e * factor + np.abs(lost) + np.abs(gone)) * SLACK)


def quotient(numbers: Expansion, divisor: Values) -> Expansion:
    """Return the numbers divided by whole numbers that are not zero."""
    h, l, e = parts(numbers)  # noqa: E741
    size = np.abs(divisor)
    first = h / divisor
    p, error = two_product(first, divisor)
    rest, lost = two_sum((h - p) - error, l)
    second = rest / divisor
    p, error = two_product(second, divisor)
    inexact = (p != rest) | (error != 0)
    found = (e + np.abs(lost)) / size + np.where(inexact, np.abs(second) * (2 * UNIT), 0.0)
    return Expansion(first, second, found * SLACK)


def root(numbers: Expansion) -> Expansion:
    """Return the square roots of numbers that are not negative, those between 0 and their error as 0 +- inf."""
    h, l, e = parts(numbers)  # noqa: E741
    first = np.sqrt(h)
    p, error = two_product(first, first)
    rest, lost = two_sum((h - p) - error, l)
    safe = np.where(first > 0, first, 1.0)
    second = rest / (2 * safe)
    small = second * second / safe  # the next term of the series is half of it, and all others less
    found = (e + np.abs(lost)) / safe + np.where(rest != 0, small + np.abs(second) * (2 * UNIT), 0.0)
    return Expansion(first, second, np.where((first > 0) | (e == 0), found * SLACK, np.inf))


def decided(numbers: Expansion, form: Format, *, sums: bool) -> tuple[Values, Values]:
    """Return the roundings and where they are open; `sums` are exact even where they are subnormal."""
    h, l, e = parts(numbers)  # noqa: E741
    e = np.where(e > 0, (e + np.abs(l) * (4 * UNIT)) * SLACK, 0.0)
    below, above = round_pair(h, l - e, form), round_pair(h, l + e, form)
    size = np.abs(h)
    undecided = (below != above) | ~(size < LARGE)
    if not sums and form.precision == 53:
        undecided |= (size < SMALL) & ((h != 0) | (e != 0) | (l != 0))
    return above, undecided


def whole_sum(terms: Sequence[float], weights: Sequence[int] | None = None) -> tuple[int, int]:
    """Return n, e of the sum n 2**e of finite terms, times whole weights where they are given.

    >>> whole_sum([0.5, 3.0])
    (7, -1)
    """
    ratios = [term.as_integer_ratio() for term in terms]
    unit = max((d.bit_length() for _, d in ratios), default=1)
    lifted = [n << (unit - d.bit_length()) for n, d in ratios]
    if weights is not None:
        lifted = [n * w for n, w in zip(lifted, weights, strict=True)]
    return sum(lifted), 1 - unit


def nearest_ratio(n: int, d: int, exponent: int, form: Format) -> float:
    """Return n / d 2**exponent correctly rounded, of any signs."""
    return nearest(n if d > 0 else -n, abs(d), exponent, form)


def nearest_root(n: int, d: int, exponent: int, form: Format) -> float:
    """Return the square root of n / d 2**exponent, which is not negative, correctly rounded.

    What stands behind the last bit only matters if there is anything: no number of the format, and no middle
    between two, has so many bits.

    >>> from cnnspec.bounds import FORMATS
    >>> nearest_root(9, 1, -2, FORMATS["float32"]), nearest_root(2, 1, 0, FORMATS["bfloat16"])
    (1.5, 1.4140625)
    """
    if n == 0:
        return 0.0
    shift = max(0, 2 * (form.precision + 4) + d.bit_length() - n.bit_length())
    shift += (exponent - shift) % 2
    q, rest = divmod(n << shift, d)
    r = math.isqrt(q)
    sticky = int(rest != 0 or r * r != q)
    return nearest(2 * r + sticky, 1, (exponent - shift) // 2 - 1, form)
