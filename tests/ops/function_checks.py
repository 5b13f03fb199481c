"""Functions of exponentials and the like: torch within the bound, and gradients by dual numbers of 200 bits."""

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any

import flint
import numpy as np
import torch

from cnnspec import data, exact, nested
from cnnspec.backends import call_functional
from cnnspec.backends.torch import functional
from cnnspec.cases import Case
from cnnspec.compare import Verdict, verdict
from cnnspec.derivatives import Dual
from cnnspec.nested import Array
from cnnspec.op import Operator
from tests.ops.draws import Draw, draws

DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
TORCH = functional()

Tensors = Mapping[str, torch.Tensor]


def operands_of(draw: Draw, dtype: str, regime: str = "dense") -> tuple[Case, dict[str, torch.Tensor]]:
    """Return a case with the operands that a run would draw for it."""
    case = Case(draw.name, draw.arguments, draw.inputs, dtype, regime, draw.seed)
    shapes = case.operand_shapes()
    return case, {
        name: torch.tensor(values)
        .reshape(shapes[name])
        .to(DTYPES[dtype] if values.dtype == float else torch.int64)
        for name, values in data.operands(case).items()
    }


def arrays(tensors: Tensors) -> dict[str, Any]:
    return {
        name: (one.double() if one.is_floating_point() else one).detach().numpy()
        for name, one in tensors.items()
    }


def torch_call(case: Case, tensors: Tensors) -> torch.Tensor:
    function = TORCH.functions[case.operator]
    output: torch.Tensor = call_functional(function, case.spec, case.arguments, tensors)
    return output


def values_of(tensor: torch.Tensor) -> list[float]:
    return tensor.detach().double().flatten().tolist()


def judged(case: Case, tensors: Tensors, output: Sequence[float]) -> Verdict:
    """Return the verdict on an output, with the error that torch's elementary functions are declared to have."""
    found = exact.evaluate(case.spec, case.operation, arrays(tensors))
    return verdict(found, output, case.dtype, TORCH.model(case.dtype, case.operator))


def gradients_judged(
    case: Case, tensors: Tensors, g: torch.Tensor, gradients: Mapping[str, Sequence[float]]
) -> dict[str, Verdict]:
    """Return the verdict on each gradient."""
    found = exact.gradients(case.spec, case.operation, g.double().numpy(), arrays(tensors), list(gradients))
    model = TORCH.model(case.dtype, case.operator)
    return {name: verdict(found[name], gradients[name], case.dtype, model) for name in gradients}


def grad_output(case: Case, output: torch.Tensor) -> torch.Tensor:
    rng = np.random.default_rng(case.seed)
    return torch.tensor(rng.standard_normal(tuple(output.shape))).to(output.dtype).reshape(output.shape)


def torch_gradients(case: Case, tensors: Tensors) -> tuple[torch.Tensor, dict[str, list[float]]]:
    """Return the gradient of the output that was drawn, and autograd's of the operands."""
    leaves = {name: one.clone().requires_grad_(name in case.differentiated) for name, one in tensors.items()}
    output = torch_call(case, leaves)
    g = grad_output(case, output)
    found = torch.autograd.grad(output, [leaves[name] for name in case.differentiated], g)
    return g, dict(zip(case.differentiated, map(values_of, found), strict=True))


def out_of_bounds(name: str, dtype: str, count: int, gradient: bool = True) -> Iterator[tuple[Draw, Verdict]]:
    """Yield the cases in which torch's output or gradients leave the bound."""
    for draw in draws(name, count, cost=400, empty=False):
        case, tensors = operands_of(draw, dtype)
        verdicts = [judged(case, tensors, values_of(torch_call(case, tensors)))]
        if gradient:
            verdicts += gradients_judged(case, tensors, *torch_gradients(case, tensors)).values()
        yield from ((draw, one) for one in verdicts if not one.holds)


def balls(array: Array) -> Array:
    return nested.elementwise(lambda value: value if isinstance(value, int) else flint.arb(value), array)


