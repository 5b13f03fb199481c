"""Sums of products of a convolution and of its gradients as matrix products, block by block.

A kind (`Forward`, `InputGradient`, `WeightGradient`) yields, for each block of its output, float64 planes: sums of
slices of one operand times slices of the other. What the planes mean, and what they are worth, is for the caller.

    forward          y[o, p]     = sum_ck w[o, ck] x[ck, p]           x[ck, p]: what tap k of channel c meets at p
    input gradient   dx[c, i]    = sum of d[ck, p] over all k, p that meet i;   d[ck, p] = sum_o w[o, ck] dy[o, p]
    weight gradient  dw[o, ck]   = sum_p dy[o, p] x[ck, p]

No sum is deeper than `depth` additions: matrix products are at most DEPTH terms deep, and their results are added.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnspec.exact.taps import Taps, combined

Values = npt.NDArray[Any]
Index = tuple[slice, ...]

DEPTH = 256  # terms of one matrix product: halving it costs little and halves the error bound
COLUMNS = 1024  # positions of one block: its planes stay in the cache


@dataclass
class Scratch:
    """Memory used again for each block, by name, and the bytes that all blocks may take."""

    budget: int
    kind: type[Any] = np.float64
    held: dict[str, Values] = field(default_factory=dict)

    def take(self, name: str, shape: Sequence[int], kind: type[Any] | None = None) -> Values:
        """Return an array with any content."""
        size = math.prod(shape)
        array = self.held.get(name)
        if array is None or array.size < size:
            array = self.held[name] = np.empty(size, kind or self.kind)
        return array[:size].reshape(shape)

    def columns(self, *elements: int, most: int = COLUMNS) -> int:
        """Return how many positions a block may have that holds so many elements per position."""
        return max(1, min(most, self.budget // (8 * max(1, sum(elements)))))


@dataclass(frozen=True)
class Split:
    """How products are taken apart: slices of both operands, and which of them make up each plane.

    left, right: the slices of an operand;   table: (left slice, right slice, plane)
    norms: what bounds sum |a| |b| by a number of a row times one of a column, "squares" or "largest"
    """

    left: Callable[[Values], list[Values]]
    right: Callable[[Values], list[Values]]
    table: tuple[tuple[int, int, int], ...]
    norms: str = "none"

    @property
    def planes(self) -> int:
        """The number of planes."""
        return 1 + max(plane for _, _, plane in self.table)

    @property
    def slices(self) -> int:
        """The number of slices of an operand."""
        return 1 + max(max(i, j) for i, j, _ in self.table)

    def products(self) -> Iterator[tuple[int, int, int, bool]]:
        """Yield the table, and whether each is the first of its plane."""
        begun: set[int] = set()
        for i, j, plane in self.table:
            yield i, j, plane, plane not in begun
            begun.add(plane)


@dataclass(frozen=True)
class Block:
    """Planes of one part of the output, and norms whose product bounds the sum of absolute products.

    place: the part, as slices of the output;   swapped: the planes have the channels before the images
    """

    place: Index
    swapped: bool
    planes: list[Values]
    row_norm: Values | None
    column_norm: Values | None


def row_norms(array: Values, norms: str) -> Values:
    """Return, for each row of an array, the root of the sum of squares or the sum of absolute values."""
    rows = array.reshape(len(array), -1)
    step = max(1, (1 << 18) // max(1, rows.shape[1]))
    total = np.empty(len(rows))
    for first in range(0, len(rows), step):
        some = rows[first : first + step].astype(np.float64)
        total[first : first + step] = (
            np.einsum("ok,ok->o", some, some) if norms == "squares" else np.abs(some).sum(axis=1)
        )
    return np.sqrt(total) if norms == "squares" else total


@dataclass
class Kind:
    """What the three kinds share: the window, groups, and the sizes of a convolution of x (N, C, ...)."""

    window: Taps
    groups: int
    images: int
    channels: int
    outputs: int
    scratch: Scratch

    @property
    def channels_per_group(self) -> int:
        """C / G."""
        return self.channels // self.groups

    @property
    def outputs_per_group(self) -> int:
        """O / G."""
        return self.outputs // self.groups

    def parts(self, rows: int) -> list[tuple[range, range]]:
        """Return (groups, channels of each group) that make up about `rows` rows of taps at a time."""
        per_group = self.channels_per_group
        whole = per_group * self.window.count
        if whole <= rows or per_group <= 1:
            step = max(1, min(self.groups, rows // max(1, whole)))
            return [
                (range(g, min(self.groups, g + step)), range(per_group)) for g in range(0, self.groups, step)
            ]
        step = max(1, min(per_group, rows // self.window.count))
        step = -(-per_group // -(-per_group // step))
        pieces = [range(c, min(per_group, c + step)) for c in range(0, per_group, step)]
        return [(range(g, g + 1), piece) for g in range(self.groups) for piece in pieces]

    def input_slab(self, x: Values, images: slice, groups: range, channels: range, rows: range) -> Values:
        """Return the padded channels (C, N, ...) that a block meets."""
        first = groups.start * self.channels_per_group + channels.start
        chosen = x[images, first : first + len(groups) * len(channels)]
        shape = (chosen.shape[1], *self.window.slab_shape(len(chosen), rows))
        slab = self.scratch.take("slab", shape)
        self.window.fill_slab(slab, chosen, rows)
        return slab

    def columns(self, slab: Values, groups: int, rows: range) -> Values:
        """Return what each tap of each channel meets: a matrix (taps, positions) per group."""
        if self.window.plain:
            return slab.reshape(groups, slab.shape[0] // groups, -1)
        view = self.window.windows(slab, rows)
        columns = self.scratch.take("columns", view.shape)
        np.copyto(columns, view)
        return columns.reshape(groups, slab.shape[0] // groups * self.window.count, -1)

    def kernels(self, w: Values, groups: range, channels: range) -> Values:
        """Return the weight as a matrix (output channels, taps of the channels) per group."""
        chosen = w[groups.start * self.outputs_per_group : groups.stop * self.outputs_per_group]
        chosen = chosen[:, channels.start : channels.stop]
        held = self.scratch.take("kernels", chosen.shape)
        np.copyto(held, chosen)
        return held.reshape(len(groups), self.outputs_per_group, -1)

    def output_rows(self, dy: Values, images: slice, groups: range, outputs: range, rows: range) -> Values:
        """Return the output's gradient as a matrix (output channels, positions) per group."""
        first = groups.start * self.outputs_per_group + outputs.start
        chosen = dy[images, first : first + len(groups) * len(outputs), rows.start : rows.stop].swapaxes(0, 1)
        held = self.scratch.take("gradient", chosen.shape)
        np.copyto(held, chosen)
        return held.reshape(len(groups), len(outputs), -1)

    def multiply(
        self, left: list[Values], right: list[Values], split: Split, planes: list[Values], *, begun: bool
    ) -> None:
        """Add the products of the slices to the planes; the first ones are written."""
        for i, j, plane, first in split.products():
            if first and not begun:
                np.matmul(left[i], right[j], out=planes[plane])
            else:
                product = self.scratch.take("product", planes[plane].shape)
                np.matmul(left[i], right[j], out=product)
                planes[plane] += product


