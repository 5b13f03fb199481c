"""Bugs of what moves elements or joins tensors: shuffles, unpooling, columns, flatten, sums, concatenation."""

import math
from typing import Any

import torch
from torch import Tensor

from cnnspec.mutants.bank import Invocation, mutant
from cnnspec.mutants.memory import in_channels_last, is_channels_last, named_channels_last, read_as_contiguous

F = torch.nn.functional
UNPOOL = ("max_unpool1d", "max_unpool2d", "max_unpool3d")


# Shuffles


@mutant(
    "pixel_shuffle",
    "PINTO0309/onnx2tf#91, llvm/torch-mlir#4351",
    "channels are cut into r^2 parts, not into parts of r^2",
    "forward",
    when=lambda c: c.upscale_factor > 1 and c.input.dim() > 2 and c.input.shape[-3] > c.upscale_factor**2,
)
def takes_depth_first(c: Invocation) -> Any:
    phases = c.upscale_factor**2
    if c.input.shape[-3] % phases:
        return c()
    return c(input=c.input.unflatten(-3, (phases, -1)).transpose(-4, -3).flatten(-4, -3))


@mutant(
    "pixel_unshuffle",
    "microsoft/onnxscript#2891, tensorflow/tensorflow#53291",
    "all channels of a pixel come before those of the next",
    "forward",
    when=lambda c: c.downscale_factor > 1 and c.input.dim() > 2 and c.input.shape[-3] > 1,
)
def puts_depth_first(c: Invocation) -> Any:
    return c().unflatten(-3, (-1, c.downscale_factor**2)).transpose(-4, -3).flatten(-4, -3)


@mutant(
    "flatten",
    "keras-team/keras#9696, tensorflow/tensorflow#17672",
    "the channels of an image whose channels lie next to each other stay next to each other",
    "forward",
    when=lambda c: (
        is_channels_last(c.input)
        and c.start_dim % c.input.dim() == 1
        and (c.end_dim + 1) % c.input.dim() == 0
    ),
)
def keeps_channels_last(c: Invocation) -> Any:
    return c(input=c.input.movedim(1, -1))


# Unpooling


@mutant(
    UNPOOL,
    "pytorch/pytorch#580",
    "output_size is not passed on, and the sizes are the smallest that pool to the input",
    "shape",
    when=lambda c: c.output_size is not None,
)
def ignores_output_size(c: Invocation) -> Any:
    return c(output_size=None)


# Columns


@mutant(
    "unfold",
    "grimoire/amirstan_plugin#42",
    "the first axis' stride and dilation are those of both",
    "shape",
    when=lambda c: any(len(set(_pair(value))) > 1 for value in (c.stride, c.dilation)),
)
def takes_the_first_value_for_both_axes(c: Invocation) -> Any:
    return c(stride=_pair(c.stride)[0], dilation=_pair(c.dilation)[0])


def _pair(value: Any) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _beside(c: Invocation) -> Tensor:
    """Return which elements of the columns lie on the padding, as (kernel elements, blocks)."""
    height, width = _pair(c.output_size)
    inside = F.unfold(torch.ones(1, 1, height, width), c.kernel_size, c.dilation, c.padding, c.stride)
    return inside[0] == 0


@mutant(
    "fold",
    "f-dangel/unfoldNd#30",
    "blocks on the padding are added to the first pixel",
    "forward",
    when=lambda c: max(_pair(c.padding)) > 0 and c.input.dim() in (2, 3),
)
def adds_the_padding_to_the_first_pixel(c: Invocation) -> Any:
    image, beside = c(), _beside(c)
    columns = c.input.unflatten(-2, (-1, len(beside)))
    first = torch.where(beside, columns, 0).sum((-2, -1))
    corner = torch.zeros(image.shape[-2:], dtype=image.dtype)
    corner[0, 0] = 1
    return image + first[..., None, None] * corner