def plain(tensor: torch.Tensor) -> Array:
    """Return a tensor as nested lists, which keep their shape where they are empty."""
    return nested.unravel(tensor.flatten().tolist(), tuple(tensor.shape))


def nearest(array: Array, dtype: str) -> list[float]:
    """Return balls, or numbers of any kind, as a tensor of `dtype` holds them."""
    values = torch.tensor([float(value) for value in nested.ravel(array)], dtype=torch.float64)
    return values_of(values.to(DTYPES[dtype]))


def outputs_rejected(name: str, wrong: Callable[..., Array], count: int, dtype: str = "float32") -> int:
    """Return in how many cases the bound rejects an implementation that errs in no digit."""
    rejected = 0
    for draw in draws(name, count, cost=60, empty=False):
        case, tensors = operands_of(draw, dtype)
        with flint.ctx.workprec(200):
            output = nearest(wrong(draw.op, *(balls(plain(one)) for one in tensors.values())), dtype)
        rejected += not judged(case, tensors, output).holds
    return rejected


def gradients_rejected(name: str, wrong: Callable[..., list[Any]], count: int, dtype: str = "float32") -> int:
    """Return in how many cases the bound rejects one of the gradients."""
    rejected = 0
    for draw in draws(name, count, cost=60, empty=False):
        case, tensors = operands_of(draw, dtype)
        g, _ = torch_gradients(case, tensors)
        with flint.ctx.workprec(200):
            found = wrong(draw.op, balls(plain(g)), *(balls(plain(one)) for one in tensors.values()))
            named = dict(zip(tensors, found, strict=True))
            values = {operand: nearest(named[operand], dtype) for operand in case.differentiated}
        rejected += not all(one.holds for one in gradients_judged(case, tensors, g, values).values())
    return rejected


def dual_gradients(op: Operator, g: Array, operands: Sequence[Array], which: int) -> list[Any]:
    """Return d(sum g y) / d operand `which`, by the formula on dual numbers."""
    one = flint.arb(1) if any(isinstance(v, flint.arb) for v in nested.ravel(operands[which])) else 1
    values = nested.ravel(operands[which])
    duals = [Dual(value, {i: one}) for i, value in enumerate(values)]
    arguments = list(operands)
    arguments[which] = nested.unravel(duals, nested.shape_of(operands[which]))
    total: dict[Hashable, Any] = dict.fromkeys(range(len(values)), 0)
    for cotangent, y in zip(nested.ravel(g), nested.ravel(op.reference(*arguments)), strict=True):
        for i, slope in y.derivatives.items() if isinstance(y, Dual) else ():
            total[i] = total[i] + cotangent * slope
    return [*total.values()]


def agree(mine: Sequence[Any], other: Sequence[Any]) -> bool:
    """Say whether balls of 200 bits are one to the precision of a float64: to 2^-100 of the largest of them."""
    size = max((abs(float(flint.arb(one))) for one in other), default=0.0)
    return all(
        float(abs(flint.arb(a) - flint.arb(b)).upper()) <= math.ldexp(max(size, 1.0), -100)
        for a, b in zip(mine, other, strict=True)
    )


def differing(name: str, count: int, gradients: Callable[..., list[Any]] | None = None) -> list[Draw]:
    """Return the cases in which the gradients that the operator states are not those of dual numbers."""
    wrong = []
    for draw in draws(name, count, cost=60, empty=False):
        case, tensors = operands_of(draw, "float64")
        with flint.ctx.workprec(200):
            operands = [balls(plain(one)) for one in tensors.values()]
            shape = draw.output_shape
            g = nested.unravel(
                [flint.arb(value) for value in values_of(grad_output(case, torch.zeros(shape)))], shape
            )
            found = (gradients or type(draw.op).gradients)(draw.op, g, *operands)
            for which, operand in enumerate(tensors):
                if operand in case.differentiated:
                    other = dual_gradients(draw.op, g, operands, which)
                    wrong += [draw] * (not agree(nested.ravel(found[which]), other))
    return wrong
