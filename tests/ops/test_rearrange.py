"""`PixelShuffle` and `PixelUnshuffle`: values, gradients, who refuses what, and copies that are copies."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from cnnspec import ops
from cnnspec.errors import ArgumentError
from cnnspec.ops.rearrange import PixelShuffle, PixelUnshuffle
from tests.ops import linear_checks as checks
from tests.ops.acceptance import CALL, Answer, Question, disagreements, ours, theirs
from tests.ops.draws import Draw, Seeded
from tests.ops.torch_layers import torch_output

NAMES = ("pixel_shuffle", "pixel_unshuffle")


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_dual_numbers_and_of_autograd(name: str) -> None:
    assert checks.differing(name, 200, cost=400) == []


def test_the_formula_index_by_index() -> None:
    """y[c, h r + i, w r + j] = x[c r^2 + i r + j, h, w] for two channels of 2 x 3 pixels and r = 2."""
    x = [[[100 * n + 10 * h + w for w in range(3)] for h in range(2)] for n in range(8)]
    y = PixelShuffle(2).reference(x)
    for c in range(2):
        for row in range(4):
            for column in range(6):
                h, i, w, j = row // 2, row % 2, column // 2, column % 2
                assert y[c][row][column] == 100 * (4 * c + 2 * i + j) + 10 * h + w
    assert PixelUnshuffle(2).reference(y) == x


def test_depth_to_space_of_onnx() -> None:
    """The example of ONNX's DepthToSpace for modes DCR and CRD: 8 channels of 2 x 3 pixels, 9 n + 3 h + w."""
    x = [[[9 * n + 3 * h + w for w in range(3)] for h in range(2)] for n in range(8)]
    (dialect,) = ops.spec("pixel_shuffle").dialects
    dcr = [
        [[0, 18, 1, 19, 2, 20], [36, 54, 37, 55, 38, 56], [3, 21, 4, 22, 5, 23], [39, 57, 40, 58, 41, 59]],
        [
            [9, 27, 10, 28, 11, 29],
            [45, 63, 46, 64, 47, 65],
            [12, 30, 13, 31, 14, 32],
            [48, 66, 49, 67, 50, 68],
        ],
    ]
    crd = [
        [[0, 9, 1, 10, 2, 11], [18, 27, 19, 28, 20, 29], [3, 12, 4, 13, 5, 14], [21, 30, 22, 31, 23, 32]],
        [
            [36, 45, 37, 46, 38, 47],
            [54, 63, 55, 64, 56, 65],
            [39, 48, 40, 49, 41, 50],
            [57, 66, 58, 67, 59, 68],
        ],
    ]
    assert dialect.reference(PixelShuffle(2), x) == dcr
    assert PixelShuffle(2).reference(x) == crd


@pytest.mark.parametrize("r", [2, 3])
def test_the_dialects_are_inverses(r: int) -> None:
    shuffle, unshuffle = (ops.spec(name).dialects[0] for name in NAMES)
    x = [[[10 * n + w for w in range(3)]] for n in range(2 * r**2)]
    y = shuffle.reference(PixelShuffle(r), x)
    assert unshuffle.reference(PixelUnshuffle(r), y) == x
    assert y != PixelShuffle(r).reference(x)
    assert not shuffle.applies(PixelShuffle(1))


# Who refuses what


def s(answer: Answer, *shape: int, r: Any = 2) -> Any:
    return pytest.param("PixelShuffle", {"upscale_factor": r}, shape, answer, id=f"shuffle{shape}{r}")


def u(answer: Answer, *shape: int, r: Any = 2) -> Any:
    return pytest.param("PixelUnshuffle", {"downscale_factor": r}, shape, answer, id=f"unshuffle{shape}{r}")


