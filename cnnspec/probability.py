"""The laws of random values: where they lie, their mean and variance, and how often they lie where."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

Number = int | float | Fraction


@dataclass(frozen=True)
class Distribution:
    """The law of one parameter: where its values lie, and how often.

    support:         the least and the largest value
    mean, variance:  exact where they are rational
    cdf:             P(X <= x)
    roundings:       how far off a healthy generator's P(X <= x) may be, in unit roundoffs; `check_initialiser` says why
    """

    support: tuple[Number, Number]
    mean: Number
    variance: Number
    cdf: Callable[[float], float] = field(repr=False, compare=False)
    roundings: float = field(default=0, repr=False, compare=False)


def uniform(support: tuple[Number, Number], mean: Number, variance: Number) -> Distribution:
    """Return the law of values that are equally likely within a support."""
    low, high = map(float, support)
    width = high - low
    roundings = 6 + 10 * max(abs(low), abs(high)) / width
    return Distribution(support, mean, variance, lambda x: min(1.0, max(0.0, (x - low) / width)), roundings)


def normal(mean: Number, variance: Number) -> Distribution:
    """Return the normal law."""
    centre, std, whole = float(mean), math.sqrt(variance), (-math.inf, math.inf)
    roundings = 16 + abs(centre) / std
    return Distribution(whole, mean, variance, lambda x: between(-math.inf, (x - centre) / std), roundings)


def between(low: float, high: float) -> float:
    """Return P(low < Z <= high) of a standard normal variable, taken in the lower half, where nothing cancels.

    >>> between(-math.inf, 0), between(0, 0)
    (0.5, 0.0)
    """
    above, below = (low, high) if low > 0 else (-high, -low)
    return (math.erfc(above / math.sqrt(2)) - math.erfc(below / math.sqrt(2))) / 2
