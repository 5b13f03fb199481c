"""How kernels misread memory: raw pointers, and data of one format under the name of another."""

from collections.abc import Sequence

import torch
from torch import Tensor

_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def is_channels_last(tensor: Tensor) -> bool:
    """Say whether the channels of images or volumes lie next to each other, and it makes a difference."""
    if tensor.is_contiguous() or tensor.dim() < 3:
        return False
    return bool(tensor.movedim(1, -1).is_contiguous())


def read_as_contiguous(tensor: Tensor) -> Tensor:
    """Return what lies in memory from the first element on, row by row, whatever the strides are."""
    strides, step = [0] * tensor.dim(), 1
    for axis in reversed(range(tensor.dim())):
        strides[axis] = step
        step *= tensor.shape[axis]
    held = tensor.untyped_storage().nbytes() // tensor.element_size() - tensor.storage_offset()
    return tensor.as_strided(tensor.shape, strides) if step <= held else tensor


def named_channels_last(tensor: Tensor) -> Tensor:
    """Return data written in rows of pixels, channel by channel, as if the channels were next to each other."""
    written = tensor.contiguous().flatten().reshape(without_channels(tensor.shape))
    return written.movedim(-1, 1)


def read_in_rows(tensor: Tensor) -> Tensor:
    """Return data whose channels lie next to each other as if they were rows of pixels, channel by channel."""
    return tensor.movedim(1, -1).reshape(tensor.shape)


def in_channels_last(tensor: Tensor) -> Tensor:
    """Return the tensor in the memory format channels_last."""
    return tensor.contiguous(memory_format=_LAST[tensor.dim()])


def without_channels(shape: Sequence[int]) -> list[int]:
    """Return the shape with the second axis behind all others."""
    return [shape[0], *shape[2:], shape[1]]
