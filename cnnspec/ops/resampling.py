"""Images as weighted sums of pixels, axis by axis: what a resampling operator says by its taps."""

import itertools
import math
from fractions import Fraction
from typing import Any

from cnnspec import nested
from cnnspec.nested import Array, Shape
from cnnspec.scalars import divide

HALF = Fraction(1, 2)

Tap = tuple[int, Fraction]
"""A pixel and its weight."""

Taps = list[list[list[Tap]]]
"""Per spatial axis and output position, the pixels that it is made of."""


def pixels(c: Fraction, size: int, mode: str) -> list[Tap]:
    """Return the pixels at source coordinate c, with their weights: the one below, or that and the next.

    >>> pixels(Fraction(5, 4), 3, "linear"), pixels(Fraction(5, 4), 3, "nearest")
    ([(1, Fraction(3, 4)), (2, Fraction(1, 4))], [(1, Fraction(1, 1))])
    """
    i = min(math.floor(c), size - 1)
    if mode == "nearest" or c == i or i == size - 1:
        return [(i, Fraction(1))]
    return [(i, 1 + i - c), (i + 1, c - i)]


def gathered(array: Array, taps: Taps) -> Array:
    """Return y[.., p, ..] = sum of w x[.., i, ..] over the taps (i, w) of p, along each spatial axis in turn.

    >>> gathered([[[1, 5]]], [[pixels(Fraction(1, 2), 2, "linear")]])
    [[[3]]]
    """
    for axis, rows in enumerate(taps, 2):
        shape, x = nested.shape_of(array), nested.ravel(array)
        inner = math.prod(shape[axis + 1 :])
        y: list[Any] = []
        for start, row in itertools.product(range(0, len(x), shape[axis] * inner), rows):
            common = math.lcm(*(w.denominator for _, w in row))
            for k in range(start, start + inner):
                terms = [x[k + i * inner] * int(w * common) for i, w in row]
                y.append(divide(sum(terms[1:], terms[0]), common) if terms else 0)
        array = nested.unravel(y, (*shape[:axis], len(rows), *shape[axis + 1 :]))
    return array


def transposed(taps: Taps, sizes: Shape) -> Taps:
    """Return, per axis and pixel, the output positions that it is part of, each with its weight."""
    turned: Taps = [[[] for _ in range(size)] for size in sizes]
    for axis, rows in zip(turned, taps, strict=True):
        for p, row in enumerate(rows):
            for i, w in row:
                axis[i].append((p, w))
    return turned
