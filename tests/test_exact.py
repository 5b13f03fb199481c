"""The fast exact results against the definition's loop over fractions, and against cited digits."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings

from cnnspec import data, exact, nested, ops, strategies
from cnnspec.cases import Case
from cnnspec.exact.integers import scaled

SUMS = [name for name in ops.NAMES if ops.spec(name).judged == "sum"]


def by_definition(case: Case, operands: dict[str, np.ndarray]) -> list[Fraction]:
    arrays = [
        nested.unravel([Fraction(v) for v in array.ravel().tolist()], array.shape)
        for array in operands.values()
    ]
    return nested.ravel(case.operation.reference(*arrays))


@pytest.mark.parametrize("name", SUMS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_and_bound_sums_are_those_of_the_loop(name: str, dtype: str) -> None:
    @settings(max_examples=25, deadline=None, database=None, derandomize=True)
    @given(strategies.cases(name, dtype, regimes=("integers", "sparse", "dense", "impulse")))
    def agree(case: Case) -> None:
        operands = data.operands(case)
        result = exact.evaluate(case.spec, case.operation, operands)
        divisors = result.divisors or [1] * len(result.values)
        unit = Fraction(2) ** result.exponent

        values = [Fraction(v, d) * unit for v, d in zip(result.values, divisors, strict=True)]
        assert values == by_definition(case, operands)
        sizes = [Fraction(v, d) * unit for v, d in zip(result.magnitude, divisors, strict=True)]
        assert sizes == [abs(v) for v in by_definition(case, {k: abs(v) for k, v in operands.items()})]

    agree()


def test_infinities_and_nan_follow_the_definition_and_padding_is_an_absent_term() -> None:
    case = Case(
        "conv1d",
        {"in_channels": 1, "out_channels": 1, "kernel_size": 2, "padding": 1, "bias": False},
        ((1, 3),),
    )
    operands = {"input": np.array([[1.0, math.inf, 0.0]]), "weight": np.array([[[math.inf, 0.0]]])}
    special = exact.evaluate(case.spec, case.operation, operands).special

    assert [special.get(i) for i in (2,)] == [math.inf]
    assert 0 not in special  # padding times an infinite weight, and 1 * 0
    assert math.isnan(special[1])  # 1 * inf + inf * 0
    assert math.isnan(special[3])  # 0 * inf, the padding absent


@pytest.mark.parametrize(
    ("name", "x", "digits"),
    [
        ("sigmoid", 1.0, "0.73105857863000487925115924182183627436514464016505651927"),
        ("tanh", 1.0, "0.76159415595576488811945828260479359041276859725793655159"),
    ],
)
def test_functions_have_the_digits_of_the_tables(name: str, x: float, digits: str) -> None:
    """Digits: OEIS A073738-style constants 1 / (1 + 1/e) and A073744 (tanh 1)."""
    case = Case(name, {}, ((1,),), "float64")
    result = exact.evaluate(case.spec, case.operation, {"input": np.array([x])})
    value = Fraction(result.values[0]) * Fraction(2) ** result.exponent

    assert abs(value - Fraction(digits)) < Fraction(1, 10**45)


@pytest.mark.parametrize("x", [0.0, -1e30, 1e30, 1e-300, -745.0, -1.6e308, 1.6e308, math.inf, -math.inf])
def test_functions_stay_cheap_and_finite_at_the_ends_of_the_range(x: float) -> None:
    for name in ("sigmoid", "tanh"):
        case = Case(name, {}, ((1,),), "float64")
        result = exact.evaluate(case.spec, case.operation, {"input": np.array([x])})

        assert not any(math.isnan(v) for v in result.special.values())
        assert abs(Fraction(result.values[0]) * Fraction(2) ** result.exponent) <= 1


def test_log_softmax_of_minus_infinity_is_minus_infinity() -> None:
    case = Case("log_softmax", {}, ((3,),), "float64")
    result = exact.evaluate(case.spec, case.operation, {"input": np.array([0.0, -math.inf, 0.0])})

    assert result.special == {1: -math.inf}


@pytest.mark.parametrize(
    "values",
    [[0.0], [0.5, -3.0], [5e-324, 1.0], [1e308, -5e-324], [2.0**1000, 3.0], [0.1, 1e20], [7.0, -0.0]],
)
def test_scaling_to_integers_loses_nothing(values: list[float]) -> None:
    integers, unit = scaled(np.array(values))

    assert [Fraction(int(n)) * Fraction(2) ** unit for n in integers.tolist()] == [
        Fraction(v) for v in values
    ]
