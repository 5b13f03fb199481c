"""Float64 data as integers times one power of two."""

from typing import Any

import numpy as np
import numpy.typing as npt

from cnnspec.op import Operator

Values = npt.NDArray[Any]


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


def common_unit(operator: Operator, integers: list[Values], exponents: list[int]) -> tuple[list[Values], int]:
    """Return operands whose sum of products has one unit: the bias in units of input times weight."""
    if operator.parameter_shapes():
        unit = exponents[0] + exponents[1]
        first = 2  # the bias is a term of its own
    else:
        unit, first = min(exponents), 0
    if any(exponents[i] < unit for i in range(first, len(integers))):
        shift = unit - min(exponents[first:])
        if first:
            integers[1] = integers[1].astype(object) * (1 << shift)
        unit -= shift
    for i in range(first, len(integers)):
        if exponents[i] > unit:
            integers[i] = integers[i].astype(object) * (1 << (exponents[i] - unit))
    return integers, unit
