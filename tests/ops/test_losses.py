"""Losses: values and gradients in exact arithmetic and against torch, bounds, and who refuses what."""

import math
import random
from fractions import Fraction
from typing import Any

import pytest
import torch

from cnnspec import nested, ops
from cnnspec.errors import ArgumentError, CnnspecError, ShapeError
from cnnspec.exact import evaluate_dialect
from cnnspec.nested import Shape
from cnnspec.ops.cross_entropy import CrossEntropyLoss
from cnnspec.ops.losses import MSELoss
from cnnspec.ops.nll_loss import NLLLoss
from tests.ops.draws import Draw, Seeded, draws, integers
from tests.ops.function_checks import (
    arrays,
    differing,
    dual_gradients,
    gradients_rejected,
    judged,
    nearest,
    operands_of,
    out_of_bounds,
    outputs_rejected,
    plain,
    torch_call,
    values_of,
)
from tests.ops.wrong_losses import WRONG_GRADIENTS, WRONG_OUTPUTS

F = torch.nn.functional
NAMES = ("mse_loss", "nll_loss", "cross_entropy")


# Values


@pytest.mark.parametrize("name", ["mse_loss", "nll_loss"])
def test_values_are_torch_on_integers(name: str) -> None:
    """Exact sums, and one division, which float64 rounds correctly."""
    for draw in draws(name, 250):
        case, tensors = operands_of(draw, "float64", "integers")
        mine = draw.op.reference(*(nested.elementwise(exactly, plain(one)) for one in tensors.values()))
        theirs = torch_call(case, tensors)
        assert list(map(repr, values_of(theirs + 0.0))) == [
            repr(float(value) + 0.0) for value in nested.ravel(mine)
        ], draw
        assert tuple(theirs.shape) == draw.output_shape


def exactly(value: Any) -> Any:
    return value if isinstance(value, int) else Fraction(value)


def test_no_target_no_mean() -> None:
    """All ignored, or nothing at all: the sum is 0 and the mean NaN, as in torch; no gradient is left."""
    for operator, function in ((NLLLoss, F.nll_loss), (CrossEntropyLoss, F.cross_entropy)):
        for scores, target in (([[1.0, 2.0]] * 3, [-100] * 3), ([], [])):
            x = torch.tensor(scores, dtype=torch.float64).reshape(-1, 2)
            for reduction, expected in (("mean", math.nan), ("sum", 0.0)):
                mine = operator(reduction=reduction).reference(
                    nested.unravel(values_of(x), tuple(x.shape)), nested.unravel(target, (len(target),))
                )
                theirs = function(x, torch.tensor(target, dtype=torch.int64), reduction=reduction)
                assert repr(float(mine)) == repr(abs(theirs.item())) == repr(expected)
        assert operator().gradients(1.0, [[1.0, 2.0]], [-100]) == [[[0, 0]], None]
    assert math.isnan(MSELoss().reference(nested.unravel([], (0, 2)), nested.unravel([], (0, 2))))
    assert MSELoss("sum").reference([], []) == 0


def test_worked_by_hand() -> None:
    """Equal scores of 4 classes: log 4, whatever the smoothing; weights 1 and 3 of losses 2 and 4: 14 / 4."""
    for smoothing in (0.0, 0.1, 1.0):
        loss = CrossEntropyLoss(label_smoothing=smoothing).reference([[5.0] * 4], [2])
        assert round(loss, 12) == round(math.log(4), 12)
    assert NLLLoss(weight=2).reference([[-2, 0], [0, -4]], [0, 1], [1, 3]) == Fraction(7, 2)
    assert NLLLoss(weight=2).gradients(4, [[-2, 0], [0, -4]], [0, 1], [1, 3]) == [
        [[-1, 0], [0, -3]],
        None,
        None,
    ]


def test_cross_entropy_is_the_likelihood_of_a_softmax() -> None:
    """On two classes whose scores differ by log 3 the probabilities are 1/4 and 3/4."""
    x = [[0.0, math.log(3)]]
    (gradient, none) = CrossEntropyLoss().gradients(1.0, x, [0])
    assert none is None
    assert [round(value, 12) for value in nested.ravel(gradient)] == [-0.75, 0.75]


# Gradients


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_dual_numbers(name: str) -> None:
    assert differing(name, 200) == []


@pytest.mark.parametrize("name", ["mse_loss", "nll_loss"])
def test_gradients_are_dual_numbers_on_fractions(name: str) -> None:
    for draw in draws(name, 200, cost=60, empty=False):
        operands = [
            nested.elementwise(exactly, plain(one)) for one in operands_of(draw, "float64")[1].values()
        ]
        g = integers(Seeded(draw.seed).rng, draw.output_shape)
        for which, mine in enumerate(draw.op.gradients(g, *operands)):
            if mine is not None:
                assert nested.ravel(mine) == dual_gradients(draw.op, g, operands, which), draw


