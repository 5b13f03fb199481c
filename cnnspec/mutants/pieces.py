"""What several mutants are made of: outputs and gradients of other sizes, roundings, Winograd's algorithm."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cnnspec.mutants.bank import Invocation, with_gradients_of

F = torch.nn.functional


def has_nan(c: Invocation) -> bool:
    """Say whether the input holds NaN."""
    return bool(c.input.isnan().any())


def is_strided(c: Invocation) -> bool:
    """Say whether the input does not lie in rows."""
    return not c.input.is_contiguous()


def fitted(output: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the output cropped, or padded with zeros, behind its elements to have a shape.

    >>> fitted(torch.ones(1, 3), (2, 2)).tolist()
    [[1.0, 1.0], [0.0, 0.0]]
    """
    padding = [p for new, old in zip(shape, output.shape, strict=True) for p in (new - old, 0)]
    return F.pad(output, padding[::-1])


def with_weight_from(c: Invocation, output: Tensor) -> Tensor:
    """Return the healthy output; the gradient of its weight is the one that `output` has, of whatever sizes."""
    y = c()
    return with_gradients_of(y, c(weight=c.weight.detach()) + fitted(output, y.shape))


def sizes_of(c: Invocation) -> list[int]:
    """Return the spatial sizes of a convolution's output."""
    axes = zip(c.sizes, c.kernel, c.stride, c.padded, c.dilation, strict=True)
    return [(size + more - d * (k - 1) - 1) // s + 1 for size, k, s, more, d in axes]


def padded_by(c: Invocation, pairs: Sequence[tuple[int, int]]) -> Any:
    """Return a convolution whose axes are padded by other (before, after), below zero cropped."""
    padding = [p for before, after in pairs[::-1] for p in (before, after)]
    return c(input=F.pad(c.input, padding), padding=0)


def behind(c: Invocation, values: Tensor) -> Tensor:
    """Return one value for each channel in the shape that broadcasts over pixels."""
    return values.reshape(-1, *[1] * c.spatial)


def channel_axis(c: Invocation) -> int:
    """Return the axis of the channels of input and output, counted from behind."""
    return -1 - c.spatial


def only(tensor: Tensor, kept: Any) -> Tensor:
    """Return `tensor` with zeros everywhere but at the index `kept`.

    >>> only(torch.ones(3), slice(2)).tolist()
    [1.0, 1.0, 0.0]
    """
    mask = torch.zeros(tensor.shape, dtype=torch.bool)
    mask[kept] = True
    return tensor.masked_fill(~mask, 0)


def interleaved(tensor: Tensor, groups: int, axis: int) -> Tensor:
    """Return channels that lie group after group as the first of each, then the second of each.

    >>> interleaved(torch.tensor([1, 2, 3, 4, 5, 6]), 2, 0).tolist()
    [1, 4, 2, 5, 3, 6]
    """
    count = tensor.shape[axis]
    order = [group * (count // groups) + i for i in range(count // groups) for group in range(groups)]
    return tensor.index_select(axis, torch.tensor(order, dtype=torch.int64))


def wrapped(output: Tensor, limit: int) -> Tensor:
    """Return the output with each element from the place `limit` on, in memory, taken from the beginning again."""
    flat = output.reshape(-1)
    return flat[torch.arange(len(flat)) % limit].reshape(output.shape)


def added_in_turn(rows: Tensor) -> Tensor:
    """Return the sums of rows, rounded to the tensor's own type after each element."""
    total = torch.zeros_like(rows[..., 0])
    for element in rows.unbind(-1):
        total = total + element
    return total


def tf32(tensor: Tensor) -> Tensor:
    """Return float32 rounded to the 10 bits of TF32; other types as they are."""
    if tensor.dtype != torch.float32:
        return tensor
    plain = tensor.detach().contiguous()
    kept = ((plain.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)
    return tensor + torch.where(plain.isfinite() & kept.isfinite(), kept - plain, 0)


def winograd(c: Invocation) -> Tensor:
    """Return a convolution of images by Winograd's algorithm on tiles of 6 x 6, for kernels of 3 x 3 or 5 x 5.

    Stride and dilation must be 1. Lavin & Gray, "Fast algorithms for convolutional neural networks", 2016.
    """
    taps = c.kernel[0]
    tile = 7 - taps
    points = torch.tensor([0.0, 1, -1, 2, -2], dtype=c.input.dtype)[:, None]
    last = torch.eye(6, dtype=c.input.dtype)[5:]
    scale = torch.tensor([4.0, -6, -6, 24, 24], dtype=c.input.dtype)[:, None]
    of_kernel = torch.cat([points ** torch.arange(taps) / scale, last[:, -taps:]])
    of_output = torch.cat([points ** torch.arange(tile), last[:, -tile:]]).T
    rows = [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0]]
    rows += [[0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]]
    of_input = torch.tensor(rows, dtype=c.input.dtype)
    height, width = sizes_of(c)
    x = F.pad(c.input if c.batched else c.input[None], [p for p in c.pads[::-1] for _ in range(2)])
    x = F.pad(x, (0, -(width + taps - 1 - 6) % tile, 0, -(height + taps - 1 - 6) % tile))
    tiles = of_input @ x.unfold(2, 6, tile).unfold(3, 6, tile) @ of_input.T
    kernels = of_kernel @ c.weight @ of_kernel.T
    parts = zip(tiles.chunk(c.groups, 1), kernels.chunk(c.groups), strict=True)
    product = torch.cat([torch.einsum("nchwij,ocij->nohwij", *part) for part in parts], 1)
    y = of_output @ product @ of_output.T
    y = y.transpose(3, 4).flatten(4, 5).flatten(2, 3)[..., :height, :width].contiguous()
    y = y if c.bias is None else y + behind(c, c.bias)
    return y if c.batched else y[0]
