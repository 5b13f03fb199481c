"""All sliding-window arithmetic, once: one axis at a time, any number of axes.

Conventions: padding counts per side, dilation counts from 1 (adjacent taps), positions and
indices count from 0, and axes come in the order of the array's shape.
"""

import itertools
import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cnnspec.errors import ShapeError

Taps = list[tuple[int, int]]
"""Pairs (kernel element, input element) that meet at one output position."""


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """What one axis of an output sees: output `u` sees `size` pixels from input `offset + u * stride` on.

    `offset` is minus the effective padding; the centre of output 0 lies at `offset + (size - 1) / 2`.
    Composition: r = r1 + (r2 - 1) * s1, s = s1 * s2, offset = offset1 + offset2 * s1.

    Source: Araujo, Norris, Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill 2019.

    >>> ReceptiveField(3, 2, -1).then(ReceptiveField(3, 1, -1))
    ReceptiveField(size=7, stride=2, offset=-3)
    """

    size: int = 1
    stride: int = 1
    offset: int = 0

    def then(self, following: "ReceptiveField") -> "ReceptiveField":
        """Return the field of `following` applied to the output of this one."""
        return ReceptiveField(
            self.size + (following.size - 1) * self.stride,
            self.stride * following.stride,
            self.offset + following.offset * self.stride,
        )

    @property
    def centre(self) -> float:
        """The input coordinate at the middle of what output 0 sees."""
        return self.offset + (self.size - 1) / 2


