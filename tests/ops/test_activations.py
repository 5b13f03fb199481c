"""Activations: values, kinks and bounds against torch, gradients by dual numbers, who refuses what."""

import math
from fractions import Fraction
from typing import Any

import pytest
import torch

from cnnspec import nested, ops
from cnnspec.errors import ArgumentError, ShapeError
from cnnspec.exact import evaluate_dialect
from cnnspec.ops.elu import ELU
from cnnspec.ops.gelu import GELU
from cnnspec.ops.hardswish import Hardswish
from cnnspec.ops.leaky_relu import LeakyReLU
from cnnspec.ops.pointwise import ReLU, Sigmoid, Tanh
from cnnspec.ops.prelu import PReLU
from cnnspec.ops.relu6 import ReLU6
from cnnspec.ops.silu import SiLU
from cnnspec.ops.softplus import Softplus
from tests.ops.acceptance import CALL, CONSTRUCTOR, Answer, Question, disagreements, ours, theirs
from tests.ops.draws import Seeded, draws, integers
from tests.ops.function_checks import (
    DTYPES,
    arrays,
    differing,
    dual_gradients,
    gradients_rejected,
    judged,
    operands_of,
    out_of_bounds,
    outputs_rejected,
    torch_call,
    values_of,
)
from tests.ops.torch_layers import tensor
from tests.ops.wrong_activations import WRONG_GRADIENTS, WRONG_OUTPUTS

F = torch.nn.functional
PIECES = ("relu", "relu6", "leaky_relu", "prelu", "hardswish")
SMOOTH = ("sigmoid", "tanh", "elu", "gelu", "silu", "softplus")


# Values and kinks


def exact_draws(name: str) -> Any:
    """Yield cases whose arguments are short binary fractions, with integers for operands."""
    for draw in draws(name, 300):
        if float(8 * getattr(draw.op, "negative_slope", 0)).is_integer():
            yield draw, draw.operands()


def leaves_of(operands: list[Any]) -> list[torch.Tensor]:
    return [tensor(one).requires_grad_() for one in operands]


@pytest.mark.parametrize("name", PIECES)
def test_pieces_are_torch_on_integers(name: str) -> None:
    """Exact arithmetic and, for hardswish, one division, which float64 rounds correctly."""
    count = 0
    for draw, operands in exact_draws(name):
        slope = [draw.op.negative_slope] if name == "leaky_relu" else []
        theirs = getattr(F, name)(*map(tensor, operands), *slope)
        mine = [float(value) for value in nested.ravel(draw.op.reference(*operands))]
        assert (values_of(theirs), tuple(theirs.shape)) == (mine, draw.output_shape), draw
        count += 1
    assert count >= 150


@pytest.mark.parametrize("name", ["relu", "relu6", "leaky_relu", "prelu"])
def test_gradients_of_pieces_are_autograd_on_integers(name: str) -> None:
    """Kinks too: integers hit 0 and 6."""
    for draw, operands in exact_draws(name):
        leaves = leaves_of(operands)
        y = getattr(F, name)(*leaves, *([draw.op.negative_slope] if name == "leaky_relu" else []))
        g = integers(Seeded(draw.seed).rng, draw.output_shape)
        found = torch.autograd.grad(y, leaves, tensor(g))
        for mine, other in zip(draw.op.gradients(g, *operands), found, strict=True):
            assert [float(v) for v in nested.ravel(mine)] == values_of(other), draw


KINKS: list[tuple[Any, Any, list[float], list[float]]] = [
    (ReLU(), F.relu, [0.0, -0.0], [0, 0]),
    (ReLU6(), F.relu6, [0.0, -0.0, 6.0], [0, 0, 0]),
    (LeakyReLU(0.25), lambda x: F.leaky_relu(x, 0.25), [0.0, -0.0], [0.25, 0.25]),
    (ELU(2.0), lambda x: F.elu(x, 2.0), [0.0, -0.0], [2, 2]),
    (Hardswish(), F.hardswish, [-3.0, 3.0], [0, 1]),
    (Softplus(1.0, 4.0), lambda x: F.softplus(x, 1, 4), [5.0, math.inf], [1, 1]),
]


@pytest.mark.parametrize(("op", "function", "points", "slopes"), KINKS)
@pytest.mark.parametrize("copies", [1, 40])
def test_slopes_at_kinks(
    op: Any, function: Any, points: list[float], slopes: list[float], copies: int
) -> None:
    """In the scalar loops and in the vectorised ones."""
    x = torch.tensor(points * copies, dtype=torch.float64, requires_grad=True)
    (theirs,) = torch.autograd.grad(function(x), x, torch.ones_like(x))
    assert [op.gradient(1, point) for point in points] * copies == theirs.tolist() == slopes * copies


