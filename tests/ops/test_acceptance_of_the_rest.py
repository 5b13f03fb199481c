"""Linear, flatten, softmax, activations, add, concat: who refuses what, against torch on the CPU."""

from collections.abc import Iterator
from typing import Any

import pytest

from cnnspec.errors import ArgumentError
from cnnspec.ops.combine import Concat
from cnnspec.ops.flatten import Flatten
from cnnspec.ops.linear import Linear
from cnnspec.ops.softmax import Softmax
from tests.ops.acceptance import CALL, CONSTRUCTOR, Answer, Question, disagreements, ours, tally, theirs
from tests.ops.draws import Seeded


def e(name: str, answer: Answer, *shapes: tuple[int, ...], **arguments: Any) -> Any:
    return pytest.param(name, arguments, shapes, answer, id=f"{name} {shapes} {arguments}")


TABLE = [
    e("Linear", (5, 2), (5, 3), in_features=3, out_features=2),
    e("Linear", (2,), (3,), in_features=3, out_features=2),
    e("Linear", (5, 0, 2), (5, 0, 3), in_features=3, out_features=2),
    e("Linear", CALL, (5, 4), in_features=3, out_features=2),
    e("Linear", CALL, (), in_features=1, out_features=2),
    e("Linear", (5, 2), (5, 0), in_features=0, out_features=2),
    e("Linear", (5, 0), (5, 3), in_features=3, out_features=0),
    e("Linear", CONSTRUCTOR, (5, 3), in_features=-3, out_features=2),
    e("Linear", CONSTRUCTOR, (5, 3), in_features=3, out_features=-1),
    e("Flatten", (2, 60), (2, 3, 4, 5)),
    e("Flatten", (1,), (), start_dim=0),
    e("Flatten", CALL, ()),
    e("Flatten", CALL, (3,)),
    e("Flatten", (2, 12, 5), (2, 3, 4, 5), end_dim=2),
    e("Flatten", CALL, (2, 3, 4), start_dim=2, end_dim=1),
    e("Flatten", CALL, (2, 3), start_dim=-3),
    e("Flatten", CALL, (2, 3), end_dim=2),
    e("Flatten", (2, 0), (2, 0, 4)),
    e("Softmax", (2, 3), (2, 3), dim=-2),
    e("Softmax", CALL, (2, 3), dim=2),
    e("Softmax", (), (), dim=0),
    e("Softmax", CALL, (), dim=1),
    e("LogSoftmax", (0, 3), (0, 3), dim=0),
    e("LogSoftmax", CALL, (2, 3), dim=-3),
    e("ReLU", (), ()),
    e("Sigmoid", (0, 2), (0, 2)),
    e("Tanh", (2, 3, 4), (2, 3, 4)),
    e("Add", (2, 3), (2, 3), (3,)),
    e("Add", (4, 2, 3), (2, 1), (4, 1, 3)),
    e("Add", (0, 3), (0, 1), (1, 3)),
    e("Add", (2, 0), (2, 1), (0,)),
    e("Add", CALL, (2, 3), (2,)),
    e("Add", CALL, (2,), (0,)),
    e("Add", (), (), ()),
    e("Concat", (2, 5), (2, 3), (2, 2)),
    e("Concat", (2, 3), (2, 3)),
    e("Concat", (4, 3), (2, 3), (2, 3), (0, 3), dim=0),
    e("Concat", (2, 6), (2, 3), (2, 3), dim=-1),
    e("Concat", CALL, (2, 3), (3, 3)),
    e("Concat", CALL, (2, 3), (2, 3, 1)),
    e("Concat", CALL, (2, 3), (2, 3), dim=2),
    e("Concat", CALL, (), (), dim=0),
    e("Concat", CALL, dim=0),
]


@pytest.mark.parametrize(("name", "arguments", "shapes", "answer"), TABLE)
def test_table(
    name: str, arguments: dict[str, Any], shapes: tuple[tuple[int, ...], ...], answer: Answer
) -> None:
    assert ours(name, arguments, shapes) == answer
    assert theirs(name, arguments, shapes) == answer


@pytest.mark.parametrize(
    ("operator", "arguments"),
    [
        (Linear, {"in_features": 2.0, "out_features": 2}),
        (Linear, {"in_features": 2, "out_features": None}),
        (Flatten, {"start_dim": 1.0}),
        (Softmax, {"dim": None}),
        (Concat, {"dim": "1"}),
    ],
)
def test_what_is_no_integer_is_refused_at_once(operator: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match="must be an integer"):
        operator(**arguments)


def questions(seed: int, count: int) -> Iterator[Question]:
    pick = Seeded(seed)
    sizes = (0, 1, 1, 2, 2, 3, 3)
    for _ in range(count):
        features = pick.integer(-1, 3)
        rows = pick.shape(pick.integer(0, 3), sizes)
        linear = {
            "in_features": features,
            "out_features": pick.integer(-1, 3),
            "bias": pick.choice((True, False)),
        }
        yield "Linear", linear, (pick.maybe(0.3, rows, (*rows, max(0, features))),)
        flatten = {"start_dim": pick.integer(-5, 4), "end_dim": pick.integer(-5, 4)}
        yield "Flatten", flatten, (pick.shape(pick.integer(0, 5), sizes),)
        shape = (pick.shape(pick.integer(0, 4), sizes),)
        yield pick.choice(("Softmax", "LogSoftmax")), {"dim": pick.integer(-4, 4)}, shape
        yield pick.choice(("ReLU", "Sigmoid", "Tanh")), {}, shape
        other = tuple(pick.maybe(0.3, pick.choice((0, 1, 2)), size) for size in shape[0])
        pair = (shape[0], other[pick.choice((0, 0, 1)) :])
        yield "Add", {}, pair[:: pick.choice((1, -1))]
        parts = [list(shape[0]) for _ in range(pick.integer(0, 3))]
        for part in parts:
            if part:
                part[pick.integer(0, len(part) - 1)] = pick.choice((0, 1, 2, 3))
        if [0] not in parts:  # torch skips inputs of shape (0,), whatever the others are
            yield "Concat", {"dim": pick.integer(-4, 4)}, tuple(map(tuple, parts))


@pytest.mark.parametrize("seed", range(2))
def test_random_arguments_and_shapes(seed: int) -> None:
    asked = list(questions(seed, 1500))
    assert disagreements(asked) == []
    for name in ("Linear", "Flatten", "Softmax", "Add", "Concat"):
        _, call, accepted = tally(one for one in asked if one[0] == name)
        assert min(call, accepted) > 50, name


def test_inputs_of_shape_0_must_agree_too() -> None:
    """The documented exception: torch.cat skips them."""
    assert theirs("Concat", {"dim": 1}, ((2, 3), (0,))) == (2, 3)
    assert ours("Concat", {"dim": 1}, ((2, 3), (0,))) == CALL
