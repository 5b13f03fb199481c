"""Max pooling, which copies, and its gradient, which is a correctly rounded sum.

    y[n, c, p] = max_k x[n, c, p * stride - padding + k * dilation]      over the taps inside the input
    dx[n, c, i] = sum of dy[n, c, p] over the p that chose i

Of equal elements, +0 and -0 too, the first wins; of several NaN the last. A window without a tap gives (-inf, -1),
integers their lowest. The maximum runs axis by axis, the last axis first: the first of equal rows holds the first of
equal elements, and the last row with NaN the last NaN.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnspec.exact import expansions
from cnnspec.exact.elementwise import as_copied, copied, empty_copy
from cnnspec.exact.engine import Rounded, Statistics
from cnnspec.exact.expansions import Expansion, check_thread
from cnnspec.exact.operands import (
    BUDGET_BYTES,
    Sizes,
    as_array,
    as_format,
    check_gradient,
    hashable,
    per_axis,
)
from cnnspec.exact.regions import Block, Regions, blocks, sliding
from cnnspec.exact.sums import UNIT, container
from cnnspec.ops.pool import MaxPool1d, MaxPool2d, MaxPool3d

Values = npt.NDArray[Any]
Shape = tuple[int, ...]

OPERATORS: dict[int, Any] = {1: MaxPool1d, 2: MaxPool2d, 3: MaxPool3d}


class MaxPooling:
    """Max pooling over `spatial` axes, NaN and ties as in `cnnspec.MaxPool2d`; `backward` for its gradient.

    x (N, C, ...) or (C, ...); arguments as in torch.nn.functional. With `return_indices` (maxima, indices), flat in
    the channel's spatial axes. Integers keep their type unless out_dtype is given; a narrower one rounds the copies.
    full: a `Rounded` without bounds, as a copy has no error.   Raises what `cnnspec.MaxPool2d` raises.

    >>> max_pool1d(np.array([[3.0, 1.0, 4.0, 4.0]]), 2, return_indices=True)
    (array([[3., 4.]]), array([[0, 2]]))
    """

    def __init__(self, spatial: int) -> None:
        self.spatial = spatial

    def __call__(
        self, x: Values, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0, dilation: Sizes = 1,
        ceil_mode: bool = False, return_indices: bool = False, out_dtype: Any = None, full: bool = False, *,
        budget: int = BUDGET_BYTES,
    ) -> Any:  # fmt: skip
        """Return the maxima, or with `return_indices` (maxima, indices); with `full` the maxima as `Rounded`."""
        x = np.ascontiguousarray(as_copied(x, out_dtype))
        shape, regions = self._plan(x, kernel_size, stride, padding, dilation, ceil_mode)
        flat = x.reshape(-1, *regions.sizes)
        value, form = empty_copy(x, (len(flat), *regions.outputs), out_dtype)
        indices = np.empty(value.shape, np.int64) if return_indices else None
        for block in blocks(regions, len(flat), budget) if value.size else ():
            best, chosen = maxima(flat[block.source], block, regions, indices=return_indices)
            value[block.place] = copied(best, form)
            if indices is not None and chosen is not None:
                indices[block.place] = chosen
        value = value.reshape(shape)
        result = Rounded(value, Statistics("copy", value.size)) if full else value
        return result if indices is None else (result, indices.reshape(shape))

    def backward(
        self, grad_output: Values, x: Values, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0,
        dilation: Sizes = 1, ceil_mode: bool = False, return_indices: bool = False, out_dtype: Any = None,
        full: bool = False, *, budget: int = BUDGET_BYTES,
    ) -> Any:  # fmt: skip
        """Return the correctly rounded gradient of sum grad_output * y: each goes to the element that was chosen.

        >>> max_pool1d.backward(np.array([[10.0, 1.0]]), np.array([[3.0, 1.0, 4.0, 4.0]]), 2)
        array([[10.,  0.,  1.,  0.]])
        """
        dy, form = as_array("grad_output", grad_output), as_format(out_dtype, x)
        x = np.ascontiguousarray(as_copied(x, None))
        check_thread()
        shape, regions = self._plan(x, kernel_size, stride, padding, dilation, ceil_mode)
        check_gradient(dy, shape)
        planes, cotangents = x.reshape(-1, *regions.sizes), dy.reshape(-1, *regions.outputs)
        value = np.empty(planes.shape, container(form))
        sizes, counts = (np.empty(value.shape), np.empty(value.shape, np.int64)) if full else (None, None)
        open_outputs = special = 0
        for block in blocks(regions.adjoint, len(planes), budget // 2) if value.size else ():
            source, window = block.source, regions
            if len(source) > 1:  # some rows of outputs: what they see
                met, axis = regions.axes[0].part(range(source[1].start, source[1].stop))
                window = Regions((axis, *regions.axes[1:]))
                source = (source[0], met)
            chosen: Values | None = np.empty(cotangents[block.source].shape, np.int64)
            if chosen is not None and chosen.size:  # else no window meets these rows
                _, chosen = maxima(planes[source], Block(source, block.source, window), regions, indices=True)
            routed = _Routed(block, cotangents[block.source], chosen, regions.sizes)
            with np.errstate(all="ignore"):
                value[block.place], left = routed.rounded(form)
                open_outputs, special = open_outputs + left, special + routed.special
                if sizes is not None and counts is not None:
                    sizes[block.place], counts[block.place] = routed.bounds()
        value += value.dtype.type(0)
        value = value.reshape(x.shape)
        if sizes is None or counts is None:
            return value
        statistics = Statistics("pairs", value.size, open_outputs, open_outputs, special)
        return Rounded(value, statistics, sizes.reshape(x.shape), counts.reshape(x.shape))

    def _plan(
        self, x: Values, kernel_size: Sizes, stride: Sizes | None, padding: Sizes, dilation: Sizes, ceil_mode: bool
    ) -> tuple[Shape, Regions]:  # fmt: skip
        return _checked(
            self.spatial, x.shape, *map(hashable, (kernel_size, stride, padding, dilation, ceil_mode))
        )


@lru_cache(maxsize=256)
def _checked(
    axes: int, x: Shape, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> tuple[Shape, Regions]:
    shape: Shape = OPERATORS[axes](kernel_size, stride, padding, dilation, False, ceil_mode).output_shape(x)
    kernels, pads = per_axis(kernel_size, axes), per_axis(padding, axes)
    strides = kernels if stride in (None, ()) else per_axis(stride, axes)
    arguments = zip(x[-axes:], kernels, strides, per_axis(dilation, axes), pads, shape[-axes:], strict=True)
    return shape, Regions(
        tuple(sliding(size, k, s, d, p, outputs) for size, k, s, d, p, outputs in arguments)
    )


def maxima(part: Values, block: Block, whole: Regions, *, indices: bool) -> tuple[Values, Values | None]:
    """Return the maxima of a block's regions and where they stand in the plane, if asked for.

    part: what the block sees;   whole: the regions of the plane
    """
    floats = part.dtype.kind == "f"
    absent = -np.inf if floats else np.iinfo(part.dtype).min
    best = block.regions.filled(part, absent, part.dtype)
    chosen = None
    if indices:
        chosen = block.regions.filled(_indices(whole.sizes, block.source[1:])[None], -1, np.int64)
    elif not floats or not ((part == 0) & np.signbit(part)).any():
        for place, axis in _last_first(block.regions):
            picked = axis.picked(best, place)
            total = next(picked).copy()
            for one in picked:
                np.maximum(total, one, out=total)
            best = total
        return best, None
    for place, axis in _last_first(block.regions):
        where = None if chosen is None else axis.picked(chosen, place)
        total = kept = None
        for one in axis.picked(best, place):
            number = None if where is None else next(where)
            if total is None:
                total = one.copy()
                kept = None if number is None else np.broadcast_to(number, total.shape).copy()
                continue
            better = one > total
            if floats:
                better |= one != one
            np.copyto(total, one, where=better)
            if kept is not None and number is not None:
                np.copyto(kept, number, where=better)
        assert total is not None
        best, chosen = total, kept
    if chosen is not None and (chosen < 0).any():  # all elements are as low as what is absent
        chosen = np.where(chosen < 0, _first(block, whole.sizes), chosen)
    return best, chosen


def _last_first(regions: Regions) -> Iterator[tuple[int, Any]]:
    return zip(range(-1, -1 - len(regions.axes), -1), reversed(regions.axes), strict=True)


def _indices(sizes: Shape, place: tuple[slice, ...]) -> Values:
    """Return the flat indices of a part of a plane; axes that `place` does not reach are whole."""
    found = np.zeros((), np.int64)
    for i, size in enumerate(sizes):
        found = found[..., None] * size + np.arange(size)[place[i] if i < len(place) else slice(None)]
    return found


def _first(block: Block, sizes: Shape) -> Values:
    """Return the index of the first element of each region; -1 where there is none."""
    found = np.zeros((), np.int64)
    starts = [s.start for s in block.source[1:]] + [0] * len(sizes)
    for axis, size, start in zip(block.regions.axes, sizes, starts, strict=False):
        first = axis.table[(axis.table >= 0).argmax(axis=0), np.arange(axis.outputs)]
        found = found[..., None] * size + first + start
    return np.where(block.regions.present > 0, found, -1)


class _Routed:
    """The gradients of some outputs, on their way to a block of elements.

    dy, chosen: of the outputs that the block sees, and the flat indices that these chose
    """

    def __init__(self, block: Block, dy: Values, chosen: Any, sizes: Shape) -> None:
        regions = block.regions
        self.regions, self.finite = regions, np.isfinite(dy)
        self.own = _indices(sizes, block.place[1:])[None]
        self.dy, self.chosen = regions.filled(dy, 0, np.float64), regions.filled(chosen, -1, np.int64)
        self.special = 0

    def terms(self, cotangents: Values) -> Iterator[Values]:
        """Yield what each place of the window sends to the elements, 0 where another was chosen."""
        pairs = zip(_boxes(self.regions, cotangents), _boxes(self.regions, self.chosen), strict=True)
        for one, number in pairs:
            yield np.where(number == self.own, one, 0.0)

    def rounded(self, form: Any) -> tuple[Values, int]:
        """Return the rounded sums, and how many took integers."""
        whole = np.where(np.isfinite(self.dy), self.dy, 0.0)
        if self.regions.count == 1:
            sums = Expansion(next(self.terms(whole)))
        else:
            sums = expansions.cascade(self.terms(whole), self.regions.count)
        value, undecided = expansions.decided(sums, form, sums=True)
        left = np.argwhere(undecided)
        for index in left.tolist():
            place = tuple(index)
            row = (
                [float(term[place]) for term in self.terms(whole)]
                if len(left) < 8
                else self._row(whole, place)
            )
            n, exponent = expansions.whole_sum(row)
            value[place] = expansions.nearest_ratio(n, 1, exponent, form)
        if not self.finite.all():
            odd: Any = 0.0
            for term in self.terms(np.where(np.isfinite(self.dy), 0.0, self.dy)):
                odd = odd + term
            met = ~np.isfinite(odd)
            value[met], self.special = odd[met], int(met.sum())
        return value, len(left)

    def _row(self, whole: Values, place: tuple[int, ...]) -> list[float]:
        """Return the terms of one element."""
        one, number = (
            [float(view[place]) for view in _boxes(self.regions, array)] for array in (whole, self.chosen)
        )
        own = float(self.own[(0, *place[1:])])
        return [value for value, chosen in zip(one, number, strict=True) if chosen == own]

    def bounds(self) -> tuple[Values, Values]:
        """Return S and the number of terms that are not zero."""
        sizes: Any = 0.0
        counts: Any = 0
        for term in self.terms(np.where(np.isfinite(self.dy), np.abs(self.dy), 0.0)):
            sizes, counts = sizes + term, counts + (term != 0)
        return np.where(counts > 1, sizes * (1 + (self.regions.count + 6) * 4 * UNIT), sizes), counts


def _boxes(regions: Regions, padded: Values) -> Iterator[Values]:
    """Yield what each place of the window meets."""

    def along(array: Values, place: int) -> Iterator[Values]:
        if not place:
            yield array
            return
        for part in regions.axes[place].picked(array, place):
            yield from along(part, place + 1)

    return along(padded, -len(regions.axes))


max_pool1d, max_pool2d, max_pool3d = (MaxPooling(axes) for axes in (1, 2, 3))
