"""Random sums that are hard to round against Python's fractions: ties, cancellation, the ends of the range."""

import math
import random
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from cnnspec.bounds import FORMATS
from cnnspec.exact.functional import conv2d, linear
from tests.engine_calls import independent_rounding
from tests.test_exact_engine_wrong import bound_too_small, no_fallback, rest_of_a_sum_dropped

Row = list[tuple[float, float]]  # the factors of the terms of one output


def shuffled(choose: random.Random, terms: Row) -> Row:
    """Add pairs that cancel and zeros up to 24 terms; shuffle."""
    while len(terms) < 20:
        big = (
            math.ldexp(choose.getrandbits(24) | 1, choose.randint(-10, 10)),
            math.ldexp(choose.getrandbits(24), -5),
        )
        terms += [big, (-big[0], big[1])] if choose.random() < 0.7 else [(0.0, big[1])]
    terms += [(0.0, 0.0)] * (24 - len(terms))
    choose.shuffle(terms)
    return terms


def tie(choose: random.Random, form_name: str, nudge: int) -> Row:
    """Return terms that sum to a point halfway between two numbers of a format, and `nudge` times a tiny number."""
    precision = FORMATS[form_name].precision
    significand = choose.getrandbits(precision - 1) | 1 << (precision - 1)
    sign, shift = choose.choice((-1, 1)), choose.randint(-12, 4)
    tiny = (math.ldexp(nudge, -70), math.ldexp(1.0, -60))
    return shuffled(
        choose, [(math.ldexp(sign * significand, shift), 1.0), (math.ldexp(sign * 0.5, shift), 1.0), tiny]
    )


def near_overflow(choose: random.Random) -> Row:
    """Return float32 terms whose sum is near 2**128 or 2**128 - 2**103, half an ulp above the largest number."""
    steps = choose.choice((-3, -2, -1, 0, 1, 2)), choose.choice((-1, 0, 1))
    terms = [(2.0**64, 2.0**64), (-(2.0**103), 1.0), (steps[0] * 2.0**102, 1.0), (steps[1] * 1.0, 1.0)]
    if choose.random() < 0.5:
        terms = [(-a, b) for a, b in terms]
    return shuffled(choose, terms)


def subnormal(choose: random.Random) -> Row:
    """Return float32 terms whose sum is a few smallest subnormals and a half, or next to it."""
    count, nudge = choose.randint(-9, 9), choose.choice((-1, 0, 1))
    terms = [(count * 2.0**-149, 1.0), (2.0**-100, 2.0**-50), (nudge * 2.0**-120, 2.0**-120)]
    for _ in range(choose.randint(0, 4)):
        big = math.ldexp(choose.getrandbits(24), -149 + choose.randint(0, 30))
        terms += [(big, 0.5), (-big, 0.5)]
    terms += [(0.0, 1.0)] * (24 - len(terms))
    choose.shuffle(terms)
    return terms


def exact_sum(row: Row) -> Fraction:
    return sum((Fraction(a) * Fraction(b) for a, b in row), Fraction(0))


def expected_of(row: Row, dtype: str) -> float:
    return independent_rounding(exact_sum(row), dtype)


def is_tie(row: Row, dtype: str) -> bool:
    """Say whether the sum is halfway between its rounding and another number of the format."""
    other = 2 * exact_sum(row) - Fraction(expected_of(row, dtype))
    return other != exact_sum(row) and independent_rounding(other, dtype) == other


def by_engine(rows: list[Row], dtype: str) -> list[float]:
    """Compute each row as one output of a depthwise convolution whose kernel spans its image."""
    x, w = (np.array([[pair[i] for pair in row] for row in rows], np.float32) for i in (0, 1))
    y = conv2d(x.reshape(1, -1, 4, 6), w.reshape(-1, 1, 4, 6), groups=len(rows), out_dtype=dtype)
    by_one = [float(linear(a, b[None], out_dtype=dtype)[0]) for a, b in zip(x[:50], w[:50], strict=True)]
    assert by_one == y.ravel()[:50].tolist()
    found: list[float] = y.ravel().tolist()
    return found


def by_float64(rows: list[Row], dtype: str) -> list[float]:
    """Sum in float64, which is not enough, and round."""
    found = []
    for row in rows:
        total = 0.0
        for a, b in row:
            total += a * b
        found.append(independent_rounding(Fraction(total), dtype))
    return found


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("nudge", [-1, 0, 1])
def test_ties_among_terms_that_cancel(dtype: str, nudge: int) -> None:
    choose = random.Random(f"{dtype} {nudge}")
    rows = [tie(choose, dtype, nudge) for _ in range(1500)]
    expected = [expected_of(row, dtype) for row in rows]

    assert by_engine(rows, dtype) == expected
    assert {is_tie(row, dtype) for row in rows} == {nudge == 0}
    assert by_float64(rows, dtype) != expected


def test_sums_near_overflow() -> None:
    choose = random.Random(26)
    rows = [near_overflow(choose) for _ in range(3000)]
    expected = [expected_of(row, "float32") for row in rows]

    assert by_engine(rows, "float32") == expected
    assert {math.inf, -math.inf, 2.0**128 - 2.0**104, 2.0**104 - 2.0**128} <= set(expected)
    assert by_float64(rows, "float32") != expected


def test_subnormal_sums() -> None:
    choose = random.Random(27)
    rows = [subnormal(choose) for _ in range(3000)]
    expected = [expected_of(row, "float32") for row in rows]

    assert by_engine(rows, "float32") == expected
    assert {abs(value) for value in expected} <= {n * 2.0**-149 for n in range(11)}
    assert by_float64(rows, "float32") != expected


@pytest.mark.parametrize("wrong", [bound_too_small, no_fallback, rest_of_a_sum_dropped])
def test_hard_sums_catch_wrong_engines(wrong: Callable[[pytest.MonkeyPatch], None]) -> None:
    choose = random.Random(28)
    rows = [tie(choose, "float32", nudge) for nudge in (-1, 1) for _ in range(200)]
    x, w = (np.array([[pair[i] for pair in row] for row in rows], np.float32) for i in (0, 1))
    expected = [expected_of(row, "float32") for row in rows]

    def found() -> list[float]:
        y = conv2d(x.reshape(1, -1, 4, 6), w.reshape(-1, 1, 4, 6), groups=len(rows))
        return [float(value) for value in y.ravel()]

    assert found() == expected
    with pytest.MonkeyPatch.context() as patch:
        wrong(patch)
        assert found() != expected


def test_rows_far_below_the_largest_are_not_lost() -> None:
    """Operands with elements above 2^300 are divided by a power of two first, which small ones may not survive."""
    w = np.array([[2.0**1000], [1.5 * 2.0**-80]])
    found = linear(np.array([[1.0]]), w, full=True)

    assert found.value.tolist() == [[2.0**1000, 1.5 * 2.0**-80]]
    assert found.bound_sum[0, 1] < 1.5 * 2.0**-80 * (1 + 2.0**-36)
    assert found.bound_sum[0, 1] >= 1.5 * 2.0**-80


def test_a_sum_of_no_terms_is_zero() -> None:
    assert linear(np.zeros((3, 0)), np.zeros((2, 0))).tolist() == [[0.0, 0.0]] * 3
