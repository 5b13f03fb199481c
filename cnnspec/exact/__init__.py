"""Exact results of operators on floating-point data: the value, and what bounds its rounding errors.

`evaluate` is the one door: sums of products over scaled integers (a matrix product per tap where the operator has
one, else the operator's own loop), special values over extended rationals, exp and log over rigorous balls.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnspec import nested
from cnnspec.exact.balls import evaluate_function
from cnnspec.exact.integers import integer_terms, scaled
from cnnspec.nested import Shape
from cnnspec.op import Operator, Spec
from cnnspec.scalars import Extended

Values = npt.NDArray[Any]


@dataclass
class Exact:
    """Exact outputs: values[i] / divisors[i] * 2**exponent, and special[i] where the result is not finite.

    magnitude:  S in the units of the values;   roundings: their count, per element
    elementary: errors of the library's exp, log or tanh in each result
    radius:     what the values themselves may be off by (rigorous enclosures of exp and log), in their units
    lattice:    2**lattice divides every term; sums that stay below 2**(precision + lattice) are exact in any order
    copied:     the outputs are copies of inputs, in `special`, signs of zeros included
    indices:    the second output of a maximum with indices; -1 where a window has no tap
    """

    shape: Shape
    values: list[int]
    exponent: int = 0
    divisors: list[int] | None = None
    special: dict[int, float] = field(default_factory=dict)
    magnitude: list[int] = field(default_factory=list)
    roundings: list[int] = field(default_factory=list)
    elementary: int = 0
    radius: int = 0
    lattice: int | None = None
    copied: bool = False
    indices: list[int] | None = None


def evaluate(spec: Spec, operator: Operator, operands: Mapping[str, Values]) -> Exact:
    """Return the exact outputs of `operator` on float64 (or integer) arrays of any represented format."""
    arrays = list(operands.values())
    if spec.judged == "copy":
        return _copied(operator, arrays)
    if spec.judged == "function":
        return _from_balls(operator, arrays)
    finite = [np.where(np.isfinite(array), array, 0) for array in arrays]
    exact = _sums(operator, finite)
    if any(not np.isfinite(array).all() for array in arrays):
        exact.special = _special(operator, arrays)
    return exact


def _copied(operator: Operator, arrays: list[Values]) -> Exact:
    output = operator.reference(*(nested.unravel(array.ravel().tolist(), array.shape) for array in arrays))
    indices = None
    if isinstance(output, tuple):
        output, indices = output[0], nested.ravel(output[1])
    values = nested.ravel(output)
    return Exact(
        nested.shape_of(output),
        [0] * len(values),
        special=dict(enumerate(values)),
        copied=True,
        indices=indices,
    )


def _sums(operator: Operator, arrays: list[Values]) -> Exact:
    """Return value, S and count of a sum of products of finite operands, over scaled integers."""
    pairs = [scaled(array) for array in arrays]
    integers, exponent = _common_unit(operator, [n for n, _ in pairs], [e for _, e in pairs])
    shape = operator.output_shape(*(a.shape for a in arrays[: _input_count(operator, arrays)]))
    terms = integer_terms(operator, integers)
    if terms is not None:
        values, magnitude, roundings = terms
        return Exact(shape, values, exponent, None, {}, magnitude, roundings, lattice=exponent)
    plain = [nested.unravel(array.ravel().tolist(), array.shape) for array in integers]
    values = nested.ravel(operator.reference(*plain))
    bound = operator.rounding_terms(*plain)
    divisors = bound.divisors
    numerators = [value * d for value, d in zip(values, divisors, strict=True)] if divisors else values
    return Exact(
        shape,
        [int(n) for n in numerators],
        exponent,
        divisors,
        {},
        bound.magnitude,
        bound.roundings,
        lattice=exponent,
    )


def _input_count(operator: Operator, arrays: list[Values]) -> int:
    return len(arrays) - len(operator.parameter_shapes())


def _common_unit(
    operator: Operator, integers: list[Values], exponents: list[int]
) -> tuple[list[Values], int]:
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


def _special(operator: Operator, arrays: list[Values]) -> dict[int, float]:
    """Return the outputs that are NaN or infinite, by the definition's loop over extended numbers."""
    plain = [
        nested.unravel([Extended(value) for value in array.ravel().tolist()], array.shape) for array in arrays
    ]
    outputs = nested.ravel(operator.reference(*plain))
    values = [value.value if isinstance(value, Extended) else value for value in outputs]
    return {i: v for i, v in enumerate(values) if isinstance(v, float) and not math.isfinite(v)}


def _from_balls(operator: Operator, arrays: list[Values]) -> Exact:
    """Return enclosures of exp, log and what is made of them, as integers of one unit."""
    (array,) = arrays
    balls = evaluate_function(operator, nested.unravel(array.ravel().tolist(), array.shape))
    return Exact(operator.output_shape(array.shape), **balls)