@pytest.mark.parametrize(
    ("name", "wrong"), [(name, wrong) for name in NAMES for wrong in WRONG_GRADIENTS[name]]
)
def test_wrong_gradients_are_noticed(name: str, wrong: Any) -> None:
    """By dual numbers, and by the bound of a float32 gradient."""
    assert differing(name, 60, wrong)
    assert gradients_rejected(name, wrong, 60) > 3


# Bounds


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", NAMES)
def test_torch_stays_within_the_bounds(name: str, dtype: str) -> None:
    """In the 16-bit types torch keeps differences, softmaxes and sums in them: known deviations."""
    assert list(out_of_bounds(name, dtype, 60)) == []


WRONG = [
    ("mse_loss", {}, lambda op, x, t: MSELoss("sum").reference(x, t)),
    ("mse_loss", {"reduction": "none"}, lambda op, x, t: nested.elementwise(lambda a, b: abs(a - b), x, t)),
    ("nll_loss", {"weight": 3}, lambda op, x, t, w: NLLLoss().reference(x, t)),
    ("nll_loss", {"ignore_index": 1}, lambda op, x, t: NLLLoss().reference(x, t)),
    ("nll_loss", {}, lambda op, x, t: NLLLoss().reference(x, [2 - c for c in t])),
    ("cross_entropy", {}, lambda op, x, t: NLLLoss().reference(x, t)),
    ("cross_entropy", {"weight": 3}, lambda op, x, t, w: CrossEntropyLoss().reference(x, t)),
    (
        "cross_entropy",
        {"label_smoothing": 0.1},
        lambda op, x, t: CrossEntropyLoss(label_smoothing=0.099).reference(x, t),
    ),
    (
        "cross_entropy",
        {"weight": 3, "label_smoothing": 0.5},
        lambda op, x, t, w: (
            0.5 * CrossEntropyLoss(3).reference(x, t, w)
            + 0.5 * CrossEntropyLoss(label_smoothing=1.0).reference(x, t)
        ),
    ),
]


