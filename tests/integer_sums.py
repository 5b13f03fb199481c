"""Sums of products over scaled integers, one matrix product per tap: what the exact engine is held to.

Its index arithmetic (padding by copies, strided slices per tap) is its own.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnspec import nested
from cnnspec.exact import Exact
from cnnspec.exact.integers import common_unit, scaled
from cnnspec.nested import Array
from cnnspec.op import Operator
from cnnspec.ops.conv import _Conv
from cnnspec.ops.linear import Linear
from cnnspec.scalars import Extended

Values = npt.NDArray[Any]
Terms = tuple[list[int], list[int], list[int]]


def exact_outputs(operator: Operator, operands: Sequence[Values]) -> Exact:
    """Return the exact outputs of a layer that multiplies, over scaled integers."""
    finite = [scaled(np.where(np.isfinite(array), array, 0)) for array in operands]
    integers, unit = common_unit(operator, [n for n, _ in finite], [e for _, e in finite])
    terms = integer_terms(operator, integers)
    if terms is None:
        plain = [nested.unravel(array.ravel().tolist(), array.shape) for array in integers]
        bound = operator.rounding_terms(*plain)
        terms = nested.ravel(operator.reference(*plain)), bound.magnitude, bound.roundings
    values, magnitude, roundings = terms
    special = {}
    if not all(np.isfinite(one).all() for one in operands):
        special = not_finite(operator.reference(*map(extended, operands)))
    shape = operator.output_shape(operands[0].shape)
    return Exact(shape, values, unit, None, special, magnitude, roundings, lattice=unit)


def exact_gradients(operator: Operator, dy: Values, operands: Sequence[Values]) -> list[Exact]:
    """Return the exact gradients of a layer that multiplies, over scaled integers."""
    pairs = [scaled(np.where(np.isfinite(array), array, 0)) for array in (dy, *operands)]
    g, x, w = (exponent for _, exponent in pairs[:3])
    integers = [n for n, _ in pairs]
    terms = integer_gradients(operator, integers)
    if terms is None:
        plain = [nested.unravel(array.ravel().tolist(), array.shape) for array in integers]
        found = zip(operator.gradients(*plain), operator.gradient_terms(*plain), strict=True)
        terms = [
            (nested.ravel(v), t.magnitude, t.roundings) for v, t in found if v is not None and t is not None
        ]
    special: list[dict[int, float]] = [{} for _ in operands]
    if not all(np.isfinite(one).all() for one in (dy, *operands)):
        special = [not_finite(one) for one in operator.gradients(*map(extended, (dy, *operands)))]
    parts = zip(operands, (g + w, g + x, g), terms, special, strict=False)
    return [
        Exact(array.shape, values, unit, None, odd, magnitude, roundings, lattice=unit)
        for array, unit, (values, magnitude, roundings), odd in parts
    ]


def extended(array: Values) -> Array:
    """Return numbers that may be NaN or infinite."""
    return nested.elementwise(Extended, nested.unravel(array.ravel().tolist(), array.shape))


def not_finite(output: Array) -> dict[int, float]:
    """Return the elements that are NaN or infinite, by flat index."""
    values = [value.value if isinstance(value, Extended) else value for value in nested.ravel(output)]
    return {i: v for i, v in enumerate(values) if isinstance(v, float) and not math.isfinite(v)}


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
