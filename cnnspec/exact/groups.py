"""Results by groups of elements: where normalizations' groups lie, near float64 values, exact numbers when asked."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnspec.exact.expansions import Expansion, folded, parts
from cnnspec.exact.results import Exact, Near
from cnnspec.exact.sums import UNIT
from cnnspec.nested import Shape
from cnnspec.ops.batch_norm import _BatchNorm
from cnnspec.ops.group_norm import GroupNorm
from cnnspec.ops.layer_norm import LayerNorm
from cnnspec.ops.norm_bounds import Bound
from cnnspec.ops.running_stats import ChannelNorm

Values = npt.NDArray[Any]
AnyNorm = ChannelNorm | GroupNorm | LayerNorm


@dataclass(frozen=True)
class Groups:
    """How the elements of an input fall into `count` groups of n, where `span` in a row share one of the `weights`.

    images: over how many images a group runs; where they are several, elements of other groups lie between them

    >>> Groups.of(GroupNorm(2, 4), (3, 4, 5))
    Groups(count=6, n=10, span=5, weights=4, images=1)
    """

    count: int
    n: int
    span: int
    weights: int
    images: int = 1

    @classmethod
    def of(cls, operator: AnyNorm, shape: Shape) -> "Groups":
        """Return the groups of an input of this shape, which has elements."""
        size = math.prod(shape)
        if isinstance(operator, _BatchNorm):
            n = size // shape[1]
            return cls(shape[1], n, n, shape[1], shape[0])
        if isinstance(operator, ChannelNorm):
            n = math.prod(shape[-operator.spatial :])
            return cls(size // n, n, n, shape[-operator.spatial - 1])
        if isinstance(operator, GroupNorm):
            count = shape[0] * operator.num_groups
            return cls(count, size // count, math.prod(shape[2:]), shape[1])
        n = math.prod(operator.row_shape)
        return cls(size // n, n, 1, n)

    @property
    def block(self) -> int:
        """How many weights a group has."""
        return self.n // self.span

    @property
    def period(self) -> int:
        """After how many groups the same weights come again."""
        return self.weights // self.block

    def members(self, k: int) -> range:
        """Return the groups that share the k-th block of weights."""
        return range(k, self.count, self.period)

    def shared(self, g: int) -> slice:
        """Return the places of a group's weights."""
        first = g % self.period * self.block
        return slice(first, first + self.block)

    def rows(self, array: Values) -> Values:
        """Return the elements by group, in float64."""
        apart = array.reshape(self.images, self.count, -1).swapaxes(0, 1)
        return np.ascontiguousarray(apart.reshape(self.count, self.n), np.float64)

    def back(self, rows: Values) -> Values:
        """Return elements by group in the input's order, flat."""
        return rows.reshape(self.count, self.images, -1).swapaxes(0, 1).reshape(-1)

    def place(self, i: int) -> tuple[int, int]:
        """Return the group of element i, and its place there."""
        positions = self.n // self.images
        image, rest = divmod(i, self.count * positions)
        g, position = divmod(rest, positions)
        return g, image * positions + position


class Columns:
    """Near results and their bounds as they are found: a row for each group, or for each block of weights.

    roundings: how many each takes, or one number for all
    """

    def __init__(self, rows: int, length: int, roundings: int | Values) -> None:
        self.found = np.zeros((7, rows, length))
        self.roundings: Any = roundings

    def write(self, row: int | slice, numbers: Expansion, bound: Bound) -> None:
        """Write results and their bounds."""
        h, l, e = parts(numbers)  # noqa: E741 - the letters of the formula
        off = e * (1 + 2.0**-10) + 5e-324
        sizes = bound.magnitude, bound.reach, bound.faint, bound.summed
        for column, one in zip(self.found, (h, l, off, *sizes), strict=True):
            column[row] = one

    def copy(self, row: int, exact: Exact, first: int) -> None:
        """Write what is known of exact results from the first on."""
        near, here = exact.near, slice(first, first + self.found.shape[2])
        sizes = near.size, near.reach, near.faint, near.summed
        for column, one in zip(self.found, (near.value, near.low, near.off, *sizes), strict=True):
            column[row] = np.broadcast_to(one, near.value.shape)[here]
        if not isinstance(self.roundings, int):
            self.roundings[row] = near.roundings[here]

    def near(self, arranged: Callable[[Values], Values]) -> Near:
        """Return the results in another arrangement."""
        value, low, off, size, *others = map(arranged, self.found)
        one = isinstance(self.roundings, int)
        count = np.broadcast_to(np.float64(self.roundings), value.shape) if one else arranged(self.roundings)
        return Near(value, low, off, size, count, np.zeros(value.shape, bool), *others)


