"""Which input element each tap of a sliding window meets, in index tables and strided views.

Per axis: tap k of position p meets padded index k dilation + p stride, and through it the input or, at -1, nothing.
Its arithmetic is its own: a second opinion on `cnnspec.window`.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[Any]


@dataclass(frozen=True)
class Axis:
    """One spatial axis of a convolution."""

    size: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int
    mode: str
    positions: int | None = None  # fewer than fit, where an output's padding leaves room

    @property
    def padded(self) -> int:
        """The length of the padded axis."""
        return self.before + self.size + self.after

    @cached_property
    def outputs(self) -> int:
        """The number of positions."""
        if self.positions is not None:
            return self.positions
        return (self.padded - (self.kernel - 1) * self.dilation - 1) // self.stride + 1

    @cached_property
    def source(self) -> Values:
        """The input index at each padded index, -1 where padding is absent."""
        i = np.arange(-self.before, self.size + self.after)
        last = self.size - 1
        met: dict[str, Values] = {
            "zeros": np.where((i < 0) | (i > last), -1, i),
            "reflect": last - np.abs(last - np.abs(i)),
            "replicate": np.clip(i, 0, last),
            "circular": i % max(1, self.size),
        }
        return met[self.mode]

    @cached_property
    def taps(self) -> Values:
        """The input index that tap k meets at position p, as a table (k, p)."""
        at = np.arange(self.kernel)[:, None] * self.dilation + np.arange(self.outputs) * self.stride
        table: Values = self.source[at]
        return table

    @cached_property
    def meetings(self) -> tuple[Values, Values]:
        """For each input index the taps k and the positions p that meet it: tables (i, m), filled up with -1."""
        k, p = np.nonzero(self.taps >= 0)
        i = self.taps[k, p]
        order = np.argsort(i, kind="stable")
        k, p, i = k[order], p[order], i[order]
        counts = np.bincount(i, minlength=self.size)
        column = np.arange(len(i)) - np.repeat(np.cumsum(counts) - counts, counts)
        tables = np.full((2, self.size, int(counts.max(initial=0))), -1)
        tables[0, i, column], tables[1, i, column] = k, p
        return tables[0], tables[1]

    @cached_property
    def copies(self) -> int:
        """The largest number of padded elements that are copies of one input element."""
        return int(np.bincount(self.source[self.source >= 0], minlength=1).max(initial=1))

    def span(self, first: int, last: int) -> tuple[int, int]:
        """Return the padded indices, from and to, that the positions first .. last - 1 meet."""
        return first * self.stride, (last - 1) * self.stride + (self.kernel - 1) * self.dilation + 1


@dataclass(frozen=True)
class Taps:
    """The sliding window over all spatial axes."""

    axes: tuple[Axis, ...]

    @cached_property
    def kernel(self) -> tuple[int, ...]:
        """The window's size per axis."""
        return tuple(axis.kernel for axis in self.axes)

    @cached_property
    def count(self) -> int:
        """The number of taps."""
        return math.prod(self.kernel)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """The input's size per axis."""
        return tuple(axis.size for axis in self.axes)

    @cached_property
    def outputs(self) -> tuple[int, ...]:
        """The positions per axis."""
        return tuple(axis.outputs for axis in self.axes)

    @cached_property
    def padded(self) -> tuple[int, ...]:
        """The padded input's size per axis."""
        return tuple(axis.padded for axis in self.axes)

    @cached_property
    def plain(self) -> bool:
        """Whether there is one tap that meets every element in turn."""
        return self.count == 1 and self.padded == self.sizes == self.outputs

    @cached_property
    def absent(self) -> bool:
        """Whether padding is absent (zeros), not a copy of the input."""
        return all(axis.mode == "zeros" for axis in self.axes)

    @cached_property
    def copies(self) -> int:
        """How often one tap may meet one input element."""
        return math.prod(axis.copies for axis in self.axes)

    def slab_shape(self, images: int, rows: range) -> tuple[int, ...]:
        """Return the shape, images first, of what the positions `rows` of the first axis meet."""
        first, last = self.axes[0].span(rows.start, rows.stop)
        return (images, last - first, *self.padded[1:])

    def fill_slab(self, slab: Values, x: Values, rows: range) -> None:
        """Write images (N, C, ...) as the padded float64 slab (C, N, ...) that the positions `rows` meet."""
        first, last = self.axes[0].span(rows.start, rows.stop)
        if self.absent:
            head = self.axes[0]
            low, high = max(first, head.before), min(last, head.before + head.size)
            inner = [slice(axis.before, axis.before + axis.size) for axis in self.axes[1:]]
            if slab.shape[2:] != (high - low, *self.sizes[1:]):
                slab.fill(0)
            if low < high:
                rows_met = slice(low - head.before, high - head.before)
                slab[(slice(None), slice(None), slice(low - first, high - first), *inner)] = x[
                    :, :, rows_met
                ].swapaxes(0, 1)
            return
        part = x.take(self.axes[0].source[first:last], axis=2)
        for place, axis in enumerate(self.axes[1:], 3):
            part = part.take(axis.source, axis=place)
        slab[...] = part.swapaxes(0, 1)

    def windows(self, slab: Values, rows: range) -> Values:
        """Return the view (C, *kernel, N, *positions) of a contiguous slab (C, N, ...): what each tap meets."""
        c, n, *steps = slab.strides
        strides = (
            c,
            *(step * axis.dilation for step, axis in zip(steps, self.axes, strict=True)),
            n,
            *(step * axis.stride for step, axis in zip(steps, self.axes, strict=True)),
        )
        shape = (slab.shape[0], *self.kernel, slab.shape[1], len(rows), *self.outputs[1:])
        return np.ndarray(shape, slab.dtype, slab, 0, strides)

    def scatter(self, padded: Values, products: Values, rows: range) -> None:
        """Add products (T, ..., *positions) to the padded elements (..., *padded) that each tap meets there."""
        starts = (rows.start, *([0] * (len(self.axes) - 1)))
        counts = products.shape[-len(self.axes) :]
        for tap, product in zip(np.ndindex(*self.kernel), products, strict=True):
            where = tuple(
                slice(
                    first := k * axis.dilation + start * axis.stride,
                    first + (count - 1) * axis.stride + 1,
                    axis.stride,
                )
                for k, axis, start, count in zip(tap, self.axes, starts, counts, strict=True)
            )
            index: Any = (..., *where)
            view = padded[index]
            view += product

    def fold(self, padded: Values) -> Values:
        """Return, of sums over padded elements (..., *padded), those over the input elements (..., *sizes)."""
        for place, axis in enumerate(self.axes, -len(self.axes)):
            before = (slice(None),) * (padded.ndim + place)
            inside = padded[(*before, slice(axis.before, axis.before + axis.size))]
            if axis.mode != "zeros":
                for j in (*range(axis.before), *range(axis.before + axis.size, axis.padded)):
                    inside[(*before, axis.source[j])] += padded[(*before, j)]
            padded = inside
        return padded

    @cached_property
    def folds(self) -> int:
        """The most additions in a row that `fold` makes."""
        return 0 if self.absent else sum(axis.before + axis.after for axis in self.axes)

    def blocks(self, images: int, columns: int) -> Iterator[tuple[slice, range]]:
        """Yield images and rows of positions that make up about `columns` positions at a time."""
        rows, per_row = self.outputs[0], math.prod(self.outputs[1:])
        if rows * per_row <= columns:
            step = max(1, columns // max(1, rows * per_row))
            for first in range(0, images, step):
                yield slice(first, min(images, first + step)), range(rows)
            return
        pieces = -(-rows * per_row // columns)
        step = max(1, -(-rows // pieces))
        for image in range(images):
            for first in range(0, rows, step):
                yield slice(image, image + 1), range(first, min(rows, first + step))


@lru_cache(maxsize=256)
def taps(
    sizes: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    pads: tuple[tuple[int, int], ...],
    mode: str,
    positions: tuple[int, ...] | None = None,
) -> Taps:
    """Return the sliding window with these arguments per axis.

    >>> taps((4,), (3,), (1,), (1,), ((1, 1),), "reflect").axes[0].taps.tolist()
    [[1, 0, 1, 2], [0, 1, 2, 3], [1, 2, 3, 2]]
    """
    counts = positions or (None,) * len(sizes)
    arguments = zip(sizes, kernel, stride, dilation, pads, counts, strict=True)
    return Taps(tuple(Axis(n, k, s, d, pad[0], pad[1], mode, count) for n, k, s, d, pad, count in arguments))


def combined(parts: Sequence[Values], sizes: Sequence[int]) -> Values:
    """Return the flat indices (J, M) of all combinations of indices (J, m) per axis; -1 where one is -1.

    >>> combined([np.array([[0, 1]]), np.array([[2, -1]])], [2, 3])
    array([[ 2, -1,  5, -1]])
    """
    flat = np.zeros((len(parts[0]), 1), dtype=np.int64)
    absent = np.zeros(flat.shape, dtype=bool)
    for part, size in zip(parts, sizes, strict=True):
        flat = (flat[:, :, None] * size + part[:, None, :]).reshape(len(part), -1)
        absent = (absent[:, :, None] | (part < 0)[:, None, :]).reshape(len(part), -1)
    flat[absent] = -1
    return flat
