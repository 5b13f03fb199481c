"""What the tests of operators that are linear in each operand share: gradients in three ways, bounds against torch."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from cnnspec import data, exact, laws, nested, ops
from cnnspec.cases import Case
from cnnspec.compare import Verdict, verdict
from cnnspec.derivatives import Dual
from cnnspec.models import direct
from cnnspec.nested import Array
from tests.ops.draws import Draw, draws
from tests.ops.torch_layers import tensor, torch_output

DTYPES = ("float64", "float32", "bfloat16", "float16")
Kernel = Callable[..., torch.Tensor]
"""kernel(draw, tensors) -> output."""


def cotangent(draw: Draw) -> Array:
    """Return small integers in the shape of the output."""
    return laws.ramp(draw.output_shape)


def dual_gradients(draw: Draw, operands: list[Array]) -> list[list[Any]]:
    """Return the gradient of each operand, by the loop on dual numbers."""
    duals = [
        nested.unravel([Dual.variable(v, (n, i)) for i, v in enumerate(nested.ravel(a))], nested.shape_of(a))
        for n, a in enumerate(operands)
    ]
    total: dict[Any, Any] = {}
    outputs = zip(nested.ravel(cotangent(draw)), nested.ravel(draw.op.reference(*duals)), strict=True)
    for g, y in outputs:
        for variable, slope in y.derivatives.items() if isinstance(y, Dual) else ():
            total[variable] = total.get(variable, 0) + g * slope
    return [[total.get((n, i), 0) for i in range(len(nested.ravel(a)))] for n, a in enumerate(operands)]


def own_gradients(draw: Draw, operands: list[Array]) -> list[list[Any]]:
    """Return the gradients as the operator states them."""
    return [nested.ravel(one) for one in draw.op.gradients(cotangent(draw), *operands)]


def autograd(draw: Draw, operands: list[Array]) -> list[list[float]]:
    """Return the gradients by torch in float64."""
    leaves = [tensor(array).requires_grad_() for array in operands]
    gradients = torch.autograd.grad(torch_output(draw, leaves), leaves, tensor(cotangent(draw)))
    return [gradient.flatten().tolist() for gradient in gradients]


def differing(name: str, count: int, cost: int, largest: int = 9) -> list[Draw]:
    """Return the cases in which the gradients stated are not those of dual numbers, or not autograd's."""
    wrong = []
    for draw in draws(name, count, cost=cost, empty=False):
        operands = draw.operands(largest)
        others = (dual_gradients(draw, operands), autograd(draw, operands))
        wrong += [draw] * any(own_gradients(draw, operands) != other for other in others)
    return wrong


def cases(name: str, count: int, dtype: str, regime: str = "dense") -> Iterator[tuple[Draw, Case]]:
    """Yield draws with a case of the dtype and regime, none empty."""
    for draw in draws(name, count, cost=1500, empty=False):
        yield draw, Case(name, draw.arguments, draw.inputs, dtype, regime, draw.seed)


def judged(draw: Draw, case: Case, kernel: Kernel = torch_output) -> Verdict:
    """Return the verdict on a kernel's output, in the dtype of the case."""
    operands = data.operands(case)
    tensors = [torch.tensor(array).to(getattr(torch, case.dtype)) for array in operands.values()]
    expected = exact.evaluate(ops.spec(draw.name), draw.op, operands)
    actual = kernel(draw, tensors)
    assert actual.dtype == tensors[0].dtype
    return verdict(expected, actual.double().flatten().tolist(), case.dtype, direct(case.dtype))


def judged_gradients(draw: Draw, case: Case, kernel: Kernel = torch_output) -> dict[str, Verdict]:
    """Return the verdict on each gradient that autograd passes through a kernel."""
    operands = data.operands(case)
    leaves = [torch.tensor(a).to(getattr(torch, case.dtype)).requires_grad_() for a in operands.values()]
    g = np.random.default_rng(draw.seed).standard_normal(draw.output_shape)
    g = data.represented(g, case.dtype)
    expected = exact.gradients(ops.spec(draw.name), draw.op, g, operands, list(operands))
    gradients = torch.autograd.grad(kernel(draw, leaves), leaves, torch.tensor(g).to(leaves[0].dtype))
    found = {}
    for name, gradient in zip(operands, gradients, strict=True):
        values = gradient.double().flatten().tolist()
        found[name] = verdict(expected[name], values, case.dtype, direct(case.dtype))
    return found


def in_float32(draw: Draw, tensors: list[torch.Tensor]) -> torch.Tensor:
    """Sums in float32, rounded once: what the model of the 16-bit formats says."""
    output: torch.Tensor = torch_output(draw, [one.float() for one in tensors]).to(tensors[0].dtype)
    return output
