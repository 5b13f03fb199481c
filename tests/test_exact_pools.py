"""Correctly rounded pooling and elementwise functions against the operators' own loops over exact numbers."""

import math
import tracemalloc
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import flint
import numpy as np
import pytest

from cnnspec import exact, nested
from cnnspec.errors import ArgumentError, ShapeError
from cnnspec.ops.pool import AvgPool1d
from cnnspec.scalars import Extended
from tests.engine_calls import DTYPES, EPS, Values, draw, independent_rounding
from tests.layer_calls import (
    MAXIMA,
    MEANS,
    LayerCall,
    bound_of,
    by_definition,
    ends,
    finite,
    holds,
    layer_calls,
    mean,
    numbers,
    rounded,
)

POWERS = ("lp_pool1d", "lp_pool2d", "lp_pool3d")
OUTPUTS = 12_000  # compared by most tests of a family: 150,000 in all


def until(count: int, names: tuple[str, ...], seed: int, compared: Callable[[LayerCall], int]) -> None:
    drawn = layer_calls(names, seed)
    while count > 0:
        count -= compared(next(drawn))


# Random configurations


@pytest.mark.parametrize("seed", range(4))
def test_means_equal_the_loop_over_fractions(seed: int) -> None:
    def compared(call: LayerCall) -> int:
        result = call.forward(full=True)
        holds(result, by_definition(call), bound_of(call.operator, call))
        assert np.array_equal(call.forward(), result.value, equal_nan=True)
        return int(result.value.size)

    until(OUTPUTS, MEANS, seed, compared)


@pytest.mark.parametrize("seed", range(3))
def test_gradients_of_means_equal_the_loop_over_fractions(seed: int) -> None:
    def compared(call: LayerCall) -> int:
        dy = call.grad_output()
        x = call.operands["input"]
        zeros = numbers(np.zeros(x.shape), Fraction)
        [value] = call.operator.gradients(numbers(dy, Extended), zeros)
        [bound] = call.operator.gradient_terms(numbers(finite(dy), Fraction), zeros)
        holds(call.backward(dy, full=True), rounded(value, x.shape, call.out_dtype), bound)
        return int(x.size)

    until(OUTPUTS, MEANS, 100 + seed, compared)


@pytest.mark.parametrize("seed", range(2))
def test_maxima_and_indices_equal_the_loop_to_the_sign_of_zero(seed: int) -> None:
    def compared(call: LayerCall) -> int:
        x = call.operands["input"]
        changed = call.rng.random(x.shape) < 0.3
        call.operands["input"] = x = np.where(changed, x.dtype.type(call.rng.choice([-0.0, -np.inf])), x)
        found = call.forward(out_dtype=None)
        expected = call.operator.reference(numbers(x, float))
        if call.operator.return_indices:
            expected, indices = expected
            found, chosen = found
            assert chosen.ravel().tolist() == nested.ravel(indices)
        right = np.array(nested.ravel(expected), x.dtype).reshape(found.shape)
        assert found.dtype == x.dtype
        assert np.array_equal(found, right, equal_nan=True)
        present = ~np.isnan(right)
        assert np.array_equal(np.signbit(found[present]), np.signbit(right[present]))
        return int(found.size)

    until(OUTPUTS, MAXIMA, 200 + seed, compared)


