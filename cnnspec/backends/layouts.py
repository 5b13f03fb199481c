"""How an operand lies in memory: strides and offset by name, in elements."""

import math

from cnnspec.nested import Shape

LAYOUTS = (
    *("contiguous", "channels_last", "transposed", "channel_slice", "step_2", "offset", "odd_strides"),
    "channels_last_slice",
)


def strided(shape: Shape, layout: str, channel: int) -> tuple[tuple[int, ...], int, int]:
    """Return (strides, offset, storage size) of an array of `shape` whose channel axis is `channel`.

    channels_last: the channel varies fastest;  transposed: the first axis varies fastest
    channel_slice: the middle channels of a larger array;  channels_last_slice: of one whose channel varies fastest
    step_2: every second element
    offset: contiguous, three elements into its storage;  odd_strides: axes of size 1 have a stride of their own

    >>> strided((2, 3, 4), "channels_last", 1)
    ((12, 1, 3), 0, 24)
    """
    axes = list(range(len(shape)))
    allocated = list(shape)
    offset, step = 0, 1
    sliced = layout.endswith("slice") and len(shape) > 1
    if layout.startswith("channels_last") and len(shape) > 2:
        axes.append(axes.pop(channel))
    elif layout == "transposed":
        axes.reverse()
    elif layout == "step_2":
        step = 2
    if sliced:
        allocated[channel] += 2
    strides = [0] * len(shape)
    for axis in reversed(axes):
        strides[axis] = step
        step *= max(1, allocated[axis])
    if sliced:
        offset = strides[channel]
    elif layout == "offset":
        offset = 3
    elif layout == "odd_strides":
        strides = [7 if size == 1 else stride for size, stride in zip(shape, strides, strict=True)]
    return (
        tuple(strides),
        offset,
        max(1, step) + 2 * offset + 7 * layout.count("odd") if math.prod(shape) else 1,
    )
