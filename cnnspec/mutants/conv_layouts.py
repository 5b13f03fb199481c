"""Bugs of convolutions and linear layers that depend on how operands lie in memory."""

from typing import Any

import torch

from cnnspec.mutants.bank import Invocation, mutant
from cnnspec.mutants.memory import in_channels_last, is_channels_last, named_channels_last, read_as_contiguous


@mutant(
    ("conv1d", "conv2d", "linear"),
    "pytorch/pytorch#1246, pytorch/pytorch#162779",
    "a weight that is not contiguous is read as if it were",
    "forward",
    when=lambda c: not c.weight.is_contiguous(),
)
def strides_of_the_weight_ignored(c: Invocation) -> Any:
    return c(weight=read_as_contiguous(c.weight))


@mutant(
    "conv2d",
    "pytorch/pytorch#55781",
    "for batches of 16 and small kernels a weight that is not contiguous is read as if it were",
    "forward",
    when=lambda c: (
        not c.weight.is_contiguous()
        and c.batched
        and c.input.shape[0] >= 16
        and max(c.kernel) <= 16
        and c.stride == (1, 1)
    ),
)
def strides_of_the_weight_ignored_in_batches(c: Invocation) -> Any:
    return c(weight=read_as_contiguous(c.weight))


@mutant(
    "conv2d",
    "pytorch/pytorch#180984",
    "of some channels of a channels-last image those of the next pixels are read",
    "forward",
    when=lambda c: (
        c.input.dim() == 4
        and c.input.stride(1) == 1
        and c.input.stride(3) > c.channels
        and c.input.stride(2) == c.sizes[1] * c.input.stride(3)
        and c.sizes[1] > 1
    ),
)
def channel_slice_read_as_dense(c: Invocation) -> Any:
    count, channels, high, wide = c.input.shape
    strides = (high * wide * channels, 1, wide * channels, channels)
    return c(input=c.input.as_strided((count, channels, high, wide), strides, c.input.storage_offset()))


@mutant(
    "conv2d",
    "pytorch/pytorch#82060",
    "one channel and a channels-last weight: the output is written in one order and read in the other",
    "forward",
    when=lambda c: (
        c.batched
        and c.weight.shape[1] == 1
        and c.weight.stride(1) == 1
        and max(c.kernel) > 1
        and c.input.is_contiguous()
    ),
)
def output_labelled_channels_last(c: Invocation) -> Any:
    return named_channels_last(c())


@mutant(
    "conv2d",
    "pytorch/pytorch#24090",
    "an image of one pixel counts as channels-last by the stride of its channels",
    "forward",
    when=lambda c: c.batched and c.input.is_contiguous() and c.input.stride(1) == 1 and c.sizes == (1, 1),
)
def format_guessed_from_one_stride(c: Invocation) -> Any:
    return in_channels_last(c())


@mutant(
    "conv2d",
    "pytorch/pytorch#136310",
    "channels-last float16 leaves the first row of the output unwritten",
    "forward",
    when=lambda c: c.input.dtype == torch.float16 and c.batched and is_channels_last(c.input),
)
def first_row_unwritten(c: Invocation) -> Any:
    y = c()
    first = torch.zeros_like(y, dtype=torch.bool)
    first[..., :1, :] = True
    return y.masked_fill(first, torch.nan)


@mutant(
    "conv2d",
    "ROCm/MIOpen#2860",
    "channels-last images get the bias along their width",
    "forward",
    when=lambda c: c.bias is not None and c.batched and is_channels_last(c.input),
)
def bias_along_the_width(c: Invocation) -> Any:
    y = c(bias=None)
    return y + c.bias[torch.arange(y.shape[-1]) % len(c.bias)]


@mutant(
    "conv2d",
    "tensorflow/tensorflow#20908",
    "the dilation of channels-last images is not brought into the order of the other axes",
    "acceptance",
    when=lambda c: c.batched and is_channels_last(c.input) and c.dilation != (1, 1),
)
def dilation_not_permuted(c: Invocation) -> Any:
    depth, high = c.dilation
    if depth > 1:
        raise ValueError(f"the depth cannot be dilated, by {depth}")
    return c(dilation=(high, 1))


@mutant(
    "conv1d",
    "pytorch/pytorch#158930",
    "the stride of an axis of one element is taken from the order of the others, and the output refused",
    "acceptance",
    when=lambda c: (
        c.groups == c.channels > 1
        and c.sizes == (1,)
        and c.batched
        and c.input.stride(2) == c.channels
        and c.input.stride(1) == 1
    ),
)
def stride_of_a_single_element_refused(c: Invocation) -> Any:
    raise AssertionError(f"expected size 1, stride 1 of axis 2, not {c.input.stride(2)}")
