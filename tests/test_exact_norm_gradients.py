"""Correctly rounded gradients of batch normalization against the operator's own loop over balls and fractions."""

import math
import tracemalloc
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import flint
import numpy as np
import pytest

from cnnspec import nested, ops
from cnnspec.errors import ShapeError
from cnnspec.exact import channels, norm_gradients
from cnnspec.exact.norms import batch_norm
from tests.engine_calls import DTYPES, EPS, REGIMES, Values, draw, independent_rounding
from tests.layer_calls import BUDGETS, Pick, ends, finite, numbers

ELEMENTS = 5000  # of input gradients, compared by each of the tests that share them
PARTS = 6
NAMES = ("batch_norm1d", "batch_norm2d", "batch_norm3d")


def agrees(operator: Any, arrays: list[Values], found: Any, dtype: str) -> None:
    """Hold gradients to balls of 900 bits, and to fractions where these do not tell; arrays: dy and the operands."""
    with flint.ctx.workprec(900):
        balls = operator.gradients(*(numbers(one, flint.arb) for one in arrays))
    fractions: list[Any] = []
    rows = [one for one in balls if one is not None]
    for which, (row, right) in enumerate(zip(rows, found, strict=False)):
        for i, (ball, value) in enumerate(
            zip(map(flint.arb, nested.ravel(row)), right.astype(float).ravel().tolist(), strict=True)
        ):
            if not ball.is_finite():
                middle = float(ball.mid())
                infinite = math.isinf(middle) and ball.rad().is_finite()
                assert value == middle if infinite else math.isnan(value)
                continue
            least, most = ends(ball)
            below, above = (independent_rounding(end, dtype) for end in (least, most))
            if least <= 0 <= most:  # far narrower than what is not zero
                below = above = 0.0
            if below != above:  # a rational number
                if not fractions:
                    plain = operator.gradients(*(numbers(finite(one), Fraction) for one in arrays))
                    fractions = [nested.ravel(one) for one in plain if one is not None]
                assert not isinstance(fractions[which][i], float)
                below = independent_rounding(Fraction(fractions[which][i]), dtype)
            assert value == below


def gradients(operator: Any, dy: Values, operands: dict[str, Values], **options: Any) -> Any:
    mean, variance, w, b = (operands.get(name) for name in ("running_mean", "running_var", "weight", "bias"))
    training = operator.from_batch
    return batch_norm.backward(
        dy, operands["input"], mean, variance, w, b, training, eps=operator.eps, **options
    )


@pytest.mark.parametrize("part", range(PARTS))
def test_gradients_equal_the_loop_over_balls(part: int) -> None:
    pick, rng, compared = Pick(part), np.random.default_rng(part), 0
    while compared < ELEMENTS:
        spec = ops.spec(pick.choice(NAMES))
        keywords, shapes = spec.domain(pick)
        operator: Any = spec.operator(**{**keywords, "affine": True, "bias": True})
        if not 0 < math.prod(shapes[0]) < 300 or operator.num_features != shapes[0][1]:
            continue
        dtype, regime, out_dtype = pick.choice(DTYPES), pick.choice(REGIMES), pick.choice(DTYPES)
        names = {"input": shapes[0], **operator.buffer_shapes(), **operator.parameter_shapes()}
        operands = {name: draw(rng, shape, regime, dtype) for name, shape in names.items()}
        if "running_var" in operands:
            operands["running_var"] = np.abs(operands["running_var"])
        dy = draw(rng, shapes[0], pick.choice((regime, "dense")), pick.choice(("float32", "float64")))
        kind = pick.choice(("as drawn", "constant", "equal gradients", "rational", "far from 0"))
        if kind == "constant":
            operands["input"] = np.full_like(operands["input"], pick.choice((0.1, 5, 3e4, 0)))
        elif kind == "equal gradients":
            dy = np.full_like(dy, pick.choice((1, 0.1)))
        elif kind == "rational":
            operands, dy = {name: np.round(one) for name, one in operands.items()}, np.round(dy)
            operands |= (
                {"running_var": np.full(operator.num_features, 4.0)} if "running_var" in operands else {}
            )
        elif kind == "far from 0":
            operands["input"], dy = operands["input"].astype(float) + 1e6, dy.astype(float) + 1e6
        found = gradients(operator, dy, operands, out_dtype=out_dtype, budget=pick.choice(BUDGETS))
        agrees(operator, [dy, *operands.values()], found, out_dtype)
        compared += dy.size


