"""Who refuses what: `Conv1d` to `Conv3d` against torch.nn on the CPU, table first, then thousands at random."""

from collections.abc import Iterator
from typing import Any

import pytest

from cnnspec import window
from cnnspec.errors import ArgumentError
from cnnspec.ops.conv import Conv2d, _Conv
from tests.ops.acceptance import (
    CALL,
    CONSTRUCTOR,
    Answer,
    Question,
    disagreements,
    e,
    ours,
    tally,
    theirs,
)
from tests.ops.draws import Seeded

TABLE = [
    e((1, 6, 4, 5)),
    e((6, 4, 5), 4, 6, 7),
    e((0, 6, 4, 5), 0, 4, 6, 7),
    e(CALL, 6, 7),
    e(CALL, 1, 1, 4, 6, 7),
    e(CALL, 1, 5, 6, 7),
    e(CALL, 1, 4, 2, 7),
    e(CALL, 1, 4, 0, 7),
    e(CALL, 1, 4, 0, 7, padding=3),
    e((0, 6, 4, 11), 0, 4, 0, 7, padding=3),
    e((1, 6, 1, 5), 1, 4, 3, 7),
    e(CONSTRUCTOR, groups=0),
    e(CONSTRUCTOR, groups=-1),
    e(CONSTRUCTOR, groups=3),
    e(CONSTRUCTOR, groups=4),
    e((1, 6, 4, 5), groups=2),
    e(CONSTRUCTOR, in_channels=-4),
    e(CONSTRUCTOR, out_channels=-6),
    e(CALL, out_channels=0),
    e((1, 0, 4, 5), 1, 0, 6, 7, in_channels=0),
    e(CONSTRUCTOR, kernel_size=-1),
    e(CALL, kernel_size=0),
    e(CALL, kernel_size=(3,)),
    e(CALL, kernel_size=(3, 3, 3)),
    e(CALL, kernel_size=()),
    e((1, 6, 6, 2), kernel_size=(1, 6)),
    e((1, 6, 1, 7), kernel_size=(6, 1)),
    e(CALL, kernel_size=(7, 1)),
    e((1, 6, 2, 7), kernel_size=(7, 1), padding=(1, 0)),
    e(CALL, stride=0),
    e(CALL, stride=-1),
    e((1, 6, 2, 3), stride=(2,)),
    e(CALL, stride=(2, 2, 2)),
    e(CALL, stride=()),
    e(CALL, padding=-1),
    e((1, 6, 6, 5), padding=(1, 0)),
    e((1, 6, 4, 5), padding="valid"),
    e((1, 6, 6, 7), padding="same"),
    e((1, 6, 6, 7), padding="same", kernel_size=(4, 2), dilation=(1, 3)),
    e(CONSTRUCTOR, padding="same", stride=2),
    e(CONSTRUCTOR, padding="full"),
    e((1, 6, 2, 3), padding="valid", stride=2),
    e(CALL, dilation=0),
    e((0, 6, 6, 7), 0, 4, 6, 7, dilation=0),
    e(CALL, 0, 4, 6, 7, dilation=-1),
    e((1, 6, 2, 1), dilation=(2, 3)),
    e(CALL, dilation=4),
    e(CONSTRUCTOR, padding_mode="wrap"),
    e((1, 6, 14, 15), padding=5, padding_mode="reflect"),
    e(CALL, padding=6, padding_mode="reflect"),
    e((1, 6, 16, 17), padding=6, padding_mode="circular"),
    e(CALL, padding=7, padding_mode="circular"),
    e((1, 6, 22, 23), padding=9, padding_mode="replicate"),
    e((1, 6, 2, 3), padding=-1, padding_mode="replicate"),
    e(CALL, 0, 4, 0, 7, padding=3, padding_mode="replicate"),
    e((6, 6, 7), 4, 6, 7, padding=1, padding_mode="circular"),
]


@pytest.mark.parametrize(("arguments", "shape", "answer"), TABLE)
def test_table(arguments: dict[str, Any], shape: tuple[int, ...], answer: Answer) -> None:
    assert ours("Conv2d", arguments, (shape,)) == answer
    assert theirs("Conv2d", arguments, (shape,)) == answer


@pytest.mark.parametrize("name", ["kernel_size", "stride", "padding", "dilation", "groups", "in_channels"])
@pytest.mark.parametrize("value", [2.0, None, True, "2", (1, 2.0)])
def test_what_is_no_integer_is_refused_at_once(name: str, value: Any) -> None:
    """torch waits for the call with some of these, and takes True for a kernel size; here they are no arguments."""
    with pytest.raises(ArgumentError, match=name):
        Conv2d(**{"in_channels": 1, "out_channels": 1, "kernel_size": 1} | {name: value})


