"""Correctly rounded batch normalization against the operator's own loop over balls and fractions."""

import math
import tracemalloc
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import flint
import numpy as np
import pytest

from cnnspec import exact, nested, ops
from cnnspec.errors import ArgumentError, ShapeError
from cnnspec.exact import channels, norms, sums
from cnnspec.exact.norms import batch_norm
from cnnspec.ops.batch_norm import BatchNorm1d
from tests.engine_calls import DTYPES, EPS, REGIMES, Values, draw, independent_rounding
from tests.layer_calls import BUDGETS, SLACK, Pick, ends, finite, numbers

OUTPUTS = 8000  # compared by each of the tests that share them
PARTS = 6
NAMES = ("batch_norm1d", "batch_norm2d", "batch_norm3d")


def agrees(operator: Any, operands: dict[str, Values], result: Any, dtype: str) -> None:
    """Hold values to balls of 900 bits, and to fractions where these do not tell; bounds to what is stated."""
    with flint.ctx.workprec(900):
        outputs = nested.ravel(operator.reference(*(numbers(one, flint.arb) for one in operands.values())))
        bound = operator.rounding_terms(*(numbers(finite(one), flint.arb) for one in operands.values()))
    fractions: list[Any] = []
    for i, (ball, found) in enumerate(zip(outputs, result.value.astype(float).ravel().tolist(), strict=True)):
        if not ball.is_finite():
            middle = float(ball.mid())
            infinite = math.isinf(middle) and ball.rad().is_finite()
            assert found == middle if infinite else math.isnan(found)
            continue
        below, above = (independent_rounding(end, dtype) for end in ends(ball))
        if below != above:  # a root is rational
            if not fractions:
                plain = (numbers(finite(one), Fraction) for one in operands.values())
                fractions = nested.ravel(operator.reference(*plain))
            below = independent_rounding(Fraction(fractions[i]), dtype)
            assert not isinstance(fractions[i], float)
        assert found == below
        if all(np.isfinite(one).all() for one in operands.values()):
            size = ends(flint.arb(bound.magnitude[i]))
            assert size[0] <= Fraction(float(result.bound_sum.flat[i])) <= size[1] * SLACK
    assert result.n_eff.ravel().tolist() == bound.roundings


def normalized(operator: Any, operands: dict[str, Values], **options: Any) -> Any:
    x, *_ = operands.values()
    mean, variance, w, b = (operands.get(name) for name in ("running_mean", "running_var", "weight", "bias"))
    return batch_norm(x, mean, variance, w, b, operator.from_batch, eps=operator.eps, full=True, **options)


@pytest.mark.parametrize("part", range(PARTS))
def test_outputs_equal_the_loop_over_balls(part: int) -> None:
    pick, rng, compared = Pick(part), np.random.default_rng(part), 0
    while compared < OUTPUTS:
        spec = ops.spec(pick.choice(NAMES))
        keywords, shapes = spec.domain(pick)
        operator: Any = spec.operator(**keywords)
        dtype, regime = pick.choice(DTYPES), pick.choice(REGIMES)
        out_dtype = pick.choice((*DTYPES, dtype))
        if not 0 < math.prod(shapes[0]) < 400:
            continue
        names = {"input": shapes[0], **operator.buffer_shapes(), **operator.parameter_shapes()}
        operands = {name: draw(rng, shape, regime, dtype) for name, shape in names.items()}
        if "running_var" in operands:
            operands["running_var"] = np.abs(operands["running_var"])
        kind = pick.choice(("as drawn", "as drawn", "constant", "rational", "far from 0"))
        if kind == "constant":
            operands["input"] = np.full_like(operands["input"], pick.choice((0.1, 5, 3e4, 0)))
        elif kind == "rational":
            operands = {name: np.round(one) for name, one in operands.items()}
            operands |= (
                {"running_var": np.full(operator.num_features, 4.0)} if "running_var" in operands else {}
            )
        elif kind == "far from 0":
            operands["input"] = operands["input"].astype(float) + 1e6
        result = normalized(operator, operands, out_dtype=out_dtype, budget=pick.choice(BUDGETS))
        agrees(operator, operands, result, out_dtype)
        compared += result.value.size


