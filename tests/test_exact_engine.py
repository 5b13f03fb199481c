"""The fast correctly rounded operators against the loops over fractions, scaled integers and worked examples."""

import hashlib
import math
import struct
import tracemalloc
from collections.abc import Callable
from fractions import Fraction

import flint
import numpy as np
import pytest
import torch

from cnnspec.errors import ArgumentError, CnnspecError, ShapeError
from cnnspec.exact.functional import conv1d, conv2d, golden_hash, linear, matmul
from cnnspec.ops.linear import Linear
from tests.engine_calls import (
    DTYPES,
    EPS,
    REGIMES,
    Values,
    agrees,
    by_fractions,
    calls,
    dot,
    draw,
    independent_rounding,
    wide,
)
from tests.integer_sums import exact_gradients, exact_outputs

OUTPUTS = 100_000  # compared with scaled integers over random configurations, gradients not counted
PARTS = 10  # tests that share them


# Random configurations


@pytest.mark.parametrize("seed", range(4))
def test_convolutions_equal_the_loop_over_fractions(seed: int) -> None:
    drawn = (call for call in calls(seed, 1) if call.regime != "special")
    for call in (next(drawn) for _ in range(12)):
        expected = by_fractions(call.operator, call.operands, call.out_dtype)

        assert np.array_equal(call.forward().astype(float), expected)


@pytest.mark.parametrize("part", range(PARTS))
def test_a_hundred_thousand_outputs_equal_the_scaled_integers(part: int) -> None:
    compared = 0
    for call in calls(1000 + part, 4):
        oracle = exact_outputs(call.operator, [*wide(call.operands).values()])
        result = call.forward(full=True)
        agrees(result, oracle, call.out_dtype)
        assert np.array_equal(call.forward(), result.value, equal_nan=True)
        compared += result.value.size
        if compared >= OUTPUTS // PARTS:
            return


@pytest.mark.parametrize("seed", range(4))
def test_gradients_equal_the_scaled_integers(seed: int) -> None:
    drawn = calls(2000 + seed, 2)
    for call in (next(drawn) for _ in range(15)):
        dy = call.grad_output()
        oracles = exact_gradients(call.operator, dy.astype(float), [*wide(call.operands).values()])
        oracle = dict(zip(call.operands, oracles, strict=True))
        for name, result in call.backward(dy, full=True).items():
            agrees(result, oracle[name], call.out_dtype)


@pytest.mark.parametrize("budget", [1, 3000, 50_000])
def test_small_budgets_give_the_same_bits(budget: int) -> None:
    drawn = calls(3000, 3)
    for call in (next(drawn) for _ in range(12)):
        dy = call.grad_output()
        small, large = call.forward(full=True, budget=budget), call.forward(full=True)
        assert golden_hash(small.value) == golden_hash(large.value)
        assert np.array_equal(small.n_eff, large.n_eff)
        few, many = call.backward(dy, budget=budget), call.backward(dy)
        assert [golden_hash(one) for one in few.values()] == [golden_hash(one) for one in many.values()]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("regime", REGIMES)
def test_linear_and_its_gradients_equal_the_scaled_integers(dtype: str, regime: str) -> None:
    rng = np.random.default_rng(5)
    operands = {"input": draw(rng, (2, 3, 40), regime, dtype), "weight": draw(rng, (7, 40), regime, dtype)}
    operands["bias"] = draw(rng, (7,), regime, dtype)
    operator, dy = Linear(40, 7), draw(rng, (2, 3, 7), regime, dtype)

    oracle = exact_outputs(operator, [*wide(operands).values()])
    x, w, b = operands.values()
    agrees(linear(x, w, b, out_dtype=dtype, full=True), oracle, dtype)
    oracles = exact_gradients(operator, dy.astype(float), [*wide(operands).values()])
    gradients = linear.backward(dy, x, w, out_dtype=dtype, full=True)
    for result, one in zip(gradients, oracles, strict=True):
        agrees(result, one, dtype)


def test_a_matrix_product_equals_that_of_flint_integers() -> None:
    rng = np.random.default_rng(6)
    a, b = (np.round(rng.standard_normal((60, 60)) * 2.0**20) * 2.0**-20 for _ in range(2))
    integers = [flint.fmpz_mat([[int(v) for v in row] for row in (m * 2.0**20).tolist()]) for m in (a, b)]
    product = integers[0] * integers[1]
    expected = [
        [independent_rounding(Fraction(int(v), 2**40), "float32") for v in row] for row in product.tolist()
    ]

    assert np.array_equal(matmul(a, b, out_dtype="float32"), np.array(expected, np.float32))


