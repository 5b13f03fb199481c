"""`Upsample`: values and gradients against torch, rounded weights within their bound, dialects, who refuses what."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest
import torch

from cnnspec import nested, ops
from cnnspec.cases import Case
from cnnspec.errors import ArgumentError
from cnnspec.nested import Array
from cnnspec.ops import upsample, upsample_laws
from cnnspec.ops.upsample import Upsample
from tests.ops import function_checks as bounds
from tests.ops import linear_checks as checks
from tests.ops.acceptance import CALL, Answer, Question, disagreements, ours, theirs
from tests.ops.draws import Draw, Seeded, draws
from tests.ops.torch_layers import tensor, torch_output

NAME = "interpolate"
DTYPES = tuple(bounds.DTYPES)


def exact_draws(count: int, cost: int = 6000) -> Iterator[Draw]:
    """Yield cases whose weights have so few bits that float64 makes no error, about one in three."""
    for draw in draws(NAME, 3 * count, cost=cost, empty=False):
        if upsample_laws.is_exact(draw.op, draw.inputs):
            yield draw


# Values


@pytest.mark.parametrize(
    ("arguments", "x", "y"),
    [
        # (p + 1/2) 2/3 - 1/2 = -1/6, 1/2, 7/6: the first is 0, the last beyond the last pixel
        ({"size": 3, "mode": "linear"}, [0, 6], [0, 3, 6]),
        # (p + 1/2) 3/5 - 1/2 = -1/5, 2/5, 1, 8/5, 11/5
        ({"size": 5, "mode": "linear"}, [0, 5, 10], [0, 2, 5, 8, 10]),
        # p 2/4 = 0, 1/2, 1, 3/2, 2
        ({"size": 5, "mode": "linear", "align_corners": True}, [0, 4, 10], [0, 2, 4, 7, 10]),
        # (p + 1/2) 5/2 - 1/2 = 3/4, 13/4
        ({"size": 2, "mode": "linear"}, [0, 4, 8, 12, 16], [3, 13]),
        # one output stands at 0
        ({"size": 1, "mode": "linear", "align_corners": True}, [7, 8, 9], [7]),
        # the factor 5/2 gives floor(5) outputs at (p + 1/2) 2/5 - 1/2 = -3/10, 1/10, 1/2, 9/10, 13/10
        ({"scale_factor": 2.5, "mode": "linear"}, [0, 10], [0, 1, 5, 9, 10]),
        # 5 outputs of floor(p 3/5) = 0, 0, 1, 1, 2
        ({"size": 5}, [1, 2, 3], [1, 1, 2, 2, 3]),
        # the factor 3/4 gives floor(15/4) = 3 outputs of floor(p 4/3) = 0, 1, 2, not of floor(p 5/3) = 0, 1, 3
        ({"scale_factor": 0.75}, [1, 2, 3, 4, 5], [1, 2, 3]),
    ],
)
def test_one_axis_by_hand(arguments: dict[str, Any], x: list[int], y: list[int]) -> None:
    assert Upsample(**arguments).reference([[x]]) == [[y]]


def test_the_loop_is_torch_where_no_weight_rounds() -> None:
    found = list(exact_draws(400))
    assert len(found) > 250
    for draw in found:
        operands = draw.operands()
        expected = torch_output(draw, list(map(tensor, operands)))
        actual = draw.op.reference(*operands)
        assert tuple(expected.shape) == nested.shape_of(actual) == draw.output_shape, draw
        assert expected.flatten().tolist() == nested.ravel(actual), draw


def test_torch_takes_the_pixel_before_where_a_rounded_coordinate_falls_below_an_integer() -> None:
    """11 * 26/22 = 13, but 11 times 26/22 rounded to float32 is less."""
    x = [[list(range(26))]]
    (y,), torchs = (
        Upsample(22).reference(x)[0],
        torch.nn.Upsample(22)(tensor(x, torch.float32)).tolist()[0][0],
    )
    assert [(p, a, b) for p, (a, b) in enumerate(zip(y, torchs, strict=True)) if a != b] == [(11, 13, 12)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_torch_copies_nearest_pixels(dtype: str) -> None:
    """NaN and infinities as well."""
    for draw in draws(NAME, 120, cost=400, empty=False):
        if draw.op.mode != "nearest":
            continue
        case, tensors = bounds.operands_of(draw, dtype, "special")
        assert bounds.judged(case, tensors, bounds.values_of(bounds.torch_call(case, tensors))).ratio == 0


# Gradients


def test_gradients_are_those_of_dual_numbers() -> None:
    for draw in draws(NAME, 250, cost=300, empty=False):
        operands = draw.operands()
        stated = checks.own_gradients(draw, operands)
        assert [list(map(Fraction, one)) for one in stated] == checks.dual_gradients(draw, operands), draw


def test_gradients_are_those_of_autograd_where_no_weight_rounds() -> None:
    found = list(exact_draws(300, cost=400))
    assert len(found) > 200
    for draw in found:
        operands = draw.operands()
        assert checks.own_gradients(draw, operands) == checks.autograd(draw, operands), draw


def test_wrong_gradients_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def resampled(op: Upsample, g: Array, x: Array) -> list[Array]:
        return [Upsample(nested.shape_of(x)[2:], None, op.mode, op.align_corners).reference(g)]

    monkeypatch.setattr(Upsample, "gradients", resampled)
    found = [(d, d.operands()) for d in draws(NAME, 60, cost=300, empty=False)]
    assert sum(checks.own_gradients(d, one) != checks.dual_gradients(d, one) for d, one in found) > 40


# Bounds


@pytest.mark.parametrize("dtype", DTYPES)
def test_torch_keeps_the_bounds(dtype: str) -> None:
    assert list(bounds.out_of_bounds(NAME, dtype, 80)) == []


@pytest.mark.parametrize("regime", ["special", "sparse"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_torch_keeps_the_bounds_in_channels_last(dtype: str, regime: str) -> None:
    """By another algorithm, which does not keep the weights of 16-bit inputs in 16 bits."""
    for draw in draws(NAME, 60, cost=400, empty=False):
        memory = {4: torch.channels_last, 5: torch.channels_last_3d}.get(len(draw.inputs[0]))
        if memory is None:
            continue
        case, tensors = bounds.operands_of(draw, dtype, regime)
        strided = {name: one.contiguous(memory_format=memory) for name, one in tensors.items()}
        assert bounds.judged(case, tensors, bounds.values_of(bounds.torch_call(case, strided))).holds, case


def test_errors_of_two_weights_meet() -> None:
    """A voxel that is no part of an output, but for two coordinates that are off by a rounding: s = 1/3 twice."""
    case = Case(NAME, {"scale_factor": (3.0, 3.0, 2.0), "mode": "trilinear"}, ((1, 1, 3, 3, 4),))
    x = torch.zeros(1, 1, 3, 3, 4)
    x[0, 0, 1, 1, 2] = 3.1538028717041016
    y = bounds.torch_call(case, {"input": x})
    exact = [Fraction(v) for v in nested.ravel(case.operation.reference(x.tolist()))]
    assert any(a == 0 != b for a, b in zip(exact, bounds.values_of(y), strict=True))
    assert bounds.judged(case, {"input": x}, bounds.values_of(y)).holds


def varied(count: int) -> list[Draw]:
    """Return linear cases in which a rounding can show: with inexact weights of more than one pixel."""
    return [
        draw
        for draw in draws(NAME, count, cost=400, empty=False)
        if draw.op.mode != "nearest"
        and any(n > 1 and s.denominator not in (1, 2, 4) for n, _, s in draw.op.scales(draw.inputs[0][2:]))
    ]


@pytest.mark.parametrize(("dtype", "lower"), [("float64", torch.float32), ("float32", torch.float16)])
def test_bounds_notice_a_lower_precision(dtype: str, lower: torch.dtype) -> None:
    """Interpolation in the next lower format is outside, but for inputs of one value."""
    found, noticed = varied(80), 0
    for draw in found:
        case, tensors = bounds.operands_of(draw, dtype)
        low = {name: one.to(lower) for name, one in tensors.items()}
        rounded = {name: one.to(tensors[name].dtype) for name, one in low.items()}
        output = bounds.values_of(bounds.torch_call(case, low))
        noticed += not bounds.judged(case, rounded, output).holds
    assert noticed > 0.7 * len(found) > 15


def test_bounds_notice_forgotten_half_pixels() -> None:
    """Coordinates p s, in the least precise format; but for constant inputs."""
    asymmetric, noticed, asked = ops.spec(NAME).dialects[0], 0, 0
    for draw in varied(120):
        if asymmetric.applies(draw.op):
            case, tensors = bounds.operands_of(draw, "bfloat16")
            x = nested.elementwise(Fraction, tensors["input"].double().tolist())
            wrong = [float(value) for value in nested.ravel(asymmetric.reference(draw.op, x))]
            asked += 1
            noticed += not bounds.judged(
                case, tensors, torch.tensor(wrong).bfloat16().double().tolist()
            ).holds
    assert noticed > 0.6 * asked > 15


def test_terms_by_hand() -> None:
    """From 2 to 3 pixels of 1: c = max(0, -1/6), 1/2, 7/6; two are read, each off by (4 c + 2) u."""
    terms = Upsample(3, mode="linear").rounding_terms([[[1, 1]]])
    off = [Fraction(2), Fraction(4), Fraction(20, 3)]
    assert [Fraction(v) for v in terms.magnitude] == [2 + 2 * one / 2**21 for one in off]
    assert [Fraction(v) for v in terms.roundings] == [3 + 2 * one / (2 + 2 * one / 2**21) for one in off]
    assert terms.stored == 1
    short = Upsample(4, mode="linear").rounding_terms([[[1, 1]]])
    assert (short.magnitude, short.roundings, short.stored) == ([1] * 4, [2 + 1] * 4, 0)
    assert Upsample(3).rounding_terms([[[1, 1]]]).roundings == [0] * 3


# Dialects


@pytest.mark.parametrize(
    ("place", "op", "x", "y"),
    [
        (0, Upsample(4, mode="linear"), [0, 8], [0, 4, 8, 8]),
        (0, Upsample(2, mode="linear"), [0, 4, 8, 12], [0, 8]),
        (1, Upsample(4, mode="linear"), [0, 9], [0, 3, 6, 9]),
        (2, Upsample(3), [1, 2, 3, 4], [1, 3, 4]),  # (p + 1/2) 4/3 = 2/3, 2, 10/3
        (2, Upsample(2), [1, 2, 3, 4], [2, 4]),
        (3, Upsample(2), [1, 2, 3, 4], [1, 3]),  # (p + 1/2) 2 - 1/2 = 1/2, 5/2: halves go down
        (3, Upsample(3), [1, 2, 3, 4, 5], [1, 3, 5]),  # (p + 1/2) 5/3 - 1/2 = 1/3, 2, 11/3
    ],
)
def test_dialects_by_hand(place: int, op: Upsample, x: list[int], y: list[int]) -> None:
    dialect = ops.spec(NAME).dialects[place]
    assert dialect.applies(op)
    assert dialect.reference(op, [[x]]) == [[y]]


def test_dialects_are_known_where_they_differ() -> None:
    """nearest-exact is torch's, too; on the domain every dialect is met and is not torch."""
    for dialect in ops.spec(NAME).dialects:
        found: list[tuple[Draw, Array]] = [(d, d.operands()[0]) for d in draws(NAME, 60, empty=False)]
        applies = [(d, x) for d, x in found if dialect.applies(d.op)]
        assert any(dialect.reference(d.op, x) != d.op.reference(x) for d, x in applies)
    exact = ops.spec(NAME).dialects[2]
    for n, m in ((3, 5), (7, 4), (5, 5), (2, 8)):
        x = [[list(range(n))]]
        theirs = torch.nn.functional.interpolate(tensor(x), m, mode="nearest-exact").tolist()
        assert exact.reference(Upsample(m), x) == theirs


