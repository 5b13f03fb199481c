"""What paired samples say of a ratio: the exact interval of its median, and one word.

    l_i = ln(candidate_i / reference_i)    ratio = exp(median of l)

The interval is that of the sign test, between two order statistics: it holds for any distribution of the l_i, as long
as each is as likely above the median as below, independently of the others. Which side of a pair runs first is drawn
anew for each, so that what the machine does in the meantime has no side that it prefers.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

SLOW, FAST, SAME, AMBIGUOUS = "SLOW", "FAST", "SAME", "AMBIGUOUS"
INVALID, NOT_COMPARABLE, MISSING = "INVALID", "NOT COMPARABLE", "MISSING"
VERDICTS = {
    SLOW: "the interval lies wholly above 1 + delta",
    FAST: "the interval lies wholly below 1 - delta",
    SAME: "the interval lies wholly within 1 +- delta",
    AMBIGUOUS: "the interval lies across a border: more pairs, or a calmer machine, may decide",
    INVALID: "a side fails conformance, or the machine does not find a call to be as fast as itself",
    NOT_COMPARABLE: "the runs were made in different environments",
    MISSING: "the base has it, the head has not",
}
DELTA = 0.03
"""What two ratios may differ by and be the same, within one process."""


@dataclass(frozen=True)
class Interval:
    """A median and its interval; both ends are NaN where there are too few values for this confidence.

    >>> Interval.of([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], 0.99)
    Interval(median=4.5, low=1.0, high=8.0)
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float], confidence: float) -> "Interval":
        """Return the median of values, and the interval of the median of what they were drawn from."""
        from scipy.stats import quantile_test

        found = quantile_test(values, q=0, p=0.5).confidence_interval(confidence)
        return cls(median(values), float(found.low), float(found.high))

    @classmethod
    def of_ratios(cls, pairs: Sequence[tuple[float, float]], confidence: float) -> "Interval":
        """Return the median ratio of (reference, candidate) pairs, and its interval.

        >>> Interval.of_ratios([(2.0, 4.0)] * 20, 0.995).verdict()
        'SLOW'
        """
        logarithms = cls.of([math.log(candidate / reference) for reference, candidate in pairs], confidence)
        return cls(math.exp(logarithms.median), math.exp(logarithms.low), math.exp(logarithms.high))

    def over(self, other: "Interval") -> "Interval":
        """Return the ratio of two positive medians, in the widest interval that both intervals allow."""
        return Interval(self.median / other.median, self.low / other.high, self.high / other.low)

    def verdict(self, delta: float = DELTA) -> str:
        """Return what the interval says of a ratio.

        >>> [Interval(1.0, *ends).verdict() for ends in ((0.99, 1.02), (0.9, 0.96), (0.99, 1.04))]
        ['SAME', 'FAST', 'AMBIGUOUS']
        """
        if self.low > 1 + delta:
            return SLOW
        if self.high < 1 - delta:
            return FAST
        return SAME if self.low >= 1 - delta and self.high <= 1 + delta else AMBIGUOUS

    def __str__(self) -> str:
        """Return the median with as many digits as the interval supports.

        >>> print(Interval(1.0423, 1.031, 1.052), Interval(12.3456, 11.3, 14.4), Interval(1.52, math.nan, math.nan))
        1.04 [1.03, 1.05] 12.3 [11.3, 14.4] 1.5
        """
        width = self.high - self.low
        if not math.isfinite(width):
            return f"{self.median:.2g}"
        digits = min(4, max(1, -math.floor(math.log10(width or 1e-4))))
        return f"{self.median:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


def lag_one(values: Sequence[float]) -> float:
    """Return the correlation of each value with the next; 0 for fewer than three, or constant ones.

    >>> round(lag_one([1.0, -1.0] * 10), 2)
    -0.95
    """
    centre = sum(values) / max(1, len(values))
    apart = [value - centre for value in values]
    whole = sum(one * one for one in apart)
    if len(values) < 3 or not whole:
        return 0.0
    return sum(one * other for one, other in itertools.pairwise(apart)) / whole
