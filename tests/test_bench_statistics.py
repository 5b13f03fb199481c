"""Verdicts on ratios: intervals cover what they say, noise never makes a call slow, and a slow one is found."""

import math
from collections.abc import Sequence
from itertools import islice
from random import Random

import pytest
from scipy.stats import binom

from cnnspec.bench.adaptive import CONFIDENCE, ERROR, LOOKS, Comparison, alone, drawn, measured
from cnnspec.bench.paired import interleaved
from cnnspec.bench.timers import LEAST_SECONDS, Sample, Wall, counts, quickest
from cnnspec.bench.verdicts import AMBIGUOUS, FAST, SAME, SLOW, Interval, lag_one
from tests.machines import NOISES, Machine, Noise, drifting

QUIET = 0.005
REPETITIONS = 20
noisy = pytest.mark.parametrize("noise", NOISES, ids=lambda noise: noise.__name__)


def simulated(noise: Noise, slower: float, seed: int) -> Comparison:
    machine = Machine(noise, seed)
    return measured(machine.sample(0.002), machine.sample(0.002 * slower), Random(seed))


@noisy
def test_a_call_that_takes_a_tenth_longer_is_slow(noise: Noise) -> None:
    found = [simulated(noise, 1.1, seed).ratio.verdict() for seed in range(REPETITIONS)]
    assert found == [SLOW] * REPETITIONS


@noisy
def test_the_same_call_is_never_slow_and_never_fast(noise: Noise) -> None:
    found = [simulated(noise, 1.0, seed).ratio.verdict() for seed in range(REPETITIONS)]
    assert {*found} <= {SAME, AMBIGUOUS}
    assert SAME in found


@noisy
def test_a_call_that_takes_a_tenth_less_is_fast(noise: Noise) -> None:
    assert simulated(noise, 0.9, 0).ratio.verdict() == FAST


def test_one_block_after_the_other_calls_the_same_code_different() -> None:
    def verdict(seed: int) -> str:
        machine = Machine(drifting, seed)
        first, second = ([machine.sample(QUIET)(1) for _ in range(LOOKS[0])] for _ in range(2))
        return Interval.of_ratios(list(zip(first, second, strict=True)), CONFIDENCE).verdict()

    assert {SLOW, FAST} & {verdict(seed) for seed in range(REPETITIONS)}


# Coverage


def coverage(noise: Noise, confidence: float, inward: int, repetitions: int = 2000) -> float:
    """Return how often the interval holds the true ratio; `inward` takes order statistics further inside."""
    hits = 0
    for seed in range(repetitions):
        machine = Machine(noise, seed)
        one, other = machine.sample(QUIET), machine.sample(1.05 * QUIET)
        orders = islice(drawn(Random(seed)), LOOKS[0])
        pairs = list(interleaved(lambda one=one: one(1), lambda other=other: other(1), orders))  # type: ignore[misc]
        low, high = ends(pairs, confidence, inward)
        hits += low <= 1.05 <= high
    return hits / repetitions


def ends(pairs: Sequence[tuple[float, float]], confidence: float, inward: int) -> tuple[float, float]:
    if not inward:
        interval = Interval.of_ratios(pairs, confidence)
        return interval.low, interval.high
    ratios = sorted(b / a for a, b in pairs)
    outside = int(binom.ppf((1 - confidence) / 2, len(ratios), 0.5)) - 1 + inward
    return ratios[outside], ratios[-1 - outside]


@noisy
@pytest.mark.parametrize("confidence", [0.95, CONFIDENCE])
def test_the_interval_covers_at_least_what_it_promises(noise: Noise, confidence: float) -> None:
    assert coverage(noise, confidence, 0, 2000 if confidence == 0.95 else 1000) >= confidence


def test_order_statistics_further_inside_are_caught() -> None:
    assert coverage(NOISES[0], 0.95, 1) < 0.95


@noisy
def test_looking_four_times_keeps_the_promise(noise: Noise) -> None:
    intervals = [simulated(noise, 1.05, seed).ratio for seed in range(200)]
    assert sum(one.low <= 1.05 <= one.high for one in intervals) / len(intervals) >= 1 - ERROR


def test_the_interval_is_between_order_statistics_of_the_binomial_distribution() -> None:
    """Worked by hand: P(B <= 3) = (1 + 20 + 190 + 1140) / 2^20 = 0.00129 <= 0.0025 < P(B <= 4), B of 20 coins."""
    found = Interval.of([float(n) for n in range(1, 21)], CONFIDENCE)
    assert (found.low, found.median, found.high) == (4.0, 10.5, 17.0)


