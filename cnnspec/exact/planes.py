"""Exact results of layers that pool, add or clip, from the engine: what the judge holds outputs and gradients to.

Values are the nearest float64 numbers, or copies. Exact numbers for the elements that ask for them are sums over the
operator's own regions.
"""

from collections.abc import Sequence
from fractions import Fraction
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnspec.exact.averages import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
)
from cnnspec.exact.elementwise import add, relu
from cnnspec.exact.layers import unit_of
from cnnspec.exact.maxima import max_pool1d, max_pool2d, max_pool3d
from cnnspec.exact.results import Exact, Nearest
from cnnspec.op import Operator, arguments_of
from cnnspec.ops.adaptive_pool import _AdaptiveAvgPool
from cnnspec.ops.combine import Add
from cnnspec.ops.pointwise import ReLU
from cnnspec.ops.pool import _AvgPool, _MaxPool

Values = npt.NDArray[Any]

MAXIMA = {1: max_pool1d, 2: max_pool2d, 3: max_pool3d}
AVERAGES = {1: avg_pool1d, 2: avg_pool2d, 3: avg_pool3d}
ADAPTIVE = {1: adaptive_avg_pool1d, 2: adaptive_avg_pool2d, 3: adaptive_avg_pool3d}


def outputs(operator: Operator, operands: Sequence[Values]) -> Exact | None:
    """Return the exact outputs; None of other operators, of empty arrays and of integers."""
    shape = _served(operator, operands)
    if shape is None:
        return None
    if isinstance(operator, _MaxPool):
        found = MAXIMA[operator.spatial](operands[0], **arguments_of(operator))
        copies, indices = found if operator.return_indices else (found, None)
        return Exact(shape, copies=copies, indices=None if indices is None else indices.ravel())
    if isinstance(operator, ReLU):
        return Exact(shape, copies=relu(operands[0]), constants=operands[0] < 0)
    unit = min(map(unit_of, operands))
    if isinstance(operator, Add):
        pair = [np.broadcast_to(array, shape).reshape(-1) for array in operands]
        return Nearest(
            shape,
            add(operands[0], operands[1], full=True),
            lambda i: _sums([one[i] for one in pair], 1),
            unit,
        )
    assert isinstance(operator, _AvgPool | _AdaptiveAvgPool)
    average: Any = (ADAPTIVE if isinstance(operator, _AdaptiveAvgPool) else AVERAGES)[operator.spatial]
    found = average(operands[0], full=True, **arguments_of(operator))
    divisors = operator.divisors(operands[0].shape)
    sizes = operands[0].shape[-operator.spatial :]
    regions, planes = cache(operator.regions), operands[0].reshape(-1, int(np.prod(sizes)))

    def exactly(i: int) -> tuple[Fraction, Fraction]:
        plane, position = divmod(i, len(regions(sizes)))
        return _sums(planes[plane, [*regions(sizes)[position]]], divisors[i])

    return Nearest(shape, found, exactly, unit, [abs(divisor) for divisor in divisors], operator.divisions)


def gradients(operator: Operator, dy: Values, operands: Sequence[Values]) -> list[Exact] | None:
    """Return the exact gradients of sum dy * y; None as `outputs` does."""
    if _served(operator, operands) is None or 0 in dy.shape:
        return None
    x, unit, arguments = operands[0], unit_of(dy), arguments_of(operator)
    if isinstance(operator, Add):
        both = add.backward(dy, x, operands[1], full=True)
        met = [_places_of_repeats(array.shape, dy.shape) for array in operands]
        return [
            Nearest(array.shape, one, partial(_met, dy.ravel(), places), unit)
            for array, one, places in zip(operands, both, met, strict=True)
        ]
    if isinstance(operator, ReLU):
        passed = np.where(x <= 0, 0.0, dy).ravel()
        return [
            Nearest(x.shape, relu.backward(dy, x, full=True), lambda i: _sums(passed[i : i + 1], 1), unit)
        ]
    assert isinstance(operator, _MaxPool | _AvgPool | _AdaptiveAvgPool)
    pixels, positions = (int(np.prod(one.shape[-operator.spatial :])) for one in (x, dy))
    rows = dy.reshape(-1, positions)
    if isinstance(operator, _MaxPool):
        pool = MAXIMA[operator.spatial]

        @cache
        def chosen() -> Values:
            _, indices = pool(x, **{**arguments, "return_indices": True})
            found: Values = indices.reshape(-1, positions)
            return found

        def routed(i: int) -> tuple[Fraction, Fraction]:
            plane, pixel = divmod(i, pixels)
            return _sums(rows[plane, chosen()[plane] == pixel], 1)

        return [Nearest(x.shape, pool.backward(dy, x, full=True, **arguments), routed, unit)]
    average: Any = (ADAPTIVE if isinstance(operator, _AdaptiveAvgPool) else AVERAGES)[operator.spatial]

    @cache
    def windows() -> list[list[tuple[int, int]]]:
        """Return the windows that see each pixel, with their divisors."""
        regions = operator.regions(x.shape[-operator.spatial :])
        found: list[list[tuple[int, int]]] = [[] for _ in range(pixels)]
        divisors = operator.divisors(x.shape)
        for position, region in enumerate(regions):
            for pixel in region:
                found[pixel].append((position, divisors[position]))
        return found

    def shared(i: int) -> tuple[Fraction, Fraction]:
        plane, pixel = divmod(i, pixels)
        parts = [_sums(rows[plane, p : p + 1], divisor) for p, divisor in windows()[pixel]]
        return sum((value for value, _ in parts), Fraction(0)), sum((size for _, size in parts), Fraction(0))

    return [Nearest(x.shape, average.backward(dy, x, full=True, **arguments), shared, None)]


def _places_of_repeats(shape: tuple[int, ...], whole: tuple[int, ...]) -> Values | None:
    """Return, for each element of the whole, which element of an operand is repeated there; None where none is."""
    if shape == whole:
        return None
    return np.broadcast_to(np.arange(int(np.prod(shape))).reshape(shape), whole).ravel()


def _met(dy: Values, places: Values | None, i: int) -> tuple[Fraction, Fraction]:
    return _sums(dy[i : i + 1] if places is None else dy[places == i], 1)


def _sums(terms: Any, divisor: int) -> tuple[Fraction, Fraction]:
    """Return the sum of the finite terms, and of their magnitudes, divided."""
    finite = [Fraction(float(term)) for term in terms if np.isfinite(term)]
    return sum(finite, Fraction(0)) / divisor, sum(map(abs, finite), Fraction(0)) / abs(divisor)


def _served(operator: Operator, operands: Sequence[Values]) -> tuple[int, ...] | None:
    """Return the output's shape where the engine has the operator."""
    if not isinstance(operator, _MaxPool | _AvgPool | _AdaptiveAvgPool | Add | ReLU):
        return None
    if any(array.dtype.kind != "f" or not array.size for array in operands):
        return None
    shape = operator.output_shape(*(array.shape for array in operands))
    return None if 0 in shape else shape
