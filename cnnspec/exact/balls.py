"""exp, log and what is made of them, enclosed rigorously: Arb's ball arithmetic through python-flint."""

import math
from typing import Any

import flint

from cnnspec import nested
from cnnspec.nested import Array
from cnnspec.op import Operator

PRECISION = 160
"""Bits of the balls: 100 and more beyond a float64, so that their radius never decides a verdict."""

UNIT = -1300
"""Values are kept in units of 2**UNIT, far below the smallest float64; what is finer goes into the radius."""


def evaluate_function(operator: Operator, array: Array) -> dict[str, Any]:
    """Return the fields of an `Exact` for an operator made of exp and log, run on balls."""
    with flint.ctx.workprec(PRECISION):
        shape = nested.shape_of(array)
        balls = nested.unravel([flint.arb(value) for value in nested.ravel(array)], shape)
        terms = operator.rounding_terms(balls)
        outputs = [flint.arb(value) for value in nested.ravel(operator.reference(balls))]
        magnitudes = [flint.arb(value).abs_upper() for value in terms.magnitude]
        roundings = [_ceiling(flint.arb(count)) for count in terms.roundings]
    special = {i: _special(ball) for i, ball in enumerate(outputs) if not ball.is_finite()}
    values = [_in_units(ball.mid()) if ball.is_finite() else 0 for ball in outputs]
    radii = [_in_units(ball.rad()) + 2 for ball in outputs if ball.is_finite()]
    return {
        "values": values,
        "exponent": UNIT,
        "special": special,
        "magnitude": [_in_units(ball) + 1 if ball.is_finite() else 0 for ball in magnitudes],
        "roundings": roundings,
        "elementary": terms.elementary,
        "radius": max(radii, default=0),
    }


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
    return int(ball.ceil().unique_fmpz() or 0) if ball.is_finite() else 0
