"""`ConvTranspose1d` to `ConvTranspose3d`: values, gradients, costs, who refuses what, and what bounds the errors."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from cnnspec import nested, ops
from cnnspec.errors import ArgumentError, ShapeError
from cnnspec.nested import Array
from cnnspec.ops.conv_transpose import ConvTranspose1d, ConvTranspose2d, _ConvTranspose
from cnnspec.scalars import Counted, Tally, Traced
from tests.ops import linear_checks as checks
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
from tests.ops.draws import Draw, Seeded, draws
from tests.ops.torch_layers import tensor, torch_output

NAMES = ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")

# Values


def differs_from_torch(dialect: Any, draw: Draw) -> bool:
    operands = draw.operands()
    theirs_too = nested.ravel(dialect.reference(draw.op, *operands))
    return bool(torch_output(draw, list(map(tensor, operands))).flatten().tolist() != theirs_too)


@pytest.mark.parametrize("dialect", ops.spec("conv_transpose2d").dialects, ids=lambda d: d.name)
def test_dialects_differ_where_they_apply(dialect: Any) -> None:
    """On random integers, in all but a few cases: where the kernel or the image reads the same both ways."""
    found = [draw for draw in draws("conv_transpose2d", 200, empty=False) if dialect.applies(draw.op)]
    assert len(found) > 20
    assert sum(differs_from_torch(dialect, draw) for draw in found) > 0.8 * len(found)


def test_same_padding_of_tensorflow() -> None:
    """k = 3, s = 2, SAME: of the 7 pixels of [1, 0, 10, 0, 100] * [1, 2, 3] the last one is cropped, 6 remain."""
    op, operands = ConvTranspose1d(1, 1, 3, 2, 1, 1, bias=False), ([[1, 10, 100]], [[[1, 2, 3]]])
    tensorflow, _ = ops.spec("conv_transpose1d").dialects
    assert tensorflow.reference(op, *operands) == [[1, 2, 13, 20, 130, 200]]
    assert op.reference(*operands) == [[2, 13, 20, 130, 200, 300]]


# Gradients


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_dual_numbers_and_of_autograd(name: str) -> None:
    assert checks.differing(name, 200, cost=500, largest=5) == []


def swapped_roles(self: Any, grad_output: Array, x: Array, weight: Array, *bias: Array) -> list[Array]:
    """The weight's gradient from the kernel read backwards: right for symmetric kernels."""
    right = ops.spec(f"conv_transpose{self.spatial}d").operator.gradients(self, grad_output, x, weight, *bias)
    return [right[0], nested.unravel(nested.ravel(right[1])[::-1], nested.shape_of(weight)), *right[2:]]


def test_wrong_gradients_are_noticed() -> None:
    wrong = 0
    for draw in draws("conv_transpose2d", 20, cost=250, empty=False):
        operands = draw.operands(largest=5)
        mutant = swapped_roles(draw.op, checks.cotangent(draw), *operands)
        wrong += [nested.ravel(one) for one in mutant] != checks.autograd(draw, operands)
    assert wrong > 10


def test_gradients_of_an_empty_batch() -> None:
    op = ConvTranspose1d(2, 3, 2)
    x, g = nested.unravel([], (0, 2, 4)), nested.unravel([], (0, 3, 5))
    dx, dw, db = op.gradients(g, x, nested.unravel([1] * 12, (2, 3, 2)), [1, 2, 3])
    assert (nested.shape_of(dx), nested.ravel(dw), db) == ((0, 2, 4), [0] * 12, [0, 0, 0])


# Costs and receptive fields


def ones(draw: Draw, **changes: Any) -> int:
    """Return the sum of convT(ones, ones), without a bias."""
    op = draw.op
    arguments = {name: op.axes(name) for name in ("stride", "padding", "output_padding", "dilation")}
    weight = torch.ones(op.parameter_shapes()["weight"]).double()
    function = getattr(torch.nn.functional, draw.name)
    x = torch.ones(draw.inputs[0]).double()
    return int(function(x, weight, groups=op.groups, **(arguments | changes)).sum())


