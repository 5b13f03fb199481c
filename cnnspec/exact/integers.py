"""Sums of products over scaled integers: float64 data as integers times one power of two, and matrix products.

Its index arithmetic (padding by copies, strided slices per tap) is its own: a second opinion on `cnnspec.window`.
"""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnspec.op import Operator
from cnnspec.ops.conv import _Conv
from cnnspec.ops.linear import Linear

Values = npt.NDArray[Any]
Terms = tuple[list[int], list[int], list[int]]


def scaled(array: Values) -> tuple[Values, int]:
    """Return integers and the exponent of their common unit: array = integers * 2**exponent, exactly.

    >>> scaled(np.array([0.75, -2.0]))
    (array([ 3, -8]), -2)
    """
    if array.dtype.kind in "iu":
        return array, 0
    significands, exponents = np.frexp(array)
    integers = (significands * 2.0**53).astype(np.int64)
    nonzero = integers != 0
    if not nonzero.any():
        return integers, 0
    trailing = np.log2((integers & -integers)[nonzero].astype(np.float64)).astype(np.int64)
    lowest = exponents[nonzero].astype(np.int64) - 53 + trailing
    unit = int(lowest.min())
    shifts = np.where(nonzero, exponents.astype(np.int64) - 53 - unit, 0)
    if np.abs(shifts).max() < 62 and int(np.abs(array).max() / 2.0**unit if unit > -1000 else 2**62) < 2**62:
        down = integers >> np.maximum(-shifts, 0)
        return down << np.maximum(shifts, 0), unit
    exact = [
        n << s if s >= 0 else n >> -s
        for n, s in zip(integers.ravel().tolist(), shifts.ravel().tolist(), strict=True)
    ]
    result = np.empty(len(exact), dtype=object)
    result[:] = exact
    return result.reshape(array.shape), unit


def integer_terms(operator: Operator, arrays: list[Values]) -> Terms | None:
    """Return (values, S, count of terms that are not zero) of a convolution or linear layer; None for others."""
    if isinstance(operator, Linear):
        compute: Callable[[list[Values]], Values] = linear
    elif isinstance(operator, _Conv):
        compute = partial(convolution, operator)
    else:
        return None
    magnitude = compute([abs(array) for array in arrays])
    count = compute([(array != 0).astype(np.int64) for array in arrays])
    return _listed(compute(arrays)), _listed(magnitude), _listed(count)


def integer_gradients(operator: Operator, arrays: list[Values]) -> list[Terms] | None:
    """Return (values, S, count) of the gradients of input, weight and bias; None for other operators.

    arrays: the output's gradient, input, weight and bias.
    """
    if isinstance(operator, Linear):
        compute: Callable[[list[Values]], list[Values]] = linear_gradients
    elif isinstance(operator, _Conv):
        compute = partial(convolution_gradients, operator)
    else:
        return None
    values = compute(arrays)
    magnitudes = compute([abs(array) for array in arrays])
    counts = compute([(array != 0).astype(np.int64) for array in arrays])
    return [(_listed(v), _listed(s), _listed(n)) for v, s, n in zip(values, magnitudes, counts, strict=True)]


def _listed(array: Values) -> list[int]:
    return [int(value) for value in array.ravel().tolist()]


def linear(arrays: list[Values]) -> Values:
    """Return x @ w.T + b in integers."""
    x, w, *bias = arrays
    rows = x.reshape(-1, x.shape[-1])
    product = _product(w[None, None], rows.T[None, None], max(1, x.shape[-1]))[0, 0].T
    product = product + bias[0] if bias else product
    result: Values = product.reshape(*x.shape[:-1], w.shape[0])
    return result


