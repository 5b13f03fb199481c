"""Exact results of layers that copy elements or leave them out: flattening, concatenation, clipping, no dropout.

Each element of a gradient is one of the cotangent's, or 0.
"""

from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnspec.exact.engine import Rounded, Statistics
from cnnspec.exact.layers import unit_of
from cnnspec.exact.results import Exact, Nearest
from cnnspec.op import Operator
from cnnspec.ops.combine import Concat
from cnnspec.ops.dropout import Dropout
from cnnspec.ops.flatten import Flatten
from cnnspec.ops.relu6 import ReLU6

Values = npt.NDArray[Any]


def outputs(operator: Operator, operands: Sequence[Values]) -> Exact | None:
    """Return the exact outputs; None of other operators, of empty arrays and of integers."""
    if not _served(operator, operands):
        return None
    x = operands[0]
    shape = operator.output_shape(*(array.shape for array in operands))
    if isinstance(operator, Concat):
        joined = np.concatenate(operands, axis=operator.dim)
        return Exact(shape, copies=joined, constants=np.zeros(shape, bool))
    if isinstance(operator, ReLU6):
        clipped = np.where(x < 0, 0.0, np.where(x > 6, 6.0, x))
        return Exact(shape, copies=clipped, constants=(x < 0) | (x > 6))
    return Exact(shape, copies=x.reshape(shape), constants=np.zeros(shape, bool))


def gradients(operator: Operator, dy: Values, operands: Sequence[Values]) -> list[Exact] | None:
    """Return the exact gradients of sum dy * y; None as `outputs` does."""
    if not _served(operator, operands):
        return None
    x = operands[0]
    if isinstance(operator, ReLU6):
        dy = np.where((x <= 0) | (x >= 6), 0.0, dy)
    passed = [dy]
    if isinstance(operator, Concat):
        ends = np.cumsum([array.shape[operator.dim] for array in operands])
        passed = np.split(dy, ends[:-1], axis=operator.dim)
    unit = unit_of(dy)
    return [
        _passed(np.ascontiguousarray(one, np.float64).reshape(array.shape), unit)
        for one, array in zip(passed, operands, strict=True)
    ]


def _passed(values: Values, unit: int) -> Exact:
    size = np.abs(np.where(np.isfinite(values), values, 0.0))
    found = Rounded(values, Statistics("copies", values.size), size, (size > 0).astype(np.int64))
    return Nearest(values.shape, found, partial(_exactly, values.reshape(-1)), unit)


def _exactly(values: Values, i: int) -> tuple[Fraction, Fraction]:
    value = Fraction(float(values[i])) if np.isfinite(values[i]) else Fraction(0)
    return value, abs(value)


def _served(operator: Operator, operands: Sequence[Values]) -> bool:
    if isinstance(operator, Dropout) and (operator.training or len(operands) > 1):
        return False
    floats = all(array.dtype.kind == "f" and array.size for array in operands)
    return floats and isinstance(operator, Concat | Dropout | Flatten | ReLU6)
