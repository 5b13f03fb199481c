"""Second gradients: against dual numbers through the gradients' own loops, and wrong ones that are found."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

import cnnspec
from cnnspec import nested, ops
from cnnspec.cases import Case
from cnnspec.derivatives import pushforward
from cnnspec.exact import Exact
from cnnspec.exact.double import second_gradients, tangents
from cnnspec.judge import DOUBLE
from cnnspec.nested import Array
from tests.ops.draws import Draw, draws

TWICE = [name for name in ops.NAMES if ops.spec(name).twice]


def numbers(exact: Exact) -> list[Fraction]:
    """Return the exact values, of copies too."""
    if exact.copies is not None:
        return [Fraction(value) for value in exact.copies.tolist()]
    return [exact.value(i) for i in range(math.prod(exact.shape))]


def by_dual_numbers(draw: Draw, grad_output: Array, operands: list[Array], along: list[Array]) -> list[Array]:
    """Return ds/d grad_output and ds/d operand: the derivatives of y and of its gradients along the tangents."""
    moving = len(along)
    fixed = operands[moving:]

    def output(*values: Array) -> Array:
        y = draw.op.reference(*values, *fixed)
        return y[0] if isinstance(y, tuple) else y

    def gradients(*values: Array) -> tuple[Array, ...]:
        return tuple(draw.op.gradients(grad_output, *values, *fixed)[:moving])

    first = pushforward(output, operands[:moving], along)
    second = pushforward(gradients, operands[:moving], along)
    return [first, *second]


@pytest.mark.parametrize("name", TWICE)
def test_second_gradients_are_those_of_dual_numbers(name: str) -> None:
    spec = ops.spec(name)
    for draw in draws(name, 40, cost=300, empty=False):
        if not draw.op.differentiable(*draw.inputs):
            continue
        operands = draw.operands()
        case = Case(name, draw.arguments, draw.inputs)
        arrays = dict(zip(case.operand_shapes(), map(np.array, operands), strict=True))
        g = np.arange(np.prod(draw.output_shape)).reshape(draw.output_shape) % 5 - 2.0
        wanted = list(case.differentiated)
        found = second_gradients(spec, draw.op, g, arrays, wanted)
        along = [nested.elementwise(int, one.tolist()) for one in tangents(arrays, wanted).values()]
        plain = nested.elementwise(int, g.tolist())
        fractions = [nested.elementwise(Fraction, one) for one in operands[: len(along)]]
        expected = by_dual_numbers(draw, plain, [*fractions, *operands[len(along) :]], along)
        for operand, right in zip(("grad_output", *wanted), expected, strict=True):
            if operand in found:
                assert numbers(found[operand]) == nested.ravel(right), (operand, draw)
            else:
                assert not any(nested.ravel(right)), (operand, draw)


class Detached(torch.autograd.Function):
    """A linear layer whose backward forgets that its gradients depend on one of its operands."""

    forgets: Sequence[str] = ()

    @staticmethod
    def forward(context: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        context.save_for_backward(x, weight)
        return x @ weight.mT

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> Any:
        (g,) = gradients
        x, weight = context.saved_tensors
        x = x.detach() if "input" in Detached.forgets else x
        weight = weight.detach() if "weight" in Detached.forgets else weight
        g2 = g.detach() if "grad_output" in Detached.forgets else g
        rows = g2.reshape(-1, g.shape[-1]).mT @ x.reshape(-1, x.shape[-1])
        return g2 @ weight, rows


def linear(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = Detached.apply(x, weight)  # type: ignore[no-untyped-call]
    return result


@pytest.mark.parametrize(
    ("forgets", "message"),
    [
        ((), ""),
        (("input",), "the second gradient of input"),
        (("weight",), "the second gradient of weight"),
        (("grad_output",), "the second gradient of grad_output"),
    ],
    ids=str,
)
def test_what_a_backward_forgets_is_found(
    forgets: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Detached, "forgets", forgets)
    results = cnnspec.check(
        linear, ["linear"], ["float32"], examples=40, laws=(DOUBLE,), where="not bias and rank == 2"
    )
    assert results.ok is not bool(message)
    assert all(message in failure.row["message"] for failure in results.failures)
