"""What is stated beside what is: equal, or a message."""

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from cnnspec.nested import Array, Shape, ravel, shape_of
from cnnspec.window import ReceptiveField


def differs(what: str, actual: Any, stated: Any) -> Iterator[str]:
    """Yield a message unless nothing is stated, or `actual` (or what it returns) is what is stated."""
    if stated is None:
        return
    value = actual() if callable(actual) else actual
    if value != stated:
        yield f"{what} is {_spell(value)}, expected {_spell(stated)}"


def field_differs(where: str, axes: tuple[ReceptiveField, ...], facts: Any) -> Iterator[str]:
    """Yield a message for each of size, stride and padding that is stated, for all axes or for each, and is another."""
    seen = axes or (ReceptiveField(),)
    for name, values in (
        ("size", tuple(axis.size for axis in seen)),
        ("stride", tuple(axis.stride for axis in seen)),
        ("padding", tuple(-axis.offset for axis in seen)),
    ):
        stated = getattr(facts, name)
        wanted = (stated,) * len(seen) if isinstance(stated, int) else stated
        yield from differs(f"{name} after {where}", values, wanted)


def elements(what: str, actual: Array, stated: Array, digits: int | None) -> Iterator[str]:
    """Yield a message where shapes differ or elements do; with `digits`, elements are rounded before."""
    if shape_of(actual) != shape_of(stated):
        yield f"{what} has shape {shape_of(actual)}, expected {shape_of(stated)}"
        return
    values, wanted = ravel(actual), ravel(stated)
    wrong = [i for i, (a, b) in enumerate(zip(values, wanted, strict=True)) if not _same(a, b, digits)]
    if wrong:
        index = _index(wrong[0], shape_of(stated))
        rounded = "" if digits is None else f" to {digits} digits"
        yield (
            f"{what}{index} is {_spell(values[wrong[0]])}, expected {_spell(wanted[wrong[0]])}{rounded}; "
            f"{len(wrong)} of {len(wanted)} are wrong"
        )


def _same(actual: Any, stated: Any, digits: int | None) -> bool:
    if digits is not None and math.isfinite(actual):
        return bool(round(Fraction(actual), digits) == stated)
    if isinstance(stated, float) and stated == 0:  # only -0.0 is kept as a float
        return actual == 0 and math.copysign(1, actual) < 0
    return bool(actual == stated or (actual != actual and stated != stated))


def _index(position: int, shape: Shape) -> str:
    indices: list[int] = []
    for size in reversed(shape):
        position, index = divmod(position, size)
        indices.append(index)
    return "".join(f"[{index}]" for index in reversed(indices))


def _spell(value: Any) -> str:
    return str(float(value) if isinstance(value, Fraction) else value)
