"""Exact second gradients of operators that are linear in their input: what double backward must return.

With L = sum grad_output * y and tangents v of the operands, it is the gradient of s = sum v * dL/d operand. For y
linear in x and, up to a bias, in w:

    ds/d grad_output = dy/dx v_x + dy/dw v_w + v_b,    ds/dx = dL/dx at w = v_w,    ds/dw = dL/dw at x = v_x
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnspec import nested
from cnnspec.derivatives import pushforward
from cnnspec.exact import Exact, evaluate, gradients
from cnnspec.op import Operator
from cnnspec.ops.conv import _Conv
from cnnspec.ops.conv_transpose import _ConvTranspose
from cnnspec.ops.linear import Linear
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
    factors = [name for name in wanted if name != "bias"]
    return {
        "grad_output": _along_both(spec, operator, operands, along),
        **gradients(spec, operator, grad_output, along, factors),
    }


def _along_both(
    spec: Spec, operator: Operator, operands: Mapping[str, Values], along: Mapping[str, Values]
) -> Exact:
    """Return v_x w + x v_w + v_b, one sum over twice the channels: those of v_x and x beside those of w and v_w."""
    inputs, weights = (along["input"], operands["input"]), (operands["weight"], along["weight"])
    bias = {"bias": along["bias"]} if "bias" in along else {}
    if isinstance(operator, Linear):
        twice: Operator = replace(operator, in_features=2 * operator.in_features)
        both = {"input": np.concatenate(inputs, axis=-1), "weight": np.concatenate(weights, axis=1)}
        return evaluate(spec, twice, both | bias)
    assert isinstance(operator, _Conv | _ConvTranspose)
    twice = replace(operator, in_channels=2 * operator.in_channels)
    channels = inputs[0].ndim - operator.spatial - 1
    axis, groups = (0, operator.groups) if isinstance(operator, _ConvTranspose) else (1, 1)
    x = _beside(inputs, channels, operator.groups)
    return evaluate(spec, twice, {"input": x, "weight": _beside(weights, axis, groups)} | bias)


def _beside(pair: tuple[Values, Values], axis: int, groups: int) -> Values:
    """Return two arrays joined along an axis, group by group."""
    before, channels, after = pair[0].shape[:axis], pair[0].shape[axis], pair[0].shape[axis + 1 :]
    parts = [one.reshape(*before, groups, channels // groups, *after) for one in pair]
    return np.concatenate(parts, axis=axis + 1).reshape(*before, 2 * channels, *after)


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
    return Exact(nested.shape_of(y), copies=np.array([float(v) for v in nested.ravel(y)]))
