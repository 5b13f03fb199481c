"""Power-average pooling: norms by hand, torch within the bound, gradients in three ways, and who refuses what."""

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import flint
import pytest
import torch

from cnnspec import nested, ops
from cnnspec.cases import Case
from cnnspec.errors import ArgumentError
from cnnspec.nested import Array
from cnnspec.ops import lp_pool
from cnnspec.ops.lp_pool import LPPool1d, LPPool2d
from tests.ops.acceptance import CALL, Answer, Question, disagreements, ours, tally, theirs
from tests.ops.draws import Draw, Seeded, draws
from tests.ops.function_checks import (
    DTYPES,
    agree,
    balls,
    differing,
    dual_gradients,
    gradients_judged,
    judged,
    operands_of,
    out_of_bounds,
    torch_call,
    torch_gradients,
    values_of,
)
from tests.ops.torch_layers import tensor, torch_output

NAMES = ops.FAMILIES["lp_pool"]
INF, NAN = math.inf, math.nan


# Values


@pytest.mark.parametrize(
    ("op", "x", "expected"),
    [
        (LPPool1d(1, 2), [[1, 3, -2, 8]], [[4, 6]]),
        (LPPool1d(2, 2), [[3, 4, -5, 12]], [[5, 13]]),
        (LPPool1d(2, 4), [[1, 1, 1, 1]], [[2]]),
        (LPPool1d(2, 4), [[1, -5, 1, 3]], [[6]]),
        (LPPool1d(INF, 3), [[3, -4, 1, 0, 0, 0]], [[4, 0]]),
        (LPPool1d(-INF, 3), [[3, -4, 1, 0, -2, 5]], [[1, 0]]),
        (LPPool1d(2, 2, stride=1), [[3, 4, 3]], [[5, 5]]),
        # the last window holds the 3 alone: (2/1 * 3), sqrt(2/1 * 9/2) with 9/2 = 4.5 = (3/sqrt 2)^2
        (LPPool1d(1, 2, ceil_mode=True), [[1, 3, 3]], [[4, 6]]),
        (LPPool1d(2, 4, ceil_mode=True), [[1, -5, 1, 3, 3]], [[6, 6]]),
        (LPPool2d(2, 2), [[[1, 1], [1, 1]]], [[[2]]]),
    ],
)
def test_norms_by_hand(op: Any, x: Array, expected: Array) -> None:
    assert op.reference(x) == expected
    name = f"lp_pool{op.spatial}d"
    arguments = {"norm_type": op.norm_type, "kernel_size": op.kernel_size, "stride": op.stride}
    draw = Draw(name, {**arguments, "ceil_mode": op.ceil_mode}, (nested.shape_of(x),), 0)
    assert torch_output(draw, [tensor(x)]).tolist() == expected


@pytest.mark.parametrize("p", [1.0, 2.0, 4.0, 0.5, INF, -INF])
@pytest.mark.parametrize(
    "row", [(NAN, 1), (INF, 2), (-INF, 1), (0, 0), (-0.0, 0), (1, -2), (-1, 1), (-3, -4), (NAN, INF)], ids=str
)
def test_special_values_are_torch(p: float, row: tuple[float, float]) -> None:
    """Which are NaN, infinite and zero; a negative number has a root for p = 1 alone."""
    y = torch.nn.functional.lp_pool1d(torch.tensor([list(map(float, row))], dtype=torch.float64), p, 2).item()
    (mine,) = nested.ravel(LPPool1d(p, 2).reference([list(map(float, row))]))
    assert math.isnan(y) == math.isnan(mine)
    if not math.isnan(y):
        assert (y == mine) if y in (0, INF, -INF, 1, -1) else (y > 0) == (mine > 0)


@pytest.mark.parametrize("name", NAMES)
def test_loops_are_torch_on_integers(name: str) -> None:
    """For p = 1 and infinity, on multiples of the number of terms; no rounding takes place."""
    found = 0
    for draw in draws(name, 200):
        if draw.op.norm_type == 2:
            continue
        counts = {len(region) for region in draw.op.pooling.regions(draw.inputs[0][-draw.op.spatial :])}
        common = math.lcm(*counts)
        x = nested.elementwise(lambda v, n=common: v * n, draw.operands()[0])
        y = torch_output(draw, [tensor(x)])
        assert tuple(y.shape) == draw.output_shape
        assert y.flatten().tolist() == nested.ravel(draw.op.reference(x)), draw
        found += 1
    assert found > 80


