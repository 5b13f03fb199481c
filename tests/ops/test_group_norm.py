"""Group and layer normalization: values, bounds, gradients, and who refuses what."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest
import torch

from cnnspec import nested
from cnnspec.errors import ArgumentError
from cnnspec.laws import replaced
from cnnspec.ops.group_norm import GroupNorm
from cnnspec.ops.layer_norm import LayerNorm
from tests.ops import function_checks as checks
from tests.ops.acceptance import CALL, CONSTRUCTOR, Answer, Question, disagreements, ours, tally, theirs
from tests.ops.draws import Seeded, draws
from tests.ops.norm_checks import gradients_outside, on_balls, outside, same
from tests.ops.torch_layers import tensor
from tests.ops.wrong_norms import WRONG_GRADIENTS, WRONG_OUTPUTS

NAMES = ("group_norm", "layer_norm")


# Values


def test_groups_are_neighbours() -> None:
    """Means 0 and 5 of two groups; of one, 2.5 with the variance (3.5^2 + 1.5^2) / 2 = 7.25, and 9 with eps 1.75."""
    x = [[[-1], [1], [4], [6]]]
    assert GroupNorm(2, 4, 3.0, affine=False).reference(x) == [[[Fraction(-1, 2)], [Fraction(1, 2)]] * 2]
    whole = GroupNorm(1, 4, 1.75, affine=False).reference(x)
    assert whole == [[[Fraction(n, 6)] for n in (-7, -3, 3, 7)]]


def test_gradient_by_hand() -> None:
    """x = (4, 6): z = (-1, 1) / 2. g w = (2, 0): H = 1, K = -1/4; dx = ((2 - 1) - 1/4, -1 + 1/4) / 2."""
    dx, dw, db = LayerNorm(2, eps=3.0).gradients([1, 5], [4, 6], [2, 0], [0, 0])
    assert dx == [Fraction(3, 8), Fraction(-3, 8)]
    assert (dw, db) == ([Fraction(-1, 2), Fraction(5, 2)], [1, 5])


def test_channels_and_groups() -> None:
    """Groups in a row are images of their own: the batch axis and the groups are one."""
    for draw, (x, *_) in on_balls(draws("group_norm", 40, cost=100, empty=False)):
        groups, shape = draw.op.num_groups, draw.inputs[0]
        length = shape[1] // groups
        apart = nested.unravel(nested.ravel(x), (shape[0] * groups, length, *shape[2:]))
        alone = GroupNorm(1, length, draw.op.eps, affine=False).reference(apart)
        assert same(replaced(draw.op, affine=False).reference(x), alone), draw


def test_spread_of_signs_is_exact() -> None:
    """Half of a group is -2^k, half 2^k, the mean 0: with eps = 3 * 4^k the factor is 1 / 2^(k+1)."""
    for k in range(-5, 6):
        x = [[[2.0**k, -(2.0**k)], [-(2.0**k), 2.0**k]]]
        eps = 3 * 4.0**k
        expected = [0.5, -0.5, -0.5, 0.5]
        assert torch.nn.functional.group_norm(tensor(x), 1, eps=eps).flatten().tolist() == expected
        assert torch.nn.functional.layer_norm(tensor(x), (2, 2), eps=eps).flatten().tolist() == expected
        assert nested.ravel(GroupNorm(1, 2, eps, affine=False).reference(x)) == expected


# Bounds


@pytest.mark.parametrize("dtype", checks.DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_torch_keeps_the_bounds(name: str, dtype: str) -> None:
    """Forwards and backwards; layer normalization's 16-bit sums over rows are a known deviation."""
    for draw in draws(name, 60, cost=400, empty=False):
        case, tensors = checks.operands_of(draw, dtype)
        assert checks.judged(case, tensors, checks.values_of(checks.torch_call(case, tensors))).holds, draw
        g, found = checks.torch_gradients(case, tensors)
        if name == "layer_norm" and checks.DTYPES[dtype].itemsize == 2:
            found = {"input": found["input"]}
        assert all(one.holds for one in checks.gradients_judged(case, tensors, g, found).values()), draw


@pytest.mark.parametrize("wrong", WRONG_OUTPUTS["group_norm"], ids=lambda wrong: wrong.__name__)
@pytest.mark.parametrize(
    ("name", "dtype"), [("group_norm", "float32"), ("group_norm", "bfloat16"), ("layer_norm", "float32")]
)
def test_bounds_are_sharp(name: str, wrong: Any, dtype: str) -> None:
    off, found = outside(name, dtype, wrong, 80)
    assert off > 3
    assert found == off


# Gradients


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_dual_numbers(name: str) -> None:
    assert checks.differing(name, 200) == []


