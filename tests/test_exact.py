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
        every = range(math.prod(result.shape))
        values, sizes = [result.value(i) for i in every], [result.size(i) for i in every]

        assert values == by_definition(case, operands)
        assert sizes == [abs(v) for v in by_definition(case, {k: abs(v) for k, v in operands.items()})]
        near = zip(*(array.tolist() for array in result.near[:4]), values, sizes, strict=True)
        for value, low, off, size, exactly, exact_size in near:
            assert abs(Fraction(value) + Fraction(low) - exactly) <= Fraction(off)
            assert abs(Fraction(size) - exact_size) <= exact_size / 2**35

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


TINY = Fraction(8, 2**1074)
POOLS = tuple(
    f"{kind}{axes}d" for kind in ("max_pool", "avg_pool", "adaptive_avg_pool") for axes in (1, 2, 3)
)


@pytest.mark.parametrize("name", [*POOLS, "add", "relu", "relu6", "concat", "flatten", "dropout"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_engine_says_of_pools_sums_and_copies_what_the_loop_says(name: str, dtype: str) -> None:
    @settings(max_examples=25, deadline=None, database=None, derandomize=True)
    @given(strategies.cases(name, dtype))
    def agree(case: Case) -> None:
        operands = data.operands(case)
        arrays = list(operands.values())
        fast = exact.evaluate(case.spec, case.operation, operands)
        agrees(fast, exact._by_loops(case.spec, case.operation, arrays))
        dy = data.grad_output(case, fast.shape)
        gradients = exact.gradients(case.spec, case.operation, dy, operands, list(operands))
        if dy.size:
            by_loops = exact._gradients_by_loops(case.spec, case.operation, dy, arrays)
            for one, slow in zip(gradients.values(), by_loops, strict=True):
                assert slow is not None
                agrees(one, slow)

    agree()


def agrees(fast: exact.Exact, slow: exact.Exact) -> None:
    """Hold what the engine gives to the loop: the same copies, or the nearest numbers with S, counts and divisors."""
    assert fast.shape == slow.shape
    if slow.copies is not None:
        assert fast.copies is not None
        constant = slow.constants if slow.constants is not None else np.zeros(slow.copies.shape, bool)
        ours, theirs = fast.copies.ravel(), slow.copies.ravel()
        assert np.array_equal(ours, theirs, equal_nan=True)
        assert not ((np.signbit(ours) != np.signbit(theirs)) & ~constant & ~np.isnan(theirs)).any()
        assert [*(fast.indices if fast.indices is not None else ())] == [*(slow.indices or ())]
        return
    assert str(fast.special) == str(slow.special)
    finite = [i for i in range(math.prod(slow.shape)) if i not in slow.special]
    for i in finite:
        assert (fast.value(i), fast.size(i)) == (slow.value(i), slow.size(i))
        assert fast.divisor(i) == slow.divisor(i) or fast.divisors is None
        size = float(fast.near.size[i])
        if math.isinf(size):
            assert slow.size(i) >= 2**1023
        else:
            assert abs(Fraction(size) - slow.size(i)) <= slow.size(i) / 2**35 + TINY
        assert fast.near.roundings[i] == slow.near.roundings[i]
    assert fast.near.value[finite].tolist() == [slow.near.value[i] + 0.0 for i in finite]
