"""Local response normalization: torch within the bound, gradients by dual numbers, and who refuses what."""

import math
from collections.abc import Iterator
from typing import Any

import flint
import pytest
import torch

from cnnspec import exact, nested, ops
from cnnspec.errors import ArgumentError
from cnnspec.nested import Array
from cnnspec.ops.lrn import LocalResponseNorm
from tests.ops import function_checks as checks
from tests.ops.acceptance import CALL, Answer, Question, disagreements, ours, tally, theirs
from tests.ops.draws import Draw, Seeded, draws
from tests.ops.torch_layers import tensor, torch_output
from tests.ops.wrong_norms import WRONG_GRADIENTS, WRONG_OUTPUTS

NAME = "local_response_norm"


def test_worked_by_hand() -> None:
    """size = 4 sees c - 2, c - 1, c and c + 1: sums 2, 3, 4, 3 of ones, divided by 4 and multiplied by 4."""
    op = LocalResponseNorm(4, alpha=4.0, beta=1.0, k=0.0)
    ones = [[[1], [1], [1], [1]]]
    assert [1 / y for y in nested.ravel(op.reference(ones))] == [2, 3, 4, 3]
    draw = Draw(NAME, {"size": 4, "alpha": 4.0, "beta": 1.0, "k": 0.0}, ((1, 4, 1),), 0)
    assert [1 / y for y in torch_output(draw, [tensor(ones)]).flatten().tolist()] == [2, 3, 4, 3]


def test_gradient_by_hand() -> None:
    """y = x / (1 + x^2) has the slope (1 - x^2) / (1 + x^2)^2; of two channels x, 1 / b - 2 x^2 / b^2."""
    alone = LocalResponseNorm(1, alpha=1.0, beta=1.0)
    assert alone.gradients([[[25]]], [[[2]]]) == [[[[-3]]]]
    pair = LocalResponseNorm(3, alpha=3.0, beta=1.0, k=2.0)  # b = 4, g = (16, 0)
    assert pair.gradients([[[16], [0]]], [[[1], [1]]]) == [[[[2], [-2]]]]


def three_axes(dtype: str, count: int) -> Iterator[Draw]:
    """Yield cases; torch's average of three axes, which four and five axes take, has no 16-bit formats."""
    for draw in draws(NAME, count, cost=400, empty=False):
        if checks.DTYPES[dtype].itemsize > 2 or len(draw.inputs[0]) == 3:
            yield draw


@pytest.mark.parametrize("dtype", checks.DTYPES)
def test_torch_keeps_the_bounds(dtype: str) -> None:
    found = 0
    for draw in three_axes(dtype, 100):
        case, tensors = checks.operands_of(draw, dtype)
        assert checks.judged(case, tensors, checks.values_of(checks.torch_call(case, tensors))).holds, draw
        g, gradients = checks.torch_gradients(case, tensors)
        assert checks.gradients_judged(case, tensors, g, gradients)["input"].holds, draw
        found += 1
    assert found > 25


@pytest.mark.parametrize(("dtype", "least"), [("float32", 2.0**-13), ("bfloat16", 2.0**-4)])
@pytest.mark.parametrize("wrong", WRONG_OUTPUTS[NAME])
def test_bounds_are_sharp(wrong: Any, dtype: str, least: float) -> None:
    """Where the wrong result differs by `least` of the right one at all, it is outside the bound."""
    differs = outside = 0
    for draw in three_axes(dtype, 200):
        case, tensors = checks.operands_of(draw, dtype)
        x = tensors["input"].double().tolist()
        right, mine = (
            list(map(float, nested.ravel(f(draw.op, x)))) for f in (LocalResponseNorm.reference, wrong)
        )
        if max(abs(a - b) - abs(a) * least for a, b in zip(right, mine, strict=True)) > 0:
            differs += 1
            rounded = torch.tensor(mine).to(checks.DTYPES[dtype])
            outside += not checks.judged(case, tensors, checks.values_of(rounded)).holds
    assert differs > 3
    assert outside == differs


def test_gradients_are_those_of_dual_numbers() -> None:
    assert checks.differing(NAME, 200) == []


@pytest.mark.parametrize("wrong", WRONG_GRADIENTS[NAME])
def test_wrong_gradients_are_noticed(wrong: Any) -> None:
    """By dual numbers, and by the bounds."""
    assert len(checks.differing(NAME, 20, wrong)) > 5
    rejected = 0
    for draw in draws(NAME, 20, cost=60, empty=False):
        case, tensors = checks.operands_of(draw, "float32")
        g, _ = checks.torch_gradients(case, tensors)
        with flint.ctx.workprec(200):
            (dx,) = wrong(draw.op, checks.balls(g.tolist()), checks.balls(tensors["input"].tolist()))
        values = [float(value) for value in nested.ravel(dx)]
        rejected += not checks.gradients_judged(case, tensors, g, {"input": values})["input"].holds
    assert rejected > 5


