"""exp, log and what is made of them, enclosed rigorously: Arb's ball arithmetic through python-flint."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flint
import numpy.typing as npt

from cnnspec import nested, rounding
from cnnspec.exact.results import Exact, output_shape
from cnnspec.nested import Array
from cnnspec.op import Operator
from cnnspec.rounding import RoundingTerms

Values = npt.NDArray[Any]

PRECISION = 160
"""Bits of the balls: 100 and more beyond a float64, so that their radius never decides a verdict."""

UNIT = -1300
"""Values are kept in units of 2**UNIT, far below the smallest float64; what is finer goes into the radius."""

BEYOND = 1 << (1100 - UNIT)
"""The size, in these units, of what no format holds: nothing is promised of a finite value with an infinite bound."""


def outputs(operator: Operator, operands: Sequence[Values]) -> Exact:
    """Return the exact outputs of an operator made of exp, log and roots."""
    shape = output_shape(operator, operands)
    return Exact(shape, **enclosed(operands, operator.reference, operator.rounding_terms))


def gradients(
    operator: Operator, grad_output: Values, operands: Mapping[str, Values], wanted: Sequence[str]
) -> dict[str, Exact]:
    """Return the exact gradients of such an operator's operands `wanted`."""
    found = all_enclosed([grad_output, *operands.values()], operator.gradients, operator.gradient_terms)
    return {
        name: Exact(array.shape, **fields)
        for (name, array), fields in zip(operands.items(), found, strict=True)
        if name in wanted and fields is not None
    }


def updates(operator: Operator, operands: Mapping[str, Values]) -> dict[str, Exact]:
    """Return the exact new values of the operands that a call changes."""
    names: list[str] = []

    def values(*numbers: Array) -> list[Array]:
        new = operator.updates(*numbers)
        names[:] = new
        return [*new.values()]

    def bounds(*numbers: Array) -> list[RoundingTerms]:
        new = operator.updates(*map(rounding.rounded, numbers))
        return [rounding.terms(new[name]) for name in names]

    found = all_enclosed([*operands.values()], values, bounds)
    return {
        name: Exact(operands[name].shape, **fields)
        for name, fields in zip(names, found, strict=True)
        if fields is not None
    }


def enclosed(
    operands: Sequence[Array], value: Callable[..., Array], bound: Callable[..., RoundingTerms]
) -> dict[str, Any]:
    """Return the fields of an `Exact` for `value` and its `bound`, run on balls; integers stay integers."""
    found = all_enclosed(operands, lambda *numbers: [value(*numbers)], lambda *numbers: [bound(*numbers)])[0]
    assert found is not None
    return found


def all_enclosed(
    operands: Sequence[Array],
    values: Callable[..., Sequence[Array | None]],
    bounds: Callable[..., Sequence[RoundingTerms | None]],
) -> list[dict[str, Any] | None]:
    """Return, for several `values` and their `bounds` at once, what `enclosed` returns for one; None for None."""
    with flint.ctx.workprec(PRECISION):
        numbers = [nested.elementwise(_ball, array) for array in operands]
        pairs = zip(values(*numbers), bounds(*numbers), strict=True)
        return [None if value is None or terms is None else _fields(value, terms) for value, terms in pairs]


def _fields(value: Array, terms: RoundingTerms) -> dict[str, Any]:
    """Return the fields of one result, in the precision that its numbers have."""
    outputs = [flint.arb(number) for number in nested.ravel(value)]
    magnitudes = [flint.arb(number).abs_upper() for number in terms.magnitude]
    reaches = [flint.arb(number).abs_upper() for number in terms.reach or ()]
    summed = [flint.arb(number).abs_upper() for number in terms.summed or ()]
    faint = [flint.arb(number).abs_upper() for number in terms.faint or ()]
    roundings = [count if type(count) is int else _ceiling(flint.arb(count)) for count in terms.roundings]
    special = {i: _special(ball) for i, ball in enumerate(outputs) if not ball.is_finite()}
    unknown = [0 if i in special else BEYOND for i in range(len(outputs))]
    values = [_in_units(ball.mid()) if ball.is_finite() else 0 for ball in outputs]
    radii = [_in_units(ball.rad()) + 2 for ball in outputs if ball.is_finite()]
    return {
        "values": values,
        "exponent": UNIT,
        "special": special,
        "magnitude": [
            _in_units(ball) + 1 if ball.is_finite() else unknown[i] for i, ball in enumerate(magnitudes)
        ],
        "reach": [_in_units(ball) if ball.is_finite() else unknown[i] for i, ball in enumerate(reaches)],
        "summed": [_in_units(ball) if ball.is_finite() else unknown[i] for i, ball in enumerate(summed)],
        "faint": [_in_units(ball) + 1 if ball.is_finite() else 0 for ball in faint],
        "roundings": roundings,
        "elementary": terms.elementary,
        "stored": terms.stored,
        "radius": max(radii, default=0),
    }


def _ball(value: Any) -> Any:
    return value if isinstance(value, int) else flint.arb(value)


def _special(ball: Any) -> float:
    """Return the NaN or the infinity that a ball stands for."""
    middle = float(ball.mid())
    return middle if math.isinf(middle) and ball.rad().is_finite() else math.nan


def _in_units(ball: Any) -> int:
    """Return the exact middle of a ball in units of 2**UNIT, rounded down where it has finer bits."""
    n, e = (int(part) for part in ball.man_exp())
    if e >= UNIT:
        return n << (e - UNIT)
    return n >> min(UNIT - e, n.bit_length() + 1)


def _ceiling(ball: Any) -> int:
    """Return an integer that is not below a count; a ball around an integer has no ceiling of its own."""
    return int(ball.abs_upper().ceil().unique_fmpz()) if ball.is_finite() else 0