def test_seven_pairs_are_too_few_for_99_percent() -> None:
    """The least and the greatest of 7 hold the median with 1 - 2 / 2^7 = 0.984, of 8 with 0.992."""
    assert math.isnan(Interval.of([1.0] * 7, 0.99).low)
    assert Interval.of([1.0] * 7, 0.99).verdict() == AMBIGUOUS
    assert Interval.of([1.0] * 8, 0.99).verdict() == SAME


def test_a_ratio_of_ratios_is_as_wide_as_both_allow() -> None:
    assert Interval(2.0, 1.0, 4.0).over(Interval(2.0, 0.5, 4.0)) == Interval(1.0, 0.25, 8.0)


def test_values_that_follow_each_other_are_told_from_those_that_alternate() -> None:
    assert lag_one([1.0, 2.0, 3.0, 4.0]) == 0.25  # (-1.5 * -0.5 + -0.5 * 0.5 + 0.5 * 1.5) / 5
    assert lag_one([1.0, 1.0, 1.0]) == 0


# How much is measured


def test_pairs_are_added_until_the_interval_decides() -> None:
    quiet = measured(lambda count: QUIET, lambda count: QUIET, Random(0))
    assert (len(quiet.pairs), quiet.complete, quiet.ratio.verdict()) == (LOOKS[0], True, SAME)

    def borderline() -> Comparison:
        steps = iter(range(10**6))
        return measured(lambda count: QUIET, lambda count: QUIET * (1.02, 1.04)[next(steps) % 2], Random(0))

    assert (len(borderline().pairs), borderline().ratio.verdict()) == (LOOKS[-1], AMBIGUOUS)


def test_what_runs_out_of_time_says_so() -> None:
    found = measured(lambda count: QUIET, lambda count: QUIET, Random(0), spent=lambda: True)
    assert (len(found.pairs), found.complete, found.ratio.verdict()) == (1, False, AMBIGUOUS)
    samples, count = alone(lambda count: QUIET, lambda: True)
    assert (samples, count) == ([QUIET], 1)


def test_which_side_runs_first_is_drawn_and_both_run_as_often() -> None:
    order: list[str] = []

    def side(name: str) -> float:
        order.append(name)
        return QUIET

    pairs = list(interleaved(lambda: side("a"), lambda: side("b"), islice(drawn(Random(0)), 400)))
    firsts = order[::2]
    assert len(pairs) == 400
    assert 150 < firsts.count("a") < 250
    assert [*map(set, zip(firsts, order[1::2], strict=True))] == [{"a", "b"}] * 400


def test_a_call_is_warm_before_it_is_timed() -> None:
    machine = Machine(lambda rng, second: 1 + 9 * max(0.0, 1 - second / 0.05), 0)
    assert quickest(machine.sample(0.0004)) == pytest.approx(0.0004, rel=1e-3)
    assert machine.second > 0.05


def test_a_call_that_never_settles_is_given_up_after_a_second() -> None:
    swings = iter(range(10**6))
    machine = Machine(lambda rng, second: (1.0, 2.0)[next(swings) % 2], 0)
    assert quickest(machine.sample(0.05)) == 0.05
    assert 1 <= machine.second < 2


def test_samples_of_similar_calls_have_as_many_calls() -> None:
    for noise in NOISES:
        machine = Machine(noise, 0)
        found = measured(machine.sample(0.0010), machine.sample(0.0011), Random(0))
        assert len({*found.counts}) == 1
    assert counts(0.001, 0.01) == (math.ceil(LEAST_SECONDS / 0.001), 1)


def test_samples_of_different_lengths_call_the_same_code_different() -> None:
    """Another process runs for 2 ms after every 4: most samples of 3.5 ms take 5.5, most of 5 ms take 7."""

    def machine(seed: int) -> Sample:
        one = Machine(lambda rng, second: rng.uniform(0.99, 1.01), seed)
        call, ran = one.call(0.0005), [one.rng.uniform(0, 0.004)]

        def interrupted() -> None:
            before = one.second
            call()
            ran[0] += one.second - before
            if ran[0] > 0.004:
                ran[0] -= 0.004
                one.second += 0.002

        return lambda count: Wall(one.clock).sample(interrupted, count)

    sample = machine(0)
    pairs = list(interleaved(lambda: sample(7), lambda: sample(10), islice(drawn(Random(0)), 160)))
    assert Interval.of_ratios(pairs, CONFIDENCE).verdict() == FAST
    for seed in range(REPETITIONS):
        sample = machine(seed)
        assert measured(sample, sample, Random(seed)).ratio.verdict() in {SAME, AMBIGUOUS}


def test_a_sample_is_the_time_of_one_call() -> None:
    machine = Machine(lambda rng, second: 1.0, 0)
    assert Wall(machine.clock).sample(machine.call(0.25), 8) == 0.25