TABLE = [
    s((1, 2, 4, 6), 1, 8, 2, 3),
    s((2, 4, 6), 8, 2, 3),
    s((2, 1, 3, 2, 4, 6), 2, 1, 3, 8, 2, 3),
    s((0, 2, 4, 6), 0, 8, 2, 3),
    s((1, 0, 4, 6), 1, 0, 2, 3),
    s((1, 2, 0, 6), 1, 8, 0, 3),
    s(CALL, 2, 3),
    s(CALL, 1, 7, 2, 3),
    s(CALL, 3, 2, 3),
    s(CALL, 1, 9, 2, 3, r=0),
    s(CALL, 1, 9, 2, 3, r=-1),
    s((1, 9, 2, 3), 1, 9, 2, 3, r=1),
    u((1, 8, 2, 3), 1, 2, 4, 6),
    u((8, 2, 3), 2, 4, 6),
    u((2, 1, 3, 8, 2, 3), 2, 1, 3, 2, 4, 6),
    u(CALL, 4, 6),
    u(CALL, 1, 2, 3, 6),
    u(CALL, 1, 2, 4, 5),
    u(CALL, 1, 2, 1, 1),
    u(CALL, 1, 2, 4, 6, r=0),
    u((1, 2, 4, 6), 1, 2, 4, 6, r=1),
]


@pytest.mark.parametrize(("name", "arguments", "shape", "answer"), TABLE)
def test_table(name: str, arguments: dict[str, Any], shape: tuple[int, ...], answer: Answer) -> None:
    assert ours(name, arguments, (shape,)) == answer
    assert theirs(name, arguments, (shape,)) == answer


@pytest.mark.parametrize("operator", [PixelShuffle, PixelUnshuffle])
@pytest.mark.parametrize("value", [2.0, None, True, "2", (2,)])
def test_what_is_no_integer_is_refused_at_once(operator: Any, value: Any) -> None:
    """torch waits for the call, and takes True for 1."""
    with pytest.raises(ArgumentError, match="factor"):
        operator(value)


def questions(count: int) -> Iterator[Question]:
    pick = Seeded(0)
    for _ in range(count):
        r, axes = pick.choice((1, 2, 2, 3, 0, -1)), pick.choice((3, 4, 4, 5, 2))
        if pick.choice((True, False)):
            shape = pick.shape(axes, (0, 1, 2, 4, 8, 9))
            yield "PixelShuffle", {"upscale_factor": r}, (shape,)
        else:
            yield "PixelUnshuffle", {"downscale_factor": r}, (pick.shape(axes, (1, 2, 3, 4, 6, 9)),)


def test_random_arguments_and_shapes() -> None:
    asked = list(questions(2000))
    assert disagreements(asked) == []
    answers = [isinstance(ours(*one), tuple) for one in asked]
    assert min(answers.count(True), answers.count(False)) > 500


def test_wrong_rules_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnspec.ops.rearrange._checked", lambda name, factor, shape: max(1, factor))
    assert disagreements(one for one in questions(500) if len(one[2][0]) > 2)


# Copies


@pytest.mark.parametrize("regime", ["dense", "special"])
@pytest.mark.parametrize("dtype", checks.DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_torch_copies_bit_for_bit(name: str, dtype: str, regime: str) -> None:
    for draw, case in checks.cases(name, 20, dtype, regime):
        assert checks.judged(draw, case).holds, case
        if regime != "special":
            assert all(one.holds for one in checks.judged_gradients(draw, case).values()), case


def swaps(draw: Draw, tensors: list[torch.Tensor]) -> torch.Tensor:
    """Rows and columns of a block change places."""
    output: torch.Tensor = torch_output(draw, [tensors[0].transpose(-1, -2)]).transpose(-1, -2)
    return output


def test_a_wrong_kernel_is_noticed() -> None:
    """But for constant inputs."""
    found = [(d, c) for d, c in checks.cases("pixel_shuffle", 30, "float32") if d.op.upscale_factor > 1]
    assert sum(not checks.judged(draw, case, swaps).holds for draw, case in found) > 15
