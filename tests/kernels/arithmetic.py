"""Sums of products as kernels compute them, number by number: in each format, order and kind of rounding."""

import math
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

import numpy as np

from cnnspec.bounds import FORMATS, nearest

Values = np.ndarray[Any, Any]
Kernel = Callable[[Values, Values], float]
Number = Callable[[Any], Any]

SMALLEST_NORMAL = 2.0**-126


def kept(values: Values, bits: int, *, cut: bool = False) -> Values:
    """Return float32 values with 23 - bits fraction bits: rounded, half away from zero, or cut off."""
    words = values.astype(np.float32).view(np.uint32) + np.uint32(0 if cut else 1 << (bits - 1))
    return (words >> np.uint32(bits) << np.uint32(bits)).view(np.float32).astype(np.float64)


def as_tf32(values: Values) -> Values:
    return kept(values, 13)


def as_cut_tf32(values: Values) -> Values:
    return kept(values, 13, cut=True)


def as_bfloat16(values: Values) -> Values:
    return kept(values, 16)


def as_float16(values: Values) -> Values:
    return values.astype(np.float16).astype(np.float64)


def bfloat16(value: Any) -> float:
    """Round a float32 number to bfloat16, ties to even."""
    return nearest(*float(value).as_integer_ratio(), 0, FORMATS["bfloat16"])


def flushed(value: Any) -> Any:
    rounded = np.float32(value)
    return rounded if abs(rounded) >= SMALLEST_NORMAL else np.float32(0)


def cut_off(value: Fraction, unit: int | None = None) -> Fraction:
    """Return a number cut off towards zero to 24 bits, or to a multiple of 2**unit."""
    if not value:
        return value
    if unit is None:
        unit = math.frexp(float(value))[1] - 24
    return int(value / Fraction(2) ** unit) * Fraction(2) ** unit


def in_order(x: Values, w: Values, number: Number = np.float32) -> float:
    """Sum the products in order, each product and sum a `number`."""
    total = number(0)
    for a, b in zip(x, w, strict=True):
        total = number(total + number(float(a) * float(b)))
    return float(total)


def products_in_order(products: Iterable[Any], number: Number) -> float:
    total = number(0)
    for one in products:
        total = number(total + number(one))
    return float(total)


def cutting(x: Values, w: Values) -> float:
    """Sum in float32, every product and sum cut off."""
    total = Fraction(0)
    for a, b in zip(x, w, strict=True):
        total = cut_off(total + cut_off(Fraction(a) * Fraction(b)))
    return float(total)


def tensor_core(x: Values, w: Values, block: int = 4) -> float:
    """Sum exact products of short operands: align `block` of them and the sum so far to the largest, cut off, add."""
    total = Fraction(0)
    for k in range(0, len(x), block):
        terms = [
            total,
            *(Fraction(a) * Fraction(b) for a, b in zip(x[k : k + block], w[k : k + block], strict=True)),
        ]
        largest = max(map(abs, terms))
        if largest:
            unit = math.frexp(float(largest))[1] - 24
            total = cut_off(Fraction(sum(cut_off(term, unit) for term in terms)))
    return float(total)


def in_blocks(size: int) -> Kernel:
    """Sum blocks of `size` products in float32, then what they gave."""

    def kernel(x: Values, w: Values) -> float:
        parts = [in_order(x[k : k + size], w[k : k + size]) for k in range(0, len(x), size)]
        return products_in_order(parts, np.float32)

    return kernel


def in_parts(parts: int, number: Number) -> Kernel:
    """Store the float32 sums of `parts` strided parts as `number`, and add them up as that."""

    def kernel(x: Values, w: Values) -> float:
        return products_in_order((in_order(x[k::parts], w[k::parts]) for k in range(parts)), number)

    return kernel


def compensated(x: Values, w: Values) -> float:
    """Dot2 in float32: the errors of products and sums, each exact, are summed beside them."""
    total, rest = np.float32(0), np.float32(0)
    for a, b in zip(x, w, strict=True):
        exact = float(a) * float(b)
        product = np.float32(exact)
        with_product = np.float32(total + product)
        back = np.float32(with_product - total)
        of_sum = np.float32(np.float32(total - np.float32(with_product - back)) + np.float32(product - back))
        rest = np.float32(rest + np.float32(np.float32(exact - float(product)) + of_sum))
        total = with_product
    return float(np.float32(total + rest))


def of(rounding: Callable[[Values], Values], kernel: Kernel) -> Kernel:
    """Round the operands first."""
    return lambda x, w: kernel(rounding(x), rounding(w))


KERNELS: dict[str, Kernel] = {
    "direct float64": lambda x, w: in_order(x, w, np.float64),
    "compensated float32": compensated,
    "direct float32": in_order,
    "float32 flushing subnormals": lambda x, w: in_order(x, w, flushed),
    "float32 truncation": cutting,
    "tf32 inputs": of(as_tf32, in_order),
    "float16 inputs": of(as_float16, in_order),
    "tf32 tensor cores": of(as_cut_tf32, tensor_core),
    "float16 intermediates": in_parts(10, np.float16),
    "float16 accumulation": lambda x, w: in_order(x, w, np.float16),
    "float16 throughout": of(as_float16, lambda x, w: in_order(x, w, np.float16)),
    "bfloat16 inputs": of(as_bfloat16, in_order),
    "bfloat16 intermediates": in_parts(10, bfloat16),
    "bfloat16 accumulation": lambda x, w: in_order(x, w, bfloat16),
    "bfloat16 throughout": of(as_bfloat16, lambda x, w: in_order(x, w, bfloat16)),
    "blocked float32 8": in_blocks(8),
}
"""A computation of the kind that each model describes, by the model's name."""