def test_a_product_of_integers_passes_freivalds_certificate() -> None:
    """A B r = Y r modulo a prime for random r: a wrong Y passes with probability 2**-61 (Freivalds 1977)."""
    rng, prime = np.random.default_rng(11), 2**61 - 1
    x, w = (rng.integers(-(2**20), 2**20, shape) for shape in ((50, 300), (40, 300)))
    y = linear(x, w)
    r = [int(v) for v in rng.integers(0, prime, 40)]
    inner = [sum(int(v) * k for v, k in zip(column, r, strict=True)) % prime for column in w.T.tolist()]
    for row, output in zip(x.tolist(), y.tolist(), strict=True):
        left = sum(v * k for v, k in zip(row, inner, strict=True))
        right = sum(int(v) * k for v, k in zip(output, r, strict=True))
        assert (left - right) % prime == 0


# Worked examples


@pytest.mark.parametrize(
    ("x", "w", "dtype", "out_dtype", "expected"),
    [
        ([1, EPS], [1, 1], "float32", "float32", 1),  # ties go to the even neighbour
        ([1, 3 * EPS], [1, 1], "float32", "float32", 1 + 4 * EPS),
        ([1, EPS, 2.0**-75], [1, 1, 2.0**-75], "float32", "float32", 1 + 2 * EPS),  # a little above the tie
        ([1, EPS, -(2.0**-75)], [1, 1, 2.0**-75], "float32", "float32", 1),
        ([1, 3 * EPS, -(2.0**-75)], [1, 1, 2.0**-75], "float32", "float32", 1 + 2 * EPS),
        (
            [1, 2.0**-8, 2.0**-40],
            [1, 1, 1],
            "float32",
            "bfloat16",
            1 + 2.0**-7,
        ),  # float32 would lose the last
        ([1, 2.0**-53, 2.0**-600], [1, 1, 2.0**-400], "float64", "float64", 1 + 2.0**-52),
        ([1, 2.0**-53, -(2.0**-600)], [1, 1, 2.0**-400], "float64", "float64", 1),
        ([1e30, 1, -1e30], [1e8, 1, 1e8], "float32", "float32", 1),  # cancellation
        ([1e200, 1, -1e200], [1e100, 1, 1e100], "float64", "float64", 1),
        ([1e308, 1e308, -1e308], [1, 1, 1], "float64", "float64", 1e308),  # partial sums overflow
        ([1e308, 1e308], [1, 1], "float64", "float64", math.inf),
        ([1e200, -1e200, 3], [1e200, 1e200, 1], "float64", "float64", 3),  # products overflow
        ([2.0**127, 2.0**103], [2 - 2.0**-23, 0.5], "float32", "float32", 2.0**128 - 2.0**104),  # the largest
        ([2.0**127, 2.0**103], [2 - 2.0**-23, 1], "float32", "float32", math.inf),  # and half an ulp
        ([65504, 15.99], [1, 1], "float64", "float16", 65504),
        ([-65504, -16], [1, 1], "float64", "float16", -math.inf),
        ([2.0**-100, 0], [2.0**-50, 1], "float32", "float32", 0),  # half the smallest subnormal: to even
        ([2.0**-100, 2.0**-149], [2.0**-50, 1], "float32", "float32", 2.0**-148),
        ([2.0**-100, 2.0**-149], [2.0**-50, 2.0**-149], "float32", "float32", 2.0**-149),
        ([2.0**-537, 0], [2.0**-538, 1], "float64", "float64", 0),  # the product underflows
        ([2.0**-537, 2.0**-600], [2.0**-538, 2.0**-600], "float64", "float64", 2.0**-1074),
        ([2.0**-537, 2.0**-537], [2.0**-538, 2.0**-538], "float64", "float64", 2.0**-1074),
    ],
)
def test_sums_that_are_hard_to_round(
    x: list[float], w: list[float], dtype: str, out_dtype: str, expected: float
) -> None:
    assert dot(x, w, dtype, out_dtype) == expected
    assert dot([-v for v in x], w, dtype, out_dtype) == -expected


def test_infinities_and_nan_follow_the_terms_and_padding_is_an_absent_term() -> None:
    x = np.array([[1.0, np.inf, 0.0]], np.float32)
    y = conv1d(x, np.array([[[np.inf, 0.0]]], np.float32), padding=1)

    assert y[0, 0] == 0  # 1 * 0, and padding times an infinite weight
    assert np.isnan(y[0, 1])  # 1 * inf + inf * 0
    assert y[0, 2] == np.inf  # inf * inf + 0 * 0
    assert np.isnan(y[0, 3])  # 0 * inf, the padding absent


def test_gradients_of_special_values_are_those_of_their_terms() -> None:
    dy, x = np.array([[np.inf, 1.0]]), np.array([[1.0, -np.inf, 2.0]])
    found = conv1d.backward(dy, x, np.array([[[0.0, 2.0]]]))

    assert np.array_equal(found.input, [[np.nan, np.inf, 2.0]], equal_nan=True)
    assert np.array_equal(found.weight, [[[np.nan, -np.inf]]], equal_nan=True)
    assert np.array_equal(found.bias, [np.inf])


