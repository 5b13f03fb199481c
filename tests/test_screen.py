"""What float64 decides of whole arrays is what exact numbers say of each element, and it decides most of them."""

import math
import random
from typing import Any

import numpy as np
import pytest

from cnnspec import data, exact, ops
from cnnspec.cases import REGIMES, Case
from cnnspec.compare import verdict
from cnnspec.elements import rule
from cnnspec.exact.results import Exact
from cnnspec.models import MODELS, ErrorModel, direct
from cnnspec.screen import Screened, screen
from cnnspec.shrink import generate
from cnnspec.strategies import cases

Values = np.ndarray[Any, Any]

OPERATORS = (
    "conv2d",
    "conv_transpose1d",
    "linear",
    "avg_pool2d",
    "softmax",
    "batch_norm1d",
    "add",
    "lp_pool1d",
)
DTYPES = ("float64", "float32", "bfloat16", "float16")


def answers(case: Case, found: Exact, rng: np.random.Generator) -> list[float]:
    """Return what targets may give: the right number, a neighbour near the bound, something else, NaN, infinity."""
    given = []
    for i in range(math.prod(found.shape)):
        one = rule(found, i, case.dtype, direct(case.dtype))
        right = 0.0 if one is None else float(one.expected)
        kind = rng.integers(8)
        if kind < 3 or one is None or not math.isfinite(right):
            given.append(right if kind < 7 else math.nan)
        elif kind < 6:
            edge = float(abs(one.value) + (one.error or 0))
            given.append(math.copysign(edge, one.value) * float(rng.choice([1 - 2**-52, 1, 1 + 2**-52])))
        else:
            given.append(float(rng.choice([-right, right * (1 + 2**-9), math.inf, -math.inf, math.nan, 0.0])))
    return given


def agrees(found: Exact, given: Values, dtype: str, model: ErrorModel) -> Screened:
    screened = screen(found, given, dtype, model)
    for i, actual in enumerate(given.tolist()):
        one = rule(found, i, dtype, model)
        assert bool(screened.judged[i]) == (one is not None)
        if one is not None and not screened.open[i]:
            assert bool(screened.holds[i]) == one.judge(actual).holds, (i, actual, one)
    return screened


@pytest.mark.parametrize("operator", OPERATORS)
def test_the_screen_says_what_exact_numbers_say(operator: str) -> None:
    rng, choose = np.random.default_rng(0), random.Random(0)
    elements = still_open = 0
    for dtype in DTYPES:
        for case in generate(cases(operator, dtype, regimes=REGIMES), 1, 12):
            found = exact.evaluate(case.spec, case.operation, data.operands(case))
            models = [direct(dtype), choose.choice([*MODELS.values()])]
            for model in models:
                screened = agrees(found, np.array(answers(case, found, rng)), dtype, model)
                elements += len(screened.open)
                still_open += int(screened.open.sum())
    assert elements > 500
    assert still_open < elements / 2  # half of the answers were put at the bound


@pytest.mark.parametrize("dtype", DTYPES)
def test_correct_rounding_needs_no_exact_numbers(dtype: str) -> None:
    left = total = 0
    for case in generate(cases("conv2d", dtype, regimes=("sparse", "dense")), 2, 20):
        found = exact.evaluate(case.spec, case.operation, data.operands(case))
        rules = [rule(found, i, dtype, direct(dtype)) for i in range(math.prod(found.shape))]
        right = np.array([one.expected if one else 0.0 for one in rules])
        screened = screen(found, right, dtype, direct(dtype))
        left, total = left + int(screened.open.sum()), total + len(right)
        assert verdict(found, right, dtype, direct(dtype)).holds
    assert total > 500
    assert left < total / 50