class Forward(Kind):
    """y of x (N, C, ...) and w (O, C/G, *kernel)."""

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The shape of y."""
        return (self.images, self.outputs, *self.window.outputs)

    @cached_property
    def terms(self) -> int:
        """The most products of one sum."""
        return self.channels_per_group * self.window.count

    @cached_property
    def depth(self) -> int:
        """The most additions on the way of one product into a sum."""
        chunk = max(1, min(self.channels_per_group, DEPTH // self.window.count))
        return chunk * self.window.count + -(-self.channels_per_group // chunk)

    def blocks(self, x: Values, w: Values, split: Split) -> Iterator[Block]:
        """Yield the planes of y."""
        norms = None if split.norms == "none" else row_norms(w, split.norms)
        norms = None if norms is None else norms.reshape(self.groups, -1, 1)
        parts = self.parts(DEPTH)
        runs: list[list[tuple[range, range]]] = []
        for part in parts:  # the channels of one group follow each other and add to the same planes
            if runs and runs[-1][0][0] == part[0]:
                runs[-1].append(part)
            else:
                runs.append([part])
        rows_of_planes = len(parts[0][0]) * self.outputs_per_group
        taps = len(parts[0][0]) * len(parts[0][1]) * self.window.count
        columns = self.scratch.columns((2 * split.planes + 12) * rows_of_planes, (split.slices + 1) * taps)
        for images, rows in self.window.blocks(self.images, columns):
            for run in runs:
                yield self._block(x, w, norms, split, images, rows, run)

    def _block(
        self, x: Values, w: Values, norms: Values | None, split: Split, images: slice, rows: range,
        run: list[tuple[range, range]],
    ) -> Block:  # fmt: skip
        groups = run[0][0]
        spatial = (len(rows), *self.window.outputs[1:])
        positions = (images.stop - images.start) * math.prod(spatial)
        shape = (len(groups), self.outputs_per_group, positions)
        planes = [self.scratch.take(f"plane{i}", shape) for i in range(split.planes)]
        reach: Values | None = None
        for k, (_, channels) in enumerate(run):
            slab = self.input_slab(x, images, groups, channels, rows)
            if norms is not None:
                part = slab.reshape(len(groups), len(channels), -1)
                if split.norms == "squares":
                    size: Values = np.einsum("gcx,gcx->gx", part, part)
                    reach = size if reach is None else reach + size
                else:
                    size = np.abs(part).max(axis=1)
                    reach = size if reach is None else np.maximum(reach, size)
            right = split.right(self.columns(slab, len(groups), rows))
            self.multiply(split.left(self.kernels(w, groups, channels)), right, split, planes, begun=k > 0)
        column_norm = None
        if norms is not None and reach is not None:
            view = self.window.windows(reach.reshape(len(groups), *slab.shape[1:]), rows)
            axes = tuple(range(1, 1 + len(self.window.axes)))
            met = view.sum(axis=axes) if split.norms == "squares" else view.max(axis=axes)
            column_norm = (np.sqrt(met) if split.norms == "squares" else met).reshape(len(groups), 1, -1)
        first = groups.start * self.outputs_per_group
        place = (images, slice(first, first + shape[0] * shape[1]), slice(rows.start, rows.stop))
        row_norm = None if norms is None else norms[groups.start : groups.stop]
        return Block(place, True, planes, row_norm, column_norm)

    def factors(self, x: Values, w: Values, flat: Values) -> tuple[Values, Values]:
        """Return the factors of all products of the outputs at flat indices: two matrices, zeros where absent."""
        n, o, *positions = np.unravel_index(flat, self.shape)
        met = [axis.taps[:, p].T for axis, p in zip(self.window.axes, positions, strict=True)]
        pixels = combined(met, self.window.sizes)[:, None, :]
        within = np.arange(self.channels_per_group)
        first = n * self.channels + o // self.outputs_per_group * self.channels_per_group
        kernels = (o[:, None] * self.channels_per_group + within)[:, :, None] * self.window.count
        taps = np.where(pixels < 0, -1, np.arange(self.window.count))
        planes = (first[:, None] + within)[:, :, None] * math.prod(self.window.sizes)
        return taken(x, planes, pixels), taken(w, kernels, taps)


def taken(array: Values, planes: Values, elements: Values) -> Values:
    """Return array[planes + elements] as rows of float64; zeros where an element is absent."""
    found: Values = array.reshape(-1)[planes + np.maximum(elements, 0)].astype(np.float64)
    absent = elements < 0
    if absent.any():
        np.copyto(found, 0.0, where=absent)
    return found.reshape(len(found), -1)