def test_each_way_is_taken_where_it_applies() -> None:
    rng = np.random.default_rng(7)
    x, w = (rng.standard_normal(shape) for shape in ((2, 8, 6, 6), (4, 8, 3, 3)))
    short = x.astype(np.float32), w.astype(np.float32)

    assert conv2d(np.round(x), np.round(w), full=True).statistics.way == "lattice"
    assert conv2d(*short, full=True).statistics.way == "plain"
    assert conv2d(x, w, full=True).statistics.way == "sliced"
    assert conv2d(*short, out_dtype="float64", full=True).statistics.way == "sliced"


def test_ties_of_short_numbers_need_no_integers() -> None:
    rng = np.random.default_rng(8)
    x, w = (rng.integers(-(2**12), 2**12, shape).astype(np.float32) for shape in ((1, 9, 5, 5), (3, 9, 3, 3)))
    statistics = conv2d(x, w, out_dtype="bfloat16", full=True).statistics

    assert (statistics.way, statistics.ambiguous, statistics.by_integers) == ("lattice", 0, 0)


def test_where_most_sums_are_open_slices_settle_them() -> None:
    x, w = np.full((1, 64, 12, 12), 0.3, np.float32), np.full((8, 64, 3, 3), 0.7, np.float32)
    w[0, 0, 0, 0] = 2.0**-40  # far below the others: no lattice
    result = conv2d(x, w, full=True)
    exact_sum = 575 * Fraction(float(w[1, 0, 0, 0])) * Fraction(float(x[0, 0, 0, 0]))
    exact_sum += Fraction(float(x[0, 0, 0, 0])) * (Fraction(float(w[1, 0, 0, 0])))

    assert result.statistics.ambiguous < 100
    assert (result.value[0, 1:] == independent_rounding(exact_sum, "float32")).all()


def test_memory_stays_within_the_budget() -> None:
    x, w = np.ones((1, 16, 128, 128), np.float32) / 3, np.ones((16, 16, 3, 3), np.float32) / 3
    columns_bytes = 16 * 9 * 128 * 128 * 8
    budget = columns_bytes // 4
    calls_: tuple[Callable[[], Values], ...] = (
        lambda: conv2d(x, w, padding=1, budget=budget),
        lambda: conv2d.backward(x, x, w, padding=1, budget=budget, wanted=["input"]).input,
        lambda: conv2d.backward(x, x, w, padding=1, budget=budget, wanted=["weight"]).weight,
    )
    for call in calls_:
        tracemalloc.start()
        result = call()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

        assert peak - result.nbytes <= budget


def test_empty_batches_and_single_images() -> None:
    x, w = np.ones((2, 5), np.float32), np.ones((3, 2, 2), np.float32)

    assert conv1d(x, w).tolist() == [[4.0] * 4] * 3
    assert conv1d(np.ones((0, 2, 5), np.float32), w).shape == (0, 3, 4)
    nothing = conv1d.backward(np.ones((0, 3, 4), np.float32), np.ones((0, 2, 5), np.float32), w)
    assert (nothing.input.shape, nothing.weight.tolist()) == ((0, 2, 5), [[[0.0] * 2] * 2] * 3)
    assert nothing.bias.tolist() == [0.0] * 3
    assert linear(np.ones((0, 4)), np.ones((2, 4))).shape == (0, 2)


def test_arguments_are_refused_with_the_broken_relation() -> None:
    x, w = np.ones((1, 2, 5, 5)), np.ones((3, 2, 2, 2))
    with pytest.raises(ArgumentError, match="groups=2 must divide"):
        conv2d(x, w, groups=2)
    with pytest.raises(ShapeError, match=r"w of shape \(3, 2, 2, 2\) must have 3 axes"):
        conv1d(x, w)
    with pytest.raises(ShapeError, match=r"b of shape \(2,\) must be \(3,\)"):
        conv2d(x, w, np.ones(2))
    with pytest.raises(ShapeError, match="grad_output of shape"):
        conv2d.backward(x, x, w)
    with pytest.raises(ArgumentError, match="out_dtype='int8' is not one of"):
        conv2d(x, w, out_dtype=np.int8)
    with pytest.raises(ArgumentError, match="x of complex128 must be"):
        conv2d(x.astype(complex), w)


def test_a_golden_hash_is_that_of_type_shape_and_little_endian_elements() -> None:
    by_hand = hashlib.sha256(b"float32 1,3\n" + struct.pack("<3f", 0.0, 2.5, math.nan)).hexdigest()

    assert golden_hash(np.array([[-0.0, 2.5, -np.nan]], ">f4")) == by_hand
    assert golden_hash(np.array([0.0, 2.5, np.nan], np.float32)) != by_hand
    assert golden_hash(np.array([[0.0, 2.5, np.nan]], np.float64)) != by_hand
    assert golden_hash(np.array([[2.0**-149, 2.5, np.nan]], np.float32)) != by_hand


def test_a_thread_that_flushes_subnormals_is_refused() -> None:
    if not torch.set_flush_denormal(True):
        return  # a processor that cannot flush them
    try:
        with pytest.raises(CnnspecError, match="flushes subnormals"):
            linear(np.ones((1, 1)), np.ones((1, 1)))
    finally:
        torch.set_flush_denormal(False)
