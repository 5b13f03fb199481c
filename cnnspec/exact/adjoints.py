"""The gradients of a convolution as matrix products, block by block; see `cnnspec.exact.products`.

Input gradient: the products of each tap are added to the padded elements that the tap meets, and padding that
copies the input is folded back. Weight gradient: the products of blocks of positions are added.
"""

import math
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnspec.exact.products import DEPTH, Block, Kind, Split, row_norms, taken
from cnnspec.exact.taps import combined

Values = npt.NDArray[Any]

ROWS = 1152  # rows of taps of one matrix product
PIECE = 1 << 16  # elements rounded at a time
POSITIONS = 512  # terms of one matrix product over positions


class InputGradient(Kind):
    """dx of dy (N, O, *positions) and w (O, C/G, *kernel)."""

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The shape of x."""
        return (self.images, self.channels, *self.window.sizes)

    @cached_property
    def terms(self) -> int:
        """The most products of one sum."""
        return self.outputs_per_group * self.window.count * self.window.copies

    @cached_property
    def depth(self) -> int:
        """The most additions on the way of one product into a sum."""
        chunks = -(-self.outputs_per_group // DEPTH)
        return min(DEPTH, self.outputs_per_group) + chunks * self.window.count + self.window.folds

    def blocks(self, dy: Values, w: Values, split: Split) -> Iterator[Block]:
        """Yield the planes of dx."""
        outputs, window = self.outputs_per_group, self.window
        most = self.scratch.budget // (16 * max(1, math.prod(window.padded) * (split.planes + 1)))
        for groups, channels in self.parts(min(ROWS, max(1, most) * window.count)):
            taps = len(groups) * len(channels) * window.count
            kernels = self.kernels(w, groups, channels)
            row_norm = None if split.norms == "none" else self._norms(kernels, split.norms)
            left = [part.swapaxes(1, 2) for part in split.left(kernels)]  # group; channel and tap; output
            columns = self.scratch.columns(2 * taps, (split.slices + 2) * len(groups) * min(DEPTH, outputs))
            fitting = max(1, most // (len(groups) * len(channels)))
            step = min(fitting, max(1, columns // max(1, math.prod(window.outputs))))
            for first in range(0, self.images, step):
                images = slice(first, min(self.images, first + step))
                block = self._block(dy, left, row_norm, split, images, groups, channels, columns)
                yield from self._pieces(block, len(groups), len(channels))

    def _block(
        self, dy: Values, left: list[Values], row_norm: Values | None, split: Split, images: slice, groups: range,
        channels: range, columns: int,
    ) -> Block:  # fmt: skip
        count = images.stop - images.start
        shape = (len(groups), len(channels), count, *self.window.padded)
        sums = [self.scratch.take(f"padded{i}", shape) for i in range(split.planes)]
        reach = None if row_norm is None else np.zeros((len(groups), 1, *shape[2:]))
        for plane in sums:
            plane.fill(0)
        for _, rows in self.window.blocks(1, max(1, columns // count)):
            spatial = (count, len(rows), *self.window.outputs[1:])
            for start in range(0, self.outputs_per_group, DEPTH):
                outputs = range(start, min(self.outputs_per_group, start + DEPTH))
                d = self.output_rows(dy, images, groups, outputs, rows)
                right = split.right(d)
                if reach is not None:
                    squares = split.norms == "squares"
                    size = np.einsum("gop,gop->gp", d, d) if squares else np.abs(d).max(axis=1)
                    size = size.reshape(1, len(groups), 1, *spatial)
                    every_tap = np.broadcast_to(size, (self.window.count, *size.shape[1:]))
                    self.window.scatter(reach, every_tap, rows)
                for i, j, into in split.table:
                    product = self.scratch.take("product", (len(groups), left[i].shape[1], right[j].shape[2]))
                    np.matmul(left[i][:, :, outputs.start : outputs.stop], right[j], out=product)
                    per_tap = product.reshape(len(groups), len(channels), self.window.count, *spatial)
                    self.window.scatter(sums[into], np.moveaxis(per_tap, 2, 0), rows)
        planes = [self.window.fold(plane) for plane in sums]
        first = groups.start * self.channels_per_group + channels.start
        place = (images, slice(first, first + len(groups) * len(channels)))
        column_norm = None
        if reach is not None:
            folded = self.window.fold(reach)
            column_norm = np.sqrt(folded) if split.norms == "squares" else folded
        return Block(place, True, planes, row_norm, column_norm)

    def _norms(self, kernels: Values, norms: str) -> Values:
        """Return the norm of the kernels of each input channel."""
        squares = norms == "squares"
        per_tap: Values = (
            np.einsum("gok,gok->gk", kernels, kernels) if squares else np.abs(kernels).sum(axis=1)
        )
        total: Values = per_tap.reshape(len(kernels), -1, self.window.count).sum(axis=-1) * self.window.copies
        total = np.sqrt(total) if squares else total
        return total.reshape(*total.shape, *([1] * (1 + len(self.window.axes))))

    def _pieces(self, block: Block, groups: int, channels: int) -> Iterator[Block]:
        """Yield a block in pieces of some channels or, of large images, some rows of one channel."""
        images, place = block.place
        per_row = (images.stop - images.start) * math.prod(self.window.sizes[1:])
        fitting = max(1, min(PIECE, self.scratch.budget // 512) // per_row)  # rows
        per_channel, along = self.window.sizes[0], 1 if groups == 1 else 0
        within = 1 if groups == 1 else channels
        step, row_step = (
            max(1, fitting // (per_channel * within)),
            min(per_channel, max(1, fitting // within)),
        )
        for first in range(0, channels if groups == 1 else groups, step):
            chosen: Any = (slice(None),) * along + (slice(first, first + step),)
            last = min(place.stop, place.start + (first + step) * within)
            for row in range(0, per_channel, row_step):
                rows: Any = (slice(None),) * 3 + (slice(row, row + row_step),)
                norms = (block.row_norm, block.column_norm)
                yield Block(
                    (
                        images,
                        slice(place.start + first * within, last),
                        slice(row, min(per_channel, row + row_step)),
                    ),
                    True,
                    [plane[chosen][rows] for plane in block.planes],
                    norms[0] if norms[0] is None else norms[0][chosen],
                    norms[1] if norms[1] is None else (norms[1] if along else norms[1][chosen])[rows],
                )

    def factors(self, dy: Values, w: Values, flat: Values) -> tuple[Values, Values]:
        """Return the factors of all products of the elements of dx at flat indices, zeros where absent."""
        n, c, *elements = np.unravel_index(flat, self.shape)
        met = [
            [table[i] for table in axis.meetings] for axis, i in zip(self.window.axes, elements, strict=True)
        ]
        taps = combined([k for k, _ in met], self.window.kernel)[:, None, :]
        positions = combined([p for _, p in met], self.window.outputs)[:, None, :]
        group, within = np.divmod(c, self.channels_per_group)
        o = group[:, None] * self.outputs_per_group + np.arange(self.outputs_per_group)
        planes = (n[:, None] * self.outputs + o)[:, :, None] * math.prod(self.window.outputs)
        kernels = (o * self.channels_per_group + within[:, None])[:, :, None] * self.window.count
        return taken(dy, planes, positions), taken(w, kernels, taps)


class WeightGradient(Kind):
    """dw of dy (N, O, *positions) and x (N, C, ...)."""

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The shape of w."""
        return (self.outputs, self.channels_per_group, *self.window.kernel)

    @cached_property
    def terms(self) -> int:
        """The most products of one sum."""
        return self.images * math.prod(self.window.outputs)

    @cached_property
    def depth(self) -> int:
        """The most additions on the way of one product into a sum."""
        per_row = math.prod(self.window.outputs[1:])
        deepest = max(POSITIONS, per_row)
        return deepest + sum(1 for _ in self.window.blocks(self.images, self._columns()))

    def _columns(self) -> int:
        rows = sum(len(range_) for range_ in self.parts(ROWS)[0]) * self.window.count
        return self.scratch.columns(4 * min(ROWS, rows), 4 * self.outputs_per_group, most=POSITIONS)

    def blocks(self, dy: Values, x: Values, split: Split) -> Iterator[Block]:
        """Yield the planes of dw."""
        norms = None if split.norms == "none" else self._norms(dy, split.norms)
        most = self.scratch.budget // (8 * (split.planes + 6) * max(1, self.outputs_per_group))
        for groups, channels in self.parts(max(1, min(ROWS, most))):
            yield self._block(dy, x, norms, split, groups, channels)

    def _block(
        self, dy: Values, x: Values, norms: Values | None, split: Split, groups: range, channels: range
    ) -> Block:
        taps = len(channels) * self.window.count
        shape = (len(groups), self.outputs_per_group, taps)
        planes = [self.scratch.take(f"plane{i}", shape) for i in range(split.planes)]
        column_norm: Values | None = None
        outputs = range(self.outputs_per_group)
        for k, (images, rows) in enumerate(self.window.blocks(self.images, self._columns())):
            columns = self.columns(self.input_slab(x, images, groups, channels, rows), len(groups), rows)
            d = self.output_rows(dy, images, groups, outputs, rows)
            if norms is not None:
                if split.norms == "squares":
                    size: Values = np.einsum("gkp,gkp->gk", columns, columns)
                    column_norm = size if column_norm is None else column_norm + size
                else:
                    size = np.abs(columns).max(axis=2)
                    column_norm = size if column_norm is None else np.maximum(column_norm, size)
            right = [part.swapaxes(1, 2) for part in split.right(columns)]
            self.multiply(split.left(d), right, split, planes, begun=k > 0)
        first = groups.start * self.outputs_per_group
        place = (slice(first, first + len(groups) * len(outputs)), slice(channels.start, channels.stop))
        if column_norm is None or norms is None:
            return Block(place, False, planes, None, None)
        column_norm = np.sqrt(column_norm) if split.norms == "squares" else column_norm
        return Block(
            place, False, planes, norms[groups.start : groups.stop, :, None], column_norm[:, None, :]
        )

    def _norms(self, dy: Values, norms: str) -> Values:
        """Return the norm of the gradient of each output channel."""
        per_image = np.array([row_norms(image, norms) for image in dy])
        total: Values = np.sqrt((per_image**2).sum(axis=0)) if norms == "squares" else per_image.sum(axis=0)
        return total.reshape(self.groups, self.outputs_per_group)

    def factors(self, dy: Values, x: Values, flat: Values) -> tuple[Values, Values]:
        """Return the factors of all products of the elements of dw at flat indices, zeros where absent."""
        o, c, *taps = np.unravel_index(flat, self.shape)
        met = [axis.taps[k] for axis, k in zip(self.window.axes, taps, strict=True)]
        pixels = combined(met, self.window.sizes)[:, None, :]
        positions = np.where(pixels < 0, -1, np.arange(pixels.shape[2]))
        n = np.arange(self.images)
        source = o // self.outputs_per_group * self.channels_per_group + c
        x_planes = (n * self.channels + source[:, None])[:, :, None] * math.prod(self.window.sizes)
        dy_planes = (n * self.outputs + o[:, None])[:, :, None] * math.prod(self.window.outputs)
        return taken(dy, dy_planes, positions), taken(x, x_planes, pixels)