@pytest.mark.parametrize(
    ("x", "mean", "variance", "weight", "bias", "out_dtype", "expected"),
    [
        (EPS, 0, 1, 1, 1, "float32", 1),  # a tie goes to the even neighbour
        (EPS * (1 + 2.0**-52), 0, 1, 1, 1, "float32", 1 + 2 * EPS),  # float64 sums would make it one
        (3 * EPS, 0, 9, 1, 1, "float32", 1),
        (2.0**-53 * (1 + 2.0**-52), 0, 1, 1, 1, "float64", 1 + 2.0**-52),
        (2.0**-53 * (1 - 2.0**-53), 0, 1, 1, 1, "float64", 1),
        (1 + 2.0**-8 + 2.0**-40, 0, 1, 1, 0, "bfloat16", 1 + 2.0**-7),  # float32 would lose the last
        (1e300, -1e300, 1, 1e-300, 0, "float64", 2),
        (1e308, -1e308, 1, 0.5, 0, "float64", 1e308),  # x - m overflows
        (1e308, -1e308, 4e-300, 0, 3, "float64", 3),
        (1, 0, 1e308, 1e-300, 0, "float64", 0),
        (5e-324, 0, 0.25, 1, 0, "float64", 1e-323),
        (1, 0, 3, math.sqrt(3), -1, "float64", None),  # irrational: what is left of it
        (math.inf, 1, 1, -2, 3, "float64", -math.inf),
        (math.inf, 1, 1, 0, 3, "float64", math.nan),
        (5, 1, math.inf, 2, 3, "float64", 3),
        (5, 1, -1, 2, 3, "float64", math.nan),
        (5, 1, 0, 2, 3, "float64", math.nan),  # no root, no quotient
        (5, math.inf, 1, 2, 3, "float64", -math.inf),
        (5, 5, 1, math.inf, 3, "float64", math.nan),
        (5, 6, 1, math.inf, 3, "float64", -math.inf),
        (5, 6, 1, 1, math.inf, "float64", math.inf),
    ],
)
def test_lines_that_are_hard_to_round(
    x: float, mean: float, variance: float, weight: float, bias: float, out_dtype: str, expected: float | None
) -> None:
    m, v, w, b = (np.array([value]) for value in (mean, variance, weight, bias))
    found = float(batch_norm(np.array([[x]]), m, v, w, b, eps=0.0, out_dtype=out_dtype)[0, 0])
    if expected is None:
        with flint.ctx.workprec(900):
            ball = (flint.arb(x) - mean) / flint.arb(variance).sqrt() * weight + bias
        [expected] = {independent_rounding(end, out_dtype) for end in ends(ball)}
    assert found == expected or (math.isnan(found) and math.isnan(expected))


def test_own_statistics_far_from_zero_and_out_of_range() -> None:
    """Variance 1 around any number that float64 holds beside 1; squares of 1e200 leave its range."""
    for middle in (0.0, 2.0**52, -(2.0**52)):
        x = np.array([[middle - 1], [middle + 1]])
        assert batch_norm(x, None, None, None, None, True, eps=3.0).tolist() == [[-0.5], [0.5]]
    x = np.array([[-1e200], [1e200], [1e200], [-1e200]])
    assert batch_norm(x, None, None, None, None, True).tolist() == [[-1.0], [1.0], [1.0], [-1.0]]
    tiny = np.array([[-5e-324], [5e-324]])
    assert batch_norm(tiny, None, None, np.array([2.0]), None, True, eps=4.0).tolist() == tiny.tolist()


def test_one_infinite_element_leaves_no_statistics() -> None:
    x = np.array([[1.0, 1.0], [np.inf, 3.0]])
    y = batch_norm(x, None, None, None, None, True, eps=3.0)

    assert np.isnan(y[:, 0]).all()
    assert y[:, 1].tolist() == [-0.5, 0.5]


def test_running_statistics_stay_as_they_are() -> None:
    mean, variance = np.zeros(2, np.float32), np.ones(2, np.float32)
    batch_norm(np.array([[1.0, 2.0], [3.0, 5.0]]), mean, variance, training=True, momentum=1.0)

    assert (mean.tolist(), variance.tolist()) == ([0.0, 0.0], [1.0, 1.0])


def test_memory_stays_within_the_budget() -> None:
    x, budget, ones = np.ones((2, 4, 256, 256), np.float32) / 3, 4 << 20, np.ones(4, np.float32)
    x[0, 0] += np.arange(256, dtype=np.float32) * np.float32(0.7)
    functions: tuple[Callable[[], Values], ...] = (
        lambda: batch_norm(x, ones, ones, ones, ones, budget=budget),
        lambda: batch_norm(x, ones, ones, ones, ones, out_dtype="float64", budget=budget),
        lambda: batch_norm(x, None, None, ones, ones, True, budget=budget),
    )
    for function in functions:
        tracemalloc.start()
        result = function()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

        assert peak - result.nbytes <= budget


