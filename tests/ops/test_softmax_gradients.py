"""Softmax and its logarithm: gradients from the output, bounds of both directions, and what overflow does."""

import math
from typing import Any

import pytest
import torch

from cnnspec import nested
from cnnspec.exact import evaluate_dialect
from cnnspec.ops import spec
from cnnspec.ops.softmax import LogSoftmax, Softmax
from tests.ops.draws import draws
from tests.ops.function_checks import (
    arrays,
    differing,
    gradients_judged,
    gradients_rejected,
    judged,
    operands_of,
    out_of_bounds,
    outputs_rejected,
    torch_call,
    torch_gradients,
    values_of,
)
from tests.ops.wrong_losses import WRONG_GRADIENTS, WRONG_OUTPUTS

NAMES = ("softmax", "log_softmax")


def test_worked_by_hand() -> None:
    """y = (1/4, 1/4, 1/2) has g . y = 3, and g - 3 = (1, -3, 1)."""
    assert Softmax.gradient([4, 0, 4], [0.25, 0.25, 0.5]) == [0.25, -0.75, 0.5]
    assert LogSoftmax.gradient([1, 2, 0], [0.0, -math.inf, -math.inf]) == [-2.0, 2.0, 0.0]


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_dual_numbers(name: str) -> None:
    """The loop differentiates the maximum too, whose part cancels."""
    assert differing(name, 200) == []


@pytest.mark.parametrize("wrong", WRONG_GRADIENTS["softmax"])
@pytest.mark.parametrize("name", NAMES)
def test_wrong_gradients_are_noticed(name: str, wrong: Any) -> None:
    """By dual numbers, and by the bound of a float32 gradient."""
    assert differing(name, 20, wrong)
    assert gradients_rejected(name, wrong, 20) > 5


@pytest.mark.parametrize("wrong", WRONG_OUTPUTS["softmax"])
@pytest.mark.parametrize("name", NAMES)
def test_wrong_outputs_leave_the_bounds(name: str, wrong: Any) -> None:
    assert outputs_rejected(name, wrong, 20) > 5
    assert outputs_rejected(name, wrong, 20, "bfloat16") > 5


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", NAMES)
def test_torch_stays_within_the_bounds(name: str, dtype: str) -> None:
    """In the 16-bit types torch's forward keeps sums in them: a known deviation."""
    assert list(out_of_bounds(name, dtype, 60)) == []


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sixteen_bit_gradients_stay_within_the_bounds_of_a_kept_output(dtype: str) -> None:
    """One row, so that torch takes the loop over the last axis, which keeps no sum in the 16-bit type."""
    for draw in draws("softmax", 40, cost=400, empty=False):
        draw.inputs, draw.arguments = (draw.inputs[0][-1:],), {"dim": 0}
        case, tensors = operands_of(draw, dtype)
        g, found = torch_gradients(case, tensors)
        assert judged(case, tensors, values_of(torch_call(case, tensors))).holds, draw
        assert gradients_judged(case, tensors, g, found)["input"].holds, draw


# Overflow


def naive(name: str, x: torch.Tensor, dim: int) -> torch.Tensor:
    """The textbook's first formula, which does not subtract the maximum."""
    total = x.exp().sum(dim, keepdim=True)
    return x.exp() / total if name == "softmax" else x - total.log()


@pytest.mark.parametrize("shift", [100.0, 1e30])
@pytest.mark.parametrize("name", NAMES)
def test_outputs_stay_finite_near_overflow(name: str, shift: float) -> None:
    """torch's do; without the subtraction exp overflows, and the verdict says so."""
    rejected = 0
    for draw in draws(name, 40, cost=400, empty=False):
        case, tensors = operands_of(draw, "float32")
        tensors["input"] = tensors["input"].clamp(-8, 8) + shift
        output = torch_call(case, tensors)
        assert output.isfinite().all()
        assert judged(case, tensors, values_of(output)).holds, draw
        mine = nested.ravel(draw.op.reference(tensors["input"].double().tolist()))
        assert all(math.isfinite(value) for value in mine)
        without = judged(case, tensors, values_of(naive(name, tensors["input"], draw.op.dim)))
        assert not without.holds
        rejected += len(without.wrong) == without.elements
    assert rejected == 40


@pytest.mark.parametrize("name", NAMES)
def test_the_naive_formula_holds_where_nothing_overflows(name: str) -> None:
    """Else the test above would reject it for another reason."""
    for draw in draws(name, 40, cost=400, empty=False):
        case, tensors = operands_of(draw, "float32")
        tensors["input"] = tensors["input"].clamp(-0.5, 0.5)
        assert judged(case, tensors, values_of(naive(name, tensors["input"], draw.op.dim))).holds, draw


@pytest.mark.parametrize("name", NAMES)
def test_infinite_and_missing_numbers(name: str) -> None:
    """-inf is a class without probability; a row of NaN, of +inf or of -inf alone has no softmax."""
    for row in ([0.0, -math.inf, 0.0], [math.nan, 0.0], [0.0, math.nan], [math.inf, 0.0], [-math.inf] * 2):
        operator: Any = spec(name).operator
        mine = operator(dim=0).reference(row)
        theirs = getattr(torch, name)(torch.tensor(row, dtype=torch.float64), 0).tolist()
        assert [repr(float(v)) for v in mine] == [repr(v) for v in theirs]


@pytest.mark.parametrize("name", NAMES)
def test_dialects_are_told_apart(name: str) -> None:
    (dialect,) = spec(name).dialects
    rejected = 0
    for draw in draws(name, 40, empty=False):
        case, tensors = operands_of(draw, "float32")
        found = evaluate_dialect(case.spec, draw.op, dialect, arrays(tensors))
        assert found is not None
        y = nested.ravel(dialect.reference(draw.op, tensors["input"].double().tolist()))
        same = judged(case, tensors, values_of(torch.tensor(y).float())).holds
        axis, shape = draw.op.dim % len(draw.inputs[0]), draw.inputs[0]
        assert same == (math.prod(shape[axis:]) == shape[axis])
        rejected += not same
    assert rejected > 5
