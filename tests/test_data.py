"""Data: each regime keeps its promise, in every format, and the same seed gives the same numbers."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from cnnspec import data, exact, ops, strategies
from cnnspec.bounds import FORMATS, nearest
from cnnspec.cases import REGIMES, Case

CASES = [
    (name, dtype)
    for name in ("conv2d", "linear", "avg_pool2d", "max_pool1d", "softmax")
    for dtype in FORMATS
    if dtype != "tf32"
]


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_every_value_is_one_of_the_format(name: str, dtype: str) -> None:
    @settings(max_examples=30, deadline=None, database=None, derandomize=True)
    @given(strategies.cases(name, dtype))
    def representable(case: Case) -> None:
        for array in data.operands(case).values():
            for value in array[np.isfinite(array)].tolist():
                assert nearest(*Fraction(value).as_integer_ratio(), 0, FORMATS[dtype]) == value

    representable()


@pytest.mark.parametrize(("name", "dtype"), [c for c in CASES if ops.spec(c[0]).judged == "sum"])
def test_integers_keep_all_partial_sums_and_outputs_exact(name: str, dtype: str) -> None:
    @settings(max_examples=30, deadline=None, database=None, derandomize=True)
    @given(strategies.cases(name, dtype, regimes=("integers",)))
    def small(case: Case) -> None:
        result = exact.evaluate(case.spec, case.operation, data.operands(case))
        limit = 2 ** (FORMATS[dtype].precision - 1)

        assert all(result.size(i) * result.divisor(i) <= limit for i in range(math.prod(result.shape)))
        assert result.lattice is not None
        assert result.lattice >= 0

    small()


def test_same_seed_same_numbers_and_other_seed_other_numbers() -> None:
    line = "conv2d(in_channels=2, out_channels=3, kernel_size=3, input=(1, 2, 5, 5), regime={!r}, seed={})"
    for regime in REGIMES:
        first, again, other = (data.operands(Case.parse(line.format(regime, seed))) for seed in (5, 5, 6))

        assert all(np.array_equal(first[name], again[name], equal_nan=True) for name in first)
        assert any(not np.array_equal(first[name], other[name], equal_nan=True) for name in first)


def test_special_values_all_occur() -> None:
    seen: dict[str, Any] = {}
    for seed in range(60):
        x = data.operands(Case("max_pool1d", {"kernel_size": 2}, ((4, 9),), "float32", "special", seed))[
            "input"
        ]
        seen["nan"] = seen.get("nan") or bool(np.isnan(x).any())
        seen["inf"] = seen.get("inf") or bool((x == math.inf).any())
        seen["minus inf"] = seen.get("minus inf") or bool((x == -math.inf).any())
        seen["minus zero"] = seen.get("minus zero") or bool(((x == 0) & np.signbit(x)).any())
        seen["subnormal"] = seen.get("subnormal") or bool(((x != 0) & (abs(x) < 2.0**-126)).any())
        seen["large"] = seen.get("large") or bool((np.isfinite(x) & (abs(x) > 2.0**124)).any())
        seen["all negative"] = seen.get("all negative") or bool((x < 0).all())

    assert {name for name, hit in seen.items() if not hit} == set()


def test_an_impulse_is_one_element() -> None:
    case = Case(
        "conv2d",
        {"in_channels": 2, "out_channels": 2, "kernel_size": 2},
        ((1, 2, 4, 4),),
        "float32",
        "impulse",
        1,
    )
    operands = data.operands(case)

    assert np.count_nonzero(operands["input"]) == 1
    assert len(set(operands["weight"].ravel().tolist())) == operands["weight"].size