# Who refuses what


def u(answer: Answer, *shape: int, **arguments: Any) -> Any:
    return pytest.param(arguments, shape, answer, id=f"{arguments} {shape}")


TABLE = [
    u((1, 2, 7), 1, 2, 3, size=7),
    u((1, 2, 7, 5), 1, 2, 3, 4, size=(7, 5)),
    u((1, 2, 2, 2, 2), 1, 2, 3, 4, 5, size=2),
    u((1, 2, 6, 2), 1, 2, 3, 4, scale_factor=(2, 0.5)),
    u((1, 2, 6, 8), 1, 2, 3, 4, scale_factor=2, mode="bilinear", align_corners=True),
    u((0, 2, 6), 0, 2, 3, scale_factor=2.0),
    u(CALL, 1, 0, 3, scale_factor=2.0),
    u(CALL, 1, 2, 0, size=2),
    u(CALL, 2, 3, size=7),
    u(CALL, 1, 2, 3, 4, 5, 6, size=7),
    u(CALL, 1, 2, 3, 4, size=(7,)),
    u(CALL, 1, 2, 3, 4, size=(7, 5, 3)),
    u(CALL, 1, 2, 3, size=0),
    u(CALL, 1, 2, 3, size=-1),
    u(CALL, 1, 2, 3, scale_factor=0.25),
    u(CALL, 1, 2, 3, scale_factor=-1.0),
    u(CALL, 1, 2, 3, scale_factor=0),
    u(CALL, 1, 2, 3),
    u(CALL, 1, 2, 3, size=6, scale_factor=2),
    u(CALL, 1, 2, 3, size=6, mode="bilinear"),
    u(CALL, 1, 2, 3, 4, size=6, mode="trilinear"),
    u(CALL, 1, 2, 3, 4, size=6, mode="bilinaer"),
    u(CALL, 1, 2, 3, size=6, align_corners=True),
    u(CALL, 1, 2, 3, size=6, align_corners=False),
]


