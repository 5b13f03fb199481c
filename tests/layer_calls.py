"""Random calls of the exact pooling, normalization and elementwise functions, and their definitions."""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import flint
import numpy as np
import numpy.typing as npt

from cnnspec import exact, nested, ops
from cnnspec.exact.engine import Rounded
from cnnspec.op import Operator
from cnnspec.rounding import RoundingTerms
from cnnspec.scalars import Extended
from tests.engine_calls import DTYPES, REGIMES, draw, independent_rounding

Values = npt.NDArray[Any]

MEANS = tuple(f"{kind}avg_pool{axes}d" for kind in ("", "adaptive_") for axes in (1, 2, 3))
MAXIMA = ("max_pool1d", "max_pool2d", "max_pool3d")
SLACK = 1 + Fraction(1, 2**36)  # what bound_sum may be too large by
BUDGETS = (1, 20_000, 64 << 20)


@dataclass
class LayerCall:
    """One call, with the operator that defines it."""

    name: str
    operator: Any
    keywords: dict[str, Any]
    operands: dict[str, Values]
    out_dtype: str
    regime: str
    budget: int
    rng: np.random.Generator

    def forward(self, **options: Any) -> Any:
        return getattr(exact, self.name)(*self.operands.values(), **self.keywords, **self._given(options))

    def backward(self, grad_output: Values, **options: Any) -> Any:
        function = getattr(exact, self.name).backward
        return function(grad_output, *self.operands.values(), **self.keywords, **self._given(options))

    def grad_output(self) -> Values:
        shape = self.operator.output_shape(*(one.shape for one in self.operands.values()))
        return draw(self.rng, shape, self.regime, "float32")

    def _given(self, options: dict[str, Any]) -> dict[str, Any]:
        return {"out_dtype": self.out_dtype, "budget": self.budget, **options}


class Pick:
    """What draws the domain's choices."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def integer(self, low: int, high: int) -> int:
        return self.random.randint(low, high)

    def choice(self, options: Sequence[Any]) -> Any:
        return self.random.choice(options)


def layer_calls(names: Sequence[str], seed: int) -> Iterator[LayerCall]:
    """Yield calls with arguments of the operators' domains, data of every regime and dtype."""
    pick, rng = Pick(seed), np.random.default_rng(seed)
    while True:
        name = pick.choice(names)
        spec = ops.spec(name)
        keywords, shapes = spec.domain(pick)
        keywords = dict(keywords)
        if "divisor_override" in keywords and pick.choice((False, True)):
            keywords["divisor_override"] = pick.choice((-3, 49, 1 << 40, 3**33))
        operator = spec.operator(**keywords)
        if math.prod(shapes[0]) > 500:
            continue
        dtype, regime = pick.choice(DTYPES), pick.choice(REGIMES)
        operands = {
            operand: draw(rng, shape, regime, dtype)
            for operand, shape in zip(spec.operands, shapes, strict=True)
        }
        out_dtype = pick.choice((*DTYPES, dtype))
        yield LayerCall(name, operator, keywords, operands, out_dtype, regime, pick.choice(BUDGETS), rng)


def numbers(array: Values, kind: Callable[[float], Any]) -> Any:
    """Return an array as nested lists of numbers of a kind."""
    return nested.unravel([kind(value) for value in array.astype(float).ravel().tolist()], array.shape)


def finite(array: Values) -> Values:
    return np.where(np.isfinite(array), array, 0)


def rounded(output: Any, shape: tuple[int, ...], dtype: str) -> Values:
    """Return exact numbers rounded by Python's own rounding."""
    values = [one.value if isinstance(one, Extended) else one for one in nested.ravel(output)]
    found = [
        value if isinstance(value, float) and not math.isfinite(value)
        else independent_rounding(Fraction(value), dtype)
        for value in values
    ]  # fmt: skip
    return np.array(found, float).reshape(shape)


def by_definition(call: LayerCall) -> Values:
    """Return the outputs of the operator's own loop over rational numbers, NaN and infinities."""
    output = call.operator.reference(*(numbers(one, Extended) for one in call.operands.values()))
    shape = call.operator.output_shape(*(one.shape for one in call.operands.values()))
    return rounded(output, shape, call.out_dtype)


def holds(result: Rounded, expected: Values, bound: RoundingTerms) -> None:
    """Hold values to their definition, and S and counts to what the operator states of finite terms."""
    assert np.array_equal(result.value.astype(float), expected, equal_nan=True)
    assert not np.signbit(result.value[result.value == 0]).any()
    assert result.n_eff is not None
    assert result.bound_sum is not None
    assert result.n_eff.ravel().tolist() == bound.roundings
    divisors = bound.divisors or [1] * len(bound.roundings)
    sizes = [Fraction(size) / divisor for size, divisor in zip(bound.magnitude, divisors, strict=True)]
    for given, size in zip(result.bound_sum.ravel().tolist(), sizes, strict=True):
        assert size <= Fraction(given) <= size * SLACK + (Fraction(2) ** -1060 if size else 0)


def bound_of(operator: Operator, call: LayerCall) -> RoundingTerms:
    return operator.rounding_terms(*(numbers(finite(one), Fraction) for one in call.operands.values()))


def ends(ball: Any) -> list[Fraction]:
    """Return the ends of a ball, or numbers a little beyond."""
    with flint.ctx.workprec(1000):
        pairs = [end.man_exp() for end in (ball.lower(), ball.upper())]
    return [Fraction(int(n)) * Fraction(2) ** int(e) for n, e in pairs]


def mean(x: list[float], divisor: int, dtype: str, out_dtype: str) -> float:
    """Return sum x / divisor, found as an output and, of the same numbers, as a gradient."""
    row = np.array(x, dtype).reshape(1, 1, -1)
    y = exact.avg_pool2d(row, (1, len(x)), divisor_override=divisor, out_dtype=out_dtype)
    padded = row if len(x) % 2 else np.append(row, np.zeros((1, 1, 1), dtype), axis=2)
    window = {"kernel_size": (1, padded.shape[2]), "stride": 1, "padding": (0, padded.shape[2] // 2)}
    dx = exact.avg_pool2d.backward(padded, padded, **window, divisor_override=divisor, out_dtype=out_dtype)
    assert dx[0, 0, padded.shape[2] // 2] == y[0, 0, 0]
    return float(y[0, 0, 0])
