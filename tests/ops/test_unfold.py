"""`Unfold` and `Fold`: values, gradients, who refuses what, and what bounds the errors."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from cnnspec import nested, ops
from cnnspec.errors import ArgumentError
from cnnspec.op import Windowed
from cnnspec.ops import unfold
from cnnspec.ops.fold import Fold
from cnnspec.ops.unfold import Unfold
from cnnspec.window import Window
from tests.ops import linear_checks as checks
from tests.ops.acceptance import CALL, Answer, Question, disagreements, ours, theirs
from tests.ops.draws import Draw, Seeded, draws

NAMES = ("unfold", "fold")


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_dual_numbers_and_of_autograd(name: str) -> None:
    assert checks.differing(name, 200, cost=300) == []


def last_block_wins(op: Unfold, columns: Any, shape: tuple[int, ...]) -> Any:
    """The last block that covers a pixel wins, instead of adding to the others."""
    batch, channels, sizes = op.split(shape)
    y = []
    for x in nested.collapse(columns, 1) if batch else [nested.ravel(columns)]:
        image = [0] * math.prod((channels, *sizes))
        for column, pixel in op.moves(channels, sizes):
            image[pixel] = x[column]
        y += image
    return nested.unravel(y, shape)


def test_wrong_gradients_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unfold, "folded", last_block_wins)
    found = list(draws("unfold", 40, cost=300, empty=False))
    wrong = [d for d in found if checks.own_gradients(d, d.operands()) != checks.autograd(d, d.operands())]
    assert len(wrong) > 10


def test_a_constant_where_nothing_overlaps() -> None:
    """Blocks of 2x2 side by side: fold undoes unfold; stride 1 counts each pixel as often as it is covered."""
    x = [[[1, 2, 3, 4], [5, 6, 7, 8]]]
    assert Fold((2, 4), 2, stride=2).reference(Unfold(2, stride=2).reference(x)) == x
    assert Fold((2, 4), 2).reference(Unfold(2).reference(x)) == [[[1, 4, 6, 4], [5, 12, 14, 8]]]


def test_a_gap_between_blocks_stays_zero() -> None:
    """Stride 2 and blocks of 1: of 3 pixels the middle one is in no block."""
    assert Fold((1, 3), 1, stride=2).reference([[7, 9]]) == [[[7, 0, 9]]]


def test_the_dialect_orders_rows_by_kernel_elements() -> None:
    """Two channels, two kernel elements: c0k0 c0k1 c1k0 c1k1 becomes c0k0 c1k0 c0k1 c1k1."""
    (dialect,) = ops.spec("unfold").dialects
    op, x = Unfold((1, 2)), [[[1, 2]], [[3, 4]]]
    assert op.reference(x) == [[1], [2], [3], [4]]
    assert dialect.reference(op, x) == [[1], [3], [2], [4]]
    assert not dialect.applies(Unfold(1))


# Who refuses what


def u(answer: Answer, *shape: int, **arguments: Any) -> Any:
    row = {"kernel_size": 2} | arguments
    return pytest.param("Unfold", row, shape or (1, 2, 5, 6), answer, id=f"unfold{shape or ''}{arguments}")


def f(answer: Answer, *shape: int, **arguments: Any) -> Any:
    row = {"output_size": (5, 6), "kernel_size": 2} | arguments
    return pytest.param("Fold", row, shape or (1, 8, 20), answer, id=f"fold{shape or ''}{arguments}")


TABLE = [
    u((1, 8, 20)),
    u((8, 42), 2, 5, 6, padding=1),
    u((0, 8, 42), 0, 2, 5, 6, padding=1),
    u(CALL, 1, 0, 5, 6),
    u(CALL, 0, 2, 0, 6, padding=1),
    u(CALL, 5, 6),
    u(CALL, 1, 1, 2, 5, 6),
    u(CALL, kernel_size=(2,)),
    u((1, 12, 16), kernel_size=(2, 3)),
    u(CALL, kernel_size=()),
    u(CALL, kernel_size=0),
    u((1, 60, 1), kernel_size=(5, 6)),
    u(CALL, kernel_size=(5, 7)),
    u(CALL, stride=0),
    u(CALL, stride=(2,)),
    u((1, 8, 10), stride=(2, 1)),
    u(CALL, padding=-1),
    u((1, 8, 210), padding=5),
    u(CALL, padding=(1,)),
    u(CALL, dilation=0),
    u((1, 8, 1), dilation=(4, 5)),
    u(CALL, dilation=(4, 6)),
    f((1, 2, 5, 6)),
    f((2, 5, 6), 8, 20),
    f((0, 2, 5, 6), 0, 8, 20),
    f(CALL, 1, 7, 20),
    f(CALL, 1, 8, 19),
    f(CALL, 0, 8, 19),
    f(CALL, 1, 0, 20),
    f(CALL, 1, 8, 0),
    f(CALL, 20),
    f(CALL, 1, 1, 8, 20),
    f((1, 2, 5, 5), 1, 8, 16, output_size=5),
    f(CALL, 1, 8, 16, output_size=(5,)),
    f(CALL, 1, 8, 16, output_size=(5, 5, 5)),
    f(CALL, 1, 8, 1, output_size=0, padding=1),
    f((1, 2, 1, 1), 1, 8, 4, output_size=1, padding=1),
    f(CALL, kernel_size=(8, 1)),
    f(CALL, stride=0),
    f(CALL, stride=(1,)),
    f((1, 2, 5, 6), stride=(1, 1)),
    f(CALL, padding=-1),
    f(CALL, dilation=0),
]


@pytest.mark.parametrize(("name", "arguments", "shape", "answer"), TABLE)
def test_table(name: str, arguments: dict[str, Any], shape: tuple[int, ...], answer: Answer) -> None:
    assert ours(name, arguments, (shape,)) == answer
    assert theirs(name, arguments, (shape,)) == answer


@pytest.mark.parametrize("operator", [Unfold, lambda **given: Fold(output_size=1, **given)])
@pytest.mark.parametrize("value", [2.0, None, True, "same", (1, 2.0)])
def test_what_is_no_integer_is_refused_at_once(operator: Any, value: Any) -> None:
    """torch waits for the call."""
    with pytest.raises(ArgumentError, match="kernel_size"):
        operator(kernel_size=value)


def questions(seed: int, count: int) -> Iterator[Question]:
    """Draw arguments and shapes that are legal but for one or two things, or not."""
    pick = Seeded(seed)
    for _ in range(count):

        def sizes(usual: tuple[int, ...], rare: tuple[int, ...]) -> int | tuple[int, ...]:
            values = tuple(pick.choice(pick.maybe(0.03, rare, usual)) for _ in range(2))
            return values[0] if pick.rng.random() < 0.4 else (values * 2)[: pick.maybe(0.03, 3, 2)]

        arguments: dict[str, Any] = {
            "kernel_size": sizes((1, 2, 3), (0, -1)),
            "dilation": sizes((1, 1, 2), (0, -1)),
            "padding": sizes((0, 1, 2), (-1, 4)),
            "stride": sizes((1, 1, 2, 3), (0, -1)),
        }
        image = tuple(pick.maybe(0.03, 0, pick.integer(1, 6)) for _ in range(2))
        batch: tuple[int, ...] = pick.choice(((1,), (2,), (), (0,), (1, 1) if pick.maybe(0.1, 1, 0) else ()))
        shape = (*batch, pick.maybe(0.04, 0, pick.integer(1, 3)), *image)
        if pick.choice((True, False)):
            yield "Unfold", arguments, (shape,)
            continue
        columns = ours("Unfold", arguments, (shape,))
        if isinstance(columns, str):
            columns = (1, pick.integer(1, 9), pick.integer(1, 9))
        columns = tuple(size + pick.maybe(0.1, pick.choice((1, -1)), 0) * (size > 0) for size in columns)
        output_size = pick.maybe(0.05, pick.choice((-1, 0, 3, (4,), (3, 3, 3))), image)
        yield "Fold", {"output_size": output_size, **arguments}, (columns,)


def test_random_arguments_and_shapes() -> None:
    asked = list(questions(1, 3000))
    assert disagreements(asked) == []
    answers = [(one[0], isinstance(ours(*one), tuple)) for one in asked]
    assert all(answers.count((name, legal)) > 300 for name in ("Fold", "Unfold") for legal in (True, False))


@pytest.mark.parametrize(
    ("owner", "name", "mutant"),
    [
        (Windowed, "axes", lambda self, name, broadcast=True: (*getattr(self, name), 1, 1)[:2]),
        (Window, "span", property(lambda self: self.dilation * self.kernel)),
    ],
    ids=["any length", "span one too far"],
)
def test_wrong_rules_are_noticed(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, mutant: Any) -> None:
    asked = list(questions(1, 1000))
    monkeypatch.setattr(owner, name, mutant)
    assert disagreements(asked)


# Bounds


@pytest.mark.parametrize("regime", ["integers", "sparse", "dense", "special"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", NAMES)
def test_torch_stays_within_the_bounds(name: str, dtype: str, regime: str) -> None:
    for draw, case in checks.cases(name, 40, dtype, regime):
        result = checks.judged(draw, case)
        assert result.holds, (case, result.worst, result.actual, result.expected)
        if regime != "special":
            assert all(one.holds for one in checks.judged_gradients(draw, case).values()), case


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_16_bits(dtype: str) -> None:
    """Copies are copies; sums are made in float32 and rounded once."""
    for draw, case in checks.cases("unfold", 40, dtype):
        assert checks.judged(draw, case).holds, case
    for draw, case in checks.cases("fold", 40, dtype):
        assert checks.judged(draw, case, checks.in_float32).holds, case


def drops_a_column(draw: Draw, tensors: list[torch.Tensor]) -> torch.Tensor:
    (x,) = tensors
    return checks.in_float32(draw, [torch.cat([x[..., :-1], 0 * x[..., -1:]], -1)])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_wrong_kernels_leave_the_bounds(dtype: str) -> None:
    found = list(checks.cases("fold", 40, dtype))
    assert sum(not checks.judged(draw, case, drops_a_column).holds for draw, case in found) > 25
