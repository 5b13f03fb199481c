"""Which elements of a plane each output of a pooling sees, axis by axis, and how planes are taken apart into blocks.

A region is a box: along each axis, tap k of output p meets source element table[k, p], or nothing where that is -1.
Sliding windows are read through strided slices of a padded block, others through indices. The arithmetic is its own:
a second opinion on `cnnspec.window`.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnspec.exact.taps import combined

Values = npt.NDArray[Any]

ELEMENTS = 1 << 15  # of one block: what is made of them stays in the cache


@dataclass(frozen=True, eq=False)
class Axis:
    """One axis: a source of `size` elements, and the table (taps, outputs) of those that each output meets.

    slide: (stride, dilation, padding before) where the table is that of a sliding window
    """

    size: int
    table: Values
    slide: tuple[int, int, int] | None = None

    @property
    def outputs(self) -> int:
        """The number of outputs."""
        return int(self.table.shape[1])

    @property
    def taps(self) -> int:
        """The number of taps."""
        return int(self.table.shape[0])

    @cached_property
    def pads(self) -> tuple[int, int]:
        """The absent elements that are laid before and behind the source."""
        if self.slide is None:
            return 0, int((self.table < 0).any())
        stride, dilation, before = self.slide
        met = (self.outputs - 1) * stride + (self.taps - 1) * dilation + 1
        return before, max(0, met - before - self.size)

    @property
    def padded(self) -> int:
        """The length of the padded source."""
        return self.size + sum(self.pads)

    @cached_property
    def picks(self) -> list[slice | Values]:
        """For each tap, what the outputs meet in the padded source."""
        if self.slide is not None:
            stride, dilation, _ = self.slide
            reach = (self.outputs - 1) * stride + 1
            return [slice(k * dilation, k * dilation + reach, stride) for k in range(self.taps)]
        return [_as_slice(np.where(row < 0, self.size, row)) for row in self.table]

    def picked(self, array: Values, place: int) -> Iterator[Values]:
        """Yield, for each tap, what the outputs meet of a padded array along its axis `place`, a negative number."""
        for pick in self.picks:
            if isinstance(pick, slice):
                index: Any = (..., pick, *[slice(None)] * (-1 - place))
                yield array[index]
            else:
                yield array.take(pick, axis=place)

    def part(self, outputs: range) -> tuple[slice, "Axis"]:
        """Return the source elements that some outputs in a row meet, and the axis of these alone."""
        table = self.table[:, outputs.start : outputs.stop]
        met = table[table >= 0]
        low, high = (int(met.min()), int(met.max()) + 1) if met.size else (0, 0)
        shifted = np.where(table < 0, -1, table - low)
        if self.slide is None:
            return slice(low, high), Axis(high - low, shifted)
        stride, dilation, before = self.slide
        ahead = max(0, low + before - outputs.start * stride)
        return slice(low, high), Axis(high - low, shifted, (stride, dilation, ahead))

    @cached_property
    def adjoint(self) -> "Axis":
        """The axis on which each source element meets the outputs that meet it."""
        if self.slide is not None and self.slide[0] == 1:
            _, dilation, before = self.slide
            return sliding(
                self.outputs, self.taps, 1, dilation, (self.taps - 1) * dilation - before, self.size
            )
        k, p = np.nonzero(self.table >= 0)
        i = self.table[k, p]
        order = np.argsort(i, kind="stable")
        p, i = p[order], i[order]
        counts = np.bincount(i, minlength=self.size)
        column = np.arange(len(i)) - np.repeat(np.cumsum(counts) - counts, counts)
        table = np.full((max(1, int(counts.max(initial=0))), self.size), -1)
        table[column, i] = p
        return Axis(self.outputs, table)


def _as_slice(row: Values) -> slice | Values:
    """Return indices in even steps as a slice."""
    step = int(row[1] - row[0]) if len(row) > 1 else 1
    if step > 0 and (np.diff(row) == step).all():
        return slice(int(row[0]), int(row[-1]) + 1, step)
    return row


def sliding(size: int, kernel: int, stride: int, dilation: int, before: int, outputs: int) -> Axis:
    """Return the axis of a sliding window, which meets nothing outside the source.

    >>> sliding(4, 3, 2, 1, 1, 2).table.tolist()
    [[-1, 1], [0, 2], [1, 3]]
    """
    met = np.arange(kernel)[:, None] * dilation + np.arange(outputs) * stride - before
    return Axis(size, np.where((met < 0) | (met >= size), -1, met), (stride, dilation, before))


def dividing(size: int, outputs: int) -> Axis:
    """Return the axis of windows that divide it as evenly as integers can.

    >>> dividing(5, 3).table.tolist()
    [[0, 1, 3], [1, 2, 4], [-1, 3, -1]]
    """
    p = np.arange(outputs)
    first, last = p * size // outputs, -((p + 1) * -size // outputs)
    met = first + np.arange(int((last - first).max(initial=1)))[:, None]
    return Axis(size, np.where(met < last, met, -1))


@dataclass(frozen=True, eq=False)
class Regions:
    """The boxes that the outputs see in a plane."""

    axes: tuple[Axis, ...]

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """The plane's size per axis."""
        return tuple(axis.size for axis in self.axes)

    @cached_property
    def outputs(self) -> tuple[int, ...]:
        """The outputs per axis."""
        return tuple(axis.outputs for axis in self.axes)

    @cached_property
    def count(self) -> int:
        """The most elements of a box."""
        return math.prod(axis.taps for axis in self.axes)

    @cached_property
    def depth(self) -> int:
        """The most additions in a row where sums run axis by axis."""
        return sum(axis.taps for axis in self.axes)

    @cached_property
    def adjoint(self) -> "Regions":
        """The outputs that see each element."""
        return Regions(tuple(axis.adjoint for axis in self.axes))

    @cached_property
    def present(self) -> Values:
        """How many elements each box has."""
        return outer([(axis.table >= 0).sum(axis=0) for axis in self.axes])

    def met(self, flat: Values) -> Values:
        """Return the flat indices (J, count) of what the outputs at flat indices of a plane see; -1 for nothing."""
        positions = np.unravel_index(flat, self.outputs)
        rows = [axis.table[:, p].T for axis, p in zip(self.axes, positions, strict=True)]
        return combined(rows, self.sizes)

    def filled(self, block: Values, absent: Any, kind: Any) -> Values:
        """Return planes of the source, padded with `absent`."""
        pads = [axis.pads for axis in self.axes]
        if not any(map(any, pads)):
            return block.astype(kind, copy=False)
        padded = np.full((len(block), *(axis.padded for axis in self.axes)), absent, kind)
        inner = tuple(
            slice(before, before + axis.size) for axis, (before, _) in zip(self.axes, pads, strict=True)
        )
        padded[(slice(None), *inner)] = block
        return padded


