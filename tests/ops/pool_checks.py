"""What the tests of poolings share: gradients by dual numbers and by autograd, and bounds held against torch."""

import math
import random
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import torch

from cnnspec import nested
from cnnspec.bounds import FORMATS, half_ulp_exponent
from cnnspec.derivatives import Dual
from cnnspec.models import direct
from cnnspec.nested import Array, Shape
from cnnspec.rounding import RoundingTerms
from tests.ops.draws import Draw, draws, integers
from tests.ops.torch_layers import FUNCTIONS, tensor

DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def floats(values: Any) -> list[float]:
    """Return the elements as floats, each correctly rounded."""
    return [float(value) for value in nested.ravel(values)]


def random_values(seed: int, shape: Shape, dtype: str) -> Array:
    """Return numbers of mixed size and sign that `dtype` holds."""
    rng = random.Random(seed)
    numbers = [rng.gauss(0, 1) * 2.0 ** rng.randint(-3, 3) for _ in range(math.prod(shape))]
    return nested.unravel(torch.tensor(numbers, dtype=DTYPES[dtype]).tolist(), shape)


def dual_gradient(function: Callable[[Array], Array], x: Array, cotangent: Sequence[Any]) -> list[Any]:
    """Return d(sum cotangent * function(x)) / dx, element by element, by dual numbers."""
    duals = [Dual.variable(value, i) for i, value in enumerate(nested.ravel(x))]
    total: dict[Any, Any] = dict.fromkeys(range(len(duals)), 0)
    outputs = nested.ravel(function(nested.unravel(duals, nested.shape_of(x))))
    for g, y in zip(cotangent, outputs, strict=True):
        for i, slope in y.derivatives.items() if isinstance(y, Dual) else ():
            total[i] = total[i] + g * slope
    return list(total.values())


def torch_gradient(
    function: Callable[[torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    cotangent: torch.Tensor,
) -> torch.Tensor:
    """Return the same by autograd, in the tensor's own format and layout."""
    leaf = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(function(leaf), leaf, cotangent)
    return gradient


def misses(
    actual: Sequence[float], exact: Sequence[Any], terms: RoundingTerms | None, dtype: str
) -> list[int]:
    """Return the elements that miss their bound: roundings * u * S, and half a unit in the last place.

    u is that of the accumulation in the default model: float32 for the 16-bit formats, else the format itself.
    """
    assert terms is not None
    output, accumulate = FORMATS[dtype], direct(dtype).format
    u = Fraction(1, 1 << accumulate.precision)
    divisors = terms.divisors or [1] * len(exact)
    wrong = []
    rows = zip(actual, exact, terms.magnitude, terms.roundings, divisors, strict=True)
    for i, (a, y, size, count, divisor) in enumerate(rows):
        bound = count * u * Fraction(size) / divisor
        if output.precision < accumulate.precision:
            reach = abs(Fraction(y)) + bound
            bound += Fraction(2) ** half_ulp_exponent(reach.numerator, reach.denominator, 0, output)
        wrong += [i] * (not abs(Fraction(a) - Fraction(y)) <= bound)
    return wrong


def plain(draw: Draw) -> Any:
    """Return the operator, without indices."""
    return type(draw.op)(**{k: v for k, v in draw.arguments.items() if k != "return_indices"})


def in_torch(draw: Draw) -> Callable[[torch.Tensor], Any]:
    """Return the function of torch, without indices."""
    if draw.name in FUNCTIONS:
        return lambda x: FUNCTIONS[draw.name](draw.op, x)
    arguments = {k: v for k, v in draw.arguments.items() if k != "return_indices"}
    return lambda x: getattr(torch.nn.functional, draw.name)(x, **arguments)


def spatial(draw: Draw) -> int:
    return getattr(draw.op, "spatial", len(draw.inputs[0]) - 2)


def safe_in_torch(draw: Draw) -> bool:
    """Say whether every window has a tap: where one has none, torch's backward writes outside its memory."""
    return all(draw.op.regions(draw.inputs[0][-spatial(draw) :]))


def cotangent(draw: Draw) -> Array:
    """Return integers that all divisors divide."""
    common = math.lcm(*draw.op.divisors(draw.inputs[0])) if "avg" in draw.name else 1
    g = integers(random.Random(draw.seed + 1), draw.output_shape)
    return nested.elementwise(lambda value: value * common, g)


def wrong_gradients(name: str, count: int) -> list[Draw]:
    """Return the cases in which gradients, dual numbers and autograd are not one."""
    wrong = []
    for draw in draws(name, count, cost=250, empty=False):
        op, (x,), g = plain(draw), draw.operands(largest=3), cotangent(draw)
        (ours,) = op.gradients(g, x)
        same = nested.shape_of(ours) == draw.inputs[0]
        same &= nested.ravel(ours) == dual_gradient(op.reference, x, nested.ravel(g))
        if safe_in_torch(draw):
            theirs = torch_gradient(in_torch(draw), tensor(x), tensor(g))
            same &= nested.ravel(ours) == theirs.flatten().tolist()
        wrong += [draw] * (not same)
    return wrong


def layouts(x: torch.Tensor, axes: int) -> list[torch.Tensor]:
    """Return the tensor contiguous and channels last, where it can be."""
    memory = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.dim())
    batched = memory is not None and x.dim() == axes + 2
    return [x, x.contiguous(memory_format=memory)] if batched and memory else [x]


def check_bounds(name: str, dtype: str, count: int, changed: Callable[..., Any] = lambda x: x) -> list[Draw]:
    """Return the cases in which torch, or what is made of its results, misses a bound.

    In the 16-bit formats only the outputs are asked: there torch adds up gradients in 16 bits.
    """
    wrong = []
    for draw in draws(name, count, cost=500, empty=False):
        if not safe_in_torch(draw):
            continue
        op, function = plain(draw), in_torch(draw)
        x = random_values(draw.seed, draw.inputs[0], dtype)
        g = random_values(draw.seed + 1, draw.output_shape, dtype)
        exact_x, exact_g = (nested.elementwise(Fraction, array) for array in (x, g))
        y, (dx,) = nested.ravel(op.reference(exact_x)), op.gradients(exact_g, exact_x)
        (backward,) = op.gradient_terms(exact_g, exact_x)
        for t in layouts(tensor(x, DTYPES[dtype]), spatial(draw)):
            found = []
            if "avg" in name:
                output = changed(function(t)).flatten().tolist()
                found += misses(output, y, op.rounding_terms(exact_x), dtype)
            if dtype in ("float64", "float32"):
                gradient = changed(torch_gradient(function, t, tensor(g, DTYPES[dtype])))
                found += misses(gradient.flatten().tolist(), nested.ravel(dx), backward, dtype)
            wrong += [draw] * bool(found)
    return wrong
