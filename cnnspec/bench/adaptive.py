"""Paired measurement of two calls, with as many pairs as the verdict needs: 20, 40, 80 or 160."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from random import Random

from cnnspec.bench.paired import interleaved
from cnnspec.bench.timers import Sample, counts, quickest
from cnnspec.bench.verdicts import AMBIGUOUS, DELTA, Interval, lag_one

LOOKS = (20, 40, 80, 160)
"""The numbers of pairs after which the interval is looked at."""
ERROR = 0.02
"""The probability that any of a comparison's looks misleads; each look gets an equal part."""
CONFIDENCE = 1 - ERROR / len(LOOKS)


@dataclass(frozen=True)
class Comparison:
    """What was measured of a candidate and a reference.

    pairs: (reference, candidate) in seconds per call;  counts: calls per sample, likewise
    complete: it ended at a look, not because its time was spent
    """

    pairs: tuple[tuple[float, float], ...]
    counts: tuple[int, ...]
    complete: bool

    @property
    def ratio(self) -> Interval:
        """The time of the candidate over that of the reference."""
        return Interval.of_ratios(self.pairs, CONFIDENCE)

    @property
    def autocorrelation(self) -> float:
        """The correlation of a pair's logarithm with the next one's: what is far from 0 narrows the interval."""
        return lag_one([math.log(candidate / reference) for reference, candidate in self.pairs])


def measured(
    reference: Sample,
    candidate: Sample,
    rng: Random,
    *,
    delta: float = DELTA,
    spent: Callable[[], bool] = lambda: False,
) -> Comparison:
    """Return the comparison of two calls, warm and calibrated: until a look decides, all are over or time is spent.

    What ends for lack of time is looked at once more, in place of the next look.
    """
    numbers = counts(quickest(reference), quickest(candidate))
    first, second = partial(reference, numbers[0]), partial(candidate, numbers[1])
    pairs: list[tuple[float, float]] = []
    for pair in interleaved(first, second, drawn(rng)):
        pairs.append(pair)
        if len(pairs) in LOOKS:
            complete = Comparison(tuple(pairs), numbers, complete=True)
            if len(pairs) == LOOKS[-1] or complete.ratio.verdict(delta) != AMBIGUOUS:
                return complete
        if spent():
            break
    return Comparison(tuple(pairs), numbers, complete=False)


def alone(sample: Sample, spent: Callable[[], bool] = lambda: False) -> tuple[list[float], int]:
    """Return samples of a call that is compared with none, in seconds per call, and the calls per sample."""
    (count,) = counts(quickest(sample))
    samples = [sample(count)]
    while len(samples) < LOOKS[0] and not spent():
        samples.append(sample(count))
    return samples, count


def drawn(rng: Random) -> Iterator[bool]:
    """Yield orders of pairs without end."""
    while True:
        yield rng.random() < 0.5
