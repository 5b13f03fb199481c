"""Batch and instance normalization: values and running statistics, bounds, gradients, and who refuses what."""

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest
import torch

from cnnspec import exact, nested, ops
from cnnspec.compare import verdict
from cnnspec.errors import ArgumentError
from cnnspec.laws import replaced
from cnnspec.models import direct
from cnnspec.nested import Array
from cnnspec.ops.batch_norm import BatchNorm1d, BatchNorm2d
from cnnspec.ops.group_norm import GroupNorm
from cnnspec.ops.instance_norm import InstanceNorm1d, InstanceNorm2d
from cnnspec.ops.layer_norm import LayerNorm
from tests.ops import function_checks as checks
from tests.ops.acceptance import CALL, CONSTRUCTOR, Answer, Question, disagreements, ours, tally, theirs
from tests.ops.draws import Draw, Seeded, draws
from tests.ops.norm_checks import gradients_outside, on_balls, outside, same
from tests.ops.wrong_norms import WRONG_GRADIENTS, WRONG_OUTPUTS, swaps_momentum, tracks_the_biased_variance

NAMES = (*ops.FAMILIES["batch_norm"], *ops.FAMILIES["instance_norm"])


# Values


def test_running_statistics_by_hand() -> None:
    """Mean 4, variance 8 / 3 biased and 4 unbiased; a quarter of the way from 8 and 0, and all of it."""
    x, mean, variance = [[2], [4], [6]], [8], [0]
    op = BatchNorm1d(1, momentum=0.25, affine=False, training=True)
    assert op.updates(x, mean, variance) == {"running_mean": [7], "running_var": [1]}
    first = replaced(op, momentum=None)
    assert first.updates(x, mean, variance) == {"running_mean": [4], "running_var": [4]}
    assert replaced(op, training=False).updates(x, mean, variance) == {}
    assert BatchNorm1d(1, track_running_stats=False, affine=False, training=True).updates(x) == {}


def test_running_statistics_of_instances_by_hand() -> None:
    """Means 1 and 5, unbiased variances 2 and 8: their averages 3 and 5, half of the way from 1 and 1."""
    x = [[[0, 2]], [[3, 7]]]
    op = InstanceNorm1d(1, momentum=0.5, track_running_stats=True, training=True)
    assert op.updates(x, [1], [1]) == {"running_mean": [2], "running_var": [3]}
    assert replaced(op, momentum=None).updates(x, [1], [1]) == {"running_mean": [1], "running_var": [1]}


def test_gradient_by_hand() -> None:
    """Two values have z = -1 and 1, whatever they are, as far as eps is 0: the gradient is what eps leaves.

    x = (-1, 1), eps = 3, r = 1/2, g = (1, 0): H = 1/2, K = 1/2 (-1) r^2 = -1/8; dx = (1/2 - 1/8, -1/2 + 1/8) r.
    """
    dx, dw, db = BatchNorm1d(1, eps=3.0, track_running_stats=False).gradients(
        [[1], [0]], [[-1], [1]], [1], [0]
    )
    assert dx == [[Fraction(3, 16)], [Fraction(-3, 16)]]
    assert (dw, db) == ([Fraction(-1, 2)], [1])
    evaluated = BatchNorm1d(1, eps=1.0).gradients([[3], [0]], [[5], [8]], [2], [8], [6], [1])
    assert evaluated == [[[6], [0]], None, None, [3], [3]]


def test_normalizations_are_one_another() -> None:
    """Of one image batch is instance normalization; groups of one channel and all channels are those of others."""
    for draw, (x, *_) in on_balls(draws("instance_norm2d", 40, cost=100, empty=False)):
        if draw.op.track_running_stats:
            continue
        c, eps = draw.op.num_features, draw.op.eps
        y = InstanceNorm2d(c, eps).reference(x)
        groups = [[y], [GroupNorm(c, c, eps, affine=False).reference(x)]]
        alone = [BatchNorm2d(c, eps, None, False, False).reference([image])[0] for image in x]
        assert all(same(one[0], y) for one in (*groups, [alone])), draw
        whole = GroupNorm(1, c, eps, affine=False).reference(x)
        shape = nested.shape_of(x)[1:]
        assert same(LayerNorm(shape, eps, elementwise_affine=False).reference(x), whole)


def test_evaluation_is_exact_on_squares() -> None:
    """Variances with eps 0 that are squares of powers of two leave torch in float64 nothing to round."""
    for name in NAMES:
        for draw in draws(name, 60, cost=400):
            if draw.op.from_batch:
                continue
            rng, op = Seeded(draw.seed).rng, replaced(draw.op, eps=0.0)
            x, mean, _, *parameters = draw.operands()
            variance = [4 ** rng.randint(-3, 3) for _ in nested.ravel(mean)]
            operands = {"input": x, "running_mean": mean, "running_var": variance}
            operands |= dict(zip(op.parameter_shapes(), parameters, strict=True))
            tensors = {
                key: torch.tensor(nested.ravel(a), dtype=torch.float64).reshape(nested.shape_of(a))
                for key, a in operands.items()
            }
            case, _ = checks.operands_of(draw, "float64")
            case = type(case)(name, {**draw.arguments, "eps": 0.0}, draw.inputs, "float64")
            y = checks.torch_call(case, tensors)
            assert checks.values_of(y) == [
                float(v) for v in nested.ravel(op.reference(*operands.values()))
            ], draw


