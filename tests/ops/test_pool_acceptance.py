"""Who refuses what: the poolings against torch.nn on the CPU, table first, then thousands at random."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from cnnspec.errors import ArgumentError
from cnnspec.op import Windowed
from cnnspec.ops.pool import MaxPool2d, _AvgPool
from cnnspec.window import Window
from tests.ops.acceptance import CALL, CONSTRUCTOR, Answer, Question, disagreements, ours, tally, theirs
from tests.ops.draws import Seeded


def e(name: str, answer: Answer, *shape: int, **arguments: Any) -> Any:
    return pytest.param(name, arguments, shape, answer, id=f"{name} {shape} {arguments}")


TABLE = [
    e("MaxPool2d", (1, 3, 3, 2), 1, 3, 6, 5, kernel_size=2),
    e("MaxPool2d", (3, 3, 2), 3, 6, 5, kernel_size=2),
    e("MaxPool2d", (0, 3, 3, 2), 0, 3, 6, 5, kernel_size=2),
    e("MaxPool2d", CALL, 1, 0, 6, 5, kernel_size=2),
    e("MaxPool2d", CALL, 1, 3, 0, 5, kernel_size=2, padding=1),
    e("MaxPool2d", CALL, 0, 3, 0, 5, kernel_size=2, padding=1),
    e("MaxPool2d", CALL, 6, 5, kernel_size=2),
    e("MaxPool2d", CALL, 1, 1, 3, 6, 5, kernel_size=2),
    e("MaxPool2d", (1, 3, 3, 3), 1, 3, 6, 5, kernel_size=2, ceil_mode=True),
    e("MaxPool2d", (1, 3, 3, 3), 1, 3, 5, 5, kernel_size=2, padding=1),
    e("MaxPool2d", (1, 3, 3, 3), 1, 3, 5, 5, kernel_size=2, padding=1, ceil_mode=True),
    e("MaxPool2d", CALL, 1, 3, 6, 5, kernel_size=3, padding=2),
    e("MaxPool2d", (1, 3, 7, 6), 1, 3, 6, 5, kernel_size=4, padding=(2, 2), stride=(1,)),
    e("MaxPool2d", CALL, 1, 3, 6, 5, kernel_size=2, padding=-1),
    e("MaxPool2d", CALL, 1, 3, 6, 5, kernel_size=0),
    e("MaxPool2d", CALL, 1, 3, 6, 5, kernel_size=-2),
    e("MaxPool2d", CALL, 1, 3, 6, 5, kernel_size=2, stride=0),
    e("MaxPool2d", CALL, 1, 3, 6, 5, kernel_size=2, stride=-1),
    e("MaxPool2d", (1, 3, 3, 2), 1, 3, 6, 5, kernel_size=(2,), stride=()),
    e("MaxPool2d", CALL, 1, 3, 6, 5, kernel_size=()),
    e("MaxPool2d", CALL, 1, 3, 6, 5, kernel_size=(2, 2, 2)),
    e("MaxPool2d", CALL, 1, 3, 6, 5, kernel_size=2, padding=()),
    e("MaxPool2d", CALL, 1, 3, 6, 5, kernel_size=2, dilation=0),
    e("MaxPool2d", CALL, 1, 3, 6, 5, kernel_size=2, dilation=6),
    e("MaxPool2d", (1, 3, 1, 1), 1, 3, 1, 1, kernel_size=2, dilation=3, padding=1, ceil_mode=True),
    e("MaxPool1d", CALL, 3, 1, kernel_size=2),
    e("MaxPool1d", (3, 1), 3, 1, kernel_size=2, ceil_mode=True),
    e("MaxPool1d", CALL, 3, 1, kernel_size=2, stride=1, ceil_mode=True),
    e("AvgPool2d", CALL, 1, 3, 6, 5, kernel_size=2, divisor_override=0),
    e("AvgPool2d", (1, 3, 3, 2), 1, 3, 6, 5, kernel_size=2, divisor_override=-3),
    e("AvgPool1d", CONSTRUCTOR, 3, 6, kernel_size=2, divisor_override=2),
    e("AvgPool1d", CALL, 3, 0, kernel_size=2, padding=1),
    e("AvgPool2d", (1, 3, 1, 1), 1, 3, 1, 1, kernel_size=3, padding=1),
    e("AvgPool3d", CALL, 1, 3, 1, 1, 1, kernel_size=3, padding=1),
    e("AvgPool3d", (1, 3, 3, 3, 3), 1, 3, 3, 3, 3, kernel_size=3, padding=1, stride=1),
    e("MaxPool3d", (1, 3, 1, 1, 1), 1, 3, 1, 1, 1, kernel_size=3, padding=1),
]


@pytest.mark.parametrize(("name", "arguments", "shape", "answer"), TABLE)
def test_table(name: str, arguments: dict[str, Any], shape: tuple[int, ...], answer: Answer) -> None:
    assert ours(name, arguments, (shape,)) == answer
    assert theirs(name, arguments, (shape,)) == answer


@pytest.mark.parametrize("name", ["kernel_size", "stride", "padding", "dilation"])
@pytest.mark.parametrize("value", [2.0, True, "2", (1, 2.0)])
def test_what_is_no_integer_is_refused_at_once(name: str, value: Any) -> None:
    """torch waits for the call; here it is no argument."""
    with pytest.raises(ArgumentError, match=name):
        MaxPool2d(**{"kernel_size": 1} | {name: value})


def questions(seed: int, count: int) -> Iterator[Question]:
    """Draw arguments and shapes that are legal but for one or two things, or not."""
    pick = Seeded(seed)
    for _ in range(count):
        axes, maximum = pick.choice((1, 2, 3)), pick.choice((True, False))

        def sizes(usual: tuple[int, ...], *rare: int, axes: int = axes) -> int | tuple[int, ...]:
            values = tuple(pick.choice(pick.maybe(0.05, rare, usual)) for _ in range(axes))
            length = pick.maybe(0.04, pick.integer(0, 3), axes)
            return values[0] if pick.rng.random() < 0.4 else (values * 3)[:length]

        arguments: dict[str, Any] = {
            "kernel_size": sizes((1, 2, 3, 4), 0, -1),
            "stride": pick.maybe(0.4, None, sizes((1, 2, 3, 5), 0, -1)),
            "padding": pick.maybe(0.5, 0, sizes((0, 1, 1, 2), -1)),
            "ceil_mode": pick.choice((True, False)),
        }
        if maximum:
            arguments["dilation"] = pick.maybe(0.6, 1, sizes((1, 2, 3), 0, -1))
            arguments["return_indices"] = pick.choice((True, False))
        else:
            arguments["count_include_pad"] = pick.choice((True, False))
            if axes > 1:
                arguments["divisor_override"] = pick.choice((None, None, None, 0, 2, -3))
        image = pick.shape(axes + pick.maybe(0.04, pick.choice((-1, 1)), 0), (1, 2, 3, 4, 5))
        image = tuple(pick.maybe(0.04, 0, size) for size in image)
        batch: tuple[int, ...] = pick.choice(((1,), (2,), (), (0,)))
        shape = (*batch, pick.maybe(0.06, 0, pick.integer(1, 3)), *image)
        yield f"{'Max' if maximum else 'Avg'}Pool{axes}d", arguments, (shape,)


@pytest.mark.parametrize("seed", range(4))
def test_random_arguments_and_shapes(seed: int) -> None:
    asked = list(questions(seed, 3000))
    assert disagreements(asked) == []
    _, call, accepted = tally(asked)
    assert min(call, accepted) > 600


def test_torch_answers_alike_for_other_types_and_with_indices() -> None:
    """max_pool1d without indices has a path of its own, and does not take integers; else one answer for all."""
    for name, arguments, shapes in questions(9, 1500):
        if name.startswith("Max"):
            answer = ours(name, arguments, shapes)
            assert theirs(name, {**arguments, "return_indices": True}, shapes, torch.int64) == answer
            assert theirs(name, {**arguments, "return_indices": False}, shapes, torch.float64) == answer


def plain_ceil(self: Window, size: int) -> int:
    """The formula without the rule that drops a window that starts behind the input."""
    room = size + self.before + self.after - self.span
    return (-(-room // self.stride) if self.ceil_mode else room // self.stride) + 1


@pytest.mark.parametrize(
    ("owner", "name", "mutant"),
    [
        (Window, "output_size", plain_ceil),
        (Window, "span", property(lambda self: self.kernel)),
        (_AvgPool, "least_sizes", Windowed.least_sizes),
    ],
    ids=["ceil drops nothing", "no dilation", "avg_pool3d as the others"],
)
def test_wrong_rules_are_noticed(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, mutant: Any) -> None:
    monkeypatch.setattr(owner, name, mutant)
    assert disagreements(questions(1, 2000))
