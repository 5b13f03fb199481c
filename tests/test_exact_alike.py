"""Activations of whole layers: vectors say of every element what balls say, and find what is wrong."""

import math
from collections.abc import Callable
from typing import Any

import flint
import numpy as np
import pytest

from cnnspec import data, exact, ops
from cnnspec.cases import REGIMES, Case
from cnnspec.compare import verdict
from cnnspec.exact import alike, balls, groups, vectors
from cnnspec.exact.results import Exact
from cnnspec.exact.vectors import Vector
from cnnspec.models import direct, with_elementary
from cnnspec.shrink import generate
from cnnspec.strategies import cases
from tests.near_results import answers, same_quantities, same_verdicts

Values = np.ndarray[Any, Any]

OPERATORS = (
    "sigmoid",
    "tanh",
    "gelu",
    "silu",
    "elu",
    "softplus",
    "hardswish",
    "leaky_relu",
    "local_response_norm",
)
FUNCTIONS = ("exp", "expm1", "log", "log1p", "sqrt", "tanh", "erf")


@pytest.fixture(autouse=True)
def served(monkeypatch: pytest.MonkeyPatch) -> None:
    """Serve few elements; and let the balls' own radius, that of the largest element, show in no bound."""
    monkeypatch.setattr(alike, "LEAST", 1)
    monkeypatch.setattr(balls, "PRECISION", 1400)


def both(case: Case) -> list[tuple[Exact, Exact]]:
    """Return what vectors and what balls know of outputs and gradients."""
    given, operator = data.operands(case), case.operation
    output = alike.outputs(operator, [*given.values()])
    if output is None:
        return []
    found = [(output, balls.outputs(operator, [*given.values()]))]
    dy = data.grad_output(case, output.shape)
    if case.differentiated and dy.size:
        mine = alike.gradients(operator, dy, [*given.values()])
        assert mine is not None
        found.append((mine, balls.gradients(operator, dy, given, ["input"])["input"]))
    return found


@pytest.mark.parametrize("operator", OPERATORS)
def test_verdicts_are_those_of_balls(operator: str) -> None:
    rng, compared, caught = np.random.default_rng(1), 0, 0
    for dtype in ("float32", "bfloat16", "float16"):
        for case in generate(cases(operator, dtype, regimes=REGIMES), 3, 10):
            for found, right in both(case):
                assert same_quantities(found, right), str(case)
                given = answers(right, dtype, rng)
                assert all(same_verdicts(found, right, one, dtype) for one in given), str(case)
                caught += not verdict(found, given[0], dtype, direct(dtype)).holds
                compared += 1
    assert compared > 30
    assert caught > 10


def arguments(function: str) -> Values:
    rng = np.random.default_rng(2)
    found = np.concatenate(
        [
            rng.standard_normal(300),
            rng.standard_normal(200) * 40,
            10.0 ** rng.uniform(-40, 2.5, 200) * rng.choice([-1, 1], 200),
            [0.35, -0.35, 0.36, 6.5, -6.5, 30.0, -30.5, 700.0, -744.0],
        ]
    )
    return np.abs(found) if function in ("log", "log1p", "sqrt") else found


def is_enclosed(function: str) -> bool:
    """Say whether balls are within what vectors claim, at most 2**-36 of it, or of 1 for the logarithm."""
    x = arguments(function)
    with np.errstate(all="ignore"):
        found = getattr(Vector(x), function)()
    holds = True
    with flint.ctx.workprec(300):
        for value, h, e in zip(x.tolist(), found.h.tolist(), found.e.tolist(), strict=True):
            right = getattr(flint.arb(value), function)()
            if math.isfinite(e):
                holds &= bool(abs(right - flint.arb(h)) <= flint.arb(e))
            holds &= e <= 2.0**-36 * max(abs(h), function == "log") + 2.0**-1050
    return holds


@pytest.mark.parametrize("function", FUNCTIONS)
def test_functions_are_enclosed(function: str) -> None:
    assert is_enclosed(function)


def test_sums_products_and_quotients_are_enclosed() -> None:
    rng = np.random.default_rng(3)
    a, b = (Vector(rng.standard_normal(500), np.abs(rng.standard_normal(500)) * 1e-9) for _ in range(2))
    ends = [(sign, other) for sign in (-1, 1) for other in (-1, 1)]
    results = [a + b, a * b, a / b, a - b, a.larger(b), -a, abs(a), 1 - a, a * 0.1]
    with flint.ctx.workprec(200):
        for i in range(500):
            for sign, other in ends:
                x, y = (flint.arb(one.h[i]) + s * flint.arb(one.e[i]) for one, s in ((a, sign), (b, other)))
                right = [x + y, x * y, x / y, x - y, x.max(y), -x, abs(x), 1 - x, x * flint.arb(0.1)]
                for one, exactly in zip(results, right, strict=True):
                    assert not abs(exactly - flint.arb(one.h[i])) > flint.arb(one.e[i])