@pytest.mark.parametrize(("name", "arguments", "wrong"), WRONG)
def test_wrong_kernels_leave_the_bounds(name: str, arguments: dict[str, Any], wrong: Any) -> None:
    draw = Draw(name, arguments, ((5, 3), (5, 3) if name == "mse_loss" else (5,)), 1)
    case, tensors = operands_of(draw, "float32")
    if name != "mse_loss":
        tensors["target"] = torch.tensor([0, 2, 1, 0, 0])
    if "weight" in tensors:
        tensors["weight"] = torch.tensor([0.5, 1.0, 2.0])
    output = nearest(wrong(draw.op, *map(plain, tensors.values())), "float32")
    assert judged(case, tensors, values_of(torch_call(case, tensors))).holds
    assert not judged(
        case, tensors, output * (len(values_of(torch_call(case, tensors))) // len(output))
    ).holds


@pytest.mark.parametrize(
    ("name", "wrong"), [(name, wrong) for name in NAMES for wrong in WRONG_OUTPUTS[name]]
)
def test_wrong_outputs_leave_the_bounds(name: str, wrong: Any) -> None:
    assert outputs_rejected(name, wrong, 60) > 3
    assert outputs_rejected(name, wrong, 60, "bfloat16") > 3


def test_cross_entropy_stays_finite_near_overflow() -> None:
    """Without the largest score subtracted, exp overflows and the verdict says so."""
    draw = Draw("cross_entropy", {"reduction": "none"}, ((4, 5), (4,)), 1)
    case, tensors = operands_of(draw, "float32")
    tensors["input"] = tensors["input"].clamp(-9, 9) + 1000
    x = tensors["input"]
    naive = x.exp().sum(1).log() - x[range(4), tensors["target"].clamp(0)]
    assert judged(case, tensors, values_of(torch_call(case, tensors))).holds
    assert not judged(case, tensors, values_of(naive)).holds


@pytest.mark.parametrize("name", NAMES)
def test_dialects_are_told_apart(name: str) -> None:
    """Each gives another loss somewhere, and the bound rejects it there."""
    spec = ops.spec(name)
    for dialect in spec.dialects:
        rejected = 0
        for draw in draws(name, 100, cost=300, empty=False):
            if not dialect.applies(draw.op):
                continue
            case, tensors = operands_of(draw, "float32")
            if evaluate_dialect(spec, draw.op, dialect, arrays(tensors)) is None:
                continue
            y = nested.ravel(dialect.reference(draw.op, *map(plain, tensors.values())))
            rejected += not judged(case, tensors, values_of(torch.tensor(y, dtype=torch.float32))).holds
        assert rejected > 3, dialect.name


# Who refuses what


def answers(name: str, arguments: dict[str, Any], shape: Shape, target: Shape) -> tuple[Any, Any]:
    """Return what cnnspec and torch say: the shape of the output, or "refused"."""
    operator = getattr(__import__("cnnspec"), name)
    weight = arguments.get("weight")
    try:
        mine: Any = tuple(operator(**arguments).output_shape(shape, target))
    except CnnspecError:
        mine = "refused"
    given = {**arguments, "weight": torch.ones(weight)} if weight is not None else arguments
    kind = torch.float32 if name == "MSELoss" else torch.int64
    try:
        theirs: Any = tuple(
            getattr(torch.nn, name)(**given)(torch.zeros(shape), torch.zeros(target, dtype=kind)).shape
        )
    except (RuntimeError, ValueError, IndexError):
        theirs = "refused"
    return mine, theirs


TABLE: list[tuple[str, dict[str, Any], Shape, Shape, Any]] = [
    ("MSELoss", {}, (2, 3), (2, 3), ()),
    ("MSELoss", {"reduction": "none"}, (0, 3), (0, 3), (0, 3)),
    ("MSELoss", {"reduction": "mean_of_all"}, (2,), (2,), "refused"),
    ("MSELoss", {}, (2,), (3,), "refused"),
    ("NLLLoss", {}, (), (), "refused"),
    ("NLLLoss", {"reduction": "none"}, (3,), (), ()),
    ("NLLLoss", {"reduction": "none"}, (3,), (1,), ()),
    ("NLLLoss", {}, (3,), (3,), "refused"),
    ("NLLLoss", {}, (1, 3), (), "refused"),
    ("NLLLoss", {}, (2, 3), (2, 1), "refused"),
    ("NLLLoss", {"reduction": "none"}, (2, 3, 4), (2, 4), (2, 4)),
    ("NLLLoss", {"reduction": "none"}, (2, 3, 4, 5, 1), (2, 4, 5, 1), (2, 4, 5, 1)),
    ("NLLLoss", {}, (2, 3, 4, 5), (2, 5, 4), "refused"),
    ("NLLLoss", {"weight": 4}, (2, 3), (2,), "refused"),
    ("NLLLoss", {"weight": 3}, (2, 3), (2,), ()),
    ("NLLLoss", {"reduction": "none"}, (0, 3), (0,), (0,)),
    ("CrossEntropyLoss", {"label_smoothing": 1.5}, (2, 3), (2,), "refused"),
    ("CrossEntropyLoss", {"label_smoothing": -0.5}, (2, 3), (2,), ()),
    ("CrossEntropyLoss", {"label_smoothing": 0.1, "reduction": "none"}, (3,), (), ()),
    ("CrossEntropyLoss", {}, (1,), (1,), "refused"),
    ("CrossEntropyLoss", {}, (), (), "refused"),
]


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize(("name", "arguments", "shape", "target", "answer"), TABLE)
def test_table(name: str, arguments: dict[str, Any], shape: Shape, target: Shape, answer: Any) -> None:
    assert answers(name, arguments, shape, target) == (answer, answer)


@pytest.mark.filterwarnings("ignore:Using a target size")
def test_cnnspec_and_torch_refuse_the_same() -> None:
    pick, wrong = Seeded(5), []
    for _ in range(600):
        name = pick.choice(("MSELoss", "NLLLoss", "CrossEntropyLoss"))
        shape = pick.shape(pick.integer(0, 4), (1, 2, 3))
        target = (*shape[:1], *shape[2:]) if len(shape) > 1 else pick.choice(((), (1,)))
        target = (
            shape if name == "MSELoss" else pick.maybe(0.3, pick.shape(pick.integer(0, 3), (1, 2, 3)), target)
        )
        arguments: dict[str, Any] = {"reduction": pick.choice(("mean", "sum", "none", "max"))}
        if name != "MSELoss" and pick.choice((True, False)):
            arguments["weight"] = pick.integer(1, 3)
        mine, other = answers(name, arguments, shape, target)
        wrong += [(name, arguments, shape, target, mine, other)] * (mine != other)
    assert wrong == []


def test_messages_say_what_to_do() -> None:
    with pytest.raises(ShapeError, match="target=3 must be one of 3 classes or ignore_index=-100"):
        NLLLoss().reference([[0, 0, 0]], [3])
    with pytest.raises(ShapeError, match=r"target of shape \(3,\) must be \(2,\)"):
        NLLLoss().output_shape((2, 3), (3,))
    with pytest.raises(ShapeError, match="reduction='max' is not one of mean, sum, none"):
        MSELoss("max").output_shape((2,), (2,))
    with pytest.raises(ArgumentError, match="label_smoothing='a' must be a number"):
        CrossEntropyLoss(label_smoothing="a")  # type: ignore[arg-type]


def test_the_domain_reaches_its_corners() -> None:
    found = list(draws("cross_entropy", 200))
    assert {draw.op.reduction for draw in found} == {"mean", "sum", "none"}
    assert {len(draw.inputs[0]) for draw in found} == {1, 2, 3, 4, 5}
    assert any(draw.op.weight and draw.op.label_smoothing for draw in found)
    rng = random.Random(0)
    targets = ops.spec("nll_loss").fill["target"](NLLLoss(), {"input": (600, 3), "target": (600,)}, rng)
    assert set(targets) == {-100, 0, 1, 2}
