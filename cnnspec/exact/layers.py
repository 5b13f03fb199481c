"""Exact results of the layers that multiply, from matrix products: what the judge holds outputs and gradients to.

Sums are float64 numbers with a bound of how far they are off, and exact numbers for the elements that ask for them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnspec.bounds import FORMATS
from cnnspec.exact.adjoints import InputGradient, WeightGradient
from cnnspec.exact.engine import rounded, summed
from cnnspec.exact.functional import conv1d, conv2d, conv3d, linear
from cnnspec.exact.operands import BUDGET_BYTES, per_axis
from cnnspec.exact.products import Forward, Scratch
from cnnspec.exact.results import Products
from cnnspec.exact.transposed import conv_transpose1d, conv_transpose2d, conv_transpose3d
from cnnspec.exact.ways import AnyKind, lowest_unit
from cnnspec.op import Operator
from cnnspec.ops.conv import _Conv
from cnnspec.ops.conv_transpose import _ConvTranspose
from cnnspec.ops.linear import Linear

Values = npt.NDArray[Any]
Sizes = tuple[Any, int, int, int, int]

CONVOLUTIONS = {1: conv1d, 2: conv2d, 3: conv3d}
TRANSPOSED = {1: conv_transpose1d, 2: conv_transpose2d, 3: conv_transpose3d}
FLOAT64 = FORMATS["float64"]


def outputs(operator: Operator, operands: Sequence[Values]) -> Products | None:
    """Return the exact outputs of a convolution or linear layer; None of other operators, and of empty arrays."""
    layer = _layer(operator, operands)
    if layer is None:
        return None
    transposed, sizes, x, w = layer
    bias = operands[2] if len(operands) > 2 else None
    kind = (InputGradient if transposed else Forward)(*sizes, Scratch(BUDGET_BYTES))
    shape = operator.output_shape(operands[0].shape)
    return _products(kind, x, w, bias, shape) if 0 not in shape else None


def gradients(operator: Operator, dy: Values, operands: Sequence[Values]) -> list[Products] | None:
    """Return the exact gradients of sum dy * y for input, weight and bias; None as `outputs` does."""
    layer = _layer(operator, operands)
    if layer is None or 0 in dy.shape:
        return None
    transposed, sizes, x, w = layer
    d = np.ascontiguousarray(_batched(operator, dy, w))
    first = (Forward if transposed else InputGradient)(*sizes, Scratch(BUDGET_BYTES))
    second = WeightGradient(*sizes, Scratch(BUDGET_BYTES))
    factors = (x, d) if transposed else (d, x)
    found = [
        _products(first, d, w, None, operands[0].shape),
        _products(second, *factors, None, operands[1].shape),
    ]
    return [*found, _bias_gradient(d.swapaxes(0, 1))][: len(operands)]


def _layer(operator: Operator, operands: Sequence[Values]) -> tuple[bool, Sizes, Values, Values] | None:
    """Return whether the layer is transposed, the sizes of its products, and its input and weight as they take them."""
    if not isinstance(operator, Linear | _Conv | _ConvTranspose) or any(0 in one.shape for one in operands):
        return None
    x, w = operands[:2]
    if isinstance(operator, Linear):
        return False, linear.sizes(x, w), _batched(operator, x, w), np.ascontiguousarray(w[:, :, None])
    images = _batched(operator, x, w)
    strides, dilations = (per_axis(value, operator.spatial) for value in (operator.stride, operator.dilation))
    if isinstance(operator, _Conv):
        window = CONVOLUTIONS[operator.spatial].window(
            x, w, None, strides, operator.padding, dilations, operator.groups, operator.padding_mode
        )[1]
        return False, (window, operator.groups, len(images), images.shape[1], len(w)), images, w
    window = TRANSPOSED[operator.spatial].window(
        x, w, None, strides, operator.padding, operator.output_padding, operator.groups, dilations
    )[1]
    return True, (window, operator.groups, len(images), w.shape[1] * operator.groups, len(w)), images, w


def _batched(operator: Operator, array: Values, w: Values) -> Values:
    """Return an input or an output with an axis of images, rows of a linear layer as images of one pixel."""
    if isinstance(operator, Linear):
        return array.reshape(-1, array.shape[-1], 1)
    return array if array.ndim == w.ndim else array[None]


def _products(kind: AnyKind, a: Values, b: Values, bias: Values | None, shape: tuple[int, ...]) -> Products:
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    found = rounded(kind, a, b, bias, FLOAT64, full=True, close=True)

    def terms(flat: Values) -> tuple[Values, Values]:
        left, right = kind.factors(a, b, flat)
        if bias is None:
            return left, right
        per_channel = bias[np.unravel_index(flat, kind.shape)[1], None]
        return np.append(left, per_channel, axis=1), np.append(right, np.ones((len(flat), 1)), axis=1)

    return Products(
        shape, found, terms, unit_of(a) + unit_of(b) if bias is None else _common_unit(a, b, bias)
    )


def _bias_gradient(rows: Values) -> Products:
    found = summed(rows, FLOAT64, BUDGET_BYTES, full=True)

    def terms(flat: Values) -> tuple[Values, Values]:
        chosen = rows[flat].reshape(len(flat), -1)
        return chosen, np.ones(chosen.shape)

    return Products((len(rows),), found, terms, unit_of(rows))


def _common_unit(a: Values, b: Values, bias: Values) -> int:
    product, alone = unit_of(a) + unit_of(b), unit_of(bias)
    return min(product, alone) if bias.any() else product


def unit_of(array: Values) -> int:
    """Return an exponent such that its power of two divides every finite element; 0 where all are zero."""
    found = lowest_unit(np.where(np.isfinite(array), array, 0).reshape(-1))
    return 0 if found == 9999 else found