OPERATORS = [
    *((op, function) for op, function, _, _ in KINKS),
    (GELU(), F.gelu),
    (GELU("tanh"), lambda x: F.gelu(x, approximate="tanh")),
    (SiLU(), F.silu),
    (Sigmoid(), torch.sigmoid),
    (Tanh(), torch.tanh),
]


@pytest.mark.parametrize(("op", "function"), OPERATORS)
def test_nan_and_infinities(op: Any, function: Any) -> None:
    """One element at a time, so that torch's scalar loops speak; the gradient of NaN is theirs."""
    for point in (math.nan, math.inf, -math.inf):
        x = torch.tensor([point], dtype=torch.float64, requires_grad=True)
        y = function(x)
        (slope,) = torch.autograd.grad(y, x, torch.ones_like(x))
        mine = [op.function(point), op.gradient(1.0, point)]
        assert [repr(float(v)) for v in mine] == [
            repr(abs(v) if v == 0 else v) for v in (y.item(), slope.item())
        ]


@pytest.mark.parametrize("length", [1, 7, 33])
def test_relu6_keeps_the_sign_of_zero_and_nan(length: int) -> None:
    row = [-0.0, 0.0, math.nan, 7.0, -math.inf][: max(1, length)] * length
    for dtype in DTYPES.values():
        theirs = F.relu6(torch.tensor(row, dtype=dtype)).tolist()
        assert list(map(repr, theirs)) == [repr(float(v)) for v in ReLU6().reference(row)]


# Gradients


@pytest.mark.parametrize("name", [*SMOOTH, "hardswish", "leaky_relu", "prelu"])
def test_gradients_are_those_of_dual_numbers(name: str) -> None:
    """Balls of 200 bits, away from the kinks, which dense data do not hit."""
    assert differing(name, 200) == []


@pytest.mark.parametrize("name", ["relu", "relu6", "hardswish", "prelu"])
def test_gradients_of_pieces_are_dual_numbers_on_fractions(name: str) -> None:
    for draw in draws(name, 200, cost=60, empty=False):
        operands = [nested.elementwise(lambda v: Fraction(2 * v + 1, 2), one) for one in draw.operands()]
        g = integers(Seeded(draw.seed).rng, draw.output_shape)
        for which, mine in enumerate(draw.op.gradients(g, *operands)):
            assert nested.ravel(mine) == dual_gradients(draw.op, g, operands, which), draw


@pytest.mark.parametrize(
    ("name", "wrong"), [(name, wrong) for name in (*PIECES, *SMOOTH) for wrong in WRONG_GRADIENTS[name]]
)
def test_wrong_gradients_are_noticed(name: str, wrong: Any) -> None:
    """By dual numbers, and by the bound of a float32 gradient."""
    assert differing(name, 60, wrong)
    assert gradients_rejected(name, wrong, 60) > 3


# Bounds


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [*PIECES, *SMOOTH])
def test_torch_stays_within_the_bounds(name: str, dtype: str) -> None:
    assert list(out_of_bounds(name, dtype, 40)) == []


WRONG: dict[str, list[tuple[dict[str, Any], Any]]] = {
    "relu6": [({}, lambda x: min(max(x, 0), 5))],
    "leaky_relu": [({}, lambda x: x if x > 0 else 0.2 * x), ({"negative_slope": 0.25}, lambda x: max(x, 0))],
    "elu": [({"alpha": 0.5}, lambda x: x if x > 0 else math.expm1(x))],
    "gelu": [
        ({}, GELU("tanh").function),
        ({"approximate": "tanh"}, GELU().function),
        ({}, lambda x: x * Sigmoid().function(1.702 * x)),
    ],
    "silu": [({}, Sigmoid().function), ({}, Hardswish().function)],
    "hardswish": [({}, SiLU().function), ({}, lambda x: x * min(max(x + 3, 0), 6) * 0.16)],
    "softplus": [
        ({"beta": 2}, Softplus().function),
        ({"threshold": 1}, Softplus().function),
        ({"beta": 2}, lambda x: math.log1p(math.exp(2 * x))),
    ],
    "sigmoid": [({}, lambda x: (1 + math.tanh(x)) / 2)],
    "tanh": [({}, lambda x: x / (1 + abs(x)))],
}