def test_arguments_are_refused_with_the_broken_relation() -> None:
    x, ones = np.ones((2, 3)), np.ones(3)
    with pytest.raises(ArgumentError, match="running_mean and running_var must be given"):
        batch_norm(x, None, None)
    with pytest.raises(ShapeError, match=r"weight of shape \(2,\) must be \(3,\)"):
        batch_norm(x, ones, ones, np.ones(2))
    with pytest.raises(ShapeError, match="must have 2 to 5 axes"):
        batch_norm(ones, ones, ones)
    with pytest.raises(ShapeError, match="one value per channel"):
        batch_norm(x[:1], None, None, training=True)
    with pytest.raises(ShapeError, match="must be positive"):
        batch_norm(x, ones, ones, eps=-1.0)
    assert exact.batch_norm(np.ones((0, 3)), ones, ones).shape == (0, 3)


# Wrong implementations, each of which the comparisons must catch


def no_bound(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(norms, "UNIT", 0.0)


def low_halves_dropped(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(norms, "two_product", lambda a, b: (a * b, np.zeros(np.broadcast(a, b).shape)))
    patch.setattr(channels, "three", lambda number: (float(number.middle), 0.0, 0.0))


def rounded_through_float32(patch: pytest.MonkeyPatch) -> None:
    right = sums.round_to
    patch.setattr(norms, "round_to", lambda y, form: right(y.astype(np.float32).astype(np.float64), form))


def unbiased_variance(patch: pytest.MonkeyPatch) -> None:
    right = channels.Channels.enclose

    def enclose(self: Any, c: int, mean: Any, variance: Any, eps: Fraction, weight: float) -> None:
        larger = channels.Interval(variance.middle * Fraction(4, 3), variance.radius)
        right(self, c, mean, larger, eps, weight)

    patch.setattr(channels.Channels, "enclose", enclose)


def variance_from_squares(patch: pytest.MonkeyPatch) -> None:
    """The textbook's E[x^2] - E[x]^2 in float64."""
    right = channels.own

    def own(x: Values, eps: float, weight: Values, budget: int) -> Any:
        found = right(x, eps, weight, budget)
        values = x.astype(np.float64)
        variance = (values**2).mean(axis=(0, 2)) - values.mean(axis=(0, 2)) ** 2
        found.ah[:] = weight / np.sqrt(variance + eps)
        return found

    patch.setattr(channels, "own", own)


def channels_confused(patch: pytest.MonkeyPatch) -> None:
    right = norms._Line._settle

    def settle(self: Any, value: Values, x: Values, places: Values, c: slice) -> None:
        right(self, value, x, places, slice(0, c.stop - c.start))

    patch.setattr(norms._Line, "_settle", settle)


def hard_lines_hold() -> bool:
    """Say whether lines near ties, own statistics, and many channels come out right."""
    ones, zeros = np.ones(1), np.zeros(1)

    def line(x: float, dtype: str) -> float:
        return float(batch_norm(np.array([[x]]), zeros, ones, ones, ones, eps=0.0, out_dtype=dtype)[0, 0])

    right = line(EPS * (1 + 2.0**-52), "float32") == 1 + 2 * EPS
    right &= line(2.0**-8 + 2.0**-40, "bfloat16") == 1 + 2.0**-7
    rng = np.random.default_rng(1)
    try:
        for dtype in ("float32", "float64"):
            x = rng.standard_normal((4, 600, 1)) + 100
            operator = BatchNorm1d(600, affine=False, track_running_stats=False)
            agrees(
                operator,
                {"input": x},
                normalized(operator, {"input": x}, out_dtype=dtype, budget=1 << 20),
                dtype,
            )
        shifted = np.stack([np.full((1, 300), EPS * (1 + 2.0**-52))])
        shifted = np.repeat(shifted.reshape(1, 300, 1), 150, axis=2)
        bias = np.arange(300.0, 0.0, -1.0)
        y = batch_norm(shifted, np.zeros(300), np.ones(300), np.ones(300), bias, eps=0.0, out_dtype="float32")
        right &= bool((y[0, :-1, 0] == bias[:-1]).all()) and bool((y[0, -1] == 1 + 2 * EPS).all())
    except AssertionError:
        return False
    return right


def test_the_right_implementation_gets_the_hard_lines_right() -> None:
    assert hard_lines_hold()


@pytest.mark.parametrize(
    "wrong",
    [
        no_bound,
        low_halves_dropped,
        rounded_through_float32,
        unbiased_variance,
        variance_from_squares,
        channels_confused,
    ],
)
def test_wrong_implementations_are_caught(wrong: Callable[[pytest.MonkeyPatch], None]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        wrong(patch)
        assert not hard_lines_hold()