@pytest.mark.parametrize("p", [INF, -INF])
def test_case_lines_of_infinite_norms_are_read_back(p: float) -> None:
    case = Case("lp_pool1d", {"norm_type": p, "kernel_size": 2}, ((1, 1, 2),))
    assert Case.parse(str(case)) == case


# Bounds and gradients


@pytest.mark.parametrize(
    ("name", "dtype"), [(n, d) for n in NAMES for d in (*DTYPES,)[: 2 if n == "lp_pool3d" else None]]
)
def test_torch_keeps_the_bounds(name: str, dtype: str) -> None:
    """Forwards and backwards; torch's average of three axes has no 16-bit formats on the CPU."""
    assert list(out_of_bounds(name, dtype, 40)) == []


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_bounds_are_sharp(dtype: str) -> None:
    """A sum without its last term, a mean for a sum, no root: each is outside, nearly everywhere."""
    wrong, asked = [0, 0, 0], 0
    for draw in draws("lp_pool2d", 120, cost=400, empty=False):
        taps = math.prod(axis.kernel for axis in draw.op.windows)
        if draw.op.norm_type != 2 or taps < 2 or draw.op.ceil_mode:
            continue
        asked += 1
        case, tensors = operands_of(draw, dtype)
        y = torch_call(case, tensors).double()
        short = tensors | {"input": tensors["input"].clone()}
        short["input"][..., 0, 0] = 0
        for n, output in enumerate((torch_call(case, short).double(), y / math.sqrt(taps), y * y)):
            rounded = output.to(DTYPES[dtype])
            wrong[n] += not judged(case, tensors, values_of(rounded)).holds
    assert asked > 10
    assert min(wrong) > asked * 2 // 3


@pytest.mark.parametrize("p", [3.0, 4.0, 1.5, 1.2, 0.5])
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_other_norms_of_positive_numbers(p: float, dtype: str) -> None:
    """The exponents 1/3 and 1/3 - 1 are rounded to the format, as torch has them."""
    for draw in draws("lp_pool1d", 40, cost=200, empty=False):
        arguments = {**draw.arguments, "norm_type": p}
        case = Case(draw.name, arguments, draw.inputs, dtype, "dense", draw.seed)
        _, tensors = operands_of(draw, dtype)
        tensors = {"input": (tensors["input"].abs() + 0.5).to(DTYPES[dtype])}
        assert judged(case, tensors, values_of(torch_call(case, tensors))).holds, draw
        verdicts = gradients_judged(case, tensors, *torch_gradients(case, tensors))
        assert verdicts["input"].holds, draw


@pytest.mark.parametrize("output", [(INF, 100.0), (53600.0, 100.0)])
def test_nothing_is_promised_where_a_power_overflows(output: tuple[float, float]) -> None:
    """53600^2 is beyond float16, in which torch keeps the powers, though its root is not; 100^2 is within."""
    case = Case("lp_pool1d", {"norm_type": 2.0, "kernel_size": 1}, ((1, 1, 2),), "float16")
    tensors = {"input": torch.tensor([[[53600.0, 100.0]]], dtype=torch.float16)}
    assert judged(case, tensors, output).holds
    assert judged(case, tensors, output).judged == 1
    assert not judged(case, tensors, (output[0], INF)).holds


@pytest.mark.parametrize(
    ("row", "gradient", "promised"),
    [
        ((2.0**25, 1, -(2.0**25)), 0, 0),  # a sum in float32 is 0 or 1
        ((3.0, 4, -8), 5, 3),
        ((0.0, 0, 0), 0, 3),
    ],
)
def test_nothing_is_promised_where_a_sum_may_round_to_zero(
    row: tuple[float, ...], gradient: float, promised: int
) -> None:
    case = Case("lp_pool1d", {"norm_type": 1.0, "kernel_size": 3}, ((1, 1, 3),), "float32")
    (found,) = gradients_judged(
        case, {"input": torch.tensor([[row]])}, torch.tensor([[[5.0]]]), {"input": [gradient] * 3}
    ).values()
    assert (found.holds, found.judged) == (True, promised)


def test_an_infinity_beside_terms_that_overflow_may_become_nan() -> None:
    """Twice the largest number is infinite, and with -infinity NaN; a lone -infinity stays what it is."""
    largest = torch.finfo(torch.float32).max
    case = Case("lp_pool1d", {"norm_type": 1.0, "kernel_size": 3}, ((1, 1, 6),), "float32")
    tensors = {"input": torch.tensor([[[largest, largest, -INF, 1, 1, -INF]]])}
    assert judged(case, tensors, (NAN, -INF)).holds
    assert not judged(case, tensors, (NAN, NAN)).holds


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_dual_numbers(name: str) -> None:
    assert differing(name, 200) == []


