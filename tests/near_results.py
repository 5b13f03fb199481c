"""Near results and exact ones of the same call: whether they say the same, in quantities and in verdicts."""

import math
from fractions import Fraction
from typing import Any

import numpy as np

from cnnspec.bounds import FORMATS, nearest
from cnnspec.compare import verdict
from cnnspec.elements import Rule, rule
from cnnspec.exact.results import Exact
from cnnspec.models import direct
from cnnspec.screen import FEW, TINY

FACTORS = (0.5, 0.9, 1.1, 2.0)
CLOSE = 2.0**-35


def near_each_other(a: Any, b: Any) -> bool:
    """Say whether arrays differ by a part in 2**35, or by what lies below the normal range."""
    a, b = np.broadcast_arrays(a, b)
    with np.errstate(all="ignore"):
        return bool(((a == b) | (np.abs(a - b) <= CLOSE * np.abs(b)) | (np.abs(a - b) <= FEW * TINY)).all())


def same_quantities(found: Exact, right: Exact) -> bool:
    """Say whether values are as near as they claim, and S and its like as near as the screen takes them to be."""
    near, wanted = found.near, right.near
    same = _common(found) == _common(right)
    for i in range(near.value.size):
        if i not in right.special and math.isfinite(near.off[i]):
            claimed = Fraction(float(near.value[i])) + Fraction(float(near.low[i]))
            same &= abs(claimed - right.value(i)) <= Fraction(float(near.off[i]))
    names = ("size", "reach", "faint", "summed", "roundings")
    return bool(same and all(near_each_other(getattr(near, name), getattr(wanted, name)) for name in names))


def _common(one: Exact) -> Any:
    return one.shape, one.elementary, one.stored, {i: str(value) for i, value in one.special.items()}


def answer(one: Rule | None, dtype: str, factor: float) -> float:
    """Return a number that is off by `factor` bounds, more or less; NaN and infinities are as they must be."""
    if one is None or one.error is None:
        return 0.0 if one is None else float(one.expected)
    value = one.value + Fraction(one.judge(float(one.expected)).bound) * Fraction(factor)
    return nearest(value.numerator, value.denominator, 0, FORMATS[dtype])


def answers(right: Exact, dtype: str, rng: np.random.Generator) -> list[list[float]]:
    """Return what targets may give: numbers off by a part of the bound, around it, and anything."""
    rules = [rule(right, i, dtype, direct(dtype)) for i in range(math.prod(right.shape))]
    count = len(rules)
    drawn = [rng.choice(FACTORS, count), rng.choice([-factor for factor in FACTORS], count)]
    given = [
        [answer(one, dtype, factor) for one, factor in zip(rules, row.tolist(), strict=True)] for row in drawn
    ]
    return [*given, rng.choice([math.inf, -math.inf, math.nan, 0.0, -1.0], count).tolist()]


def same_verdicts(found: Exact, right: Exact, values: Any, dtype: str) -> bool:
    mine, theirs = (verdict(one, values, dtype, direct(dtype)) for one in (found, right))
    if (mine.wrong, mine.judged) != (theirs.wrong, theirs.judged):
        return False
    if theirs.worst is None:
        return True
    rules = [rule(one, theirs.worst, dtype, direct(dtype)) for one in (found, right)]
    bounds = [one.judge(values[theirs.worst]).bound for one in rules if one is not None]
    return len(bounds) == 2 and near_each_other(*bounds)