def test_a_comparison_takes_elements_apart() -> None:
    x = Vector(np.array([1.0, 2.0, 3.0]), np.array([0.0, 1e-9, 0.0]))
    with pytest.raises(vectors.Apart) as found:
        assert x > 2
    assert found.value.holds.tolist() == [False, False, True]
    assert found.value.unsure.tolist() == [False, True, False]
    assert x > 0
    assert not x >= 4


def test_few_elements_and_operands_that_only_float64_holds_are_left_to_balls() -> None:
    operator = ops.spec("sigmoid").operator()
    assert alike.outputs(operator, [np.full(50, 0.5)]) is not None
    assert alike.outputs(operator, [np.full(50, 0.1)]) is None
    assert alike.gradients(operator, np.full(50, 0.1), [np.full(50, 0.5)]) is None
    assert alike.outputs(operator, [np.zeros(0)]) is None


SHAPES = {"local_response_norm": (1, 16, 24, 25)}
KEYWORDS: dict[str, dict[str, Any]] = {"local_response_norm": {"size": 5, "alpha": 0.1}}


def judged(name: str, wrong: Callable[[Values], Values] | None = None) -> bool:
    """Say whether a layer of 9,600 elements in float32 holds, computed in float64 and rounded."""
    shape = SHAPES.get(name, (2, 3, 40, 40))
    case = Case(name, KEYWORDS.get(name, {}), (shape,))
    x = np.random.default_rng(0).standard_normal(shape) * 3
    given = {"input": x.astype(np.float32).astype(np.float64)}
    right = exact.evaluate(ops.spec(name), case.operation, given)
    assert isinstance(right, groups.Grouped)
    y = (wrong or FORMULAS[name])(given["input"])
    model = with_elementary(direct("float32"), 4)
    found = verdict(right, y.astype(np.float32).astype(np.float64).ravel(), "float32", model)
    assert found.judged == found.elements
    return found.holds


def _lrn(x: Values, *, divisor: float = 5) -> Values:
    padded = np.pad(x * x, ((0, 0), (2, 2), (0, 0), (0, 0)))
    total = sum(padded[:, j : j + x.shape[1]] for j in range(5))
    found: Values = x / (1 + 0.1 * total / divisor) ** 0.75
    return found


FORMULAS: dict[str, Callable[[Values], Values]] = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "gelu": lambda x: x * np.vectorize(lambda v: (1 + math.erf(v / math.sqrt(2))) / 2)(x),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "softplus": lambda x: np.where(x > 20, x, np.log1p(np.exp(x))),
    "hardswish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "local_response_norm": _lrn,
}
WRONG: dict[str, Callable[[Values], Values]] = {
    "sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "tanh": lambda x: x / (1 + np.abs(x)),
    "gelu": lambda x: x / (1 + np.exp(-1.702 * x)),
    "silu": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "elu": lambda x: np.where(x > 0, x, np.expm1(x) * (1 + 2.0**-18)),
    "softplus": lambda x: np.where(x > 1, x, np.log1p(np.exp(x))),
    "hardswish": lambda x: x * np.clip(x * 0.2 + 0.5, 0, 1),
    "local_response_norm": lambda x: _lrn(x, divisor=1),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_a_right_layer_is_held_and_a_wrong_one_caught(name: str) -> None:
    assert judged(name)
    assert not judged(name, WRONG[name])


# Wrong vectors, each of which must be caught


def series_cut(patch: pytest.MonkeyPatch) -> str:
    patch.setattr(vectors, "TERMS", 8)
    return "exp"


def logarithm_believed(patch: pytest.MonkeyPatch) -> str:
    patch.setattr(Vector, "log", lambda self: Vector(np.log(self.h), np.abs(np.log(self.h)) * 2.0**-54))
    return "log"


def error_function_cut(patch: pytest.MonkeyPatch) -> str:
    patch.setattr(vectors, "LARGEST_ERF", 3.0)
    return "erf"


def reduced_once(patch: pytest.MonkeyPatch) -> str:
    patch.setattr(vectors, "LN2_LOW", 0.0)
    return "expm1"


@pytest.mark.parametrize("wrong", [series_cut, logarithm_believed, error_function_cut, reduced_once])
def test_wrong_vectors_are_caught(wrong: Callable[[pytest.MonkeyPatch], str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        assert not is_enclosed(wrong(patch))