def counted(draw: Draw) -> int:
    """Return the multiplications of one run of the loop."""
    tally = Tally()
    shapes = (*draw.inputs, *draw.op.parameter_shapes().values())
    draw.op.reference(*(nested.unravel([Counted(tally)] * math.prod(shape), shape) for shape in shapes))
    return tally.multiplications


@pytest.mark.parametrize("name", NAMES)
def test_macs_are_sums_of_ones(name: str) -> None:
    """Uncropped, they are the nominal products; cropped, those that are executed."""
    for draw in draws(name, 80):
        assert draw.op.macs(*draw.inputs) == ones(draw, padding=0), draw
        assert draw.op.macs_effective(*draw.inputs) == ones(draw) == counted(draw), draw
        assert draw.op.bias_adds(*draw.inputs) == math.prod(draw.output_shape) * draw.op.bias
        assert draw.op.flops(*draw.inputs) == 2 * draw.op.macs(*draw.inputs)


@pytest.mark.parametrize(
    "mutant",
    [
        lambda d: d.op.macs(*d.inputs) * d.op.groups,
        lambda d: math.prod(d.output_shape) * math.prod(d.op.parameter_shapes()["weight"][1:]),
        lambda d: d.op.macs_effective(*d.inputs),
    ],
    ids=["no groups", "output positions", "cropped"],
)
def test_wrong_macs_are_noticed(mutant: Any) -> None:
    assert any(mutant(draw) != ones(draw, padding=0) for draw in draws("conv_transpose2d", 80))


def test_receptive_field_is_the_observed_dependence() -> None:
    """Without a stride it is a window; with one it depends on the position, and none is claimed."""
    for draw in draws("conv_transpose1d", 200, empty=False):
        field = draw.op.receptive_field()
        assert bool(field) == (draw.op.windows[0].stride == 1)
        if not field:
            continue
        size, one = draw.inputs[0][-1], draw.op.windows[0]
        traced = nested.unravel(
            [Traced({i % size}) for i in range(math.prod(draw.inputs[0]))], draw.inputs[0]
        )
        op = type(draw.op)(**{**draw.arguments, "bias": False})
        shape = op.parameter_shapes()["weight"]
        weight = nested.unravel([1] * math.prod(shape), shape)
        y = nested.ravel(op.reference(traced, weight))
        for u in range(draw.output_shape[-1]):
            first = field[0].offset + u
            seen = {i for i in range(first, first + field[0].size) if 0 <= i < size}
            taps = {i for i in seen if (i - first) % one.dilation == 0}
            assert (set() if isinstance(y[u], int) else y[u].sources) == taps, draw


def test_input_sizes_invert_output_shape() -> None:
    for draw in draws("conv_transpose1d", 100):
        sizes = {n: draw.op._output_sizes((n,))[0] for n in range(1, 40)}
        for size in range(1, 30):
            (found,) = draw.op.input_sizes(size)
            assert list(found) == [n for n in sizes if sizes[n] == size], (draw, size)


# Who refuses what