@pytest.mark.parametrize("p", [3, 4, 1.5, -1, Fraction(1, 2)])
def test_gradients_of_other_norms(p: Any) -> None:
    with flint.ctx.workprec(200):
        op = LPPool1d(float(p), 3, stride=2, ceil_mode=True)
        x = balls([[1.0, 2.5, 3.0, 0.25, 7.0, 2.0, 4.0, 1.0]])
        g = balls([[1.0, -2.0, 3.0, 0.5]])
        assert agree(nested.ravel(op.gradients(g, x)[0]), dual_gradients(op, g, [x], 0))


def test_wrong_gradients_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = lp_pool._slope
    monkeypatch.setattr(lp_pool, "_slope", lambda x, p: right(x, p) if p <= 1 else right(x, p) * 2)
    assert differing("lp_pool2d", 20)


def test_the_gradient_is_zero_where_the_sum_is() -> None:
    """As torch states it; also for p = 1, whose sums vanish where terms cancel."""
    for p, row in ((1.0, [1, -1, 1, 2]), (2.0, [0, 0, 3, 4]), (3.0, [0, 0, 1, 1])):
        (dx,) = LPPool1d(p, 2).gradients([[1, 1]], [row])
        leaf = torch.tensor([row], dtype=torch.float64, requires_grad=True)
        (theirs,) = torch.autograd.grad(torch.nn.functional.lp_pool1d(leaf, p, 2).sum(), leaf)
        assert nested.ravel(dx)[:2] == [0, 0] == theirs[0, :2].tolist()
        assert nested.ravel(dx)[3] != 0 != theirs[0, 3].item()


def test_gradients_of_the_largest_magnitude() -> None:
    """The first of equals, with the sign of the element; none at zero."""
    assert LPPool1d(INF, 2).gradients([[5, 7, 9]], [[-3, 3, 1, 2, 0, 0]]) == [[[-5, 0, 0, 7, 0, 0]]]
    assert LPPool1d(-INF, 2).gradients([[5, 7, 9]], [[-3, 4, 1, -2, 0, 1]]) == [[[-5, 0, 7, 0, 0, 0]]]


def test_gradients_beside_nan() -> None:
    """sign(NaN) is 0: nothing passes for p = 1 and infinity; for p = 2 all that shares a window with it is NaN."""
    for p in (1.0, 2.0, INF):
        (dx,) = LPPool1d(p, 2).gradients([[5, 7]], [[NAN, 3.0, 3.0, 4.0]])
        leaf = torch.tensor([[NAN, 3, 3, 4]], dtype=torch.float64, requires_grad=True)
        y = torch.nn.functional.lp_pool1d(leaf, p, 2)
        (theirs,) = torch.autograd.grad(y, leaf, torch.tensor([[5.0, 7.0]]).double())
        assert [repr(float(v)) for v in nested.ravel(dx)[:2]] == [
            repr(v + 0.0) for v in theirs[0, :2].tolist()
        ]
        assert any(v != 0 for v in nested.ravel(dx)[2:])


# Dialects


@pytest.mark.parametrize(
    ("place", "op", "x", "expected"),
    [
        (0, LPPool1d(1, 2, ceil_mode=True), [[1, 3, 3]], [[4, 3]]),
        (0, LPPool1d(2, 2, ceil_mode=True), [[3, 4, 7]], [[5, 7]]),
        (1, LPPool1d(1, 2), [[1, -3, 2, 2]], [[4, 4]]),
        (1, LPPool1d(3, 1), [[-1, 1]], [[1, 1]]),
    ],
)
def test_dialects_by_hand(place: int, op: Any, x: Array, expected: Array) -> None:
    dialect = ops.spec("lp_pool1d").dialects[place]
    assert dialect.applies(op)
    assert dialect.reference(op, x) == expected != op.reference(x)
    assert not dialect.applies(LPPool1d(INF, 2, ceil_mode=True))
    assert not dialect.applies(LPPool1d(2, 2))


# Acceptance


def e(name: str, answer: Answer, *shape: int, **arguments: Any) -> Any:
    arguments = {"norm_type": 2.0, "kernel_size": 2} | arguments
    return pytest.param(name, arguments, shape, answer, id=f"{name} {shape} {arguments}")