@pytest.mark.parametrize("seed", range(3))
def test_gradients_of_maxima_and_of_the_positive_part_are_sums_of_what_was_chosen(seed: int) -> None:
    def compared(call: LayerCall) -> int:
        x = call.operands["input"]
        if call.name == "relu":
            call = LayerCall(**{**vars(call), "keywords": {}})
        dy = draw(call.rng, call.operator.output_shape(x.shape), call.regime, "float32")
        options = {} if call.name == "relu" else {"budget": call.budget}
        plain = numbers(x, float)
        [value] = call.operator.gradients(numbers(dy, Extended), plain)
        [bound] = call.operator.gradient_terms(numbers(finite(dy), Fraction), plain)
        found = getattr(exact, call.name).backward(
            dy, x, **call.keywords, out_dtype=call.out_dtype, full=True, **options
        )
        holds(found, rounded(value, x.shape, call.out_dtype), bound)
        return int(x.size)

    until(OUTPUTS // 2, (*MAXIMA, "relu"), 300 + seed, compared)


@pytest.mark.parametrize("seed", range(2))
def test_sums_of_two_arrays_and_their_gradients_equal_the_loop_over_fractions(seed: int) -> None:
    def compared(call: LayerCall) -> int:
        result, dy = call.forward(full=True), call.grad_output()
        holds(result, by_definition(call), bound_of(call.operator, call))
        assert np.array_equal(call.forward(), result.value, equal_nan=True)
        zeros = [numbers(np.zeros(one.shape), Fraction) for one in call.operands.values()]
        values = call.operator.gradients(numbers(dy, Extended), *zeros)
        bounds = call.operator.gradient_terms(numbers(finite(dy), Fraction), *zeros)
        found = call.backward(dy, full=True)
        for one, value, bound, operand in zip(found, values, bounds, call.operands.values(), strict=True):
            holds(one, rounded(value, operand.shape, call.out_dtype), bound)
        return int(result.value.size)

    until(OUTPUTS // 2, ("add",), 400 + seed, compared)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_positive_part_copies(dtype: str) -> None:
    x = draw(np.random.default_rng(3), (3, 5, 7), "special", dtype)
    x[0, 0, :2] = -0.0, 2.0**-14
    expected = [value if value != value or not value < 0 else 0.0 for value in x.ravel().tolist()]

    assert [str(value) for value in exact.relu(x).ravel().tolist()] == [str(value) for value in expected]
    assert exact.relu(np.array([-(2**62) - 1, 2**62 + 1])).tolist() == [0, 2**62 + 1]
    assert str(exact.relu(np.array([-0.0]), out_dtype="bfloat16")[0]) == "-0.0"


@pytest.mark.parametrize("seed", range(3))
def test_norms_of_windows_equal_the_loop_over_balls(seed: int) -> None:
    """Where a ball of 900 bits rounds to two numbers, a middle between them is the norm: ties go to the even one."""

    def compared(call: LayerCall) -> int:
        others = (3.0, 4, 5, 1.5, 0.5, -1)
        if call.rng.random() < 0.1 and call.operator.spatial < 3:
            call.keywords["norm_type"] = others[call.rng.integers(len(others))]
            call.operator = type(call.operator)(**call.keywords)
        x = call.operands["input"]
        if call.keywords["norm_type"] == -1:
            call.operands["input"] = x = np.where(x == 0, x.dtype.type(1), x)
        found = call.forward().astype(float).ravel().tolist()
        with flint.ctx.workprec(900):
            outputs = nested.ravel(call.operator.reference(numbers(x, flint.arb)))
            for one, value in zip(map(flint.arb, outputs), found, strict=True):
                if not one.is_finite():
                    middle = float(one.mid())
                    assert value == middle if math.isinf(middle) else math.isnan(value)
                    continue
                least, most = ends(one)
                below, above = (independent_rounding(end, call.out_dtype) for end in (least, most))
                if below != above:
                    tie = (Fraction(below) + Fraction(above)) / 2
                    assert least <= tie <= most
                    below = independent_rounding(tie, call.out_dtype)
                assert value == below
        return len(found)

    until(OUTPUTS, POWERS, 500 + seed, compared)


# Worked examples


@pytest.mark.parametrize(
    ("x", "divisor", "dtype", "out_dtype", "expected"),
    [
        ([1, EPS], 1, "float32", "float32", 1),  # ties go to the even neighbour
        ([1, 3 * EPS], 1, "float32", "float32", 1 + 4 * EPS),
        ([1, EPS, 2.0**-126], 1, "float32", "float32", 1 + 2 * EPS),  # a little above the tie
        ([1, EPS, -(2.0**-126)], 1, "float32", "float32", 1),
        ([3, 3 * EPS, 2.0**-126], 3, "float32", "float32", 1 + 2 * EPS),
        ([3, 3 * EPS, -(2.0**-126)], 3, "float32", "float32", 1),
        ([1, 2.0**-8, 2.0**-40], 1, "float32", "bfloat16", 1 + 2.0**-7),  # float32 would lose the last
        ([3, 3 * 2.0**-8, 2.0**-40], 3, "float32", "bfloat16", 1 + 2.0**-7),
        ([-3, -3 * 2.0**-8, -(2.0**-40)], -3, "float64", "bfloat16", 1 + 2.0**-7),
        ([1, 2.0**-53, 2.0**-1000], 1, "float64", "float64", 1 + 2.0**-52),
        ([5, 5 * 2.0**-53, -(2.0**-1000)], 5, "float64", "float64", 1),
        ([1e30, 1, -1e30], 2, "float32", "float32", 0.5),  # cancellation
        ([1e300, 3, -1e300], 3, "float64", "float64", 1),
        ([1e308, 1e308, -1e308], 1, "float64", "float64", 1e308),  # partial sums overflow
        ([1.5e308, 1.5e308, 1.5e308], 3, "float64", "float64", 1.5e308),  # so does the sum, not the mean
        ([1e308, 1e308], 1, "float64", "float64", math.inf),
        ([3e38, 3e38], 2, "float32", "float32", float(np.float32(3e38))),
        ([65504, 15.99], 1, "float64", "float16", 65504),
        ([-65504, -16], 1, "float64", "float16", -math.inf),
        ([2.0**-149, 0], 2, "float32", "float32", 0),  # half the smallest subnormal: to even
        ([2.0**-149, 2.0**-148], 2, "float32", "float32", 2.0**-148),
        ([5e-324, 0, 0], 2, "float64", "float64", 0),
        ([5e-324, 5e-324, 5e-324], 2, "float64", "float64", 1e-323),
        ([2.0**-1022, 5e-324], 2, "float64", "float64", 2.0**-1023),
        ([7, 0], 2**53 - 1, "float64", "float64", 7 / (2**53 - 1)),
    ],
)
def test_means_that_are_hard_to_round(
    x: list[float], divisor: int, dtype: str, out_dtype: str, expected: float
) -> None:
    assert mean(x, divisor, dtype, out_dtype) == expected
    assert mean([-v for v in x], divisor, dtype, out_dtype) == -expected


@pytest.mark.parametrize(
    ("x", "dtype", "out_dtype", "expected"),
    [
        ([3, 4], "float32", "float32", 5),
        ([2.0**-149, 0], "float32", "float32", 2.0**-149),  # the square is far below float32
        ([1e300, 0], "float64", "float64", 1e300),  # and beyond float64
        ([3e-320, 4e-320], "float64", "float64", 5e-320),
        ([1.5e308, 1.5e308], "float64", "float64", math.inf),
        ([257, 0], "float32", "bfloat16", 256),  # a tie
        ([257, 2.0**-60], "float64", "bfloat16", 258),  # a little above it: 2**-120 / 514
        ([257, 2.0**-600], "float64", "bfloat16", 258),  # whose square float64 does not hold
        ([2.0**-600, 2.0**-600], "float64", "float64", 2.0**-600 * math.sqrt(2)),
        ([0, 0], "float64", "float64", 0),
        ([2.0**-200, 1], "float64", "float64", 1),
    ],
)
def test_roots_that_are_hard_to_round(x: list[float], dtype: str, out_dtype: str, expected: float) -> None:
    y = exact.lp_pool1d(np.array([x], dtype), 2, len(x), out_dtype=out_dtype)
    assert float(y[0, 0]) == expected


def test_cubes_and_broken_powers_of_one_number_are_that_number() -> None:
    x = np.array([[1 + 2.0**-8, 0.0]])

    assert exact.lp_pool1d(x, 3.0, 2, out_dtype="bfloat16").tolist() == [[1.0]]
    assert exact.lp_pool1d(x, 2.5, 2, out_dtype="bfloat16").tolist() == [[1.0]]
    assert exact.lp_pool1d(np.array([[3.0, 4.0, 5.0]]), 3, 3).tolist() == [[6.0]]
    assert exact.lp_pool1d(np.array([[2.0, 3.0, 6.0]]), -1, 3).tolist() == [[1.0]]


def test_gradients_over_divisors_without_a_common_multiple_in_float64() -> None:
    x, kernel = np.zeros((1, 61)), 61
    dy = draw(np.random.default_rng(4), (1, 61), "special", "float32")
    result = exact.avg_pool1d.backward(
        dy, x, kernel, 1, 30, count_include_pad=False, out_dtype="bfloat16", full=True
    )
    operator = AvgPool1d(kernel, 1, 30, count_include_pad=False)
    zeros = numbers(x, Fraction)
    [value] = operator.gradients(numbers(dy, Extended), zeros)
    [bound] = operator.gradient_terms(numbers(finite(dy), Fraction), zeros)

    assert result.statistics.way == "integers"
    assert bound is not None
    holds(result, rounded(value, x.shape, "bfloat16"), bound)


def test_sums_of_two_numbers_round_once() -> None:
    a, b = np.array([1 + 2.0**-8, 1e308, np.inf, 65504.0]), np.array([2.0**-30, 1e308, -np.inf, 16.0])

    assert exact.add(a, b, out_dtype="bfloat16").tolist()[:2] == [1 + 2.0**-7, math.inf]
    assert exact.add(a, b)[1] == math.inf
    assert np.isnan(exact.add(a, b)[2])
    assert exact.add(a, b, out_dtype="float16")[3] == math.inf
    assert exact.add(np.array(1.5), np.array(2)) == 3.5


def test_each_way_is_taken_where_it_applies() -> None:
    x = np.random.default_rng(7).standard_normal((2, 3, 8, 8)) * np.logspace(-9, 9, 8)

    def way(x: Values, **options: Any) -> str:
        return str(exact.avg_pool2d(x, 3, full=True, **options).statistics.way)

    assert way(np.round(x)) == "lattice"
    assert way(x.astype(np.float32)) == "plain"
    assert way(x) == "pairs"
    assert way(x.astype(np.float32), out_dtype="float64") == "pairs"


def test_memory_stays_within_the_budget() -> None:
    x, budget = np.ones((1, 4, 512, 512), np.float32) / 3, 4 << 20
    functions: tuple[Callable[[], Any], ...] = (
        lambda: exact.avg_pool2d(x, 3, 1, 1, budget=budget),
        lambda: exact.avg_pool2d(x, 3, 2, 1, out_dtype="float64", budget=budget),
        lambda: exact.avg_pool2d.backward(x, x, 3, 1, 1, budget=budget),
        lambda: exact.max_pool2d(x, 3, 1, 1, budget=budget),
        lambda: exact.max_pool2d.backward(x, x, 3, 1, 1, budget=budget),
        lambda: exact.lp_pool2d(x, 2, 2, budget=budget),
        lambda: exact.add(x, x, out_dtype="bfloat16", budget=budget),
        lambda: exact.add.backward(x, x, x[:, :, :1], budget=budget, wanted=["input2"]).input2,
        lambda: exact.relu(x),
    )
    for function in functions:
        tracemalloc.start()
        result = function()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

        assert peak - result.nbytes <= budget


def test_integers_keep_their_type_in_maxima() -> None:
    x = np.array([[-(2**62) - 1, 2**62 + 1, 5]])

    assert exact.max_pool1d(x, 2, 1).tolist() == [[2**62 + 1, 2**62 + 1]]
    assert exact.max_pool1d(x.astype(np.int8), 1, dilation=1).dtype == np.int8
    with pytest.raises(ArgumentError, match="holds integers above"):
        exact.avg_pool1d(x, 2)


def test_arguments_are_refused_with_the_broken_relation() -> None:
    x = np.ones((1, 2, 5, 5))
    with pytest.raises(ShapeError, match="padding=2 must be between"):
        exact.avg_pool2d(x, 3, padding=2)
    with pytest.raises(ShapeError, match="grad_output of shape"):
        exact.avg_pool2d.backward(x, x, 3)
    with pytest.raises(ShapeError, match="divisor_override=0 must not be zero"):
        exact.avg_pool2d(x, 3, divisor_override=0)
    with pytest.raises(ArgumentError, match="must stay within"):
        exact.avg_pool2d(x, 3, divisor_override=1 << 60)
    with pytest.raises(ArgumentError, match="divisor_override is not an argument"):
        exact.avg_pool1d(x[0], 3, divisor_override=2)
    with pytest.raises(ShapeError, match="do not agree"):
        exact.add(np.ones(2), np.ones(3))
    assert exact.avg_pool2d(np.ones((0, 2, 5, 5)), 3, full=True).value.shape == (0, 2, 1, 1)
    assert exact.max_pool2d.backward(np.ones((0, 2, 1, 1)), np.ones((0, 2, 5, 5)), 3).shape == (0, 2, 5, 5)