class Grouped(Exact):
    """Exact results by groups: near float64 values of all, and exact numbers of those groups that are asked for.

    usual:    the groups that `columns` hold;   exactly: group -> exact results, and which of them is its first
    arranged: from groups to the order of the elements;   place: element -> its group, and its place there
    """

    def __init__(
        self, shape: Shape, columns: Columns, usual: Values, exactly: Callable[[int], tuple[Exact, int]],
        arranged: Callable[[Values], Values], place: Callable[[int], tuple[int, int]], stored: int,
    ) -> None:  # fmt: skip
        super().__init__(shape, stored=stored)
        self._exactly, self._place = cache(exactly), place
        for g in np.flatnonzero(~usual).tolist():
            columns.copy(g, *self._exactly(g))
        self.near = columns.near(arranged)
        odd = np.broadcast_to(~usual[:, None], columns.found.shape[1:])
        for i in np.flatnonzero(arranged(odd)).tolist():
            one, j = self.alone(i)
            if j in one.special:
                self.special[i] = one.special[j]

    def alone(self, i: int) -> tuple[Exact, int]:
        """Return the exact results that hold those of element i, and its place there."""
        g, j = self._place(i)
        one, first = self._exactly(g)
        return one, first + j

    def value(self, i: int) -> Fraction:
        """Return the exact result of element i."""
        one, j = self.alone(i)
        return one.value(j)

    def size(self, i: int) -> Fraction:
        """Return S of element i."""
        one, j = self.alone(i)
        return one.size(j)

    def count(self, i: int) -> int:
        """Return how many roundings element i takes."""
        return int(self.near.roundings[i])

    def varies(self) -> bool:
        """Say whether any output is not zero."""
        return bool(self.special) or bool((self.near.value != 0).any())


class Sums:
    """Sums of terms h + low +- e over the elements that share a weight, in all groups that do.

    Terms and what bounds them are rows of groups.
    """

    def __init__(self, groups: Groups, *, plain: bool) -> None:
        self.groups = groups
        self.h, *self.bounds = np.zeros((5, groups.count, groups.n))
        pair: Any = (None, None) if plain else np.zeros((2, groups.count, groups.n))
        self.low, self.e = pair

    def write(self, g: int, terms: Sequence[Values], bound: Bound) -> None:
        """Write the terms of one group, only h where that is all."""
        for row, one in zip((self.h, self.low, self.e), terms, strict=False):
            row[g] = one
        sizes = bound.magnitude, bound.reach, bound.faint, bound.summed
        for row, one in zip(self.bounds, sizes, strict=True):
            row[g] = one

    def total(self, columns: Columns) -> None:
        """Write the sums and their bounds."""
        first, rest, off = parts(folded(self._by_weight(self.h)))
        if self.low is not None:
            low = self._by_weight(self.low)
            rest = rest + low.sum(axis=1)
            off = off + self._by_weight(self.e).sum(axis=1)
            off += (np.abs(rest) + np.abs(low).sum(axis=1)) * (2 * low.shape[1] * UNIT)
        bounds = [self._by_weight(one).sum(axis=1) for one in self.bounds]
        shape = columns.found.shape[1:]
        sums = (first, rest, off, *bounds)
        h, low, e, size, *others = (one.reshape(shape) for one in sums)
        columns.write(slice(None), Expansion(h, low, e), Bound(size, 0, *others))

    def _by_weight(self, rows: Values) -> Values:
        groups = self.groups
        apart = rows.reshape(-1, groups.period, groups.block, groups.span)
        return apart.transpose(1, 2, 0, 3).reshape(groups.weights, -1)
