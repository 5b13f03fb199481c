"""Gradients of convolutions, linear layers and what moves elements: as stated, by dual numbers, and by autograd."""

from fractions import Fraction
from typing import Any

import pytest

from cnnspec import nested, ops
from cnnspec.nested import Array
from tests.ops import function_checks
from tests.ops import linear_checks as checks
from tests.ops.draws import Draw, draws
from tests.ops.wrong_gradients import WRONG_GRADIENTS

NAMES = ("conv1d", "conv2d", "conv3d", "linear", "flatten", "pad", "add", "concat", "relu", "global_avg_pool")
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")


def scaled(draw: Draw) -> list[Array]:
    """Return integer operands: multiples of the divisor of a mean, and none at the corner of ReLU, whose slope is 0."""
    operands = draw.operands()
    if draw.name == "relu":
        operands = [nested.elementwise(lambda v: v or 1, one) for one in operands]
    count = 1
    for size in draw.inputs[0][2:] if draw.name == "global_avg_pool" else ():
        count *= size
    return [nested.elementwise(lambda v: Fraction(v * count), one) for one in operands]


def differing(name: str, count: int, gradients: Any = None) -> list[Draw]:
    """Return the cases in which the gradients stated are not those of dual numbers."""
    wrong = []
    for draw in draws(name, count, cost=300, empty=False):
        operands = scaled(draw)
        found = (gradients or type(draw.op).gradients)(draw.op, checks.cotangent(draw), *operands)
        wrong += [draw] * ([nested.ravel(one) for one in found] != checks.dual_gradients(draw, operands))
    return wrong


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_dual_numbers(name: str) -> None:
    assert differing(name, 200) == []


@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_gradients_of_functions_are_those_of_dual_numbers(name: str) -> None:
    """The library differentiates by the output that it keeps, dual numbers by the input."""
    assert function_checks.differing(name, 200) == []


@pytest.mark.parametrize("name", [name for name in NAMES if name != "global_avg_pool"])
def test_gradients_are_those_of_autograd(name: str) -> None:
    for draw in draws(name, 100, cost=300, empty=False):
        operands = draw.operands()
        assert checks.own_gradients(draw, operands) == checks.autograd(draw, operands), draw


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        (name, one)
        for name in NAMES
        for one in WRONG_GRADIENTS.get(name, WRONG_GRADIENTS.get(ops.family(name), ()))
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_wrong_gradients_are_noticed(name: str, wrong: Any) -> None:
    assert differing(name, 100, wrong)