# Bounds


@pytest.mark.parametrize("dtype", checks.DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_torch_keeps_the_bounds(name: str, dtype: str) -> None:
    """Contiguous, forwards and backwards."""
    assert list(checks.out_of_bounds(name, dtype, 25)) == []


def updates_judged(draw: Draw, dtype: str, wrong: Any = None) -> list[bool]:
    """Return, per running statistic, whether torch's new values are right, or those of a wrong rule are."""
    case, tensors = checks.operands_of(draw, dtype)
    expected = exact.updates(draw.op, checks.arrays(tensors))
    held = {name: one.clone() for name, one in tensors.items()}
    if wrong:
        new = wrong(draw.op, *(one.tolist() for one in tensors.values()))
        held |= {
            name: torch.tensor([float(v) for v in row]).to(checks.DTYPES[dtype]) for name, row in new.items()
        }
    else:
        checks.torch_call(case, held)
    return [
        verdict(one, checks.values_of(held[name]), dtype, direct(dtype)).holds
        for name, one in expected.items()
    ]


@pytest.mark.parametrize("dtype", checks.DTYPES)
@pytest.mark.parametrize("name", ["batch_norm1d", "batch_norm2d", "instance_norm2d"])
def test_torch_tracks_what_it_must(name: str, dtype: str) -> None:
    found = [held for draw in draws(name, 60, cost=400, empty=False) for held in updates_judged(draw, dtype)]
    assert len(found) > 15
    assert all(found)


@pytest.mark.parametrize("wrong", [swaps_momentum, tracks_the_biased_variance])
@pytest.mark.parametrize("name", ["batch_norm2d", "instance_norm2d"])
def test_wrong_running_statistics_are_outside(name: str, wrong: Any) -> None:
    """If the momentum is neither 0 nor 1; of a batch without variance both variances are 0."""
    tracking = (
        d for d in draws(name, 120, cost=300, empty=False) if d.op.training and d.op.track_running_stats
    )
    answers = [updates_judged(d, "float32", wrong) for d in tracking if 0 < d.op.factor < 1]
    assert len(answers) > 5
    assert sum(not all(one) for one in answers) > len(answers) // 3


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("wrong", WRONG_OUTPUTS["batch_norm"], ids=lambda wrong: wrong.__name__)
def test_bounds_are_sharp(wrong: Any, dtype: str) -> None:
    for name in ("batch_norm1d", "instance_norm2d"):
        off, found = outside(name, dtype, wrong, 80)
        assert off > 3
        assert found == off


# Gradients


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_dual_numbers(name: str) -> None:
    assert checks.differing(name, 200) == []


@pytest.mark.parametrize("wrong", WRONG_GRADIENTS["batch_norm"], ids=lambda wrong: wrong.__name__)
def test_wrong_gradients_are_noticed(wrong: Any) -> None:
    """By dual numbers, and by the bounds."""
    for name in ("batch_norm2d", "instance_norm1d"):
        assert gradients_outside(name, wrong, 60) > 5


# Dialects


def test_dialects_by_hand() -> None:
    """Variance 4 of (-2, 2), eps 1/2: / (2 + 1/2); unbiased 8, eps 1: / sqrt(8 + 1)."""
    outside_the_root, unbiased = ops.spec("batch_norm1d").dialects
    op, x = BatchNorm1d(1, eps=0.5, affine=False, track_running_stats=False), [[-2], [2]]
    assert outside_the_root.reference(op, x) == [[Fraction(-4, 5)], [Fraction(4, 5)]]
    assert unbiased.reference(replaced(op, eps=1.0), x) == [[Fraction(-2, 3)], [Fraction(2, 3)]]
    assert not outside_the_root.applies(replaced(op, eps=0.0))
    assert not unbiased.applies(BatchNorm1d(1))


# Acceptance


def e(name: str, answer: Answer, *shape: int, **arguments: Any) -> Any:
    return pytest.param(
        name, {"num_features": 3} | arguments, shape, answer, id=f"{name} {shape} {arguments}"
    )


TABLE = [
    e("BatchNorm1d", (2, 3), 2, 3),
    e("BatchNorm1d", (2, 3, 4), 2, 3, 4),
    e("BatchNorm1d", CALL, 2, 3, 4, 5),
    e("BatchNorm1d", CALL, 3),
    e("BatchNorm1d", CALL, 1, 3, training=True),
    e("BatchNorm1d", (1, 3), 1, 3),
    e("BatchNorm1d", CALL, 1, 3, track_running_stats=False),
    e("BatchNorm2d", CALL, 3, 4, 5),
    e("BatchNorm2d", CALL, 2, 4, 4, 5),
    e("BatchNorm2d", CALL, 2, 4, 4, 5, affine=False),
    e("BatchNorm2d", (2, 4, 4, 5), 2, 4, 4, 5, affine=False, track_running_stats=False),
    e("BatchNorm2d", (0, 3, 4, 5), 0, 3, 4, 5),
    e("BatchNorm2d", (1, 3, 1, 2), 1, 3, 1, 2, training=True),
    e("BatchNorm2d", CALL, 1, 3, 1, 1, training=True),
    e("BatchNorm2d", CALL, 2, 3, 4, 5, training=True, eps=0.0),
    e("BatchNorm2d", (2, 3, 4, 5), 2, 3, 4, 5, eps=0.0),
    e("BatchNorm2d", CALL, 2, 3, 4, 5, eps=-1.0),
    e("BatchNorm2d", CONSTRUCTOR, 2, 3, 4, 5, num_features=-1),
    e("BatchNorm3d", (2, 3, 1, 1, 1), 2, 3, 1, 1, 1, training=True, momentum=None),
    e("InstanceNorm1d", (3, 4), 3, 4),
    e("InstanceNorm1d", (2, 4, 5), 2, 4, 5),
    e("InstanceNorm1d", CALL, 2, 4, 5, affine=True),
    e("InstanceNorm1d", CALL, 2, 3, 1),
    e("InstanceNorm1d", (2, 3, 1), 2, 3, 1, track_running_stats=True),
    e("InstanceNorm1d", CALL, 2, 3, 1, track_running_stats=True, training=True),
    e("InstanceNorm2d", (3, 4, 5), 3, 4, 5),
    e("InstanceNorm2d", CALL, 2, 3, 1, 1),
    e("InstanceNorm2d", CALL, 4, 5),
    e("InstanceNorm3d", (2, 3, 1, 1, 2), 2, 3, 1, 1, 2),
]


@pytest.mark.parametrize(("name", "arguments", "shape", "answer"), TABLE)
def test_table(name: str, arguments: dict[str, Any], shape: tuple[int, ...], answer: Answer) -> None:
    assert ours(name, arguments, (shape,)) == answer
    assert theirs(name, arguments, (shape,)) == answer


def questions(seed: int, count: int) -> Iterator[Question]:
    pick = Seeded(seed)
    for _ in range(count):
        axes = pick.choice((1, 2, 3))
        arguments: dict[str, Any] = {
            "num_features": pick.choice((1, 2, 3, 3)),
            "affine": pick.choice((True, False)),
            "track_running_stats": pick.choice((True, False)),
            "training": pick.choice((True, False)),
            "eps": pick.choice((1e-5, 1e-5, 1e-5, 0.0, -1.0)),
        }
        channels = pick.maybe(0.1, 2, arguments["num_features"])
        shape = (pick.choice((1, 2, 1, 3)), channels, *pick.shape(axes, (1, 2, 1, 3)))
        shape = shape[pick.maybe(0.15, 1, 0) : pick.maybe(0.1, -1, len(shape))]
        yield f"{pick.choice(('Batch', 'Instance'))}Norm{axes}d", arguments, (shape,)


def test_random_arguments_and_shapes() -> None:
    asked = list(questions(0, 1500))
    assert disagreements(asked) == []
    _, call, accepted = tally(asked)
    assert min(call, accepted) > 200


@pytest.mark.parametrize("value", [2.0, True, "2"])
def test_what_is_no_integer_is_refused_at_once(value: Any) -> None:
    with pytest.raises(ArgumentError, match="num_features"):
        BatchNorm2d(value)


def test_the_domain_reaches_its_corners() -> None:
    for name in NAMES:
        found = [draw.op for draw in draws(name, 200)]
        assert {(op.training, op.track_running_stats) for op in found} == {
            (a, b) for a in (True, False) for b in (True, False)
        }
        assert {op.momentum for op in found} >= {None, 0.0, 1.0}
    for name in ("batch_norm1d", "batch_norm2d", "instance_norm1d"):
        assert any(math.prod(draw.inputs[0][2:]) == 1 for draw in draws(name, 200))


def test_a_constant_channel_is_its_bias() -> None:
    """Whatever the rounding of the mean, up to the bound: the variance is 0 and eps is all there is."""
    for value in (3, -7):
        x: Array = [[[value] * 3]] * 2
        assert nested.ravel(BatchNorm1d(1, eps=4.0, training=True, track_running_stats=False).reference(
            x, [5], [9]
        )) == [9] * 6  # fmt: skip