TABLE = [
    e("LPPool1d", (2, 3, 2), 2, 3, 5),
    e("LPPool1d", (3, 2), 3, 5),
    e("LPPool1d", CALL, 5),
    e("LPPool1d", CALL, 2, 0, 5),
    e("LPPool1d", (0, 3, 2), 0, 3, 5),
    e("LPPool1d", CALL, 3, 5, kernel_size=(2,)),
    e("LPPool1d", (3, 2), 3, 5, kernel_size=(2,), norm_type=INF),
    e("LPPool1d", (3, 4), 3, 5, stride=(1,)),
    e("LPPool1d", (3, 2), 3, 5, stride=()),
    e("LPPool1d", CALL, 3, 5, kernel_size=0),
    e("LPPool2d", (3, 2, 2), 3, 5, 4, kernel_size=(2, 2)),
    e("LPPool2d", CALL, 3, 5, 4, kernel_size=(2,)),
    e("LPPool2d", CALL, 3, 5, 4, kernel_size=(2,), norm_type=INF),
    e("LPPool2d", CALL, 3, 5, 4, kernel_size=7),
    e("LPPool2d", (3, 1, 1), 3, 5, 4, kernel_size=7, ceil_mode=True),
    e("LPPool3d", CALL, 3, 5, 4, 6, kernel_size=7, ceil_mode=True),
    e("LPPool3d", (3, 1, 1, 1), 3, 5, 4, 6, kernel_size=7, ceil_mode=True, norm_type=INF),
]


@pytest.mark.parametrize(("name", "arguments", "shape", "answer"), TABLE)
def test_table(name: str, arguments: dict[str, Any], shape: tuple[int, ...], answer: Answer) -> None:
    assert ours(name, arguments, (shape,)) == answer
    assert theirs(name, arguments, (shape,)) == answer


def test_zero_has_no_root() -> None:
    assert ours("LPPool2d", {"norm_type": 0, "kernel_size": 2}, ((3, 5, 4),)) == CALL
    with pytest.raises(ZeroDivisionError):
        torch.nn.LPPool2d(0, 2)(torch.zeros(3, 5, 4))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((n, v) for n in ("kernel_size", "stride") for v in (2.0, True, "2")),
        ("norm_type", "2"),
        ("norm_type", None),
    ],
)
def test_what_is_no_number_is_refused_at_once(name: str, value: Any) -> None:
    with pytest.raises(ArgumentError, match=name):
        LPPool2d(**{"norm_type": 2, "kernel_size": 1} | {name: value})


def questions(seed: int, count: int) -> Iterator[Question]:
    """Draw arguments and shapes that are legal but for one or two things, or not."""
    pick = Seeded(seed)
    for _ in range(count):
        axes = pick.choice((1, 2, 3))

        def sizes(usual: tuple[int, ...], *rare: int, axes: int = axes) -> int | tuple[int, ...]:
            values = tuple(pick.choice(pick.maybe(0.05, rare, usual)) for _ in range(axes))
            length = pick.maybe(0.06, pick.integer(0, 4), axes)
            return values[0] if pick.rng.random() < 0.5 else (values * 4)[:length]

        arguments: dict[str, Any] = {
            "norm_type": pick.choice((1.0, 2.0, 3, INF, -INF)),
            "kernel_size": sizes((1, 2, 3, 4), 0, -1),
            "stride": pick.maybe(0.4, None, sizes((1, 2, 3, 5), 0, -1)),
            "ceil_mode": pick.choice((True, False)),
        }
        image = tuple(pick.maybe(0.05, 0, pick.integer(1, 6)) for _ in range(axes))
        batch: tuple[int, ...] = pick.choice(((1,), (2,), (), (0,)))
        shape = (*batch, pick.maybe(0.06, 0, pick.integer(1, 3)), *image)[pick.maybe(0.04, 1, 0) :]
        yield f"LPPool{axes}d", arguments, (shape,)


@pytest.mark.parametrize("seed", range(2))
def test_random_arguments_and_shapes(seed: int) -> None:
    asked = list(questions(seed, 2500))
    assert disagreements(asked) == []
    constructor, call, accepted = tally(asked)
    assert min(call, accepted) > 500
    assert constructor == 0


def test_wrong_rules_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """All norms as averages: three axes then want an image of at least the kernel."""
    monkeypatch.setattr(lp_pool, "MAXIMA", lp_pool.AVERAGES)
    assert disagreements(questions(0, 2500))