def convolution(operator: _Conv, arrays: list[Values]) -> Values:
    """Return the convolution in integers: one matrix product over the channels of a group for each tap."""
    x, w, *bias = arrays
    axes = operator.spatial
    batched = x.reshape(-1, *x.shape[-axes - 1 :])
    shape = operator.output_shape(x.shape)
    if 0 in shape:
        return np.zeros(shape, dtype=np.int64)
    groups, n = operator.groups, len(batched)
    padded = _padded(operator, batched)
    if padded.dtype == object:
        padded[padded == 0] = 0  # NumPy pads with its own int64, which overflows beside Python's integers
    sizes = shape[-axes:]
    total: Values = np.zeros((n, groups, w.shape[0] // groups, int(np.prod(sizes))), dtype=np.int64)
    for tap in itertools.product(*(range(k) for k in w.shape[2:])):
        view = padded[
            (slice(None), slice(None), *map(_every, tap, operator._dilation, operator._stride, sizes))
        ]
        pixels = view.reshape(n, groups, -1, total.shape[-1])
        index: tuple[Any, ...] = (slice(None), slice(None), *tap)
        kernel = w[index].reshape(1, groups, w.shape[0] // groups, -1)
        total = total + _product(kernel, pixels, max(1, w[0].size))
    total = total.reshape(n, w.shape[0], -1)
    total = total + bias[0][None, :, None] if bias else total
    return total.reshape(shape)


def linear_gradients(arrays: list[Values]) -> list[Values]:
    """Return dx = dy w, dw = dy^T x and db, in integers."""
    dy, x, w, *_ = arrays
    rows, d = x.reshape(-1, w.shape[1]), dy.reshape(-1, w.shape[0])
    dx = _product(d[None, None], w[None, None], max(1, w.shape[0]))[0, 0]
    dw = _product(d.T[None, None], rows[None, None], max(1, len(rows)))[0, 0]
    return [dx.reshape(x.shape), dw, d.astype(object).sum(axis=0)][: len(arrays) - 1]


def convolution_gradients(operator: _Conv, arrays: list[Values]) -> list[Values]:
    """Return the gradients of a convolution in integers, one matrix product per tap and gradient.

    What falls on padding is added to the pixel that it was read from.
    """
    dy, x, w, *_ = arrays
    axes, groups = operator.spatial, operator.groups
    images = x.reshape(-1, *x.shape[-axes - 1 :])
    n, sizes = len(images), dy.shape[-axes:]
    d = dy.reshape(n, groups, w.shape[0] // groups, -1)
    places = _padded(operator, np.arange(int(np.prod(x.shape[-axes:]))).reshape(1, 1, *x.shape[-axes:]), -1)
    flat = images.reshape(n, groups, -1, int(np.prod(x.shape[-axes:])))
    dx = np.zeros(flat.shape, dtype=object if object in (dy.dtype, w.dtype) else np.int64)
    dw = np.zeros(w.shape, dtype=object)
    for tap in itertools.product(*(range(k) for k in w.shape[2:])):
        view = (slice(None), slice(None), *map(_every, tap, operator._dilation, operator._stride, sizes))
        index: tuple[Any, ...] = (slice(None), slice(None), *tap)
        source = places[view].ravel()
        inside = source >= 0
        kernel = w[index].reshape(1, groups, w.shape[0] // groups, -1)
        passed = _product(kernel.swapaxes(2, 3), d[..., inside], max(1, w[:, 0].size))
        if passed.dtype == object:
            dx = dx.astype(object)
        where: Any = (slice(None), slice(None), slice(None), source[inside])
        np.add.at(dx, where, passed)
        pixels = flat[..., source[inside]]
        terms = max(1, n * len(source))
        products = _product(d[..., inside], pixels.swapaxes(2, 3), terms).sum(axis=0)  # within `terms`
        dw[index] = products.reshape(w.shape[0], -1)
    gradients = [dx.reshape(x.shape), dw]
    return [*gradients, d.astype(object).sum(axis=(0, 3)).reshape(-1)][: len(arrays) - 1]


def _padded(operator: _Conv, batched: Values, fill: int = 0) -> Values:
    mode = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}.get(
        operator.padding_mode, "constant"
    )
    widths = [(0, 0), (0, 0), *operator._pads()]
    constant = {"constant_values": fill} if mode == "constant" else {}
    padded: Values = np.pad(batched, widths, mode=mode, **constant)  # type: ignore[call-overload]
    return padded


def _every(tap: int, dilation: int, stride: int, count: int) -> slice:
    """Return the slice of padded pixels that one tap meets, one for each of `count` positions."""
    return slice(tap * dilation, tap * dilation + (count - 1) * stride + 1, stride)


def _product(a: Values, b: Values, terms: int) -> Values:
    """Return the matrix product of what sums to `terms` products, exactly: in float64, int64 or Python's integers."""
    sizes = int(abs(a).max(initial=0)), int(abs(b).max(initial=0))
    largest = sizes[0] * sizes[1] * terms
    fits = max(largest, *sizes)
    kind: Any = np.float64 if fits < 2**53 else np.int64 if fits < 2**62 else object
    product: Values = np.matmul(a.astype(kind), b.astype(kind))
    return product.astype(np.int64) if kind is np.float64 else product
