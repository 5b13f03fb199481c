"""The numbers that the loops run on."""

import itertools
import math
from fractions import Fraction
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from cnnspec.derivatives import Dual
from cnnspec.scalars import Counted, Extended, Tally, Traced, divide, exp, is_nan, log

SPECIAL = [0.0, 1.0, -2.0, 0.5, math.inf, -math.inf, math.nan]


def ieee(value: Any) -> str:
    """Spell a number with one zero and one NaN."""
    return repr(float(value) + 0.0)


@pytest.mark.parametrize(("a", "b"), list(itertools.product(SPECIAL, SPECIAL)))
def test_extended_numbers_are_ieee_where_nothing_rounds(a: float, b: float) -> None:
    x, y = Extended(a), Extended(b)
    assert ieee((x + y).value) == ieee((a + y).value) == ieee(a + b)
    assert ieee((x - y).value) == ieee(a - b)
    assert ieee((x * y).value) == ieee(a * b)
    assert ((x > y), (x < y), (x == y)) == ((a > b), (a < b), (a == b))
    if b != 0:
        assert ieee((x / y).value) == ieee(a / b)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=6), st.integers(-9, 9))
def test_extended_sums_do_not_round(values: list[float], factor: int) -> None:
    total = Extended(0)
    for value in values:
        total = total + Extended(value) * factor
    assert total == factor * sum(map(Fraction, values))
    assert hash(total) == hash(factor * sum(map(Fraction, values)))


def test_division_is_exact_for_integers_only() -> None:
    assert [divide(6, 3), divide(7, 2), divide(-7, 2)] == [2, Fraction(7, 2), Fraction(-7, 2)]
    assert isinstance(divide(6, 3), int)
    assert divide(1.0, 3) == 1 / 3
    assert divide(Fraction(1, 2), 3) == Fraction(1, 6)


def test_exp_log_and_nan_ask_the_number_first() -> None:
    class Asked:
        def exp(self) -> str:
            return "exp"

        def log(self) -> str:
            return "log"

    assert (exp(Asked()), log(Asked())) == ("exp", "log")
    assert (exp(-1000), exp(1000), log(1)) == (0.0, math.inf, 0.0)
    assert [is_nan(x) for x in (math.nan, 0.0, 3, Extended(math.nan), Extended(1))] == [
        True,
        False,
        False,
        True,
        False,
    ]


def test_counted_counts_what_is_executed() -> None:
    tally = Tally()
    x = Counted(tally)
    _ = 0 + x * 3 + 2 * x + x
    assert tally == Tally(multiplications=2, additions=2)
    _ = x / 4
    assert tally == Tally(multiplications=2, additions=2)


def test_traced_joins_sources() -> None:
    a, b = Traced({"a"}), Traced({"b"})
    assert (0 + a * 2 + b / 3).sources == {"a", "b"}
    assert (2 * a).sources == {"a"}


@settings(max_examples=100, deadline=None)
@given(st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 9))
def test_dual_derivatives_are_difference_quotients(x: int, w: int, divisor: int) -> None:
    """Of a polynomial of degree two, the central difference is the derivative."""

    def f(x: Any, w: Any) -> Any:
        return (x * w + 3 * x - w * w + 2) / divisor

    y = f(Dual.variable(x, "x"), Dual.variable(w, "w"))
    assert y.value == Fraction(f(Fraction(x), Fraction(w)))
    assert y.derivatives["x"] == (f(Fraction(x + 1), Fraction(w)) - f(Fraction(x - 1), Fraction(w))) / 2
    assert y.derivatives["w"] == (f(Fraction(x), Fraction(w + 1)) - f(Fraction(x), Fraction(w - 1))) / 2


def test_duals_compare_by_value() -> None:
    assert Dual.variable(3, "x") > 2
    assert Dual(1) < Dual(2)
    assert not Dual(1) > math.inf
