"""Dropout: evaluation, training given the mask, gradients in three ways, and who refuses what."""

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest
import torch

from cnnspec import nested, ops
from cnnspec.errors import ArgumentError
from cnnspec.laws import replaced
from cnnspec.nested import Array
from cnnspec.ops.dropout import Dropout
from tests.ops.acceptance import Question, disagreements, tally, theirs
from tests.ops.draws import Draw, Seeded, draws, integers
from tests.ops.linear_checks import autograd, cotangent, dual_gradients, own_gradients
from tests.ops.wrong_norms import KILLERS, WRONG_GRADIENTS

LAWS = {law.name: law for law in ops.spec("dropout").laws}
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def mask_of(draw: Draw) -> Array:
    rng = Seeded(draw.seed).rng
    values = [rng.randint(0, 1) for _ in range(math.prod(draw.inputs[0]))]
    return nested.unravel(values if draw.op.p < 1 else [0] * len(values), draw.inputs[0])


def given_the_mask(function: Any, mask: Array) -> Any:
    """Return a call that drops what the mask says, but for p = 0 and 1, which leave no choice."""
    return lambda op, x: function(op, x, mask) if 0 < op.p < 1 else function(op, x)


def test_training_by_hand() -> None:
    """1 / (1 - 3/4) = 4; without a mask all is kept, but for p = 1."""
    assert Dropout(0.75, training=True).reference([1, 2, 3], [1, 0, 1]) == [4, 0, 12]
    assert Dropout(0.75, training=True).reference([1, 2, 3]) == [4, 8, 12]
    assert Dropout(0.75, training=True).gradients([1, 2, 3], [9, 9, 9], [1, 0, 1]) == [[4, 0, 12], None]
    assert Dropout(1.0, training=True).reference([1, math.inf]) == [0, 0]
    assert Dropout(0.75).reference([1, 2, 3]) == [1, 2, 3]
    assert Dropout(0.75).gradients([1, 2, 3], [9, 9, 9]) == [[1, 2, 3]]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("training", [True, False])
def test_torch_bit_for_bit(dtype: torch.dtype, training: bool) -> None:
    """NaN and infinities too. Which elements torch has kept is read off its gradient, which is their scale."""
    special = [-0.0, 0.0, math.nan, -1.0, math.inf, -math.inf, 3.0]
    kept = []
    for draw in draws("dropout", 100, empty=False):
        op: Any = Dropout((0.5, 0.75, 0.0, 1.0)[draw.seed % 4], training)
        shape = draw.inputs[0]
        row = [special[(i * 5 + draw.seed) % 7] for i in range(math.prod(shape))]
        torch.manual_seed(draw.seed)
        x = torch.tensor(row, dtype=dtype).reshape(shape).requires_grad_()
        y = torch.nn.Dropout(op.p).train(training)(x)
        (slope,) = torch.autograd.grad(y, x, torch.ones_like(y))
        mask = nested.unravel([int(v != 0) for v in slope.flatten().tolist()], shape)
        kept += nested.ravel(mask)
        ones = nested.elementwise(lambda v: 1, mask)
        assert nested.ravel(op.gradients(ones, ones, mask)[0]) == slope.flatten().tolist(), draw
        mine = nested.ravel(op.reference(nested.unravel(row, shape), mask))
        theirs = y.flatten().tolist()
        pairs = [(float(a), b) for a, b, k in zip(mine, theirs, nested.ravel(mask), strict=True) if k]
        assert [repr(a) for a, _ in pairs] == [repr(b) for _, b in pairs], draw
    assert (0 in kept) == training


def differing(count: int, gradients: Any = None) -> list[Draw]:
    """Return the cases in which gradients, dual numbers and autograd are not one."""
    wrong = []
    for draw in draws("dropout", count, cost=60, empty=False):
        operands = draw.operands()
        mine = own_gradients(draw, operands)
        if gradients:
            mine = [nested.ravel(one) for one in gradients(draw.op, cotangent(draw), *operands)]
        wrong += [draw] * (not mine == dual_gradients(draw, operands) == autograd(draw, operands))
    return wrong


def test_gradients_in_evaluation() -> None:
    assert differing(200) == []


@pytest.mark.parametrize("wrong", WRONG_GRADIENTS["dropout"])
def test_wrong_gradients_are_noticed(wrong: Any) -> None:
    assert len(differing(20, wrong)) > 5


def test_gradients_in_training_are_those_of_the_loop() -> None:
    """The loop is linear: a unit vector picks a column of its matrix."""
    for draw in draws("dropout", 200, cost=30, empty=False):
        op, mask = replaced(draw.op, training=True), mask_of(draw)
        (shape,) = draw.inputs
        g = integers(Seeded(draw.seed).rng, shape)
        dx, none = op.gradients(g, g, mask)
        assert none is None
        for i, mine in enumerate(nested.ravel(dx)):
            unit = nested.unravel([int(i == j) for j in range(math.prod(shape))], shape)
            column = nested.ravel(op.reference(unit, mask))
            assert mine == sum(a * b for a, b in zip(nested.ravel(g), column, strict=True)), draw


@pytest.mark.parametrize("law", LAWS)
def test_laws_find_their_mistakes(law: str) -> None:
    """In training, whatever the mask."""
    wrong, found = KILLERS["dropout"][law], 0
    for draw in draws("dropout", 40, cost=60, empty=False):
        mask, (x,) = mask_of(draw), draw.operands()
        left, right = LAWS[law].sides(draw.op, given_the_mask(Dropout.reference, mask), x)
        assert left == right, draw
        left, right = LAWS[law].sides(draw.op, given_the_mask(wrong, mask), x)
        found += repr(left) != repr(right)
    assert found > 20


# Acceptance


def questions(seed: int, count: int) -> Iterator[Question]:
    pick = Seeded(seed)
    for _ in range(count):
        p = pick.choice(
            (0, 1, 0.0, 1.0, 0.5, True, -0.0, -0.25, 1.0625, -1, 2, math.inf, -math.inf, "0.5", None)
        )
        yield "Dropout", {"p": p}, (pick.shape(pick.integer(0, 5)),)


def test_random_arguments_and_shapes() -> None:
    asked = list(questions(0, 500))
    assert disagreements(asked) == []
    constructor, _, accepted = tally(asked)
    assert min(constructor, accepted) > 100


def test_nan_is_refused_at_once() -> None:
    """torch waits for a call in training."""
    with pytest.raises(ArgumentError, match="p=nan must be between 0 and 1"):
        Dropout(math.nan)
    assert Dropout(Fraction(1, 4)).p == Fraction(1, 4)  # type: ignore[arg-type]
    assert theirs("Dropout", {"p": math.nan}, ((2,),)) == "the call refuses"


def test_wrong_rules_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Dropout, "__post_init__", lambda op: None)
    assert disagreements(questions(0, 60))
