"""The loops against torch on integers, with `==`: every operator over its domain, and the exact special values."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from cnnspec import nested, ops
from cnnspec.laws import mirrored
from cnnspec.nested import Array
from cnnspec.op import arguments_of
from tests.ops.draws import draws
from tests.ops.torch_layers import tensor, torch_output
from tests.ops.wrong import KILLERS

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")

EXACT = [name for name in ops.NAMES if ops.spec(name).judged != "function"]


def as_floats(array: Array) -> list[float]:
    return [float(value) for value in nested.ravel(array)]


@pytest.mark.parametrize("name", EXACT)
def test_loops_are_torch_on_integers(name: str) -> None:
    """A mean is a fraction, which float64 rounds as the one division does; where there are more, they are exact."""
    for draw in draws(name, 80):
        operands = draw.operands()
        if getattr(draw.op, "divisions", 1) > 1:
            common = math.lcm(*draw.op.divisors(draw.inputs[0]))
            operands = [nested.elementwise(lambda v, n=common: v * n, array) for array in operands]
        expected, actual = torch_output(draw, list(map(tensor, operands))), draw.op.reference(*operands)
        pairs = zip(expected, actual, strict=True) if isinstance(actual, tuple) else [(expected, actual)]
        for theirs, ours in pairs:
            mine = as_floats(ours)
            if isinstance(actual, tuple):  # a window without a tap: torch's index lies outside the input
                mine = [t if i == -1 else i for i, t in zip(mine, theirs.flatten().tolist(), strict=True)]
            assert tuple(theirs.shape) == nested.shape_of(ours) == draw.output_shape, draw
            assert theirs.double().flatten().tolist() == mine, draw


WRONG = [
    ("conv2d", lambda op, x, w, *b: op.reference(x, mirrored(w), *b)),
    ("max_pool2d", lambda op, x: op.reference(nested.elementwise(lambda v: max(v, 0), x))),
    *(
        (name if name in ops.NAMES else f"{name}2d", wrong)
        for name, laws in KILLERS.items()
        for wrong in laws.values()
    ),
]


@pytest.mark.parametrize(("name", "wrong"), WRONG, ids=lambda value: getattr(value, "__name__", value))
def test_wrong_loops_are_not_torch(name: str, wrong: Any) -> None:
    """The comparison above would notice each of them, a flipped kernel too, which no law does."""
    kind = "indices" if any(laws.get("indices") is wrong for laws in KILLERS.values()) else "values"
    for draw in draws(name, 200, empty=False):
        op, operands = draw.op, draw.operands()
        if (kind == "indices") != getattr(op, "return_indices", False) or not fits(wrong, op):
            continue
        expected = torch_output(draw, list(map(tensor, operands)))
        if kind == "indices":
            expected, actual = expected[1], wrong(op, *operands)[1]
        else:
            actual = wrong(op, *operands)
        if expected.double().flatten().tolist() != as_floats(actual):
            return
    pytest.fail("it passed for torch")


RUNS_ON: dict[str, Callable[[Any], bool]] = {
    "groups": lambda op: op.groups > 1,
    "dilation": lambda op: op.padding != "same",
    "padding": lambda op: getattr(op, "padding_mode", "zeros") == "zeros",
    "pointwise": lambda op: op.groups == 1,
}


def fits(wrong: Any, op: Any) -> bool:
    """Say whether the wrong implementation runs on this operator at all: some need what their law needs."""
    laws = [law for laws in KILLERS.values() for law, killer in laws.items() if killer is wrong]
    return all(RUNS_ON[law](op) for law in laws if law in RUNS_ON)


def test_the_domains_reach_their_corners() -> None:
    """What the comparison above has met: if it had not, it would prove little."""
    convs = [draw for name in ("conv1d", "conv2d", "conv3d") for draw in draws(name, 80)]
    assert {draw.op.padding_mode for draw in convs} == {"zeros", "reflect", "replicate", "circular"}
    assert {draw.op.padding for draw in convs} >= {"same", "valid"}
    assert any(len(draw.inputs[0]) == draw.op.spatial + 1 for draw in convs)
    assert any(0 in draw.inputs[0] for draw in convs)
    assert any(draw.op.groups > 1 and set(draw.op.axes("stride")) != {1} for draw in convs)
    pools = [draw for name in ops.FAMILIES["pool"] for draw in draws(name, 80)]
    windows = [zip(draw.op.windows, draw.inputs[0][-draw.op.spatial :], strict=True) for draw in pools]
    assert any(w.start(w.output_size(n) - 1) + w.span > n + w.after for axes in windows for w, n in axes)


DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def spelled(values: list[float]) -> list[str]:
    """Return values such that NaN equals itself and -0 differs from 0."""
    return [repr(float(value)) for value in values]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_relu_keeps_the_sign_of_zero_and_nan(dtype: torch.dtype) -> None:
    """In every length of vector, and in strided memory."""
    relu = ops.spec("relu").operator()
    special = [-0.0, 0.0, math.nan, -1.0, math.inf, -math.inf, 2.0]
    for length in range(1, 41):
        for row in ([-0.0] * length, [special[(i * 5 + length) % 7] for i in range(length)]):
            x = torch.tensor(row, dtype=dtype)
            strided = torch.stack([x, torch.full_like(x, 3)], 1)[:, 0]
            for y in (torch.relu(x), torch.nn.functional.relu(strided), x.clone().relu_()):
                assert spelled(y.tolist()) == spelled(relu.reference(row))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", [name for name in ops.NAMES if name.startswith("max_pool")])
@pytest.mark.parametrize(
    "values", [(0.0, -0.0), (0.0, -0.0, math.nan, 1.0), (math.nan, -math.inf, -1.0)], ids=str
)
def test_maximum_of_signed_zeros_and_nan(name: str, values: tuple[float, ...], dtype: torch.dtype) -> None:
    """The first of equal zeros wins, of whichever sign; the last NaN wins. Contiguous and channels last alike."""
    for draw in draws(name, 25, cost=400):
        op = type(draw.op)(**{**arguments_of(draw.op), "return_indices": True})
        count = math.prod(draw.inputs[0])
        row = [values[(i * i + 3 * i + i // 5 + draw.seed) % len(values)] for i in range(count)]
        maxima, indices = op.reference(nested.unravel(row, draw.inputs[0]))
        x = torch.tensor(row, dtype=dtype).reshape(draw.inputs[0])
        layout = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.dim())
        for memory in [torch.contiguous_format] + ([layout] if layout and x.dim() == op.spatial + 2 else []):
            function = getattr(torch.nn.functional, name)
            arguments = [op.kernel_size, op.stride, op.padding, op.dilation, op.ceil_mode]
            y, where = function(x.contiguous(memory_format=memory), *arguments, return_indices=True)
            alone = function(x.contiguous(memory_format=memory), *arguments)
            assert spelled(y.flatten().tolist()) == spelled(nested.ravel(maxima)), draw
            assert spelled(alone.flatten().tolist()) == spelled(nested.ravel(maxima)), draw
            if (
                memory != torch.channels_last_3d or -math.inf not in values
            ):  # its index of -inf is a known fault
                theirs = zip(where.flatten().tolist(), nested.ravel(indices), strict=True)
                assert all(j in (i, -1) for i, j in theirs), draw


def test_exact_values_of_the_functions() -> None:
    """Where exp and log are exact there is no rounding to speak of."""
    half, zeros = ops.spec("sigmoid").operator(), [0.0, -0.0]
    assert half.reference(zeros) == [0.5, 0.5] == torch.sigmoid(tensor(zeros)).tolist()
    assert ops.spec("tanh").operator().reference([0.0, math.inf, -math.inf]) == [0, 1, -1]
    for n in (1, 2, 4, 8, 64):
        row = [3.0] * n
        assert (
            ops.spec("softmax").operator().reference(row)
            == [1 / n] * n
            == torch.softmax(tensor(row), 0).tolist()
        )
    assert ops.spec("log_softmax").operator().reference([7.0]) == [0.0]


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "softmax", "log_softmax"])
def test_functions_in_float64_stay_within_their_rounding_terms(name: str) -> None:
    """Both sides are float64: they may differ by twice the bound, with an ulp of each library's exp and log."""
    for draw in draws(name, 40, cost=400):
        operands = draw.operands()
        terms = draw.op.rounding_terms(*operands)
        theirs = torch_output(draw, list(map(tensor, operands))).flatten().tolist()
        ours = nested.ravel(draw.op.reference(*operands))
        rows = zip(ours, theirs, terms.magnitude, terms.roundings, strict=True)
        for mine, other, magnitude, roundings in rows:
            assert abs(mine - other) <= 2 * (roundings + 2 * terms.elementary) * 2.0**-53 * magnitude, draw