def test_a_screen_with_a_bound_that_is_too_wide_is_caught() -> None:
    case = Case("linear", {"in_features": 2, "out_features": 1, "bias": False}, ((1, 2),))
    operands = {"input": np.array([[1.0, 2.0**-13]]), "weight": np.array([[1.0, 1.0 + 2.0**-12]])}
    found = exact.evaluate(ops.spec("linear"), case.operation, operands)
    given = np.array([1.0 + 2.0**-13 + 2.0**-21])

    agrees(found, given, "float32", direct("float32"))
    wide = screen(found, given, "float32", MODELS["tf32 inputs"])
    one = rule(found, 0, "float32", direct("float32"))
    assert one is not None
    assert wide.holds[0]
    assert not one.judge(given[0]).holds


def linear(x: list[float], w: list[list[float]]) -> Exact:
    case = Case("linear", {"in_features": len(x), "out_features": len(w), "bias": False}, ((1, len(x)),))
    return exact.evaluate(case.spec, case.operation, {"input": np.array([x]), "weight": np.array(w)})


@pytest.mark.parametrize(
    ("x", "w", "dtype", "given"),
    [
        ([1.0], [[2.0**1000], [1.5 * 2.0**-80]], "float64", [2.0**1000, 0.0]),  # scaling loses the second row
        ([1.0, 1.0], [[2.0**51 + 1, -(2.0**51)], [2.0**53 - 1, 2.0]], "float64", [1.5, 2.0**53]),  # it is 1
        ([1.0, 1.0], [[2.0**23, -(2.0**23)], [2.0**60, 1.0]], "float32", [1.0, 2.0**60]),  # S is the limit
    ],
)
def test_hard_operands_let_no_wrong_number_pass(
    x: list[float], w: list[list[float]], dtype: str, given: list[float]
) -> None:
    found = linear(x, w)
    agrees(found, np.array(given), dtype, direct(dtype))
    judged = verdict(found, given, dtype, direct(dtype))
    assert not judged.holds
    right = [rule(found, i, dtype, direct(dtype)) for i in range(2)]
    assert verdict(found, [one.expected for one in right if one], dtype, direct(dtype)).holds


def test_sums_below_the_normal_range_are_decided_but_at_the_bound() -> None:
    """Each of n products may be rounded to a multiple of the smallest number, by half of it: n / 2 of them in all."""
    rng, terms, rows = np.random.default_rng(3), 12, 40
    x = (rng.integers(1, 9, terms) * 2.0**-1074).tolist()
    found = linear(x, rng.normal(size=(rows, terms)).tolist())
    right = [
        float(one.expected) for i in range(rows) if (one := rule(found, i, "float64", direct("float64")))
    ]
    undecided = {}
    for steps in range(-terms, terms + 1):
        screened = agrees(found, np.array(right) + steps * 2.0**-1074, "float64", direct("float64"))
        undecided[abs(steps)] = int(screened.open.sum())
        if abs(steps) < terms / 2 - 1:
            assert screened.holds.all()
    assert not any(undecided[steps] for steps in range(terms // 2 - 1))
    assert not verdict(found, np.array(right) + terms * 2.0**-1074, "float64", direct("float64")).holds


def test_what_overflows_is_an_infinity_of_either_sign_where_both_are_in_reach() -> None:
    found = linear([65504.0] * 32 + [-65504.0] * 32, [[65504.0] * 64])

    for infinite in (math.inf, -math.inf):
        result = verdict(found, [infinite], "float16", direct("float16"))
        assert (result.holds, result.ulps) == (True, 0.0)


def test_the_gradient_of_an_average_is_judged_where_its_terms_times_a_common_divisor_overflow() -> None:
    case = Case("adaptive_avg_pool1d", {"output_size": 5}, ((1, 9),), "float64")
    dy = np.full((1, 5), 2.0**1022)
    (found,) = exact.gradients(case.spec, case.operation, dy, {"input": np.ones((1, 9))}, ["input"]).values()
    right = [float(found.value(i)) for i in range(9)]

    assert verdict(found, right, "float64", direct("float64")).judged == sum(
        rule(found, i, "float64", direct("float64")) is not None for i in range(9)
    )