def hard_gradients_hold() -> bool:
    """Say whether gradients near ties, with cancellation and out of the usual range come out right."""
    ones, zeros = np.ones(1), np.zeros(1)
    right = True
    for g, dtype, expected in (
        (1 + EPS * (1 + 2.0**-20), "float32", 1 + 2 * EPS),
        (1 + 2.0**-8 + 2.0**-40, "bfloat16", 1 + 2.0**-7),
        (1e300, "float64", 1e300),
        (5e-324, "float64", 5e-324),
    ):
        found = batch_norm.backward(np.array([[g]]), np.array([[3.0]]), zeros, ones, eps=0.0, out_dtype=dtype)
        right &= bool(found.input[0, 0] == expected)
    terms = np.array([[3.0], [3 * EPS], [2.0**-100]])
    found = batch_norm.backward(terms, np.ones((3, 1)), zeros, 9 * ones, eps=0.0, out_dtype="float32")
    right &= bool(found.weight[0] == 1 + 2 * EPS)
    rng = np.random.default_rng(2)
    try:
        for dtype in ("float32", "float64"):
            for offset in (0.0, 1e4):
                operator = ops.spec("batch_norm1d").operator(3, track_running_stats=False)  # type: ignore[call-arg]
                operands = {"input": rng.standard_normal((40, 3)) + offset}
                operands |= {"weight": rng.standard_normal(3), "bias": np.zeros(3)}
                dy = rng.standard_normal((40, 3)) + offset
                agrees(
                    operator,
                    [dy, *operands.values()],
                    gradients(operator, dy, operands, out_dtype=dtype),
                    dtype,
                )
    except AssertionError:
        return False
    return right


def test_the_right_implementation_gets_the_hard_gradients_right() -> None:
    assert hard_gradients_hold()


def test_equal_gradients_leave_nothing_where_statistics_are_own() -> None:
    x = np.random.default_rng(3).standard_normal((4, 2, 5))
    found = batch_norm.backward(np.full(x.shape, 0.1), x, None, None, training=True)

    assert not found.input.any()
    assert not found.weight.any()
    assert found.bias.tolist() == [2.0, 2.0]


def test_only_what_is_wanted_is_computed_and_shapes_are_checked() -> None:
    x, ones = np.ones((2, 3)), np.ones(3)
    found = batch_norm.backward(x, x, ones, ones, wanted=["bias"])

    assert found.input is None
    assert found.weight is None
    assert found.bias.tolist() == [2.0] * 3
    with pytest.raises(ShapeError, match="grad_output of shape"):
        batch_norm.backward(x[:1], x, ones, ones)
    nothing = batch_norm.backward(np.ones((0, 3)), np.ones((0, 3)), ones, ones)
    assert (nothing.input.shape, nothing.weight.tolist(), nothing.bias.tolist()) == (
        (0, 3),
        [0.0] * 3,
        [0.0] * 3,
    )


def test_memory_stays_near_that_of_one_channel() -> None:
    x, ones = np.random.default_rng(4).standard_normal((4, 16, 64, 64)), np.ones(16)
    one_channel = x[:, 0].nbytes
    tracemalloc.start()
    found = batch_norm.backward(x, x, None, None, ones, ones, True, budget=1 << 20, out_dtype="float32")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak - 2 * found.input.nbytes <= 30 * one_channel


# Wrong implementations, each of which the comparisons must catch


def no_bound(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(norm_gradients, "UNIT", 0.0)
    patch.setattr(norm_gradients, "decided", lambda numbers_, form, sums: (
        channels_rounded(numbers_.h, form), np.zeros(numbers_.h.shape, bool)
    ))  # fmt: skip


def channels_rounded(h: Values, form: Any) -> Values:
    return np.array(
        [channels.nearest_quotient(Fraction(float(v)), Fraction(1), Fraction(0), form) for v in h.flat]
    ).reshape(h.shape)


def slope_forgotten(patch: pytest.MonkeyPatch) -> None:
    right = norm_gradients.Cotangent.__post_init__

    def init(self: Any) -> None:
        right(self)
        self.slope = norm_gradients.ZERO

    patch.setattr(norm_gradients.Cotangent, "__post_init__", init)


def products_in_float64(patch: pytest.MonkeyPatch) -> None:
    def products(x: Values, pivot: float, g: Values, level: float) -> Any:
        return channels.Interval(Fraction(float(((x - pivot) * (g - level)).sum())))

    patch.setattr(norm_gradients, "_products", products)


@pytest.mark.parametrize("wrong", [no_bound, slope_forgotten, products_in_float64])
def test_wrong_implementations_are_caught(wrong: Callable[[pytest.MonkeyPatch], None]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        wrong(patch)
        assert not hard_gradients_hold()