@pytest.mark.parametrize(
    ("name", "arguments", "wrong"), [(name, *one) for name, rows in WRONG.items() for one in rows]
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_wrong_kernels_leave_the_bounds(name: str, arguments: dict[str, Any], wrong: Any, dtype: str) -> None:
    draw = next(draws(name, 1))
    draw.arguments, draw.inputs = arguments, ((160,),)
    case, tensors = operands_of(draw, dtype)
    tensors["input"] = (torch.arange(-80, 80) / 8).to(DTYPES[dtype])
    values = tensors["input"].double().tolist()
    output = torch.tensor([float(wrong(x)) for x in values]).to(DTYPES[dtype])
    assert judged(case, tensors, values_of(torch_call(case, tensors))).holds
    assert not judged(case, tensors, values_of(output)).holds


@pytest.mark.parametrize(
    ("name", "wrong"), [(name, wrong) for name in (*PIECES, *SMOOTH) for wrong in WRONG_OUTPUTS[name]]
)
def test_wrong_outputs_leave_the_bounds(name: str, wrong: Any) -> None:
    assert outputs_rejected(name, wrong, 60) > 3
    assert outputs_rejected(name, wrong, 60, "bfloat16") > 3


def test_weights_of_other_channels_are_noticed() -> None:
    draw = next(d for d in draws("prelu", 100, empty=False) if d.op.num_parameters > 2)
    case, tensors = operands_of(draw, "float32")
    rolled = {**tensors, "weight": tensors["weight"].roll(1)}
    assert not judged(case, tensors, values_of(torch_call(case, rolled))).holds


@pytest.mark.parametrize("name", [name for name in (*PIECES, *SMOOTH) if ops.spec(name).dialects])
def test_dialects_are_told_apart(name: str) -> None:
    """Each convention applies somewhere, and gives another output there, which the bound rejects."""
    spec = ops.spec(name)
    for dialect in spec.dialects:
        draw = next(d for d in draws(name, 100, empty=False) if dialect.applies(d.op))
        draw.inputs = ((64,),)
        case, tensors = operands_of(draw, "float32")
        tensors["input"] = torch.cat([torch.linspace(-6, 6, 63), torch.tensor([math.nan])])
        found = evaluate_dialect(spec, draw.op, dialect, arrays(tensors))
        assert found is not None
        output = nested.ravel(dialect.reference(draw.op, tensors["input"].double().tolist()))
        rounded = values_of(torch.tensor([float(value) for value in output]).float())
        assert not judged(case, tensors, rounded).holds, dialect.name


# Who refuses what


def e(name: str, answer: Answer, *shapes: tuple[int, ...], **arguments: Any) -> Any:
    return pytest.param(name, arguments, shapes, answer, id=f"{name} {shapes} {arguments}")


TABLE = [
    e("ReLU6", (), ()),
    e("LeakyReLU", (0, 3), (0, 3), negative_slope=2),
    e("ELU", (2,), (2,), alpha=True),
    e("GELU", (2, 3), (2, 3), approximate="tanh"),
    e("GELU", CALL, (2, 3), approximate="erf"),
    e("GELU", CALL, (0,), approximate=""),
    e("SiLU", (), ()),
    e("Hardswish", (0, 3), (0, 3)),
    e("Softplus", (3,), (3,), beta=-1, threshold=0),
    e("PReLU", (), ()),
    e("PReLU", (2, 3), (2, 3), num_parameters=3),
    e("PReLU", (2, 3, 0), (2, 3, 0), num_parameters=3),
    e("PReLU", (2, 0), (2, 0), num_parameters=0),
    e("PReLU", CALL, (2, 3), num_parameters=0),
    e("PReLU", CALL, (2, 3), num_parameters=2),
    e("PReLU", CALL, (3,), num_parameters=3),
    e("PReLU", CALL, (), num_parameters=2),
    e("PReLU", CONSTRUCTOR, (2, 3), num_parameters=-1),
    e("PReLU", CONSTRUCTOR, (2, 3), num_parameters=1.0),
]


@pytest.mark.parametrize(("name", "arguments", "shapes", "answer"), TABLE)
def test_table(name: str, arguments: dict[str, Any], shapes: Any, answer: Answer) -> None:
    assert ours(name, arguments, shapes) == answer
    assert theirs(name, arguments, shapes) == answer


def test_cnnspec_and_torch_refuse_the_same() -> None:
    pick = Seeded(3)
    layers = ("ReLU6", "LeakyReLU", "ELU", "GELU", "SiLU", "Hardswish", "Softplus")
    questions: list[Question] = [
        (
            "PReLU",
            {"num_parameters": pick.integer(-1, 3)},
            (pick.shape(pick.integer(0, 4), (0, 1, 1, 2, 3)),),
        )
        for _ in range(400)
    ]
    questions += [(pick.choice(layers), {}, (pick.shape(pick.integer(0, 4)),)) for _ in range(100)]
    questions += [
        ("GELU", {"approximate": pick.choice(("none", "tanh", "Tanh", ""))}, (pick.shape(2),))
        for _ in range(20)
    ]
    assert disagreements(questions) == []


def test_messages_say_what_to_do() -> None:
    with pytest.raises(ArgumentError, match="negative_slope='a' must be a number"):
        LeakyReLU("a")  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"num_parameters=2 must be 1 or the 3 channels of \(4, 3\)"):
        PReLU(2).output_shape((4, 3))
    with pytest.raises(ShapeError, match="approximate='erf' must be 'none' or 'tanh'"):
        GELU("erf").reference([1.0])