TABLE = [
    e((1, 6, 8, 9)),
    e((6, 8, 9), 4, 6, 7),
    e((0, 6, 8, 9), 0, 4, 6, 7),
    e((0, 6, 2, 9), 0, 4, 0, 7),
    e((0, 6, 0, 0), 0, 4, 1, 1, kernel_size=2, padding=1),
    e(CALL, 0, 4, 1, 1, padding=2),
    e(CALL, 1, 4, 0, 7),
    e(CALL, 6, 7),
    e(CALL, 1, 1, 4, 6, 7),
    e(CALL, 1, 5, 6, 7),
    e(CONSTRUCTOR, groups=0),
    e(CONSTRUCTOR, groups=4),
    e((1, 6, 8, 9), groups=2),
    e(CONSTRUCTOR, in_channels=-4),
    e(CONSTRUCTOR, out_channels=-6),
    e(CALL, out_channels=0),
    e(CALL, 1, 0, 6, 7, in_channels=0),
    e(CONSTRUCTOR, kernel_size=-1),
    e(CALL, kernel_size=0),
    e(CALL, kernel_size=(3,)),
    e(CALL, kernel_size=(3, 3, 3)),
    e(CALL, stride=0),
    e((1, 6, 13, 15), stride=(2,)),
    e(CALL, stride=(2, 2, 2)),
    e(CALL, padding=-1),
    e((1, 6, 2, 3), padding=3),
    e(CALL, padding=4),
    e(CALL, dilation=0),
    e((0, 6, 6, 7), 0, 4, 6, 7, dilation=0),
    e(CALL, output_padding=1),
    e((0, 6, 9, 10), 0, 4, 6, 7, output_padding=1),
    e((1, 6, 14, 16), output_padding=1, stride=2),
    e((1, 6, 11, 12), output_padding=1, dilation=2),
    e((1, 6, 19, 21), output_padding=2, dilation=3, stride=2),
    e(CALL, output_padding=2, dilation=2, stride=2),
    e(CALL, output_padding=-1, stride=2),
    e((1, 6, 14, 9), output_padding=(1, 0), stride=(2, 1)),
    e(CALL, output_padding=(0, 1), stride=(2, 1)),
    e((1, 6, 1, 1), 1, 4, 1, 1, padding=2, stride=3, output_padding=2),
    e(CONSTRUCTOR, padding_mode="reflect"),
    e(CONSTRUCTOR, padding_mode="wrap"),
]


@pytest.mark.parametrize(("arguments", "shape", "answer"), TABLE)
def test_table(arguments: dict[str, Any], shape: tuple[int, ...], answer: Answer) -> None:
    assert ours("ConvTranspose2d", arguments, (shape,)) == answer
    assert theirs("ConvTranspose2d", arguments, (shape,)) == answer


@pytest.mark.parametrize("name", ["kernel_size", "padding", "output_padding", "groups"])
@pytest.mark.parametrize("value", [2.0, None, True, "same", (1, 2.0)])
def test_what_is_no_integer_is_refused_at_once(name: str, value: Any) -> None:
    """torch waits for the call with some of these."""
    with pytest.raises(ArgumentError, match=name):
        ConvTranspose2d(**{"in_channels": 1, "out_channels": 1, "kernel_size": 1} | {name: value})


def questions(seed: int, count: int) -> Iterator[Question]:
    """Draw arguments and shapes that are legal but for one or two things, or not."""
    pick = Seeded(seed)
    for _ in range(count):
        axes = pick.choice((1, 2, 2, 3))

        def sizes(usual: tuple[int, ...], rare: tuple[int, ...], *, axes: int = axes) -> Any:
            values = tuple(pick.choice(pick.maybe(0.04, rare, usual)) for _ in range(axes))
            length = pick.maybe(0.03, pick.integer(0, 3), axes)
            return values[0] if pick.rng.random() < 0.4 else (values * 3)[:length]

        arguments: dict[str, Any] = {
            "in_channels": pick.maybe(0.06, pick.choice((-1, 3, 0)), pick.choice((1, 2, 4))),
            "out_channels": pick.maybe(0.06, pick.choice((-2, 3, 0)), pick.choice((2, 4, 6))),
            "kernel_size": sizes((1, 2, 3), (0, -1)),
            "stride": sizes((1, 1, 2, 3), (0, -1)),
            "padding": sizes((0, 0, 1, 2), (-1, 3)),
            "output_padding": sizes((0, 0, 0, 1), (-1, 2)),
            "groups": pick.maybe(0.3, pick.choice((-1, 0, 2, 3, 4)), 1),
            "dilation": sizes((1, 1, 2), (0, -1)),
        }
        channels = pick.maybe(0.05, pick.integer(0, 4), max(0, arguments["in_channels"]))
        image = pick.shape(axes + pick.maybe(0.04, pick.choice((-1, 1)), 0), (1, 2, 3, 4))
        image = tuple(pick.maybe(0.03, 0, size) for size in image)
        batch: tuple[int, ...] = pick.choice(((1,), (2,), (), (0,)))
        yield f"ConvTranspose{axes}d", arguments, ((*batch, channels, *image),)