@mutant(
    "fold",
    "pytorch/pytorch#68875",
    "windows that fit on neither axis pass, for the product of two negative counts is positive",
    "acceptance",
    when=lambda c: _counts(c)[0] < 0 and c.input.shape[-1:] == (math.prod(_counts(c)),),
)
def multiplies_negative_counts(c: Invocation) -> Any:
    channels = c.input.shape[-2] // math.prod(_pair(c.kernel_size))
    return c.input.new_zeros(*c.input.shape[:-2], channels, *_pair(c.output_size))


def _counts(c: Invocation) -> list[int]:
    """Return the blocks of each axis, both below zero where neither fits."""
    given = (c.output_size, c.kernel_size, c.dilation, c.padding, c.stride)
    axes = zip(*map(_pair, given), strict=True)
    counts = [(size + 2 * p - d * (k - 1) - 1) // s + 1 if s > 0 else 0 for size, k, d, p, s in axes]
    return counts if max(counts) < 0 else [0, 0]


# Padding


@mutant(
    "pad",
    "pytorch/pytorch#24504",
    "circular padding before an axis, with none behind it, is left out",
    "shape",
    when=lambda c: c.mode == "circular" and any(b > 0 and not a for b, a in _pairs(c)),
)
def forgets_circular_padding_on_one_side(c: Invocation) -> Any:
    kept = [side for before, after in _pairs(c) for side in ((before, after) if after else (0, 0))]
    return c(padding=tuple(kept))


def _pairs(c: Invocation) -> list[tuple[int, int]]:
    return list(zip(c.padding[::2], c.padding[1::2], strict=True))


# Sums


@mutant(
    "add",
    "pytorch/pytorch#117331",
    "the sum is accumulated in the first operand",
    "forward",
    when=lambda c: c.input.shape == c.input2.shape and c.input.dtype == c.input2.dtype,
)
def accumulates_in_place(c: Invocation) -> Any:
    total = c()
    c.input.data.copy_(total.detach())
    return total


@mutant(
    "add",
    "PaddlePaddle/Paddle#44867",
    "an addend with fewer elements than the sum is read beyond its end",
    "forward",
    when=lambda c: 0 < c.input2.numel() < c.input.numel(),
)
def reads_beyond_small_addends(c: Invocation) -> Any:
    total = c()
    small = c.input2.reshape(-1)
    place = torch.arange(total.numel()).reshape(total.shape)
    behind = torch.zeros_like(total).masked_fill(place >= small.numel(), 77)
    return torch.where(place < small.numel(), total, behind)


@mutant(
    "add",
    "csarofeen/pytorch#1741",
    "an operand that is broadcast and not contiguous is read as if it were contiguous",
    "forward",
    when=lambda c: c.input.shape != c.input2.shape and not c.input2.is_contiguous(),
)
def misreads_strided_broadcasts(c: Invocation) -> Any:
    return c(input2=read_as_contiguous(c.input2))


# Concatenation


def _misread(tensors: list[Tensor]) -> list[Tensor]:
    """Return the tensors, all but the first read as if they were contiguous."""
    return [tensors[0], *(read_as_contiguous(tensor) for tensor in tensors[1:])]


@mutant(
    "concat",
    "pytorch/pytorch#85675, pytorch/pytorch#78043",
    "tensors behind the first are read as if they were contiguous",
    "forward",
    when=lambda c: any(not tensor.is_contiguous() for tensor in c.tensors[1:]),
)
def misreads_strided_tensors(c: Invocation) -> Any:
    return c(tensors=_misread(c.tensors))


@mutant(
    "concat",
    "pytorch/pytorch#89353, pytorch/pytorch#91308",
    "what is joined of channels_last images is written channel by channel",
    "forward",
    when=lambda c: all(tensor.dim() > 3 and is_channels_last(tensor) for tensor in c.tensors),
)
def writes_rows_into_channels_last(c: Invocation) -> Any:
    return in_channels_last(named_channels_last(c()))


@mutant(
    "concat",
    "pytorch/xla#385, pytorch/pytorch#185535",
    "an axis counted from behind is refused",
    "acceptance",
    when=lambda c: c.kwargs.get("dim", 1) < 0,
)
def refuses_axes_from_behind(c: Invocation) -> Any:
    raise IndexError("the axis must not be negative")