@dataclass(frozen=True, eq=False)
class Block:
    """Some outputs of some planes.

    source: the part of (planes, *sizes) that they see;   place: the part of (planes, *outputs) that they are
    """

    source: tuple[slice, ...]
    place: tuple[slice, ...]
    regions: Regions


def blocks(regions: Regions, planes: int, budget: int) -> Iterator[Block]:
    """Yield the parts of all planes: whole planes, or a few rows of outputs of one."""
    head, *rest = regions.axes
    most = max(1, min(ELEMENTS, budget // 256))
    padded = math.prod(axis.padded for axis in rest)
    row = max(head.padded * padded // head.outputs, math.prod(regions.outputs[1:]), 1)
    together = most // max(row * head.outputs, head.padded * padded)
    if together:
        for first in range(0, planes, together):
            some = slice(first, min(planes, first + together))
            yield Block((some,), (some,), regions)
        return
    rows = max(1, most // row)
    for first in range(0, head.outputs, rows):
        outputs = range(first, min(head.outputs, first + rows))
        met, axis = head.part(outputs)
        part = Regions((axis, *rest))
        for plane in range(planes):
            one = slice(plane, plane + 1)
            yield Block((one, met), (one, slice(outputs.start, outputs.stop)), part)


def outer(factors: Sequence[Values]) -> Values:
    """Return the products of one factor per axis.

    >>> outer([np.array([1, 2]), np.array([3, 5])]).tolist()
    [[3, 5], [6, 10]]
    """
    found = np.ones((), factors[0].dtype)
    for factor in factors:
        found = found[..., None] * factor
    return found


def pieces(shape: Sequence[int], most: int) -> Iterator[tuple[slice, ...]]:
    """Yield parts of an array, of at most so many elements, or of one.

    >>> list(pieces((2, 3), 2))[:2]
    [(slice(0, 1, None), slice(0, 2, None)), (slice(0, 1, None), slice(2, 3, None))]
    """
    if not shape:
        yield ()
        return
    step = most // max(1, math.prod(shape[1:]))
    for first in range(0, shape[0], max(1, step)):
        here = slice(first, min(shape[0], first + max(1, step)))
        if step:
            yield (here, *(slice(0, n) for n in shape[1:]))
        else:
            yield from ((here, *others) for others in pieces(shape[1:], most))
