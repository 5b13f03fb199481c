"""Padding: who refuses what, and the values, against torch.nn.functional.pad."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from cnnspec.errors import ArgumentError
from cnnspec.ops.pad import MODES, Pad
from tests.ops.acceptance import CALL, CONSTRUCTOR, Answer, Question, disagreements, ours, theirs
from tests.ops.draws import Seeded, integers


def e(answer: Answer, shape: tuple[int, ...], *padding: int, mode: str = "constant") -> Any:
    return pytest.param({"padding": padding, "mode": mode}, shape, answer, id=f"{mode} {padding} {shape}")


TABLE = [
    e((), ()),
    e((3,), (3,)),
    e((6,), (3,), 1, 2),
    e((0,), (3,), -1, -2),
    e(CALL, (3,), -2, -2),
    e(CALL, (3,), -4, 4),
    e(CALL, (2, 1), 1, -2),
    e((2, 4), (0, 4), 0, 0, 1, 1),
    e(CALL, (3,), 1, 1, 1, 1),
    e((1, 2, 3, 4, 6), (1, 2, 3, 4, 5), 0, 1),
    e(CALL, (3,), 1, 1, mode="reflect"),
    e((2, 7), (2, 3), 2, 2, mode="reflect"),
    e(CALL, (2, 3), 3, 0, mode="reflect"),
    e((2, 9), (2, 3), 3, 3, mode="circular"),
    e(CALL, (2, 3), 4, 0, mode="circular"),
    e((2, 13), (2, 3), 5, 5, mode="replicate"),
    e(CALL, (1, 2, 3, 4), 1, 1, mode="reflect"),
    e((0, 2, 6), (0, 2, 4), 1, 1, mode="replicate"),
    e(CALL, (1, 0, 4), 1, 1, mode="replicate"),
    e((1, 0, 6), (1, 0, 4), 1, 1, mode="circular"),
    e(CALL, (2, 3), mode="reflect"),
    e((3, 1, 4), (3, 3, 2), 1, 1, -1, -1, mode="replicate"),
    e(CALL, (3, 2, 2), -1, -1, -1, -1, mode="reflect"),
    e((3, 0, 0), (3, 2, 2), -1, -1, -1, -1, mode="circular"),
    e((1, 1, 4, 5, 6), (1, 1, 2, 3, 4), 1, 1, 1, 1, 1, 1, mode="reflect"),
    e(CALL, (1, 1, 2, 2, 2, 2), 1, 1, 1, 1, 1, 1, 1, 1, mode="reflect"),
]


@pytest.mark.parametrize(("arguments", "shape", "answer"), TABLE)
def test_table(arguments: dict[str, Any], shape: tuple[int, ...], answer: Answer) -> None:
    assert ours("Pad", arguments, (shape,)) == answer
    assert theirs("Pad", arguments, (shape,)) == answer


@pytest.mark.parametrize(
    "arguments",
    [
        {"padding": (1,)},
        {"padding": (1, 2, 3)},
        {"padding": (1, 1.0)},
        {"padding": (1, 1), "mode": "wrap"},
        {"padding": (1, 1), "mode": "reflect", "value": 1},
    ],
    ids=str,
)
def test_refused_arguments(arguments: dict[str, Any]) -> None:
    """torch has no constructor for it: it refuses in the one call that there is."""
    with pytest.raises(ArgumentError):
        Pad(**arguments)
    assert theirs("Pad", arguments, ((1, 1, 4),)) in (CALL, CONSTRUCTOR) or arguments.get("value")


def questions(seed: int, count: int) -> Iterator[Question]:
    pick = Seeded(seed)
    for _ in range(count):
        shape = pick.shape(pick.integer(0, 5), pick.choice(((1, 2, 3), (0, 1, 2, 3, 4))))
        usual = pick.choice(((0, 1), (0, 0, 1, 1, 2), (-3, -2, -1, 0, 0, 0, 1, 1, 2, 3, 4)))
        padding = pick.shape(2 * pick.choice((0, 1, 1, 2, 2, 3, 3, 4)), usual)
        yield "Pad", {"padding": padding, "mode": pick.choice(MODES)}, (shape,)


def unwritten(question: Question) -> bool:
    """Whether torch's answer is no guide.

    Circular: with one side cropped to less than the padding of the other, its output holds memory that nothing
    has written, or it complains of overlapping memory. Reflect: with an empty batch, its output may have a
    negative size.
    """
    _, arguments, (shape,) = question
    pairs = list(zip(arguments["padding"][::2], arguments["padding"][1::2], strict=True))
    axes = list(zip(shape[::-1], pairs, strict=False))
    if arguments["mode"] == "circular":
        return any(min(pair) < 0 < max(pair) and size + min(pair) < max(pair) for size, pair in axes)
    return arguments["mode"] == "reflect" and 0 in shape and any(size + sum(pair) < 0 for size, pair in axes)


@pytest.mark.parametrize("seed", range(4))
def test_random_arguments_and_shapes(seed: int) -> None:
    asked = [one for one in questions(seed, 3000) if not unwritten(one)]
    assert disagreements(asked) == []
    accepted = [
        arguments["mode"] for name, arguments, shapes in asked if ours(name, arguments, shapes) != CALL
    ]
    assert min(accepted.count(mode) for mode in MODES) > 40


@pytest.mark.parametrize("mode", MODES)
def test_values(mode: str) -> None:
    """Every accepted padding and crop gives torch's values, on one side cropped and padded on the other too."""
    pick, compared = Seeded(5), 0
    for question in questions(77, 3000):
        _, arguments, (shape,) = question
        if arguments["mode"] != mode or unwritten(question) or ours(*question) == CALL:
            continue
        compared += 1
        x = integers(pick.rng, shape)
        value = -7 if mode == "constant" else 0
        expected = torch.nn.functional.pad(
            torch.tensor(x, dtype=torch.int64).reshape(shape),
            arguments["padding"],
            mode,
            value if mode == "constant" else None,
        )
        y = Pad(**arguments, value=value).reference(x)
        assert (tuple(expected.shape), expected.tolist()) == (Pad(**arguments).output_shape(shape), y), (
            question
        )
    assert compared > 30
