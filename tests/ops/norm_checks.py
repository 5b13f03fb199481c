"""What the tests of normalizations share: torch within the bounds, wrong kernels outside, wrong gradients noticed."""

from collections.abc import Callable, Iterator
from typing import Any

import flint
import torch

from cnnspec import nested
from cnnspec.nested import Array
from tests.ops.draws import Draw, draws
from tests.ops.function_checks import (
    DTYPES,
    agree,
    balls,
    differing,
    gradients_judged,
    judged,
    operands_of,
    torch_gradients,
    values_of,
)

Wrong = Callable[..., Any]
APART = {"float32": 2.0**-10, "bfloat16": 2.0**-3}
"""How far, by the largest output, a wrong result must be off to be counted: beyond it must be outside the bound."""


def outside(name: str, dtype: str, wrong: Wrong, count: int) -> tuple[int, int]:
    """Return in how many cases of single groups' size > 3 a wrong output is far off, and in how many found."""
    off = found = 0
    for draw in draws(name, count, cost=200, empty=False):
        case, tensors = operands_of(draw, dtype)
        operands = [one.double().tolist() for one in tensors.values()]
        right, mine = (
            list(map(float, nested.ravel(f(*operands)))) for f in (draw.op.reference, bound(wrong, draw))
        )
        far = max(abs(a - b) for a, b in zip(right, mine, strict=True))
        if far > APART[dtype] * max(map(abs, right)):
            off += 1
            found += not judged(case, tensors, values_of(torch.tensor(mine).to(DTYPES[dtype]))).holds
    return off, found


def bound(function: Wrong, draw: Draw) -> Wrong:
    return lambda *operands: function(draw.op, *operands)


def gradients_outside(name: str, wrong: Wrong, count: int) -> int:
    """Return in how many cases the float32 bounds find wrong gradients that dual numbers find too."""
    found = 0
    for draw in differing(name, count, wrong):
        case, tensors = operands_of(draw, "float32")
        g, _ = torch_gradients(case, tensors)
        with flint.ctx.workprec(200):
            gradients = wrong(draw.op, balls(g.tolist()), *(balls(one.tolist()) for one in tensors.values()))
        flat = {
            operand: [float(value) for value in nested.ravel(gradient)]
            for operand, gradient in zip(tensors, gradients, strict=True)
            if gradient is not None
        }
        found += not all(one.holds for one in gradients_judged(case, tensors, g, flat).values())
    return found


def same(mine: Array, other: Array) -> bool:
    return agree(nested.ravel(mine), nested.ravel(other))


def on_balls(draws_: Iterator[Draw]) -> Iterator[tuple[Draw, list[Array]]]:
    """Yield draws with float64 operands as numbers of 200 bits."""
    for draw in draws_:
        _, tensors = operands_of(draw, "float64")
        with flint.ctx.workprec(200):
            yield draw, [balls(one.tolist()) for one in tensors.values()]
