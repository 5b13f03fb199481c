"""Judge functions that fill weights by the distribution that their initialiser states.

Every test has a stated probability of rejecting a healthy fill, in finite samples and without approximation. They
share the false alarm evenly (Bonferroni), so the verdict "does not hold" is wrong with at most that probability.

All tests but that of the support look at U = F(x), F the stated distribution function: under the hypothesis the U
are independent and uniform on [0, 1]. Then uniform on [0, 1] are also
    |2 U - 1|                           (spread about the median)
    U[i + lag] + U[i] mod 1, U[i + lag] - U[i] mod 1, independent for i = 0, 1, ..  (repeats and reflections),
because adding what is independent and uniform on a circle gives the like. The mean of n of them obeys
    P(|mean - 1/2| >= t) <= 2 exp(-6 n t^2),   as E exp(s (U - 1/2)) = sinh(s/2) / (s/2) <= exp(s^2 / 24).
The lags are the strides of the shape's axes and the size of one fill: rows, kernels or whole fills that repeat.
The k-th least of n has the Beta(k, n - k + 1) distribution (tails that are cut off or too heavy).

Rounding. A generator works with multiples of the unit roundoff u and rounds, so its values are tied and follow a
distribution function G with |G - F| <= e everywhere; e = roundings * u + 2 s / std, s the smallest subnormal.
Then F(x) is within e of a number that is uniform indeed, drawn between G(x-) and G(x), ties or not. Each statistic
may therefore lie off by e, or by as much as it changes with U: 2 e for |2 U - 1|, 4 e for the sums; only what is
beyond counts. The roundings, each of u relative to the value it rounds, an error d of the value moving F by at most
d times the density:
- uniform, low + (high - low) * v: with M the larger bound, 10 M for the bounds (8 of them in the formula that they
  come from), and 6 (high - low) for the multiples v, the difference, the product, the sum and F itself.
- normal, mean + std * sqrt(-2 log v) cos(2 pi w): values above x are a region of the square of (v, w) between two
  monotone curves, which cut at most 4 / u cells of the area u^2: 4. The angle moves both curves by 2 u each way: 4.
  At most 15 relative errors of std and of the functions count sup |z| phi(z) = 0.242 times; those of the mean,
  2 |mean| / std, 0.4 times; F itself 3. Together 16 + |mean| / std.
- truncated, with the share Z of the normal law: 4 / Z times as much, for what is in the count and for Z.
- subnormals: at most four absolute errors of s / 2, and the density of these laws is at most 1 / std.
Sources: Hoeffding 1963 (exponential bounds); Box & Muller 1958; David & Nagaraja, "Order statistics", 2003.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from cnnspec import nested
from cnnspec.bounds import FORMATS, Format, half_ulp_exponent, nearest
from cnnspec.errors import ArgumentError, ShapeError
from cnnspec.initialisers import Constant, Dirac, Initialiser
from cnnspec.nested import Array, Shape
from cnnspec.probability import Distribution

Fill = Callable[[Shape, int], Array]
"""fill(shape, seed) -> a filled array: a NumPy array, or anything that has `.tolist()`."""


@dataclass(frozen=True)
class Finding:
    """What `check_initialiser` found.

    holds:     whether no test rejects
    statement: the finding in words
    p_value:   the least of `p_values` times their number; 0 where a value is impossible
    p_values:  of each test by its name, empty where none was needed
    """

    holds: bool
    statement: str
    p_value: float
    p_values: Mapping[str, float] = field(default_factory=dict)


class _Test(NamedTuple):
    """A test's name, its p-value, and the least p-value that any data could give it."""

    name: str
    p_value: float
    least: float