def test_the_dialect_is_that_of_tensorflow() -> None:
    (dialect,) = ops.spec(NAME).dialects
    op = LocalResponseNorm(3, alpha=3.0, beta=1.0, k=1.0)
    assert dialect.applies(op)
    assert dialect.reference(op, [[[1], [0]]]) == [[[0.25], [0]]] != op.reference([[[1], [0]]])
    assert not dialect.applies(LocalResponseNorm(1))
    assert not dialect.applies(LocalResponseNorm(5, alpha=0.0))
    case, tensors = checks.operands_of(next(draws(NAME, 1, empty=False)), "float32")
    assert exact.evaluate_dialect(case.spec, op, dialect, checks.arrays(tensors)) is not None


@pytest.mark.parametrize("row", [(math.inf, 1), (-math.inf, 2), (math.nan, 1), (0, 0), (-0.0, 3)], ids=str)
def test_special_values_are_torch(row: tuple[float, float]) -> None:
    """Infinity over infinity is NaN, and so is what has NaN among its neighbours; the rest is 0 or finite."""
    draw = Draw(NAME, {"size": 3}, ((1, 2, 1),), 0)
    x: Array = [[[float(row[0])], [float(row[1])]]]
    mine = nested.ravel(draw.op.reference(x))
    for a, b in zip(mine, torch_output(draw, [tensor(x)]).flatten().tolist(), strict=True):
        assert math.isnan(a) == math.isnan(b)
        assert (a == 0) == (b == 0)


def test_the_domain_reaches_its_corners() -> None:
    found = list(draws(NAME, 200))
    sizes = {(draw.op.size % 2, draw.op.size > 2 * draw.inputs[0][1]) for draw in found}
    assert sizes == {(0, False), (1, False), (0, True), (1, True)}
    assert {len(draw.inputs[0]) for draw in found} == {3, 4, 5}
    assert any(0 in draw.inputs[0] for draw in found)


# Acceptance


def e(answer: Answer, *shape: int, **arguments: Any) -> Any:
    return pytest.param({"size": 2} | arguments, shape, answer, id=f"{shape} {arguments}")


TABLE = [
    e((2, 3, 4), 2, 3, 4),
    e((2, 3, 4, 5), 2, 3, 4, 5),
    e((2, 3, 1, 2, 2, 2), 2, 3, 1, 2, 2, 2),
    e(CALL, 2, 3),
    e(CALL, 3),
    e(CALL),
    e(CALL, 2, 3, 4, size=0),
    e(CALL, 2, 3, 4, size=-1),
    e((0, 3, 4), 0, 3, 4, size=0),
    e((2, 0, 4), 2, 0, 4),
    e((2, 3, 0), 2, 3, 0),
    e((2, 3, 4), 2, 3, 4, size=9),
    e((2, 3, 4), 2, 3, 4, alpha=-1.0, beta=-0.5, k=2.0),
]


@pytest.mark.parametrize(("arguments", "shape", "answer"), TABLE)
def test_table(arguments: dict[str, Any], shape: tuple[int, ...], answer: Answer) -> None:
    assert ours("LocalResponseNorm", arguments, (shape,)) == answer
    assert theirs("LocalResponseNorm", arguments, (shape,)) == answer


def questions(seed: int, count: int) -> Iterator[Question]:
    pick = Seeded(seed)
    for _ in range(count):
        shape = pick.shape(pick.choice((3, 4, 5, 3, 4, 2, 1)), (0, 1, 2, 3, 4, 2, 3))
        yield "LocalResponseNorm", {"size": pick.choice((1, 2, 3, 4, 5, 9, 0, -1))}, (shape,)


def test_random_arguments_and_shapes() -> None:
    asked = list(questions(0, 600))
    assert disagreements(asked) == []
    constructor, call, accepted = tally(asked)
    assert min(call, accepted) > 100
    assert constructor == 0


@pytest.mark.parametrize("size", [2.0, True, "2", (3,)])
def test_what_is_no_integer_is_refused_at_once(size: Any) -> None:
    """torch waits for the call."""
    with pytest.raises(ArgumentError, match="size"):
        LocalResponseNorm(size)


def test_wrong_rules_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalResponseNorm, "output_shape", lambda op, shape: tuple(shape))
    assert disagreements(questions(0, 60))
