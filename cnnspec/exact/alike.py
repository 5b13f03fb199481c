"""Exact results of operators that treat all places alike, in float64: activations, local response normalization.

Their own definition runs over vectors (`cnnspec.exact.vectors`), which hold one number of every place; places that a
comparison tells apart run apart. What is not finite, or too close to call, is left to balls, as are the elements that
ask for exact numbers, some places at a time. Operands are those of formats up to float32: beside the bounds of float64
itself, what vectors are off by is not small.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnspec import nested
from cnnspec.exact import balls
from cnnspec.exact.expansions import check_thread
from cnnspec.exact.groups import Columns, Grouped
from cnnspec.exact.regions import ELEMENTS
from cnnspec.exact.results import GATHERED, Exact
from cnnspec.exact.vectors import Apart, Vector
from cnnspec.nested import Array, Shape
from cnnspec.op import Operator
from cnnspec.ops.lrn import LocalResponseNorm
from cnnspec.ops.pointwise import Pointwise
from cnnspec.rounding import RoundingTerms

Values = npt.NDArray[Any]
Run = Callable[..., tuple[Array, RoundingTerms]]

LEAST = 1000
"""The elements from which on vectors take less time than balls."""

CLOSE, NOTHING = 2.0**-37, 2.0**-1010
"""What S and its like may be off by, of themselves; where they are so small, every bound is much larger."""


def outputs(operator: Operator, operands: Sequence[Values]) -> Exact | None:
    """Return the exact outputs; None of other operators, few elements and operands that only float64 holds."""
    places = Places.of(operator, operands)
    if places is None:
        return None

    def run(x: Array) -> tuple[Array, RoundingTerms]:
        return operator.reference(x), operator.rounding_terms(x)

    return places.found(run, lambda x: balls.outputs(operator, [x]), operands)


def gradients(operator: Operator, grad_output: Values, operands: Sequence[Values]) -> Exact | None:
    """Return the exact gradient of sum grad_output * y for the input; None as `outputs` does."""
    arrays = [grad_output, *operands]
    places = Places.of(operator, arrays)
    if places is None:
        return None

    def run(dy: Array, x: Array) -> tuple[Array, RoundingTerms]:
        (value,), (bound,) = operator.gradients(dy, x), operator.gradient_terms(dy, x)
        assert value is not None
        assert bound is not None
        return value, bound

    def exactly(dy: Values, x: Values) -> Exact:
        return balls.gradients(operator, dy, {"input": x}, ["input"])["input"]

    return places.found(run, exactly, arrays)


@dataclass(frozen=True)
class Places:
    """Where an operator does the same: `count` places, with as many numbers each as the `shape` of a call for one.

    positions: places that lie next to each other; the numbers of one place are so far apart
    """

    whole: Shape
    shape: Shape
    positions: int

    @classmethod
    def of(cls, operator: Operator, arrays: Sequence[Values]) -> "Places | None":
        """Return the places of an operator that has them, where vectors serve."""
        x = arrays[-1]
        if x.size < LEAST or not all(_is_short(array) for array in arrays):
            return None
        if isinstance(operator, Pointwise):
            operator.output_shape(x.shape)
            return cls(x.shape, (1,), x.size)
        if isinstance(operator, LocalResponseNorm):
            operator.output_shape(x.shape)
            return cls(x.shape, (1, x.shape[1], 1), int(np.prod(x.shape[2:])))
        return None

    @property
    def length(self) -> int:
        """How many numbers a place has."""
        return int(np.prod(self.shape))

    def rows(self, array: Values) -> Values:
        """Return the numbers of each place."""
        return array.reshape(-1, self.length, self.positions).swapaxes(1, 2).reshape(-1, self.length)

    def back(self, rows: Values) -> Values:
        """Return numbers by place in the order of the whole array, flat."""
        return rows.reshape(-1, self.positions, self.length).swapaxes(1, 2).reshape(-1)

    def place(self, i: int) -> tuple[int, int]:
        """Return the place of element i, and which of its numbers it is."""
        image, rest = divmod(i, self.positions * self.length)
        j, position = divmod(rest, self.positions)
        return image * self.positions + position, j

    def found(self, run: Run, exactly: Callable[..., Exact], arrays: Sequence[Values]) -> Exact:
        """Return what `run` gives over vectors, and `exactly` over the arrays of some places."""
        check_thread()
        rows = [self.rows(array) for array in arrays]
        columns = Columns(len(rows[0]), self.length, np.zeros((len(rows[0]), self.length)))
        usual = np.zeros(len(rows[0]), bool)
        most = [0, 0]  # elementary functions, stored results: of any element
        finite = np.flatnonzero(np.logical_and.reduce([np.isfinite(row).all(axis=1) for row in rows]))
        step = max(1, ELEMENTS // self.length)
        pending = [finite[start : start + step] for start in range(0, len(finite), step)]
        with np.errstate(all="ignore"):
            while pending:
                chosen = pending.pop()
                try:
                    value, bound = run(*(self._vectors(row[chosen]) for row in rows))
                except Apart as apart:
                    holds, unsure = (
                        np.broadcast_to(one, chosen.shape) for one in (apart.holds, apart.unsure)
                    )
                    pending += [
                        one for one in (chosen[holds & ~unsure], chosen[~holds & ~unsure]) if len(one)
                    ]
                    continue
                usual[chosen] = self._write(columns, chosen, value, bound)
                most = [max(pair) for pair in zip(most, (bound.elementary, bound.stored), strict=True)]

        blocks: dict[int, Exact] = {}

        def of_block(place: int) -> tuple[Exact, int]:
            block, j = divmod(place, GATHERED)
            if block not in blocks:
                here = slice(block * GATHERED, (block + 1) * GATHERED)
                one = exactly(*(row[here].reshape(-1, *self.shape[1:]) for row in rows))
                most[:] = max(most[0], one.elementary), max(most[1], one.stored)
                blocks[block] = one
            blocks[block].elementary, blocks[block].stored = most
            return blocks[block], j * self.length

        result = Grouped(self.whole, columns, usual, of_block, self.back, self.place, 0)
        for one in (result, *blocks.values()):
            one.elementary, one.stored = most
        return result

    def _vectors(self, rows: Values) -> Array:
        return nested.unravel([Vector(np.ascontiguousarray(column)) for column in rows.T], self.shape)

    def _write(self, columns: Columns, chosen: Values, value: Array, bound: RoundingTerms) -> Values:
        """Write results over vectors; return at which places they are finite, and S and its like close."""
        none = [0] * self.length
        usual = np.ones(chosen.shape, bool)
        lists = (
            nested.ravel(value),
            bound.magnitude,
            bound.reach or none,
            bound.faint or none,
            bound.summed or none,
            bound.roundings,
        )
        for j, numbers in enumerate(zip(*lists, strict=True)):
            y, *sizes = (one if isinstance(one, Vector) else Vector(np.float64(one)) for one in numbers[:-1])
            usual &= np.isfinite(y.h) & np.isfinite(y.e)
            for size in sizes:
                close = (size.e <= CLOSE * size.h) | (size.h + size.e < NOTHING)
                usual &= close & np.isfinite(size.h)
            found = (y.h, 0.0, y.e * (1 + 2.0**-10) + 5e-324, *(size.h for size in sizes))
            for column, part in zip(columns.found, found, strict=True):
                column[chosen, j] = part
            columns.roundings[chosen, j] = numbers[-1]
        return usual


def _is_short(array: Values) -> bool:
    """Say whether float32 holds all numbers."""
    if array.dtype.kind != "f":
        return False
    with np.errstate(all="ignore"):
        return bool(np.array_equal(array, array.astype(np.float32), equal_nan=True))