def questions(seed: int, count: int) -> Iterator[Question]:
    """Draw arguments and shapes that are legal but for one or two things, or not."""
    pick = Seeded(seed)
    for _ in range(count):
        axes = pick.choice((1, 2, 2, 3))

        def sizes(
            usual: tuple[int, ...], rare: tuple[int, ...], *, axes: int = axes, any_length: bool = True
        ) -> int | tuple[int, ...]:
            values = tuple(pick.choice(pick.maybe(0.04, rare, usual)) for _ in range(axes))
            length = pick.maybe(0.03 * any_length, pick.integer(0, 3), axes)
            return values[0] if pick.rng.random() < 0.4 else (values * 3)[:length]

        arguments: dict[str, Any] = {
            "in_channels": pick.maybe(0.06, pick.choice((-1, 3, 0)), pick.choice((1, 2, 4))),
            "out_channels": pick.maybe(0.06, pick.choice((-2, 3, 0)), pick.choice((2, 4, 6))),
            "kernel_size": sizes((1, 2, 3), (0, -1)),
            "stride": sizes((1, 1, 2, 3), (0, -1)),
            "dilation": sizes((1, 1, 2), (0, -1)),
            "groups": pick.maybe(0.3, pick.choice((-1, 0, 2, 3, 4)), 1),
            "padding_mode": pick.choice(("zeros", "zeros", "zeros", "reflect", "replicate", "circular")),
        }
        # Unless padding_mode is "zeros", too short a padding leaves axes as they are in torch; too long a one pads
        # the channels. Here the call is refused.
        arguments["padding"] = sizes(
            (0, 1, 2, 3), (-1, -1, 4), any_length=arguments["padding_mode"] == "zeros"
        )
        if pick.maybe(0.2, rare=True, usual=False):
            arguments["padding"] = pick.choice(("same", "valid", "SAME"))
            arguments["stride"] = pick.maybe(0.8, 1, arguments["stride"])
        channels = pick.maybe(0.05, pick.integer(0, 4), max(0, arguments["in_channels"]))
        image = pick.shape(axes + pick.maybe(0.04, pick.choice((-1, 1)), 0), (1, 2, 3, 4, 5, 6))
        image = tuple(pick.maybe(0.03, 0, size) for size in image)
        batch: tuple[int, ...] = pick.choice(((1,), (2,), (), (0,)))
        yield f"Conv{axes}d", arguments, ((*batch, channels, *image),)


def no_channels_through_an_empty_kernel(question: Question) -> bool:
    """The one corner left out: without input channels torch takes any kernel, one of size 0 too."""
    _, arguments, _ = question
    kernel = arguments["kernel_size"]
    return arguments["in_channels"] == 0 and 0 in (kernel if isinstance(kernel, tuple) else (kernel,))


@pytest.mark.parametrize("seed", range(4))
def test_random_arguments_and_shapes(seed: int) -> None:
    asked = [one for one in questions(seed, 2500) if not no_channels_through_an_empty_kernel(one)]
    assert disagreements(asked) == []
    shares = tally(asked)
    assert min(shares) > 250, f"the questions are one-sided: {shares}"


def accepts_anything(*arguments: Any, **keywords: Any) -> None:
    pass


@pytest.mark.parametrize(
    ("owner", "name", "mutant"),
    [
        (window, "check_border", accepts_anything),
        (window, "smallest_size", lambda border, padding: padding + 1),
        (window.Window, "span", property(lambda self: self.dilation * self.kernel)),
        (window, "same_padding", lambda kernel, dilation=1: (dilation * kernel // 2,) * 2),
        (_Conv, "axes", lambda self, name, broadcast=True: (*getattr(self, name), 1, 1, 1)[: self.spatial]),
    ],
    ids=["no border check", "every border as reflect", "span one too far", "symmetric same", "any length"],
)
def test_wrong_rules_are_noticed(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, mutant: Any) -> None:
    monkeypatch.setattr(owner, name, mutant)
    if name == "same_padding":
        monkeypatch.setattr("cnnspec.ops.conv.same_padding", mutant)
    asked = (one for one in questions(1, 2500) if not no_channels_through_an_empty_kernel(one))
    assert disagreements(asked)