def check_initialiser(
    fill: Fill,
    initialiser: Initialiser,
    weight_shape: Shape,
    *,
    shape: Shape | None = None,
    dtype: str | None = None,
    false_alarm: float = 1e-9,
    seed: int = 0,
    draws: int = 4096,
) -> Finding:
    """Judge fill(shape, seed) by the distribution that the initialiser gives a weight of `weight_shape`.

    The function is called with seed, seed + 1, .. until there are at least `draws` values; once where nothing is
    random. Impossible values and wrong shapes fail outright; else the tests of this module decide, and all of them
    together reject a healthy function with a probability of at most `false_alarm`.
    shape: of what is filled, where it is not the weight itself but its bias
    dtype: the format of the values, where the array does not say: "bfloat16" in a float32 array of NumPy
    Raises ArgumentError for a false_alarm outside (0, 1), for an unknown dtype, and where the draws are too few or
    the dtype is too coarse for every test to be able to reject; ShapeError where there is nothing to fill.

    >>> from cnnspec.initialisers import XavierUniform
    >>> def fill(shape, seed):
    ...     return np.random.default_rng(seed).uniform(-0.2, 0.2, shape)
    >>> check_initialiser(fill, XavierUniform(), (100, 50)).holds
    True
    >>> check_initialiser(fill, XavierUniform(), (100, 200)).holds
    False
    """
    shape = tuple(weight_shape if shape is None else shape)
    size = math.prod(shape)
    if not 0 < false_alarm < 1:
        raise ArgumentError(f"{false_alarm=} must lie between 0 and 1", false_alarm=false_alarm)
    if not size:
        raise ShapeError(f"{shape=} must have elements", shape=shape)
    fixed = isinstance(initialiser, Constant | Dirac)
    values: list[Any] = []
    for i in range(1 if fixed else max(1, math.ceil(draws / size))):
        array = fill(shape, seed + i)
        if nested.shape_of(array) != shape:
            return _impossible(initialiser, f"an array of shape {nested.shape_of(array)} instead of {shape}")
        values += nested.ravel(array)  # before the next call, which may fill the same memory
        dtype = dtype or str(getattr(array, "dtype", "float64")).rpartition(".")[2]
    if dtype is None or dtype not in FORMATS:
        raise ArgumentError(f"{dtype=} must be one of {', '.join(FORMATS)}", dtype=dtype)
    if isinstance(initialiser, Constant | Dirac):
        return _compare(initialiser, values, nested.ravel(initialiser.values(shape)), FORMATS[dtype])
    law = initialiser.distribution(weight_shape)
    low, high = -_highest(-law.support[0], FORMATS[dtype]), _highest(law.support[1], FORMATS[dtype])
    for value in values:
        if not (low <= value <= high and math.isfinite(value)):
            return _impossible(initialiser, f"{value!r}, outside [{low!r}, {high!r}]")
    tests = list(_tests(values, law, FORMATS[dtype], shape))
    if any(test.least * len(tests) > false_alarm for test in tests):
        raise ArgumentError(
            f"{draws=} of {dtype} can reject nothing at {false_alarm=}: more draws, or a dtype of more bits"
        )
    worst = min(tests, key=lambda test: test.p_value)
    p_value = min(1.0, worst.p_value * len(tests))
    holds = p_value > false_alarm
    statement = (
        f"{initialiser} of {shape}: {'none' if holds else 'at least one'} of {len(tests)} tests rejects "
        f"{len(values)} values at {false_alarm}; least p-value {worst.p_value:.3g} ({worst.name}); "
        f"mean {np.mean(values):.6g} where {float(law.mean):.6g} is stated, "
        f"variance {np.var(values):.6g} where {float(law.variance):.6g} is"
    )
    return Finding(holds, statement, p_value, {test.name: test.p_value for test in tests})


def _impossible(initialiser: Initialiser, what: str) -> Finding:
    return Finding(holds=False, statement=f"{initialiser} cannot give {what}", p_value=0.0)


def _compare(
    initialiser: Initialiser, values: Sequence[float], expected: Sequence[Any], form: Format
) -> Finding:
    """Compare with `==`, to what the stated numbers round to."""
    for value, number in zip(values, expected, strict=True):
        exact = Fraction(number)
        rounded = nearest(exact.numerator, exact.denominator, 0, form)
        if value != rounded:
            return _impossible(initialiser, f"{value!r} in the place of {rounded!r}")
    return Finding(holds=True, statement=f"{initialiser}: all {len(values)} values are equal", p_value=1.0)


def _highest(bound: float | Fraction, form: Format) -> float:
    """Return the highest number of the format that a healthy fill with this upper bound may reach.

    The bound rounded upward, or the nearest number to one that eight operations in float64 have carried too far.
    """
    if math.isinf(bound):
        return math.inf
    exact = Fraction(bound)
    unit = half_ulp_exponent(abs(exact.numerator), exact.denominator, 0, form) + 1
    carried = exact + abs(exact) * Fraction(8, 2**53)
    upward = math.ldexp(math.ceil(exact / Fraction(2) ** unit), unit)
    return max(upward, nearest(carried.numerator, carried.denominator, 0, form))


def _tests(values: Sequence[float], law: Distribution, form: Format, shape: Shape) -> list[_Test]:
    """Return all tests of the values, given in row-major order, fill after fill."""
    off = law.roundings * 2.0**-form.precision + math.ldexp(2, form.smallest) / math.sqrt(law.variance)
    u = np.array([law.cdf(value) for value in values])
    ordered, n = np.sort(u), len(u)
    ranks = np.arange(n)
    distance = max(np.max((ranks + 1) / n - ordered), np.max(ordered - ranks / n))
    tests = [
        _Test("Kolmogorov-Smirnov", float(stats.kstwo.sf(max(0.0, distance - off), n)), 0.0),
        _mean("location", u, off),
        _mean("spread", np.abs(2 * u - 1), 2 * off),
    ]
    strides = {math.prod(shape[axis:]) for axis in range(1, len(shape) + 1)} | {math.prod(shape)}
    for lag, (name, sign) in itertools.product(
        sorted(stride for stride in strides if stride < n), (("sum", 1), ("difference", -1))
    ):
        around = (u[lag:] + sign * u[:-lag]) % 1
        tests.append(_mean(f"{name} at lag {lag}", np.abs(2 * around - 1), 4 * off))
    counts = 2 ** np.arange(int(math.log2(n)))
    for name, tail in (("lower", ordered), ("upper", 1 - ordered[::-1])):
        kth, others = tail[counts - 1], n - counts + 1
        sides = stats.beta.cdf(kth + off, counts, others), stats.beta.sf(kth - off, counts, others)
        p_values = np.minimum(1, 2 * np.minimum(*sides))
        tests += [_Test(f"{name} tail of {k}", float(p), 0.0) for k, p in zip(counts, p_values, strict=True)]
    return tests


def _mean(name: str, uniform: np.ndarray[Any, Any], off: float) -> _Test:
    """Test whether values are uniform on [0, 1], up to `off` each, by their mean."""
    n = len(uniform)
    distance = abs(math.fsum(uniform) / n - 0.5)
    p_value, least = (
        min(1.0, 2 * math.exp(-6 * n * max(0.0, beyond) ** 2)) for beyond in (distance - off, 0.5 - off)
    )
    return _Test(name, p_value, least)
