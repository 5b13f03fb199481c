"""Exact second gradients of operators that are linear in their input: what double backward must return.

With L = sum grad_output * y and tangents v of the operands, it is the gradient of s = sum v * dL/d operand. For y
linear in x and, up to a bias, in w:

    ds/d grad_output = dy/dx v_x + dy/dw v_w + v_b,    ds/dx = dL/dx at w = v_w,    ds/dw = dL/dw at x = v_x
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnspec import nested
from cnnspec.derivatives import pushforward
from cnnspec.exact import Exact, evaluate, gradients
from cnnspec.op import Operator
from cnnspec.spec import Spec

Values = npt.NDArray[Any]


def tangents(operands: Mapping[str, Values], wanted: Sequence[str]) -> dict[str, Values]:
    """Return small integers in the shape of each operand that is wanted.

    >>> tangents({"input": np.zeros(8)}, ["input"])
    {'input': array([-3.,  2.,  0., -2.,  3.,  1., -1., -3.])}
    """
    return {
        name: (np.arange(operands[name].size) * 5 % 7 - 3.0).reshape(operands[name].shape) for name in wanted
    }


def second_gradients(
    spec: Spec, operator: Operator, grad_output: Values, operands: Mapping[str, Values], wanted: Sequence[str]
) -> dict[str, Exact]:
    """Return the exact gradients of s with respect to grad_output and, for products, the operands `wanted`.

    `operands` are finite; s takes the `tangents` of those wanted.
    """
    zeros = {name: np.zeros(array.shape) for name, array in operands.items()}
    along = {**zeros, **tangents(operands, wanted)}
    if "weight" not in operands:
        return {"grad_output": _along_input(spec, operator, operands, along["input"])}
    without_bias = {"bias": zeros["bias"]} if "bias" in operands else {}
    halves = (
        evaluate(spec, operator, {**along, "weight": operands["weight"]}),
        evaluate(spec, operator, {**operands, "weight": along["weight"], **without_bias}),
    )
    factors = [name for name in wanted if name != "bias"]
    return {"grad_output": _sum(*halves), **gradients(spec, operator, grad_output, along, factors)}


def _along_input(spec: Spec, operator: Operator, operands: Mapping[str, Values], tangent: Values) -> Exact:
    """Return dy/dx v; a maximum passes on what stands where it stands."""
    if spec.judged != "copy":
        return evaluate(spec, operator, {**operands, "input": tangent})
    arrays = {name: nested.unravel(array.ravel().tolist(), array.shape) for name, array in operands.items()}
    others = {name: array for name, array in arrays.items() if name != "input"}

    def output(x: Any) -> Any:
        y = operator.reference(x, *others.values())
        return y[0] if isinstance(y, tuple) else y

    y = pushforward(output, [arrays["input"]], [nested.unravel(tangent.ravel().tolist(), tangent.shape)])
    values = nested.ravel(y)
    return Exact(
        nested.shape_of(y),
        [0] * len(values),
        special={i: float(v) for i, v in enumerate(values)},
        copied=True,
    )


def _sum(a: Exact, b: Exact) -> Exact:
    """Return the sum of two sums of products."""
    unit = min(a.exponent, b.exponent)

    def both(name: str) -> list[int]:
        pairs = zip(getattr(a, name), getattr(b, name), strict=True)
        return [(m << (a.exponent - unit)) + (n << (b.exponent - unit)) for m, n in pairs]

    counts = [m + n + 1 for m, n in zip(a.roundings, b.roundings, strict=True)]
    return Exact(a.shape, both("values"), unit, None, {}, both("magnitude"), counts, lattice=unit)