@dataclass(frozen=True, slots=True)
class Window:
    """One axis of a sliding window: `kernel` taps, `dilation` apart, moved by `stride` over a padded axis.

    span = dilation * (kernel - 1) + 1
    output size = floor((size + before + after - span) / stride) + 1, or ceil in `ceil_mode`, where a last
    window that would start behind the input and its left padding is dropped.

    Source: Dumoulin & Visin, "A guide to convolution arithmetic for deep learning", relationships 1-7 and 15;
    the ceil-mode rule is torch's (`pooling_output_shape`).

    >>> Window(kernel=7, stride=2, before=3, after=3).output_size(224)
    112
    >>> Window(kernel=2, stride=2, ceil_mode=True).output_size(5)
    3
    """

    kernel: int
    stride: int = 1
    before: int = 0
    after: int = 0
    dilation: int = 1
    ceil_mode: bool = False

    @property
    def span(self) -> int:
        """The pixels from the first tap to the last, both included."""
        return self.dilation * (self.kernel - 1) + 1

    def output_size(self, size: int) -> int:
        """Return how many positions the window takes on an axis of `size`; none where it is below 1."""
        room = size + self.before + self.after - self.span
        if not self.ceil_mode:
            return room // self.stride + 1
        count = (room + self.stride - 1) // self.stride + 1
        return count - 1 if (count - 1) * self.stride >= size + self.before else count

    def start(self, position: int) -> int:
        """Return the input index of the first tap, negative in the padding."""
        return position * self.stride - self.before

    def taps(self, position: int, size: int, border: str = "zeros") -> Taps:
        """Return the pairs (tap, input index) at `position`; a tap on zero padding is absent."""
        indices = [(k, self.start(position) + k * self.dilation) for k in range(self.kernel)]
        sources = [(k, source(i, size, border)) for k, i in indices]
        return [(k, i) for k, i in sources if i is not None]

    def taps_total(self, size: int) -> int:
        """Return how many taps touch data over all positions of an axis of `size`.

        >>> Window(kernel=3, before=1, after=1).taps_total(4)  # 2 + 3 + 3 + 2
        10
        """
        positions, total = self.output_size(size), 0
        for tap in range(self.kernel):
            first = tap * self.dilation - self.before  # what the tap reads at position 0
            behind = min(positions, (size - 1 - first) // self.stride + 1)
            total += max(0, behind - max(0, -(first // self.stride)))
        return total

    def extent(self, position: int, size: int) -> int:
        """Return how much of an undilated window at `position` lies on the input or its padding."""
        return min(self.start(position) + self.kernel, size + self.after) - self.start(position)

    def input_sizes(self, output_size: int) -> range:
        """Return the input sizes that give `output_size`, as a range (empty where none does).

        >>> Window(kernel=3, stride=2).input_sizes(4)
        range(9, 11)
        """
        if output_size < 1:
            return range(0)
        sizes = range(output_size * self.stride + self.span + abs(self.before) + abs(self.after) + 1)
        first = max(1, bisect_left(sizes, output_size, key=self.output_size))
        return range(first, max(first, bisect_right(sizes, output_size, key=self.output_size)))

    def transposed_size(self, positions: int) -> int:
        """Return the smallest size on which the window takes so many positions: what its transpose gives.

        >>> Window(kernel=3, stride=2).transposed_size(4)
        9
        """
        return (positions - 1) * self.stride + self.span - self.before - self.after

    def remainder(self, size: int) -> int:
        """Return how many padded pixels at the end no window reaches (the `output_padding` of the transpose).

        >>> Window(kernel=3, stride=2).remainder(10)
        1
        """
        return (size + self.before + self.after - self.span) % self.stride

    @property
    def receptive_field(self) -> ReceptiveField:
        """What one output position sees: `span` pixels from `-before` on."""
        return ReceptiveField(self.span, self.stride, -self.before)


def same_padding(kernel: int, dilation: int = 1) -> tuple[int, int]:
    """Return (before, after) that keep the size at stride 1; the odd pixel goes after.

    >>> same_padding(3), same_padding(4), same_padding(3, dilation=2)
    ((1, 1), (1, 2), (2, 2))
    """
    total = dilation * (kernel - 1)
    return total // 2, total - total // 2


def source(index: int, size: int, border: str) -> int | None:
    """Return the input index that stands at `index` of an axis padded without end; None for zero padding.

    reflect: 2 1 | 0 1 2 | 1 0, replicate: 0 0 | 0 1 2 | 2 2, circular: 1 2 | 0 1 2 | 0 1.

    >>> [source(i, 3, "reflect") for i in range(-2, 5)]
    [2, 1, 0, 1, 2, 1, 0]
    >>> [source(i, 3, "circular") for i in range(-2, 5)]
    [1, 2, 0, 1, 2, 0, 1]
    """
    if 0 <= index < size:
        return index
    if border == "reflect":
        return -index if index < 0 else 2 * (size - 1) - index
    if border == "replicate":
        return 0 if index < 0 else size - 1
    if border == "circular":
        return index + size if index < 0 else index - size
    return None


def taps(windows: Sequence[Window], sizes: Sequence[int], border: str = "zeros") -> Iterator[Taps]:
    """Yield, for each output position in row-major order, the taps that meet data there, as flat indices.

    >>> list(taps([Window(2), Window(2)], (2, 3)))
    [[(0, 0), (1, 1), (2, 3), (3, 4)], [(0, 1), (1, 2), (2, 4), (3, 5)]]
    """
    axes = [
        [window.taps(position, size, border) for position in range(window.output_size(size))]
        for window, size in zip(windows, sizes, strict=True)
    ]
    for position in itertools.product(*axes):
        flat: Taps = [(0, 0)]
        for window, size, axis in zip(windows, sizes, position, strict=True):
            flat = [(k * window.kernel + tap, i * size + index) for k, i in flat for tap, index in axis]
        yield flat


def positions(windows: Sequence[Window], sizes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Yield the output positions in row-major order."""
    return itertools.product(*(range(n) for n in output_sizes(windows, sizes)))


def output_sizes(windows: Sequence[Window], sizes: Sequence[int]) -> tuple[int, ...]:
    """Return the output size of each axis."""
    return tuple(window.output_size(size) for window, size in zip(windows, sizes, strict=True))


def taps_total(windows: Sequence[Window], sizes: Sequence[int]) -> int:
    """Return how many taps touch data over all positions of all axes."""
    return math.prod(window.taps_total(size) for window, size in zip(windows, sizes, strict=True))


def check_fits(windows: Sequence[Window], sizes: Sequence[int], *, empty: bool = False) -> None:
    """Raise ShapeError, naming the axis, where a window has no legal position.

    An input that is `empty` in its batch or channels may have axes of size 0 and dilation 0, as in torch.
    """
    for axis, (window, size) in enumerate(zip(windows, sizes, strict=True)):
        least = {"kernel": 1, "stride": 1, "dilation": 0 if empty else 1}
        for name, low in least.items():
            if getattr(window, name) < low:
                raise ShapeError(
                    f"{name}={getattr(window, name)} on spatial axis {axis} must be at least {low}", axis=axis
                )
        if size < 1 and not empty:
            raise ShapeError(f"spatial axis {axis} is empty: only the batch may be", axis=axis, size=size)
        if window.output_size(size) < 1:
            raise ShapeError(
                f"the window spans {window.span} pixels but spatial axis {axis} has {size} + padding "
                f"{window.before} + {window.after}: no position fits; enlarge the input or the padding",
                axis=axis,
                span=window.span,
                size=size,
            )


def check_border(border: str, shape: Sequence[int], pads: Sequence[tuple[int, int]]) -> None:
    """Raise ShapeError where padding the last axes of `shape` by `pads` finds nothing to read.

    Before the padded axes stand the channels, and before them there may be a batch. Only the batch may be
    empty, except with the border "circular". Negative padding crops, but not all padded axes to nothing.
    """
    first = len(shape) - len(pads)
    if first not in (1, 2) or not 1 <= len(pads) <= 3:
        raise ShapeError(
            f"{border} padding of {len(pads)} axes does not fit an input of shape {tuple(shape)}: it pads "
            f"the last 1, 2 or 3 axes behind channels, or behind batch and channels",
            shape=shape,
        )
    if border != "circular" and any(size < 1 for size in shape[first - 1 :]):
        raise ShapeError(
            f"input of shape {tuple(shape)} has an empty axis: only the batch may be", shape=shape
        )
    for axis, (size, pad) in enumerate(zip(shape[first:], pads, strict=True), first):
        least = smallest_size(border, max(pad))
        given = (
            size + min(*pad, 0) if border == "circular" else size
        )  # circular padding repeats what a crop leaves
        if max(pad) > 0 and given < least:
            raise ShapeError(
                f"{border} padding={max(pad)} needs at least {least} on axis {axis}, not {given}", axis=axis
            )
    padded = [size + sum(pad) for size, pad in zip(shape[first:], pads, strict=True)]
    if any(size < 0 for size in padded) or (border != "circular" and not any(padded)):
        raise ShapeError(f"padding {tuple(pads)} crops more than shape {tuple(shape)} has", shape=shape)


def smallest_size(border: str, padding: int) -> int:
    """Return the smallest axis that can be padded so: a border reads what it repeats once at most.

    >>> smallest_size("reflect", 4), smallest_size("circular", 4), smallest_size("replicate", 4)
    (5, 4, 1)
    """
    return max(1, {"reflect": padding + 1, "circular": padding}.get(border, 1))