@pytest.mark.parametrize(("arguments", "shape", "answer"), TABLE)
def test_table(arguments: dict[str, Any], shape: tuple[int, ...], answer: Answer) -> None:
    assert ours("Upsample", arguments, (shape,)) == answer
    assert theirs("Upsample", arguments, (shape,)) == answer


@pytest.mark.parametrize(
    ("name", "value"),
    [*(("size", v) for v in (2.0, True, "2", (1, 2.0))), ("scale_factor", "2"), ("scale_factor", [2.0])],
)
def test_what_is_no_number_is_refused_at_once(name: str, value: Any) -> None:
    with pytest.raises(ArgumentError, match=name):
        Upsample(**{name: value})


def questions(count: int) -> Iterator[Question]:
    """Draw arguments and shapes that are legal but for one or two things, or not."""
    pick = Seeded(0)
    for _ in range(count):
        mode = pick.choice(("nearest", "nearest", "linear", "bilinear", "trilinear"))
        axes = pick.maybe(0.1, pick.integer(0, 4), upsample.LINEAR.get(mode) or pick.integer(1, 3))
        length = pick.maybe(0.08, pick.integer(1, 4), axes)
        arguments: dict[str, Any] = {"mode": mode}
        if pick.rng.random() < 0.55:
            sizes = tuple(pick.choice(pick.maybe(0.05, (0, -1), (1, 2, 3, 5, 8))) for _ in range(length))
            arguments["size"] = pick.choice((sizes, sizes[0] if sizes else 3))
        if pick.rng.random() < (0.05 if "size" in arguments else 0.93):
            factors = tuple(pick.choice((0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.3)) for _ in range(length))
            arguments["scale_factor"] = pick.choice((factors, factors[0] if factors else 2.0))
        arguments["align_corners"] = pick.maybe(
            0.06, True, None if mode == "nearest" else pick.choice((None, True))
        )
        image = tuple(pick.maybe(0.04, 0, pick.integer(1, 6)) for _ in range(axes))
        shape = (pick.choice((1, 2, 0)), pick.maybe(0.05, 0, pick.integer(1, 3)), *image)
        yield "Upsample", arguments, (shape[pick.maybe(0.03, 1, 0) :],)


def test_random_arguments_and_shapes() -> None:
    asked = list(questions(3000))
    assert disagreements(asked) == []
    answers = [isinstance(ours(*one), tuple) for one in asked]
    assert min(answers.count(True), answers.count(False)) > 700


def test_wrong_rules_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upsample, "_scaled", lambda size, factor: round(size * factor))
    assert disagreements(questions(300))


def test_domain_reaches_its_corners() -> None:
    found = list(draws(NAME, 300))
    ratios = [m / n for d in found for n, m in zip(d.inputs[0][2:], d.output_shape[2:], strict=True)]
    assert min(ratios) < 0.5
    assert max(ratios) > 4
    assert 1.0 in ratios
    assert {d.op.mode for d in found} == {"nearest", *upsample.LINEAR}
    assert {len(d.inputs[0]) for d in found if d.op.mode == "nearest"} == {3, 4, 5}
    assert {(d.op.size is None, bool(d.op.align_corners)) for d in found} == {
        (size, corners) for size in (True, False) for corners in (True, False)
    }
