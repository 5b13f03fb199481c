"""One loop, more readings: gradients by dual numbers and error terms, against autograd and direct sums.

Every formula stands beside wrong variants of it, which the same comparison must reject.
"""

import math
from fractions import Fraction
from typing import Any

import pytest
import torch

from cnnspec import nested, window
from cnnspec.derivatives import Dual
from cnnspec.nested import Array
from cnnspec.ops.conv import Conv1d
from tests.ops.draws import Draw, Seeded, draws, integers
from tests.ops.torch_layers import tensor, torch_output

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")

CONVS = ("conv1d", "conv2d", "conv3d")


# Gradients


def variables(name: str, array: Array) -> Array:
    values = nested.ravel(array)
    return nested.unravel([Dual.variable(v, (name, i)) for i, v in enumerate(values)], nested.shape_of(array))


def gradients(draw: Draw, operands: list[Array], cotangent: list[int]) -> dict[Any, Any]:
    """Return d(sum g y) / d(operand element), by the loop on dual numbers."""
    duals = [variables(str(n), array) for n, array in enumerate(operands)]
    total: dict[Any, Any] = {}
    for g, y in zip(cotangent, nested.ravel(draw.op.reference(*duals)), strict=True):
        for variable, slope in y.derivatives.items() if isinstance(y, Dual) else ():
            total[variable] = total.get(variable, 0) + g * slope
    return total


def torch_gradients(draw: Draw, operands: list[Array], cotangent: list[int]) -> list[list[float]]:
    """Return the same by autograd in float64."""
    leaves = [tensor(array).requires_grad_() for array in operands]
    y = torch_output(draw, leaves)
    y.backward(torch.tensor(cotangent, dtype=torch.float64).reshape(y.shape))
    return [leaf.grad.flatten().tolist() for leaf in leaves if leaf.grad is not None]


def every_window_has_a_tap(draw: Draw) -> bool:
    return all(window.taps(draw.op.windows, draw.inputs[0][-draw.op.spatial :]))


def gradients_wrong(name: str, count: int) -> list[Draw]:
    """Return the cases in which the loop on dual numbers and autograd differ."""
    wrong = []
    for draw in draws(name, count, cost=400, empty=False):
        # Where a window has no tap, torch's backward writes outside its memory.
        if getattr(draw.op, "return_indices", False) or ("max" in name and not every_window_has_a_tap(draw)):
            continue
        operands = draw.operands(largest=3)
        divisors = draw.op.divisors(draw.inputs[0]) if "avg" in name else [1]
        cotangent = [math.lcm(*divisors) * ((i * 7) % 5 - 2) for i in range(math.prod(draw.output_shape))]
        ours, theirs = gradients(draw, operands, cotangent), torch_gradients(draw, operands, cotangent)
        assert len(theirs) == len(operands)
        same = [
            values == [ours.get((str(n), i), 0) for i in range(len(values))]
            for n, values in enumerate(theirs)
        ]
        wrong += [draw] * (not all(same))
    return wrong


POOLS = ("avg_pool1d", "avg_pool2d", "avg_pool3d", "max_pool1d", "max_pool2d", "max_pool3d")


@pytest.mark.parametrize("name", [*CONVS, "linear", *POOLS])
def test_dual_numbers_are_autograd(name: str) -> None:
    """Ties among maxima too: the gradient goes to the first."""
    assert gradients_wrong(name, 15) == []


@pytest.mark.parametrize(
    ("name", "method", "mutant"),
    [
        (
            "conv2d",
            "__mul__",
            lambda a, b: a._combine(b, a.value, getattr(b, "value", b), lambda x, y: x * y),
        ),
        ("avg_pool2d", "__truediv__", lambda a, b: Dual(Fraction(a.value, b), a.derivatives)),
        ("max_pool2d", "__gt__", lambda a, b: a.value >= getattr(b, "value", b)),
    ],
    ids=["product rule", "division", "the last of equal maxima"],
)
def test_wrong_gradients_are_noticed(
    monkeypatch: pytest.MonkeyPatch, name: str, method: str, mutant: Any
) -> None:
    monkeypatch.setattr(Dual, method, mutant)
    assert gradients_wrong(name, 10)


# Error terms


@pytest.mark.parametrize("name", [*CONVS, "linear"])
def test_rounding_terms_are_direct_sums(name: str) -> None:
    for draw in draws(name, 40):
        operands = draw.operands(largest=1)  # a third of them 0
        terms = draw.op.rounding_terms(*operands)
        absolute = [nested.elementwise(abs, array) for array in operands]
        present = [nested.elementwise(lambda v: int(v != 0), array) for array in operands]
        assert terms.magnitude == torch_output(draw, list(map(tensor, absolute))).flatten().tolist()
        assert terms.roundings == torch_output(draw, list(map(tensor, present))).flatten().tolist()
        assert terms.divisors is None


@pytest.mark.parametrize(
    "count",
    [
        lambda op, x, w, *b: op.reference(*(nested.elementwise(lambda v: 1, a) for a in (x, w, *b))),
        lambda op, x, w, *b: op.reference(
            *(nested.elementwise(lambda v: int(v != 0), a) for a in (x, w)), *b
        ),
    ],
    ids=["zero terms counted", "bias by value"],
)
def test_wrong_rounding_counts_are_noticed(count: Any) -> None:
    wrong = 0
    for draw in draws("conv2d", 40, empty=False):
        operands = draw.operands(largest=1)
        wrong += nested.ravel(count(draw.op, *operands)) != draw.op.rounding_terms(*operands).roundings
    assert wrong > 5


def test_rounding_terms_of_means() -> None:
    """The sum of the magnitudes, divided by what the mean is divided by, is the mean of the magnitudes."""
    for draw in (draw for name in POOLS[:3] for draw in draws(name, 40)):
        operands = draw.operands(largest=1)
        terms = draw.op.rounding_terms(*operands)
        assert terms.divisors is not None
        absolute = nested.ravel(draw.op.reference(nested.elementwise(abs, operands[0])))
        means = [Fraction(s, d) for s, d in zip(terms.magnitude, terms.divisors, strict=True)]
        assert means == absolute
        present = nested.ravel(draw.op.reference(nested.elementwise(lambda v: int(v != 0), operands[0])))
        assert [Fraction(n, d) for n, d in zip(terms.roundings, terms.divisors, strict=True)] == present


def test_a_bound_holds_and_half_of_it_need_not() -> None:
    """float16 sums: every rounding of a direct sum fits, and some use more than a tenth of the bound."""
    worst = 0.0
    for seed in range(40):
        x = [1 + value / 1024 for value in nested.ravel(integers(Seeded(seed).rng, (9,), 500))]
        op = Conv1d(1, 1, 9, bias=False)
        total = torch.zeros((), dtype=torch.float16)
        for value in x:
            total = total + torch.tensor(value, dtype=torch.float16)
        exact = [[Fraction(value) for value in x]], [[[1] * 9]]
        terms = op.rounding_terms(*exact)
        error = abs(Fraction(total.item()) - op.reference(*exact)[0][0])
        bound = terms.roundings[0] * Fraction(1, 2048) * terms.magnitude[0]
        assert error <= bound
        worst = max(worst, float(error / bound))
    assert worst > 0.1