def depends_on_the_path(question: Question) -> bool:
    """Corners that torch refuses on one of its code paths and not on another (by batch, groups and processor).

    They are outputs without a pixel, and a dilation of 0 under a kernel of 1; here both are refused.
    """
    _, arguments, (shape,) = question
    dilation, answer = arguments["dilation"], theirs(*question)
    no_pixel = isinstance(answer, tuple) and 0 in answer and 0 not in shape
    return no_pixel or 0 in (dilation if isinstance(dilation, tuple) else (dilation,))


@pytest.mark.parametrize("seed", range(2))
def test_random_arguments_and_shapes(seed: int) -> None:
    asked = [one for one in questions(seed, 2000) if not depends_on_the_path(one)]
    assert disagreements(asked) == []
    shares = tally(asked)
    assert min(shares) > 200, f"the questions are one-sided: {shares}"


def strict_output_padding(self: Any, sizes: Any, *, empty: bool) -> None:
    """output_padding must be smaller than stride, whatever the dilation; all else is let pass."""
    if any(extra >= one.stride for one, extra in self._axes):
        raise ShapeError("output_padding")


@pytest.mark.parametrize("mutant", [lambda self, sizes, empty: None, strict_output_padding])
def test_wrong_rules_are_noticed(monkeypatch: pytest.MonkeyPatch, mutant: Any) -> None:
    monkeypatch.setattr(_ConvTranspose, "_check_windows", mutant)
    assert disagreements(one for one in questions(0, 500) if not depends_on_the_path(one))


# Bounds


@pytest.mark.parametrize("regime", ["integers", "sparse", "dense", "special"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", NAMES)
def test_torch_stays_within_the_bounds(name: str, dtype: str, regime: str) -> None:
    for draw, case in checks.cases(name, 25, dtype, regime):
        result = checks.judged(draw, case)
        assert result.holds, (case, result.worst, result.actual, result.expected)
        if regime != "special":
            assert all(one.holds for one in checks.judged_gradients(draw, case).values()), case


def without_last_tap(draw: Draw, tensors: list[torch.Tensor]) -> torch.Tensor:
    cut = tensors[1].clone()
    cut[..., -1] = 0
    return checks.in_float32(draw, [tensors[0], cut, *tensors[2:]])


def rounds_every_tap(draw: Draw, tensors: list[torch.Tensor]) -> torch.Tensor:
    """Per tap of the last axis one sum, kept in 16 bits."""
    x, weight, *bias = tensors
    taps = weight.shape[-1]
    total = torch.zeros(draw.output_shape, dtype=x.dtype)
    for k in range(taps):
        one = torch.zeros_like(weight)
        one[..., k] = weight[..., k]
        total = total + checks.in_float32(draw, [x, one, *([bias[0] / taps] if bias else [])])
    return total


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sums_in_float32_stay_within_the_bounds_of_16_bits(dtype: str) -> None:
    for draw, case in checks.cases("conv_transpose2d", 40, dtype):
        assert checks.judged(draw, case, checks.in_float32).holds, case


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("kernel", [without_last_tap, rounds_every_tap])
def test_wrong_kernels_leave_the_bounds(kernel: checks.Kernel, dtype: str) -> None:
    found = list(checks.cases("conv_transpose2d", 40, dtype))
    assert sum(not checks.judged(draw, case, kernel).holds for draw, case in found) > 10