@pytest.mark.parametrize("wrong", WRONG_GRADIENTS["group_norm"], ids=lambda wrong: wrong.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_wrong_gradients_are_noticed(name: str, wrong: Any) -> None:
    """By dual numbers, and by the bounds."""
    assert gradients_outside(name, wrong, 40) > 5


# Acceptance


def e(name: str, answer: Answer, *shape: int, **arguments: Any) -> Any:
    return pytest.param(name, arguments, shape, answer, id=f"{name} {shape} {arguments}")


TABLE = [
    e("GroupNorm", (2, 6), 2, 6, num_groups=3, num_channels=6),
    e("GroupNorm", (2, 6, 4, 4, 1, 1), 2, 6, 4, 4, 1, 1, num_groups=1, num_channels=6),
    e("GroupNorm", (0, 6, 2), 0, 6, 2, num_groups=2, num_channels=6),
    e("GroupNorm", CONSTRUCTOR, 2, 6, num_groups=4, num_channels=6),
    e("GroupNorm", CONSTRUCTOR, 2, 6, num_groups=0, num_channels=6),
    e("GroupNorm", CALL, 6, num_groups=2, num_channels=6),
    e("GroupNorm", CALL, 2, 4, num_groups=2, num_channels=6),
    e("GroupNorm", (2, 4), 2, 4, num_groups=2, num_channels=6, affine=False),
    e("GroupNorm", CALL, 2, 3, num_groups=2, num_channels=6, affine=False),
    e("GroupNorm", CALL, 1, 2, num_groups=2, num_channels=2),
    e("GroupNorm", (2, 2), 2, 2, num_groups=2, num_channels=2),
    e("GroupNorm", CALL, 2, 6, num_groups=-2, num_channels=6),
    e("LayerNorm", (2, 3), 2, 3, normalized_shape=3),
    e("LayerNorm", (2, 3), 2, 3, normalized_shape=(2, 3)),
    e("LayerNorm", (2, 3, 4), 2, 3, 4, normalized_shape=(3, 4)),
    e("LayerNorm", CALL, 2, 3, normalized_shape=2),
    e("LayerNorm", CALL, 3, normalized_shape=(2, 3)),
    e("LayerNorm", CALL, 2, 3, normalized_shape=()),
    e("LayerNorm", CALL, normalized_shape=(1,)),
    e("LayerNorm", (2, 0), 2, 0, normalized_shape=0),
    e("LayerNorm", (0, 3), 0, 3, normalized_shape=3),
    e("LayerNorm", CONSTRUCTOR, 2, 3, normalized_shape=-3),
    e("LayerNorm", (2, 1), 2, 1, normalized_shape=1),
]


@pytest.mark.parametrize(("name", "arguments", "shape", "answer"), TABLE)
def test_table(name: str, arguments: dict[str, Any], shape: tuple[int, ...], answer: Answer) -> None:
    assert ours(name, arguments, (shape,)) == answer
    assert theirs(name, arguments, (shape,)) == answer


def questions(seed: int, count: int) -> Iterator[Question]:
    pick = Seeded(seed)
    arguments: dict[str, Any]
    for _ in range(count):
        affine = pick.choice((True, False))
        if pick.choice((True, False)):
            channels = pick.choice((1, 2, 3, 4, 6, 6))
            arguments = {
                "num_groups": pick.choice((1, 2, 3, 0, 6)),
                "num_channels": channels,
                "affine": affine,
            }
            given = pick.maybe(0.2, pick.choice((1, 2, 3, 4)), channels)
            shape = (pick.choice((1, 2, 0)), given, *pick.shape(pick.integer(0, 3), (1, 2, 1, 3)))
            yield "GroupNorm", arguments, (shape[pick.maybe(0.1, 1, 0) :],)
        else:
            sizes = pick.shape(pick.integer(1, 2), (1, 2, 3, 0, 4))
            shape = (*pick.shape(pick.integer(0, 2)), *pick.maybe(0.2, pick.shape(len(sizes)), sizes))
            arguments = {"normalized_shape": sizes, "elementwise_affine": affine}
            yield "LayerNorm", arguments, (shape,)


def test_random_arguments_and_shapes() -> None:
    asked = list(questions(0, 1500))
    assert disagreements(asked) == []
    constructor, call, accepted = tally(asked)
    assert min(call, constructor) > 100
    assert accepted > 300


def test_wrong_rules_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GroupNorm, "output_shape", lambda op, shape: tuple(shape))
    assert disagreements(questions(0, 100))


@pytest.mark.parametrize("value", [2.0, True, "2"])
def test_what_is_no_integer_is_refused_at_once(value: Any) -> None:
    for make in (lambda: GroupNorm(value, 2), lambda: GroupNorm(1, value), lambda: LayerNorm((2, value))):
        with pytest.raises(ArgumentError):
            make()


def test_the_domain_reaches_its_corners() -> None:
    found = list(draws("group_norm", 200))
    kinds = {
        (d.op.num_groups == 1, d.op.num_groups == d.op.num_channels, len(d.inputs[0]) > 2) for d in found
    }
    assert len(kinds) > 6
    layers = list(draws("layer_norm", 200))
    assert {len(d.op.normalized_shape) for d in layers} == {1, 2}
    assert any(d.op.normalized_shape == (1,) for d in layers)
    assert any(0 in d.inputs[0] for d in layers)
