"""Verdicts: healthy computations of a kind stay within its bound, and those of the next worse kind do not."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cnnspec import exact
from cnnspec.cases import Case
from cnnspec.compare import Verdict, verdict
from cnnspec.models import MODELS, direct

Values = np.ndarray[Any, Any]


def judged(case: Case, operands: dict[str, Values], actual: Values | list[float], model: str = "") -> Verdict:
    result = exact.evaluate(case.spec, case.operation, operands)
    return verdict(
        result, [float(v) for v in np.ravel(actual)], case.dtype, MODELS.get(model, direct(case.dtype))
    )


def linear(features: int, dtype: str = "float32") -> Case:
    return Case(
        "linear", {"in_features": features, "out_features": 1, "bias": False}, ((1, features),), dtype
    )


def as_float32(values: Values) -> Values:
    return values.astype(np.float32).astype(np.float64)


def _kept(values: Values, bits: int) -> Values:
    """Round float32 values to 23 - bits fraction bits, half away from zero."""
    words = values.astype(np.float32).view(np.uint32) + np.uint32(1 << (bits - 1))
    return (words >> np.uint32(bits) << np.uint32(bits)).view(np.float32).astype(np.float64)


def as_tf32(values: Values) -> Values:
    return _kept(values, 13)


def as_bfloat16(values: Values) -> Values:
    return _kept(values, 16)


def summed(x: Values, w: Values, kind: type) -> float:
    """Sum the products in the given format, in order."""
    total = kind(0)
    for a, b in zip(x.astype(kind), w.astype(kind), strict=True):
        total = kind(total + kind(a * b))
    return float(total)


COMPUTATIONS: dict[str, Callable[[Values, Values], float]] = {
    "direct float32": lambda x, w: summed(x, w, np.float32),
    "tf32 inputs": lambda x, w: summed(as_tf32(x), as_tf32(w), np.float32),
    "bfloat16 inputs": lambda x, w: summed(as_bfloat16(x), as_bfloat16(w), np.float32),
}


@pytest.mark.parametrize(
    ("kind", "worse"), [("direct float32", "tf32 inputs"), ("tf32 inputs", "bfloat16 inputs")]
)
def test_a_kind_of_computation_stays_within_its_model_and_the_next_worse_does_not(
    kind: str, worse: str
) -> None:
    rng = np.random.default_rng(0)
    beyond = 0
    for _ in range(60):
        n = int(rng.integers(1, 8))
        x, w = as_float32(rng.standard_normal((1, n))), as_float32(rng.standard_normal((1, n)))
        operands = {"input": x, "weight": w}

        assert judged(linear(n), operands, [COMPUTATIONS[kind](x[0], w[0])], kind).holds
        beyond += not judged(linear(n), operands, [COMPUTATIONS[worse](x[0], w[0])], kind).holds
    assert beyond > 30


def test_one_ulp_off_fails_where_every_partial_sum_is_exact() -> None:
    operands = {"input": np.array([[3.0, 5.0]]), "weight": np.array([[7.0, -2.0]])}

    assert judged(linear(2), operands, [11.0]).holds
    wrong = judged(linear(2), operands, [11.0 + 2.0**-20])
    assert not wrong.holds
    assert (wrong.ratio, wrong.bound, wrong.expected, wrong.error) == (math.inf, 0.0, 11.0, 2.0**-20)


def test_the_worst_element_is_the_one_that_is_furthest_beyond_its_bound() -> None:
    case = Case("linear", {"in_features": 1, "out_features": 3, "bias": False}, ((1, 1),))
    third = float(np.float32(1 / 3))
    operands = {"input": np.array([[third]]), "weight": np.array([[third], [third], [third]])}
    right = float(np.float32(third * third))
    result = judged(case, operands, [right, right * (1 + 2**-20), right * (1 + 2**-18)])

    assert result.wrong == [1, 2]
    assert result.worst == 2
    assert result.ratio > 32


@pytest.mark.parametrize(
    ("actual", "holds"),
    [(math.nan, False), (math.inf, False), (65504.0, True), (0.0, False), (-65504.0, False)],
)
def test_a_finite_result_is_not_met_by_nan_or_infinity(actual: float, holds: bool) -> None:
    operands = {"input": np.array([[65504.0]]), "weight": np.array([[1.0]])}

    assert judged(linear(1, "float16"), operands, [actual]).holds is holds


def test_a_result_beyond_the_format_is_infinite_with_its_sign() -> None:
    operands = {"input": np.array([[65504.0]]), "weight": np.array([[-2.0]])}

    assert judged(linear(1, "float16"), operands, [-math.inf]).holds
    assert not judged(linear(1, "float16"), operands, [math.inf]).holds
    assert not judged(linear(1, "float16"), operands, [-65504.0]).holds


@pytest.mark.parametrize(("value", "holds"), [(math.nan, True), (1.0, False), (math.inf, False)])
def test_nan_is_met_by_nan_alone(value: float, holds: bool) -> None:
    operands = {"input": np.array([[math.inf, 1.0]]), "weight": np.array([[0.0, 1.0]])}

    assert judged(linear(2), operands, [value]).holds is holds


def test_sums_where_partial_sums_may_overflow_are_not_judged() -> None:
    large = float(np.finfo(np.float32).max)
    operands = {"input": np.array([[large, -large, 1.0]]), "weight": np.array([[1.0, 1.0, 1.0]])}
    result = judged(linear(3), operands, [math.inf])

    assert (result.holds, result.judged, result.elements) == (True, 0, 1)


@pytest.mark.parametrize(
    ("actual", "holds"), [([0.0, -0.0], True), ([0.0, 0.0], False), ([1.0, -0.0], False)]
)
def test_copies_keep_the_sign_of_zero(actual: list[float], holds: bool) -> None:
    case = Case("flatten", {"start_dim": 0}, ((2,),))

    assert judged(case, {"input": np.array([0.0, -0.0])}, actual).holds is holds


def test_underflowing_products_may_lose_half_the_smallest_subnormal_each() -> None:
    tiny = 2.0**-80
    operands = {"input": np.array([[tiny, tiny]]), "weight": np.array([[tiny, tiny * 2**12]])}

    assert judged(linear(2), operands, [2.0**-148]).holds
    assert not judged(
        linear(2), operands, [2.0**-149]
    ).holds  # off by 2^-149 + 2^-160; two roundings allow 2^-149


def test_sixteen_bit_outputs_may_round_once_and_no_more() -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((1, 64)).astype(np.float16).astype(np.float64)
    w = rng.standard_normal((1, 64)).astype(np.float16).astype(np.float64)
    once = float(np.float16(summed(x[0], w[0], np.float32)))
    twice = summed(x[0], w[0], np.float16)

    assert judged(linear(64, "float16"), {"input": x, "weight": w}, [once]).holds
    assert not judged(linear(64, "float16"), {"input": x, "weight": w}, [twice]).holds


def test_averages_divide_an_exact_sum_once() -> None:
    case = Case("avg_pool1d", {"kernel_size": 3}, ((1, 3),))
    third = float(np.float32(1) / np.float32(3))
    operands = {"input": np.array([[1.0, 0.0, 0.0]])}

    assert judged(case, operands, [third]).holds
    assert not judged(case, operands, [third * (1 + 2**-22)]).holds
    assert not judged(case, {"input": np.array([[3.0, 3.0, 3.0]])}, [3.0 + 2.0**-21]).holds


@pytest.mark.parametrize(
    ("name", "x", "right"), [("sigmoid", 1.0, 0.7310585786300049), ("tanh", 1.0, 0.7615941559557649)]
)
def test_functions_are_held_to_a_few_units_in_the_last_place(name: str, x: float, right: float) -> None:
    case = Case(name, {}, ((1,),), "float64")

    assert judged(case, {"input": np.array([x])}, [right]).holds
    assert not judged(case, {"input": np.array([x])}, [right * (1 + 2.0**-48)]).holds


def test_only_outputs_that_are_not_all_zero_can_tell_anything() -> None:
    zeros, ones = np.zeros((1, 2)), np.ones((1, 2))

    assert not judged(linear(2), {"input": zeros, "weight": ones}, [0.0]).discriminating
    assert judged(linear(2), {"input": ones, "weight": ones}, [2.0]).discriminating


@pytest.mark.parametrize("other", [1.0, float(np.finfo(np.float32).max)])
def test_an_infinity_is_judged_unless_finite_terms_may_overflow_to_the_other_one(other: float) -> None:
    operands = {"input": np.array([[-math.inf, other, other]]), "weight": np.array([[1.0, 1.0, 1.0]])}

    assert judged(linear(3), operands, [-math.inf]).holds
    assert judged(linear(3), operands, [math.nan]).holds is (other > 1)


def test_of_very_many_open_elements_some_are_asked_and_what_is_surely_wrong_is_always_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One large weight has the others scaled away in float64, so that every other element stays open."""
    weights = np.array([[2.0**1000], *([2.0**-80 * j] for j in range(1, 641))])
    case = Case("linear", {"in_features": 1, "out_features": 641, "bias": False}, ((1, 1),), "float64")
    operands, right = {"input": np.array([[1.0]]), "weight": weights}, weights[:, 0]
    doubled, undefined = np.append(right[:1], 2 * right[1:]), right.copy()
    undefined[77] = math.nan
    assert judged(case, operands, right).judged == 641
    monkeypatch.setattr("cnnspec.compare.MOST_ASKED", 64)

    some = judged(case, operands, right)
    assert (some.holds, some.elements) == (True, 641)
    assert 64 <= some.judged < 128
    assert len(judged(case, operands, doubled).wrong) == some.judged - 1
    assert 77 in judged(case, operands, undefined).wrong
