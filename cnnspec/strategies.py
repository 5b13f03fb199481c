"""Hypothesis strategies: cases of an operator over its whole domain, geometry first.

A strategy draws the geometry, then layouts, then the regime and the seed of the data, so a failing case shrinks
to the smallest geometry first. `cases("conv2d")` is what `cnnspec check` runs.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, TypeVar

from hypothesis import strategies as st

from cnnspec import corners as regions
from cnnspec import ops
from cnnspec.backends.layouts import LAYOUTS, strided
from cnnspec.borderline import asking
from cnnspec.cases import GRAD_OUTPUT, REGIMES, Case
from cnnspec.corners.corner import Corner
from cnnspec.spec import Pick

T = TypeVar("T")

CORNER_ONE_IN = 40
"""One case in so many is drawn from each corner of its operator."""

LARGE_ONE_IN = 16
"""One case in so many has the size that layers of networks have, where an operator has such cases."""


class _Drawn:
    """A `cnnspec.spec.Pick` that asks Hypothesis."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        self._draw = draw

    def integer(self, low: int, high: int) -> int:
        return int(self._draw(_integers(low, high)))

    def choice(self, options: Sequence[T]) -> T:
        return options[self.integer(0, len(options) - 1)]


@cache
def _integers(low: int, high: int) -> st.SearchStrategy[int]:
    """Return one strategy for each range: to make it anew costs as much as to draw from it."""
    return st.integers(low, high)


@st.composite
def geometries(draw: st.DrawFn, operator: str) -> tuple[dict[str, Any], tuple[tuple[int, ...], ...]]:
    """Return a strategy for (arguments, input shapes) of `operator`, all of them legal.

    >>> from hypothesis import find
    >>> find(geometries("linear"), lambda drawn: drawn[0]["in_features"] > 2)
    ({'in_features': 3, 'out_features': 1}, ((1, 3),))
    """
    arguments, inputs = ops.spec(operator).domain(_Drawn(draw))
    return dict(arguments), inputs


@st.composite
def cases(
    draw: st.DrawFn,
    operator: str,
    dtype: str = "float32",
    *,
    regimes: Sequence[str] = REGIMES,
    layouts: Sequence[str] = LAYOUTS,
    layers: bool = True,
    where: Callable[[Case], bool] = lambda case: True,
    large: bool = False,
    corners: bool = False,
) -> Case:
    """Return a strategy for cases of `operator` in `dtype`.

    regimes: the kinds of data drawn from;   layouts: those drawn for each operand by itself
    layers:  draw what only a layer takes too (padding_mode);   where: keep only the cases that it accepts
    large:   draw now and then a layer of the size that networks have;   corners: and a case in one of the corners
    """
    domain, pick = ops.spec(operator).large, _Drawn(draw)
    corner = _corner(pick, operator, dtype) if corners else None
    if corner:
        case = corner.draw(pick, operator)
    elif large and domain is not None and dtype[0] != "i" and pick.integer(1, LARGE_ONE_IN) == LARGE_ONE_IN:
        drawn_large, inputs = domain(pick)
        case = Case(operator, dict(drawn_large), inputs)
    else:
        case = Case(operator, *draw(geometries(operator)))
    if not layers:
        case = replace(case, arguments={k: v for k, v in case.arguments.items() if k != "padding_mode"})
    if not (corner and corner.layouts) and pick.choice((False, True)):
        shapes = {**case.operand_shapes(), GRAD_OUTPUT: case.operation.output_shape(*case.inputs)}
        # Hypothesis alone repeats itself too much; this seed is drawn like everything else
        mixed = random.Random(pick.integer(0, 2**32 - 1))  # noqa: S311 - no secret
        drawn = {name: mixed.choice(_telling(shape, layouts)) for name, shape in shapes.items()}
        case = replace(case, layout={name: one for name, one in drawn.items() if one != "contiguous"})
    if ops.spec(operator).judged == "copy" and "special" in regimes:
        regimes = (*regimes, "special", "special")  # what compares and copies goes wrong there
    regime = pick.choice(regimes if dtype[0] != "i" else ("integers", "special"))
    case = replace(case, dtype=dtype, regime=regime, seed=pick.integer(0, 2**32 - 1))
    if corner and corner.asks:
        case = asking(case, corner.asks)
    able = case.differentiated
    if len(able) > 1:
        subsets = [able[:i] + able[i + 1 :] for i in range(len(able))] + [(name,) for name in able]
        grad = pick.choice((None, None, *dict.fromkeys(subsets)))
        case = replace(case, grad=grad)
    return case if where(case) else draw(st.nothing())


def _corner(pick: Pick, operator: str, dtype: str) -> Corner | None:
    found = regions.of(operator, dtype)
    place = CORNER_ONE_IN - pick.integer(1, CORNER_ONE_IN) if found else len(found)
    return found[place] if place < len(found) else None


def _telling(shape: tuple[int, ...], layouts: Sequence[str]) -> list[str]:
    """Return the layouts in which an array of this shape lies as in no other: the first alone where there is none."""
    places: dict[object, str] = {}
    for layout in layouts:
        places.setdefault(strided(shape, layout, min(1, len(shape) - 1))[:2], layout)
    return [*places.values()]
