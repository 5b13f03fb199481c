"""Wrong gradients of pixel_shuffle and pixel_unshuffle: see `tests.ops.wrong`; their outputs: `wrong_resampling`."""

from typing import Any

from cnnspec import nested
from cnnspec.nested import Array
from cnnspec.ops.rearrange import PixelShuffle, PixelUnshuffle


def is_only_reshaped(op: Any, g: Array, x: Array) -> list[Array]:
    """The shape is right; no element has moved."""
    return [nested.unravel(nested.ravel(g), nested.shape_of(x))]


def in_blocks_of_columns(op: Any, g: Array, x: Array) -> list[Array]:
    """The pixels of a block are counted column by column."""

    def turned(array: Array) -> Array:
        axes = len(nested.shape_of(array))
        return nested.permute(array, (*range(axes - 2), axes - 1, axes - 2))

    return [turned(op.gradients(turned(g), x)[0])]


def in_the_order_of_tensorflow(op: Any, g: Array, x: Array) -> list[Array]:
    """Channel (i r + j) C + c stands for channel c r^2 + i r + j."""
    (r,), large = vars(op).values(), isinstance(op, PixelUnshuffle)
    small = g if large else PixelUnshuffle(r).reference(g)
    axis = len(nested.shape_of(small)) - 3
    channels = nested.shape_of(small)[axis] // r**2
    order = [c * r**2 + n for n in range(r**2) for c in range(channels)]
    moved = nested.take(small, axis, order)
    return [PixelShuffle(r).reference(moved) if large else moved]


KILLERS: dict[str, dict[str, Any]] = {}
WRONG_GRADIENTS: dict[str, tuple[Any, ...]] = dict.fromkeys(
    ("pixel_shuffle", "pixel_unshuffle"),
    (is_only_reshaped, in_blocks_of_columns, in_the_order_of_tensorflow),
)
